from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardgraph.errors import GraphError
from shardgraph.graph.node import Node, Pool
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import by_source, cliques, from_edges, hub
from shardgraph.identity import canonical_json


@given(st.from_type(ShardGraph))
def test_a_graph_survives_the_round_trip_byte_for_byte(graph: ShardGraph) -> None:
    written = canonical_json(graph.to_json())
    again = ShardGraph.from_json(json.loads(written))
    assert again == graph
    assert canonical_json(again.to_json()) == written
    assert again.digest == graph.digest


@pytest.mark.parametrize(
    "graph",
    [
        hub(6, 2, safe_sources=["a", "b"]).with_tallies("all-but:2"),
        by_source({"a": cliques(4, 2), "b": 1}, default=2),
        ShardGraph(1, (Node(0, (0,), kind="random"), Node(None, (), (0,)))),
    ],
)
def test_pools_kinds_and_names_survive(graph: ShardGraph) -> None:
    assert ShardGraph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_the_form_is_written_down() -> None:
    graph = ShardGraph(2, (Node(0, (0, 1), (1,)), Node(None, (), (0,))), name="mine")
    assert graph.to_json() == {
        "format": 1,
        "name": "mine",
        "shards": 2,
        "nodes": [
            {"home": 0, "reads": [0, 1], "tallies": [1], "kind": "default"},
            {"home": None, "reads": [], "tallies": [0], "kind": "default"},
        ],
        "pools": [{"shards": [0, 1], "sources": None}],
    }


def test_a_hand_written_file_may_be_short_and_unordered() -> None:
    graph = ShardGraph.from_json(
        {
            "format": 1,
            "shards": 3,
            "nodes": [{"home": 2, "reads": [2, 0]}, {"home": 1, "reads": [1]}],
            "pools": [{"shards": [2, 1], "sources": ["a"]}, {"shards": [0]}],
        }
    )
    assert graph.nodes == (Node(2, (0, 2)), Node(1, (1,)))
    assert graph.pools == (Pool((1, 2), ("a",)), Pool((0,)))
    assert graph.name == "custom"


def test_edges_may_stand_for_nodes() -> None:
    graph = ShardGraph.from_json({"format": 1, "shards": 3, "edges": [[2, 0], [0, 1]]})
    assert graph == from_edges(3, [(2, 0), (0, 1)])


NODE = {"home": 0, "reads": [0]}
BAD: dict[str, Any] = {
    "not an object": [],
    "null": None,
    "no format": {"shards": 1, "nodes": [NODE]},
    "format 0": {"format": 0, "shards": 1, "nodes": [NODE]},
    "format text": {"format": "1", "shards": 1, "nodes": [NODE]},
    "format true": {"format": True, "shards": 1, "nodes": [NODE]},
    "no shards": {"format": 1, "nodes": [NODE]},
    "zero shards": {"format": 1, "shards": 0, "edges": []},
    "shards real": {"format": 1, "shards": 1.0, "nodes": [NODE]},
    "neither nodes nor edges": {"format": 1, "shards": 1},
    "nodes and edges": {"format": 1, "shards": 1, "nodes": [NODE], "edges": []},
    "unknown field": {"format": 1, "shards": 1, "nodes": [NODE], "colour": 1},
    "nodes number": {"format": 1, "shards": 1, "nodes": 3},
    "node list": {"format": 1, "shards": 1, "nodes": [[0]]},
    "node without home": {"format": 1, "shards": 1, "nodes": [{"reads": [0]}]},
    "unknown node field": {"format": 1, "shards": 1, "nodes": [{**NODE, "read": [0]}]},
    "reads text": {"format": 1, "shards": 1, "nodes": [{"home": 0, "reads": "0"}]},
    "reads texts": {"format": 1, "shards": 1, "nodes": [{"home": 0, "reads": ["0"]}]},
    "reads twice": {"format": 1, "shards": 1, "nodes": [{"home": 0, "reads": [0, 0]}]},
    "kind number": {"format": 1, "shards": 1, "nodes": [{**NODE, "kind": 1}]},
    "name number": {"format": 1, "shards": 1, "nodes": [NODE], "name": 1},
    "edge of three": {"format": 1, "shards": 3, "edges": [[0, 1, 2]]},
    "edge outside": {"format": 1, "shards": 3, "edges": [[0, 3]]},
    "pool number": {"format": 1, "shards": 1, "nodes": [NODE], "pools": [0]},
    "source number": {
        "format": 1,
        "shards": 1,
        "nodes": [NODE],
        "pools": [{"shards": [0], "sources": [1]}],
    },
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_advice(case: str) -> None:
    with pytest.raises(GraphError) as caught:
        ShardGraph.from_json(BAD[case])
    assert caught.value.advice


def test_a_newer_format_is_refused_as_newer() -> None:
    with pytest.raises(GraphError, match="Install a newer shardgraph"):
        ShardGraph.from_json({"format": 2, "anything": "else"})
