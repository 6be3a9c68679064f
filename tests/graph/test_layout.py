from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardgraph.graph.layout import connected_groups, layout_of
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import (
    by_source,
    cliques,
    complete,
    from_edges,
    hub,
    isolated,
    ring,
    two_level,
)

PLACED = {
    "one": (isolated(1), "wheel"),
    "two": (isolated(2), "clusters"),
    "isolated": (isolated(256), "clusters"),
    "cliques": (cliques(64, 4), "clusters"),
    "large cliques": (cliques(64, 16), "clusters"),
    "uneven": (by_source({"a": ring(5, 2), "b": complete(3)}, default=1), "clusters"),
    "two-level": (two_level(ring(8, 2), 4), "clusters"),
    "ring": (ring(16, 3), "wheel"),
    "hub": (hub(64, 2), "wheel"),
    "one hub": (hub(3, 1), "wheel"),
    "complete": (complete(16), "wheel"),
}


@pytest.mark.parametrize("case", PLACED)
def test_circles_never_touch(case: str) -> None:
    graph, view = PLACED[case]
    layout = layout_of(graph)
    assert layout.view == view
    assert len(layout.points) == len(layout.radii) == len(graph.nodes)
    placed = zip(layout.points, layout.radii, strict=True)
    for (one, first), (other, second) in itertools.combinations(placed, 2):
        assert math.dist(one, other) > first + second


def test_clusters_do_not_overlap_and_hold_their_nodes() -> None:
    layout = layout_of(cliques(64, 4))
    assert len(layout.clusters) == 16
    for (one, first), (other, second) in itertools.combinations(layout.clusters, 2):
        assert math.dist(one, other) > first + second
    for node, point in enumerate(layout.points):
        centre, radius = layout.clusters[node // 4]
        assert math.dist(point, centre) + layout.radii[node] < radius


@pytest.mark.parametrize(
    "graph",
    [
        ring(256, 3),
        complete(64),
        cliques(64, 32),
        ShardGraph(1, (Node(0, (0,)), Node(0, (0,)))),
        ShardGraph(2, (Node(1, (1,)), Node(0, (0,)))),
        ShardGraph(1, (Node(0, (0,)), Node(None, (), (0,)))),
    ],
)
def test_what_circles_cannot_show_is_a_matrix(graph: ShardGraph) -> None:
    assert layout_of(graph).view == "matrix"


def test_what_all_nodes_read_is_in_the_middle() -> None:
    layout = layout_of(hub(64, 2))
    distances = [math.hypot(*point) for point in layout.points]
    assert max(distances[:2]) < min(distances[2:]) / 2


@settings(max_examples=50)
@given(st.integers(1, 8), st.data())
def test_groups_are_the_connected_components(n: int, data: st.DataObject) -> None:
    ends = st.integers(0, n - 1)
    edges = data.draw(st.lists(st.tuples(ends, ends), max_size=8))
    groups = connected_groups(from_edges(n, edges))
    reach = {shard: {shard} for shard in range(n)}
    for _ in range(n):
        for a, b in edges:
            reach[a] = reach[b] = reach[a] | reach[b]
            for shard in reach[a]:
                reach[shard] = reach[a]
    assert {tuple(group) for group in groups} == {tuple(sorted(found)) for found in reach.values()}
    assert groups == sorted(groups)
