"""Every method by name: from a few words in a configuration to a method that can be fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shardgraph.bench.methods.pooled import (
    MeansModel,
    NeighboursModel,
    Pooled,
    ProbeModel,
    RidgeModel,
)
from shardgraph.bench.methods.protocol import Method
from shardgraph.bench.methods.prototypes import ProtoSisa
from shardgraph.bench.methods.sharded import Memory, Sharded
from shardgraph.bench.methods.sliced import S3T, SlicedSisa
from shardgraph.errors import UsageError
from shardgraph.forgetting.refit import FitSetting
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import parse
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.representation import Settings
from shardgraph.nodes.tally_recipe import TallyRecipe


@dataclass(frozen=True)
class Tuned:
    """Settings chosen on training data, see `shardgraph.bench.tuning`.

    Attributes:
        adapter: recipe settings of adapters, by the share of the data that a node reads, as text:
            "16" stands for a sixteenth.
        vote: how nodes without tallies are combined, by the share of the data that each reads.
        families: settings of every other family, by its name.
    """

    adapter: dict[str, dict[str, Any]] = field(default_factory=lambda: {"1": {}})
    vote: dict[str, str] = field(default_factory=lambda: {"1": "combine"})
    families: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recipe(self, parts: float) -> Recipe:
        """The recipe for nodes that read one of ``parts`` parts of the data."""
        return Recipe.from_json(self.adapter[_nearest(self.adapter, parts)])

    def vote_of(self, parts: int) -> str:
        """How nodes that each read one of ``parts`` parts are combined."""
        return self.vote[_nearest(self.vote, parts)]

    def of(self, family: str) -> dict[str, Any]:
        """The settings of a family; those of `DEFAULTS` where nothing was tuned."""
        return {**DEFAULTS.get(family, {}), **self.families.get(family, {})}

    def for_family(self, family: str) -> Tuned:
        """The settings that a method of this family may depend on."""
        own = {name: value for name, value in self.families.items() if name == family}
        if family in WITHOUT_ADAPTER:
            return Tuned(families=own)
        return dataclasses.replace(self, families=own)

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON."""
        return dataclasses.asdict(self)


WITHOUT_ADAPTER = ("ridge", "means", "neighbours", "probe", "tallied")
"""Families that train no adapter."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "ridge": {"feature": "root", "strength": 10.0},
    "means": {"feature": "root"},
    "neighbours": {"feature": "root", "k": 10, "temperature": 0.1},
    "probe": {"feature": "root", "inverse_strength": 0.1},
    "proto-sisa": {"feature": "root", "share": 0.5, "temperature": 0.1},
    "sisa-sliced": {},
    "s3t": {},
}
"""Settings that are tuned; these stand where they are not."""

PROBE_ITERATIONS = 300


@dataclass(frozen=True)
class Spec:
    """A method as a configuration names it.

    Attributes:
        family: one of `FAMILIES`.
        shards: number of shards.
        graph: of the families ``safe`` and ``safe-tallies``, as `topologies.parse` takes it.
        nodes: most nodes: of ``unsharded`` all of them, of ``safe-tallies`` those of the first
            shards; the other shards are tallied only.
        safe_source: of a hub, the source whose samples go to the safe shards.
        tallies: preset of tallies.
        representation: of nodes that tally.
        slices: per shard.
        sequences: of slices, for ``s3t``.
        vote: how nodes without tallies are combined, in place of what tuning chose.
        tally: further settings of nodes that tally.
    """

    family: str
    shards: int = 1
    graph: str = "isolated"
    nodes: int | None = None
    safe_source: str | None = None
    tallies: str = "none"
    representation: str = "discriminant"
    slices: int = 4
    sequences: int = 4
    vote: str | None = None
    tally: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(
                f"There is no method {self.family!r}.",
                advice=f"Choose from: {', '.join(sorted(FAMILIES))}.",
            )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Spec:
        """The method that a configuration names.

        Raises:
            UsageError: an unknown family or setting.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(value) - known):
            raise UsageError(
                f"Unknown setting of a method: {', '.join(unknown)}.",
                advice=f"Known settings: {', '.join(sorted(known))}.",
            )
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Family, and the settings that differ from their defaults."""
        values = dataclasses.asdict(self)
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        return {
            name: value
            for name, value in values.items()
            if name == "family" or (value and value != defaults[name])
        }

    @property
    def title(self) -> str:
        """What tables call it."""
        plain = _PLAIN_TITLES.get(self.family)
        return plain if plain is not None else _TITLES[self.family](self)

    @property
    def seeded(self) -> bool:
        """Whether its result depends on the seed."""
        return self.family not in ("ridge", "means", "neighbours", "probe")


def build(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None = None) -> Method:
    """The method that a spec names, with tuned settings and a seed.

    Raises:
        GraphError: the graph is impossible.
        RecipeError: a setting is out of range.
    """
    return FAMILIES[spec.family](spec, tuned, seed, memory)


Builder = Callable[[Spec, Tuned, int, Memory | None], Method]


def _sharded(
    graph: ShardGraph, spec: Spec, tuned: Tuned, seed: int, memory: Memory | None, vote: str
) -> Sharded:
    tally = TallyRecipe.from_json({"representation": spec.representation, **spec.tally})
    settings = Settings(tuned.recipe(_parts(graph)), tally)
    return Sharded(FitSetting(graph, settings, seed), vote, memory)


def _parts(graph: ShardGraph) -> float:
    """How many times what a node reads, on average, is in the data."""
    reading = [len(node.reads) for node in graph.nodes if node.reads]
    return graph.shards / (sum(reading) / len(reading)) if reading else 1.0


def _unsharded(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None) -> Method:
    graph = parse("complete", spec.nodes or 1, seed=seed)
    return _sharded(graph, spec, tuned, seed, memory if spec.nodes in (None, 1) else None, "mean")


def _sisa(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None) -> Sharded:
    graph = parse("isolated", spec.shards, seed=seed)
    vote = spec.vote or tuned.vote_of(spec.shards)
    return _sharded(graph, spec, tuned, seed, memory, vote)


def _safe(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None) -> Method:
    safe = () if spec.safe_source is None else (spec.safe_source,)
    graph = parse(spec.graph, spec.shards, seed=seed, safe_sources=safe)
    if spec.tallies == "none":
        vote = spec.vote or tuned.vote_of(round(_parts(graph)))
        return _sharded(graph, spec, tuned, seed, memory, vote)
    if spec.nodes is not None:
        graph = _first_nodes(graph, spec.nodes)
    return _sharded(graph.with_tallies(spec.tallies), spec, tuned, seed, memory, "combine")


def _first_nodes(graph: ShardGraph, count: int) -> ShardGraph:
    """The graph with its first nodes only. They tally everything, so that no shard is unused."""
    every = tuple(range(graph.shards))
    tallying = tuple(Node(node.home, node.reads, every, node.kind) for node in graph.nodes[:count])
    return ShardGraph(graph.shards, tallying, graph.pools, f"{graph.name}, {count} nodes")


def _tallied(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None) -> Method:
    nodes = "" if spec.nodes is None else f":{spec.nodes}"
    graph = parse(f"tallied{nodes}", spec.shards, seed=seed)
    return _sharded(graph, spec, tuned, seed, memory, "combine")


def _proto_sisa(spec: Spec, tuned: Tuned, seed: int, memory: Memory | None) -> Method:
    return ProtoSisa(_sisa(spec, tuned, seed, memory), **tuned.of(spec.family))


def _stage_recipe(spec: Spec, tuned: Tuned) -> Recipe:
    changed = tuned.of(spec.family)
    return dataclasses.replace(tuned.recipe(spec.shards), **changed)


def _sliced(spec: Spec, tuned: Tuned, seed: int, _memory: Memory | None) -> Method:
    return SlicedSisa(spec.shards, spec.slices, _stage_recipe(spec, tuned), seed)


def _s3t(spec: Spec, tuned: Tuned, seed: int, _memory: Memory | None) -> Method:
    return S3T(spec.shards, spec.slices, spec.sequences, _stage_recipe(spec, tuned), seed)


def _ridge(spec: Spec, tuned: Tuned, _seed: int, _memory: Memory | None) -> Method:
    settings = tuned.of(spec.family)
    return Pooled(lambda train, live: RidgeModel(train, live, **settings))


def _means(spec: Spec, tuned: Tuned, _seed: int, _memory: Memory | None) -> Method:
    settings = tuned.of(spec.family)
    return Pooled(lambda train, live: MeansModel(train, live, **settings))


def _neighbours(spec: Spec, tuned: Tuned, _seed: int, _memory: Memory | None) -> Method:
    settings = tuned.of(spec.family)
    return Pooled(lambda train, live: NeighboursModel(train, live, **settings))


def _probe(spec: Spec, tuned: Tuned, _seed: int, _memory: Memory | None) -> Method:
    settings = {**tuned.of(spec.family), "most": PROBE_ITERATIONS}
    return Pooled(lambda train, live: ProbeModel(train, live, **settings))


FAMILIES: dict[str, Builder] = {
    "means": _means,
    "neighbours": _neighbours,
    "probe": _probe,
    "proto-sisa": _proto_sisa,
    "ridge": _ridge,
    "s3t": _s3t,
    "safe": _safe,
    "safe-tallies": _safe,
    "sisa": _sisa,
    "sisa-sliced": _sliced,
    "tallied": _tallied,
    "unsharded": _unsharded,
}
"""How each family is built."""


def _tallies_title(spec: Spec) -> str:
    nodes = "" if spec.nodes is None else f", {spec.nodes} nodes"
    return (
        f"SAFE {spec.graph}{nodes} + tallies of {spec.tallies}, {spec.representation}, "
        f"{spec.shards} shards"
    )


_PLAIN_TITLES = {
    "means": "class means on pooled activations",
    "neighbours": "nearest neighbours on pooled activations",
    "probe": "linear softmax probe, retrained",
    "ridge": "ridge on pooled activations",
}
_TITLES: dict[str, Callable[[Spec], str]] = {
    "proto-sisa": lambda spec: f"ProtoSISA, {spec.shards} shards",
    "s3t": lambda spec: f"S3T policy, {spec.shards} shards x {spec.slices} slices",
    "safe": lambda spec: (
        f"SAFE {spec.graph}, {spec.shards} shards"
        + ("" if spec.safe_source is None else f", {spec.safe_source} safe")
    ),
    "safe-tallies": _tallies_title,
    "sisa": lambda spec: (
        f"SISA, {spec.shards} shards" + (f", {spec.vote} vote" if spec.vote else "")
    ),
    "sisa-sliced": lambda spec: f"SISA, {spec.shards} shards x {spec.slices} slices",
    "tallied": lambda spec: f"random attention + tallies, {spec.nodes or 64} nodes",
    "unsharded": lambda spec: (
        f"no sharding, {spec.nodes} adapters"
        if (spec.nodes or 1) > 1
        else "no sharding, one adapter"
    ),
}


def _nearest(choices: Mapping[str, Any], parts: float) -> str:
    """The key nearest to ``parts`` in ratio; of two equally near ones the smaller."""
    return min(
        sorted(choices, key=float), key=lambda key: max(float(key) / parts, parts / float(key))
    )
