from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardgraph.errors import GraphError
from shardgraph.graph.cost import (
    Work,
    expected_cost_of,
    request_cost,
    shard_rates,
    shard_work,
)
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import cliques, complete, hub, isolated, ring

SIZE = 12


@st.composite
def filled(draw: st.DrawFn) -> tuple[ShardGraph, list[int]]:
    graph = draw(st.from_type(ShardGraph))
    sizes = draw(st.lists(st.integers(0, 4), min_size=graph.shards, max_size=graph.shards))
    return graph, sizes


def samples_of(sizes: list[int]) -> list[tuple[int, int]]:
    """Every sample as (shard, number)."""
    return [(shard, number) for shard, size in enumerate(sizes) for number in range(size)]


def brute_force(graph: ShardGraph, sizes: list[int], shard: int) -> Work:
    """The definitions, sample by sample."""
    live = [node for node in graph.nodes if node.exists(sizes)]
    data = samples_of(sizes)
    refit = [node for node in live if shard in node.reads]
    seen = [[x for x in data if x[0] in node.reads] for node in refit]
    return Work(
        adapter_samples=sum(len(rows) for rows in seen),
        distinct_samples=len({x for rows in seen for x in rows}),
        nodes_refit=len(refit),
        nodes_subtracting=sum(shard in n.tallies and shard not in n.reads for n in live),
        tally_samples=sum(x[0] in node.tallies for node in refit for x in data),
    )


@given(filled())
def test_the_work_of_each_shard_equals_brute_force(case: tuple[ShardGraph, list[int]]) -> None:
    graph, sizes = case
    works = shard_work(graph, sizes)
    assert works == tuple(brute_force(graph, sizes, shard) for shard in range(graph.shards))


@given(filled())
def test_uniform_cost_is_the_mean_and_the_worst_over_samples(
    case: tuple[ShardGraph, list[int]],
) -> None:
    graph, sizes = case
    cost = request_cost(graph, sizes)
    works = [brute_force(graph, sizes, shard) for shard, _ in samples_of(sizes)]
    for name in Work.__slots__:
        values = [getattr(work, name) for work in works] or [0]
        assert getattr(cost.expected, name) == pytest.approx(sum(values) / len(values))
        assert getattr(cost.worst, name) == max(values)


@pytest.mark.parametrize("n", [8, 32])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_closed_forms_of_equal_shards(n: int, d: int) -> None:
    total = n * SIZE
    shard = total / n
    sizes = [SIZE] * n
    alone = request_cost(isolated(n), sizes).expected
    assert (alone.adapter_samples, alone.distinct_samples) == (shard, shard)
    grouped = request_cost(cliques(n, d), sizes).expected
    assert (grouped.adapter_samples, grouped.distinct_samples) == (d * d * shard, d * shard)
    circle = request_cost(ring(n, d), sizes).expected
    assert circle.adapter_samples == d * d * shard
    assert circle.distinct_samples == (2 * d - 1) * shard
    assert circle.nodes_refit == grouped.nodes_refit == d


def test_closed_form_of_a_safe_shard() -> None:
    sizes = [100, *[SIZE] * 9]
    graph = hub(10, 1)
    elsewhere = request_cost(graph, sizes, rates=[0, *[1] * 9])
    assert elsewhere.expected.adapter_samples == 100 + SIZE
    assert elsewhere.expected.distinct_samples == 100 + SIZE
    assert elsewhere.expected.nodes_refit == 1
    assert elsewhere.worst.nodes_refit == 10  # a request in the safe shard, however rare
    assert elsewhere.worst.distinct_samples == sum(sizes)


def test_closed_form_without_sharding() -> None:
    cost = request_cost(ShardGraph(4, (Node(0, (0, 1, 2, 3)),)), [SIZE] * 4)
    assert cost.expected.adapter_samples == cost.expected.distinct_samples == 4 * SIZE
    many = request_cost(complete(4), [SIZE] * 4).expected
    assert (many.adapter_samples, many.distinct_samples) == (4 * 4 * SIZE, 4 * SIZE)


def test_tallies_are_counted_apart_from_reads() -> None:
    plain = request_cost(isolated(8), [SIZE] * 8)
    tallied = request_cost(isolated(8).with_tallies("all"), [SIZE] * 8)
    assert tallied.expected.adapter_samples == plain.expected.adapter_samples
    assert tallied.expected.nodes_refit == plain.expected.nodes_refit == 1
    assert (plain.expected.nodes_subtracting, tallied.expected.nodes_subtracting) == (0, 7)
    assert (plain.expected.tally_samples, tallied.expected.tally_samples) == (0, 8 * SIZE)


def test_a_node_with_an_empty_home_costs_nothing() -> None:
    graph = cliques(4, 2).with_tallies("all")
    cost = request_cost(graph, [SIZE, 0, SIZE, SIZE])
    assert shard_work(graph, [SIZE, 0, SIZE, SIZE])[0].nodes_refit == 1
    assert cost.worst.nodes_refit == 2
    assert cost.worst.nodes_subtracting == 2


def test_rates_decide_how_the_shards_are_weighed() -> None:
    sizes = [10, 20]
    assert request_cost(isolated(2), sizes).expected.adapter_samples == pytest.approx(500 / 30)
    assert request_cost(isolated(2), sizes, [1, 1]).expected.adapter_samples == 15
    assert request_cost(isolated(2), sizes, [3, 1]).expected.adapter_samples == 12.5
    assert request_cost(isolated(2), [10, 0], [3, 1]).expected.adapter_samples == 10


def test_source_rates_become_shard_rates() -> None:
    counts = [{"web": 10, "shop": 5}, {None: 2}, {}]
    assert shard_rates(counts, {"web": 0.5, "shop": 0.0}) == (5.0, 2.0, 0.0)
    assert shard_rates(counts, {None: 4.0}, default=0.1) == pytest.approx((1.5, 8.0, 0.0))
    one_each = shard_rates(counts, {})
    uniform = request_cost(isolated(3), [15, 2, 0])
    assert request_cost(isolated(3), [15, 2, 0], one_each) == uniform


def test_without_samples_all_is_zero() -> None:
    cost = request_cost(ring(4, 2), [0] * 4)
    assert cost.expected == cost.worst == Work(0, 0, 0, 0, 0)
    assert expected_cost_of(ring(4, 2), [0] * 4, 0) == 0


@settings(max_examples=40)
@given(filled(), st.data())
def test_k_deletions_equal_the_mean_over_all_subsets(
    case: tuple[ShardGraph, list[int]], data: st.DataObject
) -> None:
    graph, sizes = case
    samples = samples_of(sizes)
    k = data.draw(st.integers(0, min(2, len(samples))))
    subsets = list(itertools.combinations(samples, k))
    read = [sum(sizes[shard] for shard in node.reads) for node in graph.nodes]
    work = sum(
        read[number]
        for subset in subsets
        for number, node in enumerate(graph.nodes)
        if node.exists(sizes) and any(shard in node.reads for shard, _ in subset)
    )
    assert expected_cost_of(graph, sizes, k) == pytest.approx(work / len(subsets))


def test_k_deletions_equal_a_simulation() -> None:
    graph, sizes, k = ring(6, 2), [3, 9, 1, 4, 7, 2], 5
    samples = samples_of(sizes)
    draws = random.Random(0)
    runs = 20_000
    work = 0
    for _ in range(runs):
        shards = {shard for shard, _ in draws.sample(samples, k)}
        for node in graph.nodes:
            if shards.intersection(node.reads):
                work += sum(sizes[shard] for shard in node.reads)
    assert work / runs == pytest.approx(expected_cost_of(graph, sizes, k), rel=0.01)


@given(st.integers(1, 60), st.data())
def test_k_deletions_equal_the_formula_in_fractions(total: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, total))
    k = data.draw(st.integers(0, total))
    exact = part * (1 - Fraction(math.comb(total - part, k), math.comb(total, k)))
    exact += (total - part) * (1 - Fraction(math.comb(part, k), math.comb(total, k)))
    found = expected_cost_of(isolated(2), [part, total - part], k)
    assert found == pytest.approx(float(exact), rel=1e-12, abs=0)


def test_k_deletions_keep_their_digits_at_a_million_samples() -> None:
    n = 1_000_000
    sizes = [1, n - 1]
    assert expected_cost_of(isolated(2), sizes, 1) == pytest.approx(
        (1 + (n - 1) ** 2) / n, rel=1e-14
    )
    alone = ShardGraph(2, (Node(0, (0,)), Node(None, (), (1,))))
    assert expected_cost_of(alone, sizes, 1) == pytest.approx(1 / n, rel=1e-12)
    assert expected_cost_of(alone, sizes, 1000) == pytest.approx(1000 / n, rel=1e-12)


@given(filled())
def test_one_deletion_is_the_expected_adapter_work(case: tuple[ShardGraph, list[int]]) -> None:
    graph, sizes = case
    if sum(sizes):
        expected = request_cost(graph, sizes).expected.adapter_samples
        assert expected_cost_of(graph, sizes, 1) == pytest.approx(expected)


def test_deleting_everything_refits_every_node_that_reads() -> None:
    assert expected_cost_of(cliques(4, 2), [SIZE] * 4, 4 * SIZE) == 4 * 2 * SIZE


@pytest.mark.parametrize(
    ("sizes", "rates"),
    [
        ([1], None),
        ([1, 1, 1], None),
        ([1, -1], None),
        ([1, 1], [1]),
        ([1, 1], [1, -1]),
        ([1, 1], [1, math.inf]),
        ([1, 1], [1, math.nan]),
        ([1, 1], [0, 0]),
        ([1, 0], [0, 1]),
    ],
)
def test_impossible_sizes_and_rates_are_refused(
    sizes: list[int], rates: list[float] | None
) -> None:
    with pytest.raises(GraphError) as caught:
        request_cost(isolated(2), sizes, rates)
    assert caught.value.advice


@pytest.mark.parametrize("k", [-1, 25])
def test_an_impossible_number_of_deletions_is_refused(k: int) -> None:
    with pytest.raises(GraphError, match="Cannot forget"):
        expected_cost_of(isolated(2), [SIZE] * 2, k)


def test_a_negative_source_rate_is_refused() -> None:
    with pytest.raises(GraphError, match="rate"):
        shard_rates([{"a": 1}], {"a": -1.0})


def test_costs_are_plain_json() -> None:
    value = request_cost(isolated(2), [1, 1]).to_json()
    assert set(value) == {"expected", "worst"}
    assert value["expected"]["nodes_refit"] == 1.0
