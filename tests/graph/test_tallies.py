from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shardgraph.errors import GraphError
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.tallies import held_out_groups, preset_tallies
from shardgraph.graph.topologies import cliques, complete, hub, isolated, random_regular, ring

LARGE = [
    isolated(64),
    cliques(64, 4),
    cliques(64, 8),
    cliques(64, 16),
    ring(64, 3),
    hub(64, 2),
    random_regular(64, 5, seed=1),
]


def groups_of(graph: ShardGraph, groups: int) -> list[int]:
    homes = [node.home for node in graph.nodes]
    return held_out_groups(groups, graph.shards, homes, [node.reads for node in graph.nodes])


def test_none_own_and_all() -> None:
    graph = ring(4, 2)
    assert {node.tallies for node in graph.with_tallies("none").nodes} == {()}
    assert [node.tallies for node in graph.with_tallies("own").nodes] == [
        node.reads for node in graph.nodes
    ]
    assert {node.tallies for node in graph.with_tallies("all").nodes} == {(0, 1, 2, 3)}


def test_a_preset_replaces_the_last_one() -> None:
    graph = ring(8, 2)
    twice = graph.with_tallies("all").with_tallies("all-but:4")
    assert twice == graph.with_tallies("all-but:4")
    assert twice.name == "ring:2, tallies all-but:4"
    assert twice.with_tallies("none") == graph


def test_all_but_on_isolated_shards_leaves_out_the_group_after_home() -> None:
    graph = isolated(6).with_tallies("all-but:3")
    assert [node.tallies for node in graph.nodes] == [
        (0, 2, 3, 5),
        (0, 1, 3, 4),
        (1, 2, 4, 5),
        (0, 2, 3, 5),
        (0, 1, 3, 4),
        (1, 2, 4, 5),
    ]


@pytest.mark.parametrize("graph", LARGE, ids=lambda graph: graph.name)
def test_every_group_is_held_out_by_an_equal_share_of_nodes(graph: ShardGraph) -> None:
    assert Counter(groups_of(graph, 8)) == dict.fromkeys(range(8), 8)


@pytest.mark.parametrize("graph", LARGE, ids=lambda graph: graph.name)
def test_every_shard_that_not_all_read_has_nodes_that_never_saw_it(graph: ShardGraph) -> None:
    held = graph.with_tallies("all-but:8")
    for shard in range(graph.shards):
        if len(graph.readers_of(shard)) < len(graph.nodes):
            assert len(held.never_saw(shard)) >= 4


@pytest.mark.parametrize("graph", [isolated(64), cliques(64, 4), ring(64, 3)])
def test_the_held_out_group_is_disjoint_from_reads_where_it_can_be(graph: ShardGraph) -> None:
    for node, group in zip(graph.nodes, groups_of(graph, 8), strict=True):
        assert all(shard % 8 != group for shard in node.reads)


def test_what_every_node_reads_every_node_saw() -> None:
    assert complete(8).with_tallies("all-but:4").never_saw(3) == ()


@given(st.from_type(ShardGraph), st.data())
def test_all_but_leaves_out_one_group_less_what_is_read(
    graph: ShardGraph, data: st.DataObject
) -> None:
    assume(graph.shards > 1)
    groups = data.draw(st.integers(2, graph.shards))
    chosen = groups_of(graph, groups)
    share = len(graph.nodes) // groups
    assert {chosen.count(group) for group in range(groups)} <= {share, share + 1}
    homes, reads = [n.home for n in graph.nodes], [n.reads for n in graph.nodes]
    tallies = preset_tallies(f"all-but:{groups}", graph.shards, homes, reads)
    for read, tallied, group in zip(reads, tallies, chosen, strict=True):
        left_out = set(range(group, graph.shards, groups)) - set(read)
        assert tallied == tuple(sorted(set(range(graph.shards)) - left_out))


@pytest.mark.parametrize(
    "preset", ["", "everything", "all-but", "all-but:", "all-but:x", "all-but:-2", "all:3"]
)
def test_unknown_presets_are_refused_with_the_list(preset: str) -> None:
    with pytest.raises(GraphError, match="none, own, all or all-but:G"):
        isolated(4).with_tallies(preset)


@pytest.mark.parametrize("groups", [0, 1, 5])
def test_the_number_of_groups_must_fit(groups: int) -> None:
    with pytest.raises(GraphError, match="from 2 to"):
        isolated(4).with_tallies(f"all-but:{groups}")


def test_a_node_that_only_tallies_cannot_lose_its_tallies() -> None:
    graph = ShardGraph(2, (Node(0, (0, 1)), Node(None, (), (0, 1))))
    with pytest.raises(GraphError, match="neither reads nor tallies"):
        graph.with_tallies("own")


def test_too_many_tallies_are_refused_before_they_fill_the_memory() -> None:
    with pytest.raises(GraphError, match="edges"):
        isolated(4096).with_tallies("all")
