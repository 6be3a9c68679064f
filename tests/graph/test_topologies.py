from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardgraph.errors import GraphError
from shardgraph.graph.node import Pool
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import (
    TALLIED_GROUPS,
    by_source,
    cliques,
    complete,
    from_edges,
    hub,
    isolated,
    parse,
    random_regular,
    ring,
    source_pools,
    tallied,
    two_level,
)


def reads(graph: ShardGraph) -> list[tuple[int, ...]]:
    assert [node.home for node in graph.nodes] == list(range(graph.shards))
    return [node.reads for node in graph.nodes]


def test_isolated_complete_and_the_shapes_between() -> None:
    assert reads(isolated(3)) == [(0,), (1,), (2,)]
    assert reads(complete(3)) == [(0, 1, 2)] * 3
    assert reads(cliques(4, 2)) == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert reads(ring(4, 2)) == [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert reads(hub(4, 1)) == [(0,), (0, 1), (0, 2), (0, 3)]
    assert reads(hub(4, 2)) == [(0, 1), (0, 1), (0, 1, 2), (0, 1, 3)]
    assert reads(from_edges(3, [(2, 0), (2, 0), (1, 1)])) == [(0,), (1,), (0, 2)]


@given(st.integers(1, 12), st.data())
def test_a_ring_reads_forwards_and_is_read_backwards(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    graph = ring(n, k)
    for shard in range(n):
        assert set(graph.nodes[shard].reads) == {(shard + step) % n for step in range(k)}
        assert set(graph.readers_of(shard)) == {(shard - step) % n for step in range(k)}


def test_extremes_coincide() -> None:
    assert reads(ring(5, 5)) == reads(cliques(5, 5)) == reads(hub(5, 5)) == reads(complete(5))
    assert reads(ring(5, 1)) == reads(cliques(5, 1)) == reads(random_regular(5, 1, 0))
    assert reads(random_regular(5, 5, 0)) == reads(complete(5))


@given(st.integers(1, 24), st.integers(0, 3), st.data())
def test_random_regular_graphs_are_regular_both_ways(
    n: int, seed: int, data: st.DataObject
) -> None:
    degree = data.draw(st.integers(1, n))
    graph = random_regular(n, degree, seed)
    for shard, read in enumerate(reads(graph)):
        assert shard in read
        assert len(read) == degree == len(graph.readers_of(shard))


def test_random_regular_graphs_depend_on_the_seed_alone() -> None:
    assert random_regular(16, 3, 1) == random_regular(16, 3, 1)
    assert len({random_regular(16, 3, seed).digest for seed in range(5)}) == 5


def test_a_random_regular_graph_stays_from_release_to_release() -> None:
    assert reads(random_regular(6, 3, seed=0)) == [
        (0, 4, 5),
        (0, 1, 4),
        (1, 2, 3),
        (0, 3, 5),
        (2, 3, 4),
        (1, 2, 5),
    ]


def test_random_regular_graphs_are_more_than_circulants() -> None:
    """A circulant reads the same steps around some circle, so pairs share readers in a pattern."""
    graph = random_regular(64, 8, seed=0)
    shared = Counter(
        len(set(graph.nodes[a].reads) & set(graph.nodes[b].reads))
        for a in range(64)
        for b in range(a)
    )
    expected = 64 * 63 / 2
    assert sum(shared.values()) == expected
    mean = sum(k * count for k, count in shared.items()) / expected
    assert mean == pytest.approx(64 * 8 * 7 / 2 / expected)
    variance = sum((k - mean) ** 2 * count for k, count in shared.items()) / expected
    assert 0.4 < variance < 1.1  # about 0.7 for a random graph; circulants have a few values


def test_a_hub_with_safe_sources_keeps_them_apart() -> None:
    graph = hub(5, 2, safe_sources=["b", "a", "b"])
    assert graph.pools == (Pool((0, 1), ("a", "b")), Pool((2, 3, 4)))
    assert graph.nodes == hub(5, 2).nodes
    with pytest.raises(GraphError, match="leaves none"):
        hub(2, 2, safe_sources=["a"])


@pytest.mark.parametrize("across", ["matched", "all"])
@pytest.mark.parametrize("within", ["own", "all"])
def test_two_levels_read_as_they_say(across: str, within: str) -> None:
    coarse, fine = ring(3, 2), 4
    graph = two_level(coarse, fine, across=across, within=within)  # type: ignore[arg-type]
    for shard, read in enumerate(reads(graph)):
        home, number = divmod(shard, fine)
        expected = {shard} if within == "own" else {home * fine + f for f in range(fine)}
        for other in set(coarse.nodes[home].reads) - {home}:
            numbers = [number] if across == "matched" else range(fine)
            expected |= {other * fine + f for f in numbers}
        assert set(read) == expected


def test_two_levels_stretch_the_pools() -> None:
    graph = two_level(hub(3, 1, safe_sources=["a"]), 2)
    assert graph.pools == (Pool((0, 1), ("a",)), Pool((2, 3, 4, 5)))


def test_two_levels_of_one_fine_shard_are_the_coarse_graph() -> None:
    assert reads(two_level(ring(5, 2), 1)) == reads(ring(5, 2))


def test_two_levels_refuse_tallies_below_and_no_shards() -> None:
    with pytest.raises(GraphError, match="tallies"):
        two_level(ring(4, 2).with_tallies("all"), 2)
    with pytest.raises(GraphError, match="0 shards"):
        two_level(ring(4, 2), 0)


def test_source_pools_are_consecutive_by_name() -> None:
    assert source_pools({"b": 2, "a": 1}, default=2) == (
        Pool((0,), ("a",)),
        Pool((1, 2), ("b",)),
        Pool((3, 4)),
    )
    assert source_pools({"b": 2, "a": 1}) == source_pools({"a": 1, "b": 2})
    assert source_pools({}, default=2) == (Pool((0, 1)),)


@pytest.mark.parametrize(("sources", "default"), [({"a": 0}, 1), ({}, 0), ({"a": 1}, -1)])
def test_sources_without_shards_are_refused(sources: dict[str, int], default: int) -> None:
    with pytest.raises(GraphError):
        source_pools(sources, default)


def test_by_source_puts_graphs_side_by_side() -> None:
    graph = by_source({"web": ring(3, 2).with_tallies("all"), "shop": cliques(4, 2)}, default=2)
    assert graph.pools == source_pools({"shop": 4, "web": 3}, default=2)
    assert reads(graph) == [
        *[(0, 1), (0, 1), (2, 3), (2, 3)],
        *[(4, 5), (5, 6), (4, 6)],
        *[(7,), (8,)],
    ]
    assert [node.tallies for node in graph.nodes] == [()] * 4 + [(4, 5, 6)] * 3 + [()] * 2


def test_by_source_never_reads_across_sources() -> None:
    graph = by_source({"a": complete(3), "b": complete(3)}).with_tallies("own")
    for pool in graph.pools:
        reached = graph.influenced_by(pool.shards)
        assert reached == frozenset(pool.shards)


def test_by_source_without_sources_is_refused() -> None:
    with pytest.raises(GraphError):
        by_source({})


FORMS = {
    "isolated": isolated(12),
    "cliques:3": cliques(12, 3),
    "ring:3": ring(12, 3),
    "hub:2": hub(12, 2),
    "complete": complete(12),
    "random:4": random_regular(12, 4, 7),
    "two-level:3": two_level(ring(4, 2), 3),
    "two-level:3/cliques:2": two_level(cliques(4, 2), 3),
    "two-level:2/two-level:2/ring:3": two_level(two_level(ring(3, 3), 2), 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_name_graphs(form: str) -> None:
    graph = parse(form, 12, seed=7)
    assert graph == FORMS[form]
    assert graph.name == form or form == "two-level:3"


def test_the_name_of_a_preset_is_the_text_that_makes_it() -> None:
    for graph in FORMS.values():
        assert parse(graph.name, 12, seed=7) == graph


def test_texts_take_default_shards_tallies_and_safe_sources() -> None:
    assert parse("isolated") == isolated(64)
    assert parse("isolated", default_shards=16) == isolated(16)
    assert parse("ring:2", 8, tallies="all-but:4") == ring(8, 2).with_tallies("all-but:4")
    assert parse("hub:2", 8, safe_sources=["a"]) == hub(8, 2, ["a"])
    assert parse("two-level:2/hub:2", 8, safe_sources=["a"]) == two_level(hub(4, 2, ["a"]), 2)


@pytest.mark.parametrize(
    "form",
    [
        "",
        "Isolated",
        "isolated:3",
        "complete:",
        "cliques",
        "cliques:",
        "cliques:x",
        "cliques:-2",
        "cliques:1.5",
        "cliques:²",
        "ring:2:3",
        "two-level",
        "two-level:/ring:2",
        "two-level:2/",
        "two-level:2/nothing",
        "star:3",
        "graph.txt",
    ],
)
def test_unknown_texts_are_refused_with_the_list(form: str) -> None:
    with pytest.raises(GraphError, match="cliques:K") as caught:
        parse(form, 8)
    assert "two-level:F" in caught.value.advice


@pytest.mark.parametrize(
    "form",
    ["isolated", "cliques:1", "ring:1", "hub:1", "complete", "random:1", "two-level:1"],
)
@pytest.mark.parametrize("shards", [0, -1])
def test_no_shards_are_refused(form: str, shards: int) -> None:
    with pytest.raises(GraphError, match="cannot have"):
        parse(form, shards)


@pytest.mark.parametrize("form", ["cliques", "ring", "hub", "random", "two-level"])
@pytest.mark.parametrize("number", [0, 9])
def test_numbers_that_do_not_fit_are_refused(form: str, number: int) -> None:
    with pytest.raises(GraphError, match="from 1 to 8"):
        parse(f"{form}:{number}", 8)


def test_shards_that_do_not_divide_get_the_nearest_that_do() -> None:
    with pytest.raises(GraphError, match="Use 60 or 65 shards"):
        cliques(64, 5)
    with pytest.raises(GraphError, match="Use 60 or 65 shards"):
        parse("two-level:5", 64)


def test_safe_sources_need_a_hub() -> None:
    with pytest.raises(GraphError, match="hub:K"):
        parse("ring:2", 8, safe_sources=["a"])


@pytest.mark.parametrize(
    "form", ["complete", "ring:90000", "hub:45000", "random:45000", "cliques:45000"]
)
def test_graphs_that_would_fill_the_memory_are_refused(form: str) -> None:
    with pytest.raises(GraphError, match="edges; the most is"):
        parse(form, 90_000)


def test_a_two_level_graph_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(GraphError, match="edges; the most is"):
        two_level(isolated(10), 3000, within="all")
    with pytest.raises(GraphError, match="edges; the most is"):
        two_level(ring(10, 2), 3000, across="all")
    assert two_level(ring(10, 2), 3000).shards == 30_000


def test_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    graph = ring(4, 2).with_tallies("own")
    path.write_text(json.dumps(graph.to_json()))
    assert parse(str(path)) == graph
    assert parse(str(path), 4) == graph
    assert parse(str(path), tallies="all").nodes == ring(4, 2).with_tallies("all").nodes


@pytest.mark.parametrize(
    ("content", "shards", "match"),
    [
        (None, None, "Cannot read"),
        (b"{", None, "not valid JSON"),
        (b"\xff\xfe\xfa", None, "not valid JSON"),
        (b"[]", None, "mine.json: The graph is not an object"),
        (b'{"format": 1, "shards": 2, "edges": []}', 3, "describes 2 shards, not 3"),
    ],
)
def test_bad_files_are_refused_by_name(
    content: bytes | None, shards: int | None, match: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GraphError, match=match) as caught:
        parse(str(path), shards)
    assert "mine.json" in caught.value.message
    assert caught.value.advice


def test_tallied_reads_nothing_and_every_shard_is_unseen_by_some_nodes():
    graph = tallied(64, 32)
    assert all(not node.reads and node.kind == "random" for node in graph.nodes)
    for shard in range(64):
        assert not graph.readers_of(shard)
        assert len(graph.never_saw(shard)) == 32 // TALLIED_GROUPS


def test_tallied_with_few_shards_tallies_all():
    graph = tallied(3, 2)
    assert [node.tallies for node in graph.nodes] == [(0, 1, 2)] * 2


def test_tallied_by_name():
    assert parse("tallied", 16) == tallied(16)
    assert parse("tallied:5", 16) == tallied(16, 5)


@pytest.mark.parametrize("nodes", [0, -1])
def test_tallied_without_nodes_is_refused(nodes):
    with pytest.raises(GraphError):
        tallied(8, nodes)
