"""What a deletion will cost, worked out before anything runs. Pure, and without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shardgraph.graph.shard_graph import ShardGraph


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine fitted nodes the last time; a forecast, never a promise.

    ``seconds_per_pass`` is the wall time for one sample in one epoch of one node, all workers
    together; ``seconds_per_node`` is the fixed part.
    """

    seconds_per_pass: float
    seconds_per_node: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The work that forgetting these samples takes.

    Attributes:
        samples: how many samples are forgotten.
        shards: the shards that lose samples.
        emptied: those of them that keep none.
        refit: nodes that read such a shard and are fitted again.
        dropped: nodes that cease to exist: their own shard is empty, or, where they have none, all
            that they tally.
        subtract: nodes that only tally such a shard: they subtract and solve again.
        samples_refit: sum over the refitted nodes of the samples that each reads afterwards.
        distinct_samples: how many different samples those are.
        passes: samples_refit times the epochs of the recipe.
        predicted_seconds: from the speed of the last fit; None where none was measured.
        tuning_samples: samples on which heads are tuned anew, because one of them goes.
    """

    samples: int
    shards: tuple[int, ...]
    emptied: tuple[int, ...]
    refit: tuple[int, ...]
    dropped: tuple[int, ...]
    subtract: tuple[int, ...]
    samples_refit: int
    distinct_samples: int
    passes: int
    predicted_seconds: float | None
    tuning_samples: int = 0

    @property
    def fenced(self) -> tuple[int, ...]:
        """Every node that a forgotten sample influenced; none of them answers from now on."""
        return tuple(sorted({*self.refit, *self.dropped, *self.subtract}))

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return {**asdict(self), "fenced": list(self.fenced)}


def plan_change(
    graph: ShardGraph,
    before: Sequence[int],
    removed: Mapping[int, int],
    *,
    epochs: int,
    speed: Speed | None = None,
    tuning_samples: int = 0,
) -> Plan:
    """Plan the removal of ``removed[shard]`` samples from shards that hold ``before[shard]``.

    ``tuning_samples`` is handed through.

    The refitted set is the closure on the graph: the nodes that read a touched shard and whose own
    shard is not empty afterwards; not one fewer, not one more (promise 4). Nodes that only tally
    such a shard are subtracted from, or dropped if nothing is left that they tally.
    """
    after = [count - removed.get(shard, 0) for shard, count in enumerate(before)]
    shards = tuple(sorted(shard for shard, count in removed.items() if count))
    readers = {node for shard in shards for node in graph.readers_of(shard)}
    existed = {n for n in graph.influenced_by(shards) if graph.nodes[n].exists(before)}
    left = {node for node in existed if graph.nodes[node].exists(after)}
    alive = left & readers
    reads = [sum(after[shard] for shard in graph.nodes[node].reads) for node in sorted(alive)]
    touched = {shard for node in alive for shard in graph.nodes[node].reads}
    passes = sum(reads) * epochs
    seconds = None
    if speed is not None:
        seconds = passes * speed.seconds_per_pass + len(alive) * speed.seconds_per_node
    return Plan(
        samples=sum(removed.values()),
        shards=shards,
        emptied=tuple(shard for shard in shards if after[shard] == 0),
        refit=tuple(sorted(alive)),
        dropped=tuple(sorted(existed - left)),
        subtract=tuple(sorted(left - readers)),
        samples_refit=sum(reads),
        distinct_samples=sum(after[shard] for shard in touched),
        passes=passes,
        predicted_seconds=seconds,
        tuning_samples=tuning_samples,
    )
