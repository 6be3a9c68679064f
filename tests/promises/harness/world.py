"""A small world: every sample that can ever exist, and the graphs that histories run over.

Whatever belongs to one sample (id, owner, activation) is made so that a search through raw bytes
finds it and finds nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting import create
from shardgraph.forgetting.create import FitSettings
from shardgraph.graph.shard_graph import Node, Pool, ShardGraph
from shardgraph.model import SafeModel

TOKENS, WIDTH = 2, 8
SHARDS = 6
CLASSES = 5
SAMPLES = 32
VERSIONS = 2
RECIPE = {"heads": 1, "value_width": 16, "batch_size": 16, "epochs": 1}
LICENSED = "source-licensed-pkmq"
TALLY = {"heads": 2, "value_width": 4, "sharpness": 1.5}
SOURCES = (None, "source-web-vxjw", LICENSED)
READING = ("isolated", "cliques:2", "ring:3", "hub:1", "complete", "custom")
TALLYING = ("tallied:3", "ring:2+all-but:3", "kinds")
TOPOLOGIES = READING + TALLYING

Live = dict[str, int]
"""The live samples of a history: the version of each id. Versions differ in all but the id."""


@dataclass(frozen=True)
class Being:
    """One version of one sample. A later version has another label, activation and owner."""

    id: str
    label: str
    owner: str | None
    source: str | None
    tokens: np.ndarray

    @property
    def marks(self) -> tuple[bytes, ...]:
        """Bytes that are this sample's alone: its id and its activation as it is stored."""
        return self.id.encode(), self.tokens.astype("<f2").tobytes()


class World:
    """Samples that differ from seed to seed, and are otherwise the same in every process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ids = tuple(f"sample-{_word(seed, 'id', n)}" for n in range(SAMPLES))
        self._number = {name: n for n, name in enumerate(self.ids)}

    @functools.cache  # noqa: B019 - worlds live as long as their test
    def being(self, name: str, version: int) -> Being:
        """One version of a sample."""
        number = self._number[name]
        random = np.random.Generator(np.random.Philox([self.seed, number, version]))
        label = (number + version) % CLASSES
        owner = None if number % 3 == 0 else _word(self.seed, "owner", (number + version) // 4)
        return Being(
            name,
            f"label-{_word(self.seed, 'label', label)}",
            None if owner is None else f"owner-{owner}",
            SOURCES[number % len(SOURCES)] if number % 4 == 0 else SOURCES[number % 2],
            (random.standard_normal((TOKENS, WIDTH)) + 0.5 * label).astype(np.float16),
        )

    def beings(self, live: Mapping[str, int]) -> list[Being]:
        """The live samples, by id."""
        return [self.being(name, version) for name, version in sorted(live.items())]

    def dataset(self, live: Mapping[str, int], *, reverse: bool = False) -> ArrayDataset:
        """The live samples as data, by id, or the other way round."""
        order = self.beings(live)[:: -1 if reverse else 1]
        return ArrayDataset(
            np.stack([being.tokens for being in order]),
            [being.label for being in order],
            ids=[being.id for being in order],
            owners=[being.owner for being in order],
            sources=[being.source for being in order],
        )

    def probe(self) -> np.ndarray:
        """Activations to ask about, [B, T, D]."""
        random = np.random.Generator(np.random.Philox([self.seed, 99]))
        return random.standard_normal((3, TOKENS, WIDTH)).astype(np.float16)


def graph_of(topology: str) -> ShardGraph:
    """A graph over six shards.

    ``custom`` has a pool, nodes that share a home, and odd reads; ``kinds`` has nodes of every
    kind, with and without a home, that tally all, some or none of what they read.
    """
    if topology == "kinds":
        return ShardGraph(SHARDS, _KINDS, name="kinds")
    if topology != "custom":
        name, _, tallies = topology.partition("+")
        settings = FitSettings(shards=SHARDS, graph=name, tallies=tallies or None)
        if topology.startswith("hub"):
            settings = FitSettings(shards=SHARDS, graph=topology, safe_sources=(LICENSED,))
        return settings.build_graph()
    nodes = [Node(home, tuple(sorted({home, (home + 1) % 5, (home + 2) % 5}))) for home in range(5)]
    nodes += [Node(5, (5,)), Node(0, (0, 5)), Node(3, (2, 3, 5))]
    return ShardGraph(
        SHARDS, tuple(nodes), (Pool(tuple(range(5))), Pool((5,), (LICENSED,))), "custom"
    )


_KINDS = (
    Node(None, (), (0, 1, 2, 3, 4, 5), "random"),
    Node(None, (), (2, 5), "random"),
    Node(0, (0, 1), (0, 1, 2, 3, 4, 5), "trained"),
    Node(1, (1, 3), (1, 2), "discriminant"),
    Node(2, (2,), (2,)),
    Node(3, (3, 4), ()),
    Node(4, (4,), (0,), "random"),
)


def settings_for(topology: str, seed: int) -> FitSettings:
    """Settings with which a step of a history takes milliseconds."""
    return FitSettings(graph=graph_of(topology), recipe=dict(RECIPE), tally=dict(TALLY), seed=seed)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Fit without timing the machine: the forecast decides nothing and takes half of a tiny fit."""
    real = create.measure_speed
    create.measure_speed = lambda store: None
    try:
        yield
    finally:
        create.measure_speed = real


def fit(world: World, topology: str, live: Live, path: Path, *, reverse: bool = False) -> SafeModel:
    """A store fitted from scratch; open for writing."""
    with unmeasured():
        return SafeModel.fit(
            world.dataset(live, reverse=reverse), path, settings_for(topology, world.seed)
        )[0]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes when the block ends; in memory where there is such a place."""
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="shardgraph-promises-", dir=where) as path:
        yield Path(path)


def live_of(world: World, names: Iterable[str]) -> Live:
    """First versions of these samples."""
    return {name: 0 for name in names if name in world.ids}


def _word(seed: int, purpose: str, number: int) -> str:
    """Twelve letters that occur by chance nowhere else."""
    hashed = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz"[byte % 20] for byte in hashed[:12])
