"""Random shard graphs for property tests, as ``st.from_type(ShardGraph)``."""

from __future__ import annotations

from hypothesis import strategies as st

from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph

MOST = 7


@st.composite
def graphs(draw: st.DrawFn) -> ShardGraph:
    """Any graph: several nodes per home, nodes that only tally, shards that are no home."""
    shards = draw(st.integers(1, MOST))
    some = st.frozensets(st.integers(0, shards - 1)).map(lambda chosen: tuple(sorted(chosen)))
    nodes = []
    for _ in range(draw(st.integers(1, MOST))):
        reads, tallies = draw(some), draw(some)
        if reads:
            nodes.append(Node(draw(st.sampled_from(reads)), reads, tallies))
        elif tallies:
            nodes.append(Node(None, (), tallies))
    used = {shard for node in nodes for shard in (*node.reads, *node.tallies)}
    nodes += [Node(shard, (shard,)) for shard in range(shards) if shard not in used]
    return ShardGraph(shards, tuple(nodes))


st.register_type_strategy(ShardGraph, graphs())
