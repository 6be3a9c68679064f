"""The shard graph: which node reads and tallies which shard, and whom a deletion reaches.

A *shard* is a set of samples. A *node* is one light model. Node j **reads** the shards R_j: it is
trained on the union of their samples. It may also **tally** shards: take sums over them from which
a sample can be subtracted exactly. Both relations are directed; the other direction has names of
its own, `ShardGraph.readers_of` and `ShardGraph.tallied_by`.

The graph is data and does no work: it holds no samples and no weights, and never changes once a
store has been created with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from shardgraph.errors import GraphError
from shardgraph.graph.json_form import graph_fields, graph_json
from shardgraph.graph.node import Node, Pool
from shardgraph.graph.tallies import preset_tallies
from shardgraph.identity import digest_json

__all__ = ["Node", "Pool", "ShardGraph"]

_TALLIES_IN_NAME = ", tallies "


@dataclass(frozen=True)
class ShardGraph:
    """A validated, immutable shard graph. Node ids are positions in ``nodes``.

    Attributes:
        shards: number of shards; their ids are 0 to ``shards - 1``.
        nodes: the nodes. Several may share a home.
        pools: where samples go, by source; every shard is in exactly one pool. By default all
            shards are one pool for all sources.
        name: what people call it; it decides nothing, but is part of `digest`.

    Raises:
        GraphError: the graph is impossible; the message says what to change.

    Example:
        >>> graph = ShardGraph(2, (Node(0, (0,)), Node(1, (0, 1))))
        >>> graph.readers_of(0)
        (0, 1)
    """

    shards: int
    nodes: tuple[Node, ...]
    pools: tuple[Pool, ...] = field(default=())
    name: str = "custom"

    def __post_init__(self) -> None:
        if not self.pools and self.shards >= 1:
            object.__setattr__(self, "pools", (Pool(tuple(range(self.shards))),))
        self.validate()

    def validate(self) -> None:
        """Check all that the class promises; called at construction.

        Raises:
            GraphError: with advice.
        """
        if self.shards < 1:
            raise GraphError(
                f"A shard graph cannot have {self.shards} shards.", advice="Use 1 shard or more."
            )
        if not self.nodes:
            raise GraphError("A shard graph needs nodes.", advice="Add one node per shard.")
        for number, node in enumerate(self.nodes):
            self._check_node(number, node)
        self._check_pools()
        unused = [s for s in range(self.shards) if not self._readers[s] and not self._tallied[s]]
        if unused:
            raise GraphError(
                f"Shard {unused[0]} is read by no node and tallied by none.",
                advice="Its samples would teach nothing: give it a node that reads it.",
            )

    def readers_of(self, shard: int) -> tuple[int, ...]:
        """The nodes that read ``shard``, ascending: they are refitted when it loses a sample.

        Raises:
            GraphError: no such shard.
        """
        return self._readers[self._known(shard)]

    def tallied_by(self, shard: int) -> tuple[int, ...]:
        """The nodes that tally ``shard``, ascending, whether or not they read it too.

        Raises:
            GraphError: no such shard.
        """
        return self._tallied[self._known(shard)]

    def influenced_by(self, shards: Iterable[int]) -> frozenset[int]:
        """The closure: every node that reads or tallies one of ``shards``, and no other.

        Raises:
            GraphError: no such shard.
        """
        return frozenset(
            node
            for shard in set(shards)
            for relation in (self.readers_of, self.tallied_by)
            for node in relation(shard)
        )

    def never_saw(self, shard: int) -> tuple[int, ...]:
        """The nodes that neither read nor tally ``shard``, ascending: they may always answer.

        Raises:
            GraphError: no such shard.
        """
        influenced = self.influenced_by((shard,))
        return tuple(node for node in range(len(self.nodes)) if node not in influenced)

    def with_tallies(self, preset: str) -> ShardGraph:
        """The same graph with the tallies ``none``, ``own``, ``all`` or ``all-but:G``.

        Under ``all-but:G`` each node leaves out one of G groups of shards, so that every shard
        that not all nodes read has nodes that `never_saw` it, given enough nodes; see
        `shardgraph.graph.tallies.held_out_groups` for which, and for what is not guaranteed.

        Raises:
            GraphError: no such preset, impossible G, or a node would neither read nor tally.
        """
        homes = [node.home for node in self.nodes]
        tallied = preset_tallies(preset, self.shards, homes, [node.reads for node in self.nodes])
        nodes = tuple(
            replace(node, tallies=shards) for node, shards in zip(self.nodes, tallied, strict=True)
        )
        name = self.name.partition(_TALLIES_IN_NAME)[0]
        if preset != "none":
            name += _TALLIES_IN_NAME + preset
        return replace(self, nodes=nodes, name=name)

    def with_pools(self, pools: Iterable[Pool]) -> ShardGraph:
        """The same nodes with other pools.

        Raises:
            GraphError: the pools overlap, leave a shard out, or name a source twice.
        """
        return replace(self, pools=tuple(pools))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, in hexadecimal."""
        return digest_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON; `from_json` gives an equal graph back."""
        return graph_json(self.shards, self.nodes, self.pools, self.name)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardGraph:
        """Read the JSON form. Shards may come in any order; fields with a default may be absent.

        Raises:
            GraphError: a newer format, an unknown or missing field, a wrong type, or an impossible
                graph.
        """
        return cls(*graph_fields(value))

    @cached_property
    def _readers(self) -> tuple[tuple[int, ...], ...]:
        return _transposed(self.shards, [node.reads for node in self.nodes])

    @cached_property
    def _tallied(self) -> tuple[tuple[int, ...], ...]:
        return _transposed(self.shards, [node.tallies for node in self.nodes])

    def _known(self, shard: int) -> int:
        if not 0 <= shard < self.shards:
            raise GraphError(
                f"There is no shard {shard}.", advice=f"Shards go from 0 to {self.shards - 1}."
            )
        return shard

    def _check_node(self, number: int, node: Node) -> None:
        for verb, shards in (("reads", node.reads), ("tallies", node.tallies)):
            self._check_shards(f"Node {number} {verb}", shards)
        if node.home is None:
            if node.reads:
                raise GraphError(
                    f"Node {number} reads shards but has no home.",
                    advice="Give it one of the shards that it reads as its home.",
                )
            if not node.tallies:
                raise GraphError(
                    f"Node {number} neither reads nor tallies a shard.",
                    advice="Leave the node out, or let it tally shards.",
                )
        elif node.home not in node.reads:
            raise GraphError(
                f"Node {number} does not read its home, shard {node.home}.",
                advice="Add the home to what it reads.",
            )

    def _check_shards(self, who: str, shards: Sequence[int]) -> None:
        if list(shards) != sorted(set(shards)):
            raise GraphError(
                f"{who} shards out of order or twice.", advice="List each once, ascending."
            )
        if shards and not (shards[0] >= 0 and shards[-1] < self.shards):
            wrong = shards[0] if shards[0] < 0 else shards[-1]
            raise GraphError(
                f"{who} shard {wrong}, which does not exist.",
                advice=f"Shards go from 0 to {self.shards - 1}.",
            )

    def _check_pools(self) -> None:
        for number, pool in enumerate(self.pools):
            self._check_shards(f"Pool {number} holds", pool.shards)
            if not pool.shards or pool.sources == ():
                raise GraphError(
                    f"Pool {number} has no {'sources' if pool.shards else 'shards'}.",
                    advice="Leave the pool out, or give it some.",
                )
        _refuse_repeats("Shard", [shard for pool in self.pools for shard in pool.shards])
        _refuse_repeats("Source", [s for pool in self.pools for s in pool.sources or ()])
        if sum(pool.sources is None for pool in self.pools) > 1:
            raise GraphError(
                "Two pools take all other sources.", advice="Name the sources of all but one."
            )
        pooled = {shard for pool in self.pools for shard in pool.shards}
        for shard in range(self.shards):
            if shard not in pooled:
                raise GraphError(
                    f"Shard {shard} is in no pool and would stay empty forever.",
                    advice="Add it to a pool, or use fewer shards.",
                )


def _transposed(shards: int, rows: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    columns: list[list[int]] = [[] for _ in range(shards)]
    for number, row in enumerate(rows):
        for shard in row:
            columns[shard].append(number)
    return tuple(tuple(column) for column in columns)


def _refuse_repeats(what: str, values: Sequence[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise GraphError(
                f"{what} {value!r} is in two pools.", advice="Put it into one of them only."
            )
        seen.add(value)
