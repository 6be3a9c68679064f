from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardgraph.errors import GraphError
from shardgraph.graph.shard_graph import Node, Pool, ShardGraph
from shardgraph.graph.topologies import cliques, isolated

ANY = st.from_type(ShardGraph)


@given(ANY)
def test_readers_and_talliers_are_the_transposes(graph: ShardGraph) -> None:
    for shard in range(graph.shards):
        for number, node in enumerate(graph.nodes):
            assert (number in graph.readers_of(shard)) == (shard in node.reads)
            assert (number in graph.tallied_by(shard)) == (shard in node.tallies)
        assert list(graph.readers_of(shard)) == sorted(set(graph.readers_of(shard)))
        assert list(graph.tallied_by(shard)) == sorted(set(graph.tallied_by(shard)))


@given(ANY, st.data())
def test_the_closure_equals_brute_force(graph: ShardGraph, data: st.DataObject) -> None:
    shards = data.draw(st.lists(st.integers(0, graph.shards - 1)))
    expected = {
        number
        for number, node in enumerate(graph.nodes)
        if {*node.reads, *node.tallies} & set(shards)
    }
    assert graph.influenced_by(shards) == expected


@given(ANY)
def test_never_saw_is_the_complement_of_the_closure(graph: ShardGraph) -> None:
    for shard in range(graph.shards):
        apart = graph.never_saw(shard)
        assert list(apart) == sorted(apart)
        assert set(apart) == set(range(len(graph.nodes))) - graph.influenced_by([shard])


def test_reads_are_directed() -> None:
    graph = ShardGraph(2, (Node(0, (0, 1)), Node(1, (1,))))
    assert graph.readers_of(0) == (0,)
    assert graph.readers_of(1) == (0, 1)


def test_a_node_exists_with_its_home_or_with_what_it_tallies() -> None:
    assert Node(0, (0, 1)).exists([1, 0])
    assert not Node(0, (0, 1)).exists([0, 5])
    assert Node(None, (), (1,)).exists([0, 5])
    assert not Node(None, (), (1,)).exists([5, 0])


@pytest.mark.parametrize("shard", [-1, 4])
def test_an_unknown_shard_is_refused_not_wrapped(shard: int) -> None:
    graph = isolated(4)
    for question in (graph.readers_of, graph.tallied_by, graph.never_saw):
        with pytest.raises(GraphError, match=f"no shard {shard}"):
            question(shard)
    with pytest.raises(GraphError):
        graph.influenced_by([0, shard])


IMPOSSIBLE = {
    "no shards": (0, [Node(0, (0,))], []),
    "negative": (-3, [Node(0, (0,))], []),
    "no nodes": (1, [], []),
    "home not read": (2, [Node(0, (1,)), Node(1, (1,))], []),
    "shard too high": (2, [Node(0, (0, 2)), Node(1, (1,))], []),
    "shard below 0": (2, [Node(0, (-1, 0)), Node(1, (1,))], []),
    "tally too high": (2, [Node(0, (0,), (2,)), Node(1, (1,))], []),
    "unsorted": (2, [Node(0, (1, 0)), Node(1, (1,))], []),
    "twice": (2, [Node(0, (0, 0)), Node(1, (1,))], []),
    "reads without home": (1, [Node(None, (0,))], []),
    "neither reads nor tallies": (1, [Node(0, (0,)), Node(None, ())], []),
    "unused shard": (2, [Node(0, (0,))], []),
    "unpooled shard": (2, [Node(0, (0, 1))], [Pool((0,))]),
    "shard in two pools": (2, [Node(0, (0, 1))], [Pool((0, 1)), Pool((1,), ("a",))]),
    "pool shard too high": (1, [Node(0, (0,))], [Pool((0, 1))]),
    "empty pool": (1, [Node(0, (0,))], [Pool((0,)), Pool((), ("a",))]),
    "pool of no source": (2, [Node(0, (0, 1))], [Pool((0,)), Pool((1,), ())]),
    "source in two pools": (2, [Node(0, (0, 1))], [Pool((0,), ("a",)), Pool((1,), ("b", "a"))]),
    "two default pools": (2, [Node(0, (0, 1))], [Pool((0,)), Pool((1,))]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_graphs_are_refused_with_advice(case: str) -> None:
    shards, nodes, pools = IMPOSSIBLE[case]
    with pytest.raises(GraphError) as caught:
        ShardGraph(shards, tuple(nodes), tuple(pools))
    assert caught.value.advice


def test_without_pools_all_shards_are_one_pool() -> None:
    assert isolated(3).pools == (Pool((0, 1, 2)),)


def test_equal_graphs_are_equal_and_their_digest_names_their_content() -> None:
    graph = cliques(8, 2)
    assert graph == cliques(8, 2)
    assert graph.digest == cliques(8, 2).digest
    assert graph.digest != cliques(8, 4).digest
    assert graph.digest != graph.with_tallies("own").digest
    assert graph.digest != graph.with_pools([Pool((0,), ("a",)), Pool(tuple(range(1, 8)))]).digest


def test_the_digest_of_a_graph_stays_from_release_to_release() -> None:
    assert isolated(2).digest == "bce4e7e8d9036f64133f1d39782e4590976dd530d600eb7c695cedbcff2d1c6f"
