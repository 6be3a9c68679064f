"""The parts of a shard graph: its nodes, and the pools that samples are spread over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shardgraph.errors import GraphError

MAX_EDGES = 10_000_000
"""Most edges of one kind that a preset makes; more would fill the memory before any sample."""


@dataclass(frozen=True, slots=True)
class Node:
    """One light model of the graph.

    Attributes:
        home: the shard that the node belongs to; a node whose home is empty does not exist. None
            for a node that reads nothing and only tallies.
        reads: the shards whose samples it is trained on, its home among them, ascending.
        tallies: the shards that it tallies, ascending.
        kind: the kind of its representation; the graph only carries it.
    """

    home: int | None
    reads: tuple[int, ...]
    tallies: tuple[int, ...] = ()
    kind: str = "default"

    def exists(self, sizes: Sequence[int]) -> bool:
        """Whether the node exists when shard s holds ``sizes[s]`` samples.

        With a home: while the home holds a sample. Without: while any shard that it tallies does.
        """
        if self.home is not None:
            return sizes[self.home] > 0
        return any(sizes[shard] for shard in self.tallies)


@dataclass(frozen=True, slots=True)
class Pool:
    """The shards that the samples of some sources are spread over.

    ``sources`` None stands for every source that no other pool names, and for samples without one.
    """

    shards: tuple[int, ...]
    sources: tuple[str, ...] | None = None


def nodes_from_edges(shards: int, edges: Iterable[tuple[int, int]]) -> tuple[Node, ...]:
    """One node per shard, which reads its own shard and those that ``edges`` say.

    Args:
        shards: number of shards, and of nodes.
        edges: pairs (node, shard it reads), in any order; pairs (i, i) are implied, and a pair
            may occur twice.

    Raises:
        GraphError: an end is not in ``0 .. shards - 1``.
    """
    reads = [{shard} for shard in range(shards)]
    for node, shard in edges:
        if not (0 <= node < shards and 0 <= shard < shards):
            raise GraphError(
                f"The edge [{node}, {shard}] leaves a graph of {shards} shards.",
                advice=f"Nodes and shards go from 0 to {shards - 1}.",
            )
        reads[node].add(shard)
    return tuple(Node(home, tuple(sorted(read))) for home, read in enumerate(reads))


def require_edges(count: int) -> None:
    """Refuse a preset that would make more than `MAX_EDGES` edges.

    Raises:
        GraphError: it would.
    """
    if count > MAX_EDGES:
        raise GraphError(
            f"This graph would have {count:,} edges; the most is {MAX_EDGES:,}.",
            advice="Use fewer shards, or let each node read or tally fewer.",
        )
