from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardgraph.data.sample import Sample
from shardgraph.errors import GraphError
from shardgraph.graph.assignment import Assignment, unit_of
from shardgraph.graph.shard_graph import Pool, ShardGraph
from shardgraph.graph.topologies import hub, isolated, ring, source_pools
from shardgraph.identity import OwnerId, SampleId, SourceName, shard_position

NAMES = st.text(max_size=8)


def sample(
    name: str, owner: str | None = None, source: str | None = None, label: str = "x"
) -> Sample:
    return Sample(
        SampleId(name),
        label,
        None if owner is None else OwnerId(owner),
        None if source is None else SourceName(source),
    )


@given(NAMES, st.none() | NAMES, st.integers(0, 2**64), st.integers(1, 40))
def test_the_shard_is_the_hash_of_the_unit_in_the_pool(
    name: str, owner: str | None, seed: int, shards: int
) -> None:
    unit = f"s:{name}" if owner is None else f"o:{owner}"
    found = Assignment(isolated(shards), seed).shard_of(sample(name, owner))
    assert found == shard_position(seed, unit) % shards


@given(st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=20), st.randoms())
def test_removing_or_reordering_samples_moves_none(
    names: list[tuple[str, str | None]], random: object
) -> None:
    graph = isolated(5)
    samples = [sample(name, owner) for name, owner in names]
    whole = Assignment(graph, 3)
    before = {each: whole.shard_of(each) for each in samples}
    random.shuffle(samples)  # type: ignore[attr-defined]
    fresh = Assignment(graph, 3)
    assert all(fresh.shard_of(each) == before[each] for each in samples[::2])


@given(NAMES, st.lists(NAMES, min_size=2), st.integers(1, 64))
def test_the_samples_of_an_owner_share_a_shard(owner: str, names: list[str], shards: int) -> None:
    assignment = Assignment(isolated(shards), 1)
    assert len({assignment.shard_of(sample(name, owner)) for name in names}) == 1


def test_edges_tallies_and_labels_do_not_decide() -> None:
    one = Assignment(isolated(16), 7)
    other = Assignment(ring(16, 3).with_tallies("all"), 7)
    for number in range(50):
        assert one.shard_of(sample(str(number))) == other.shard_of(sample(str(number), label="y"))


def test_another_seed_is_another_assignment() -> None:
    one, other = Assignment(isolated(64), 0), Assignment(isolated(64), 1)
    names = [sample(str(number)) for number in range(50)]
    assert [one.shard_of(s) for s in names] != [other.shard_of(s) for s in names]


def test_an_owner_and_a_sample_of_one_name_are_kept_apart() -> None:
    assert unit_of(sample("a")) != unit_of(sample("b", owner="a"))


def test_shards_fill_evenly() -> None:
    assignment = Assignment(isolated(10), 0)
    counts = Counter(assignment.shard_of(sample(str(number))) for number in range(10_000))
    chi_squared = sum((counts[shard] - 1000) ** 2 / 1000 for shard in range(10))
    assert chi_squared < 27.9  # 99.9 % point of chi squared with 9 degrees of freedom


def test_sources_stay_in_their_pools() -> None:
    graph = isolated(9).with_pools(source_pools({"shop": 3, "web": 2}, default=4))
    assignment = Assignment(graph, 5)
    for number in range(100):
        unit = shard_position(5, f"s:{number}")
        assert assignment.shard_of(sample(str(number), source="web")) == (3, 4)[unit % 2]
        assert assignment.shard_of(sample(str(number))) == (5, 6, 7, 8)[unit % 4]
    for source, shards in {"shop": {0, 1, 2}, "web": {3, 4}, None: {5, 6, 7, 8}}.items():
        found = {assignment.shard_of(sample(str(n), source=source)) for n in range(100)}
        assert found == shards
    others = {assignment.shard_of(sample(str(n), source="elsewhere")) for n in range(100)}
    assert others == {5, 6, 7, 8}


def test_an_owner_with_sources_in_two_pools_has_a_shard_in_each() -> None:
    assignment = Assignment(isolated(4).with_pools(source_pools({"a": 2, "b": 2})), 0)
    shards = {assignment.shard_of(sample("1", "ann", source)) for source in ("a", "b")}
    assert len(shards) == 2


def test_safe_sources_and_only_they_fill_the_hub() -> None:
    assignment = Assignment(hub(8, 2, safe_sources=["licensed"]), 0)
    safe = {assignment.shard_of(sample(str(n), source="licensed")) for n in range(100)}
    rest = {assignment.shard_of(sample(str(n), source="web")) for n in range(200)}
    assert safe == {0, 1}
    assert rest == {2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("source", [None, "unknown"])
def test_a_source_without_a_pool_is_refused(source: str | None) -> None:
    graph = ShardGraph(1, isolated(1).nodes, (Pool((0,), ("known",)),))
    with pytest.raises(GraphError, match="no shards for samples") as caught:
        Assignment(graph, 0).shard_of(sample("1", source=source))
    assert caught.value.advice
