from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from shardgraph.errors import GraphError
from shardgraph.graph.cost import request_cost
from shardgraph.graph.node import Node
from shardgraph.graph.picture import draw
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import cliques, isolated, ring

RED, ORANGE, YELLOW, BLUE = "#c4262e", "#f7a04b", "#fff0c9", "#dde8f5"
MIXED = ShardGraph(
    3, (Node(0, (0, 1)), Node(1, (1,)), Node(None, (), (0, 1, 2)), Node(2, (2,), (1,)))
)


def svg_of(path: Path, *args: object, **options: object) -> str:
    draw(*args[:1], path, *args[1:], **options)  # type: ignore[arg-type]
    text = path.read_text()
    ET.fromstring(text)
    return text


def colours(path: Path) -> set[str]:
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(image.width * image.height)
    return {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in found}


def test_a_circle_for_every_node_with_what_is_touched_marked(tmp_path: Path) -> None:
    graph = cliques(8, 2)
    text = svg_of(tmp_path / "graph.svg", graph, [2])
    in_the_legend = 1
    assert text.count(f"fill: {RED}") == 1 + in_the_legend
    assert text.count(f"fill: {ORANGE}") == 1 + in_the_legend
    assert text.count(f"fill: {BLUE}") == 6 + in_the_legend
    assert YELLOW not in text


def test_at_rest_nothing_is_marked(tmp_path: Path) -> None:
    text = svg_of(tmp_path / "graph.svg", cliques(8, 2))
    assert RED not in text
    assert ORANGE not in text


def test_nodes_that_only_tally_are_marked_as_subtracting(tmp_path: Path) -> None:
    graph = isolated(6).with_tallies("all-but:3")
    text = svg_of(tmp_path / "graph.svg", graph, [0])
    assert text.count(f"fill: {YELLOW}") == 3 + 1
    assert len(graph.never_saw(0)) == 2


def test_refitted_nodes_may_be_given(tmp_path: Path) -> None:
    text = svg_of(tmp_path / "graph.svg", ring(6, 3), [2], [1, 2])
    assert text.count(f"fill: {ORANGE}") == 1 + 1


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = cliques(4, 2)
    cost = request_cost(graph, [3] * 4)
    for suffix in ("svg", "png"):
        one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
        draw(graph, one, [1], cost=cost)
        draw(graph, other, [1], cost=cost)
        assert one.read_bytes() == other.read_bytes()


def test_settings_of_matplotlib_neither_matter_nor_change(tmp_path: Path) -> None:
    graph = cliques(4, 2)
    draw(graph, tmp_path / "plain.svg")
    with mpl.rc_context({"font.family": "monospace", "svg.hashsalt": "mine"}):
        draw(graph, tmp_path / "other.svg")
        assert mpl.rcParams["svg.hashsalt"] == "mine"
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_pictures_hold_no_date_and_no_program_version(tmp_path: Path) -> None:
    text = svg_of(tmp_path / "graph.svg", isolated(2))
    assert "dc:date" not in text
    assert mpl.__version__ not in text
    draw(isolated(2), tmp_path / "graph.png")
    with Image.open(io.BytesIO((tmp_path / "graph.png").read_bytes())) as image:
        assert "Software" not in image.info


def test_a_matrix_shows_reads_tallies_and_what_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "graph.png"
    draw(MIXED, path)
    found = colours(path)
    assert {"#4878ab", "#dbe6f3"} <= found
    assert not {"#c4262e", "#f39a45", "#e2b93b"} & found
    draw(MIXED, path, [1])
    assert {"#4878ab", "#dbe6f3", "#c4262e", "#f39a45", "#e2b93b"} <= colours(path)


def test_a_large_graph_is_drawn(tmp_path: Path) -> None:
    graph = ring(256, 24).with_tallies("all-but:8")
    path = tmp_path / "graph.PNG"
    draw(graph, path, [99], cost=request_cost(graph, [5] * 256))
    with Image.open(path) as image:
        assert min(image.size) > 1000


@pytest.mark.parametrize("name", ["graph", "graph.pdf", "graph.svg.txt"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"\.svg or \.png"):
        draw(isolated(2), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shards", "nodes"), [([2], None), ([-1], None), ([], [2]), ([], [-1])])
def test_unknown_shards_and_nodes_are_refused(
    shards: list[int], nodes: list[int] | None, tmp_path: Path
) -> None:
    with pytest.raises(GraphError, match="There is no"):
        draw(isolated(2), tmp_path / "graph.svg", shards, nodes)
    assert not list(tmp_path.iterdir())
