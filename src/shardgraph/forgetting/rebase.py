"""Move a store to the environment of this machine: fit every node again, and say so in the store.

Fitted bits depend on libraries and instruction set, so a store refuses refits in another
environment than its own: some nodes would have the bits of one and some of the other. After a
rebase all have those of a fit from scratch, here, on the activations that the store holds.

Activations are **not** encoded again, since the store keeps no images. Where the encoder too gives
other bits here, a fit of the images from scratch differs from the rebased store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from shardgraph import runtime
from shardgraph.activations.open import open_backbone
from shardgraph.errors import EnvironmentChangedError
from shardgraph.forgetting.carry_out import clean_up, resume
from shardgraph.forgetting.machine import examine_machine
from shardgraph.forgetting.progress import Progress, silent
from shardgraph.forgetting.reading import StoreReader, node_settings
from shardgraph.forgetting.refit import fit_nodes
from shardgraph.forgetting.speed import measure_speed, measured_speed
from shardgraph.store import Change, Store


@dataclass(frozen=True, slots=True)
class RebasePlan:
    """What a rebase would do and take.

    Attributes:
        changed: what differs, as (in the store, here) by name; empty where nothing is to do.
        nodes: how many nodes are fitted again; ``skipped`` ones are fitted by unfinished requests.
        skipped: see above.
        samples_refit: sum over the nodes of the samples that each reads.
        passes: that times the epochs of the recipe.
        predicted_seconds: at the speed of the environment that the store was fitted in; None where
            none was measured.
    """

    changed: Mapping[str, tuple[str | None, str | None]]
    nodes: int
    skipped: int
    samples_refit: int
    passes: int
    predicted_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)


def environment_changes(store: Store) -> dict[str, tuple[str | None, str | None]]:
    """What decides bits and differs between the store and this process, as (store, here)."""
    there = dict(store.config.environment)
    here = runtime.environment_like(there)
    names = sorted(here.keys() | there.keys())
    return {
        name: (there.get(name), here.get(name))
        for name in names
        if here.get(name) != there.get(name)
    }


def check_environment(store: Store) -> None:
    """Refuse to refit where the bits would differ.

    Raises:
        EnvironmentChangedError: libraries, instruction set, device, or what the process has set,
            have changed.
    """
    changes = environment_changes(store)
    if changes:
        shown = ", ".join(runtime.describe_changes(changes))
        raise EnvironmentChangedError(
            f"The environment has changed since the store was fitted: {shown}.",
            advice="Go back to it, or run shardgraph rebase, which refits every node here.",
        )


def plan_rebase(store: Store) -> RebasePlan:
    """What a rebase would do; nothing changes."""
    reader = StoreReader(store, store.view())
    graph, sizes = reader.setting.graph, reader.sizes
    waiting = _waiting(store, reader)
    wanted = [node for node in sorted(reader.view.nodes) if node not in waiting]
    samples = sum(sizes[shard] for node in wanted for shard in graph.nodes[node].reads)
    passes = samples * reader.setting.nodes.recipe.epochs
    speed = measured_speed(store)
    seconds = None
    if speed is not None:
        seconds = passes * speed.seconds_per_pass + len(wanted) * speed.seconds_per_node
    return RebasePlan(
        changed=environment_changes(store),
        nodes=len(wanted),
        skipped=len(waiting),
        samples_refit=samples,
        passes=passes,
        predicted_seconds=seconds,
    )


def rebase(store: Store, progress: Progress = silent) -> int:
    """Fit every node here and make this environment the store's; the new generation's number.

    Nodes that read samples which an accepted request waits to remove are left to that request,
    which is carried out next; they are fenced meanwhile, so no node is fitted on such a sample and
    none of the old environment answers. Killed on the way, it is begun again.

    Raises:
        EnvironmentChangedError: the installed encoder is another one.
    """
    reader = StoreReader(store, store.view())
    settings = _machine(store, reader)
    config = replace(store.config, settings={**store.config.settings, **settings})
    wanted = sorted(set(reader.view.nodes) - _waiting(store, reader))
    fitted = fit_nodes(
        wanted,
        replace(reader.setting, nodes=node_settings(config)),
        reader.content,
        lambda done, total: progress("fitting", done, total, "nodes"),
    )
    store.publish(
        Change(
            nodes={node: store.put("nodes", node, data.weights) for node, data in fitted.items()},
            tallies={
                node: store.put("tallies", node, data.tally)
                for node, data in fitted.items()
                if data.tally is not None
            },
            environment=runtime.environment_like(store.config.environment),
            settings=settings,
        )
    )
    clean_up(store)
    resume(store, lambda done, total: progress("requests", done, total, "nodes"))
    measure_speed(store)
    return store.view().generation


def _waiting(store: Store, reader: StoreReader) -> set[int]:
    """The nodes that read a sample which an accepted request waits to remove."""
    graph = reader.setting.graph
    shards = {record.shard for record in store.pending_records()}
    return {node for shard in shards for node in graph.readers_of(shard)} & set(reader.view.nodes)


def _machine(store: Store, reader: StoreReader) -> dict[str, Any]:
    """What this machine can be trusted in, found out as when a store is created."""
    wanted = store.config.backbone
    backbone = open_backbone(str(wanted["name"]), str(wanted["layer"]), shape=reader.shape)
    if backbone.digest != wanted["digest"]:
        raise EnvironmentChangedError(
            "The installed encoder differs from the one this store was fitted with.",
            advice="Install its version of the encoder; a rebase cannot encode the images again.",
        )
    nodes = reader.setting.nodes
    return examine_machine(backbone, reader.setting.graph, nodes.recipe, nodes.tally)
