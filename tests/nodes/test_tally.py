"""Tallies are exact: order, grouping and history leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shardgraph.errors import StoreDamagedError, StoreFormatError, UsageError
from shardgraph.nodes import tally as module
from shardgraph.nodes.projection import Projections, random_projection
from shardgraph.nodes.tally import (
    MOST_SAMPLES,
    Tally,
    bytes_needed,
    entry_dtype,
    from_bytes,
    tally_all,
    to_bytes,
    upper_triangle,
)
from shardgraph.nodes.tokens import TokenRows

FEATURES = 12
LAST_SMALL = 133_144
EMPTY = Tally.empty(FEATURES)


def drawn(count: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    features = generator.integers(-127, 128, (count, FEATURES), dtype=np.int8)
    return features, [f"class {label}" for label in generator.integers(0, classes, count)]


def pick(labels: list[str], places: np.ndarray) -> list[str]:
    return [labels[i] for i in places]


def test_sums_are_those_of_the_definition() -> None:
    features, labels = drawn(50)
    tally = EMPTY.add(features, labels)
    wide = features.astype(np.int64)
    assert tally.gram.tolist() == (wide.T @ wide)[upper_triangle(FEATURES)].tolist()
    assert tally.classes == tuple(sorted(set(labels)))
    for label, moment, count in zip(tally.classes, tally.moment, tally.counts, strict=True):
        own = wide[np.array(labels) == label]
        assert (moment.tolist(), count) == (own.sum(axis=0).tolist(), len(own))


def test_ten_thousand_subtractions_in_random_order_leave_the_sums_of_the_rest() -> None:
    features, labels = drawn(10_100, classes=40)
    order = np.random.default_rng(1).permutation(len(labels))
    tally = EMPTY.add(features, labels)
    for i in order[:10_000]:
        tally = tally.subtract(features[i : i + 1], [labels[i]])
    rest = np.sort(order[10_000:])
    assert to_bytes(tally) == to_bytes(EMPTY.add(features[rest], pick(labels, rest)))


@settings(max_examples=40, deadline=None)
@given(
    history=st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 29), max_size=9)), max_size=12)
)
def test_any_history_gives_the_bytes_of_its_end(history: list[tuple[bool, set[int]]]) -> None:
    features, labels = drawn(30, classes=12, seed=4)
    tally, live = EMPTY, set[int]()
    for adding, chosen in history:
        change = np.array(sorted(chosen - live if adding else chosen & live), np.int64)
        step = tally.add if adding else tally.subtract
        tally = step(features[change], pick(labels, change))
        live = live | set(change.tolist()) if adding else live - set(change.tolist())
    end = np.array(sorted(live), np.int64)
    assert to_bytes(tally) == to_bytes(EMPTY.add(features[end], pick(labels, end)))


def test_merged_parts_equal_the_whole_in_any_order() -> None:
    features, labels = drawn(60)
    parts = [EMPTY.add(features[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40)]
    whole = to_bytes(EMPTY.add(features, labels))
    assert to_bytes(parts[2].merge(parts[0]).merge(parts[1])) == whole
    assert to_bytes(parts[0].merge(parts[1].merge(parts[2]))) == whole


def test_a_class_comes_and_goes() -> None:
    features, labels = drawn(6, classes=1)
    tally = EMPTY.add(features, labels)
    other = tally.add(features[:1], ["another"])
    assert other.classes == ("another", "class 0")
    assert to_bytes(other.subtract(features[:1], ["another"])) == to_bytes(tally)
    assert to_bytes(tally.subtract(features, labels)) == to_bytes(EMPTY)


def test_adding_leaves_the_old_tally_alone() -> None:
    features, labels = drawn(4)
    before = to_bytes(EMPTY)
    tally = EMPTY.add(features, labels)
    assert to_bytes(EMPTY) == before
    with pytest.raises(ValueError, match="read-only"):
        tally.gram[0] = 1


@pytest.mark.parametrize("samples", [0, 1, LAST_SMALL, LAST_SMALL + 1, 10**11, MOST_SAMPLES])
def test_no_entry_can_overflow(samples: int) -> None:
    dtype = entry_dtype(samples)
    assert samples * 127**2 <= min(np.iinfo(dtype).max, 2**53 - 1)
    assert (dtype.itemsize == 4) == (samples <= LAST_SMALL)


def test_more_samples_than_are_exact_are_refused() -> None:
    with pytest.raises(UsageError, match="more than a tally can sum"):
        entry_dtype(MOST_SAMPLES + 1)


def test_a_tally_that_grew_and_shrank_is_as_if_it_had_stayed_small() -> None:
    """The type of the entries follows the samples that are held, and remembers none of before."""
    empty = Tally.empty(2)
    small = empty.add(np.full((LAST_SMALL, 2), -127, np.int8), ["a"] * LAST_SMALL)
    assert small.gram.dtype == np.int32
    assert small.gram.tolist() == [127**2 * LAST_SMALL] * 3
    assert small.moment.tolist() == [[-127 * LAST_SMALL] * 2]
    more = np.full((5, 2), -127, np.int8)
    large = small.add(more, ["b"] * 5)
    assert large.gram.dtype == large.moment.dtype == np.int64
    assert large.gram.tolist() == [127**2 * (LAST_SMALL + 5)] * 3
    assert to_bytes(from_bytes(to_bytes(large))) == to_bytes(large)
    assert to_bytes(large.subtract(more, ["b"] * 5)) == to_bytes(small)
    assert to_bytes(large.without(small)) == to_bytes(empty.add(more, ["b"] * 5))


def test_what_is_not_there_cannot_be_subtracted() -> None:
    features, labels = drawn(3, classes=1)
    tally = EMPTY.add(features[:2], labels[:2])
    with pytest.raises(StoreDamagedError, match="label"):
        tally.subtract(features[:1], ["never seen"])
    with pytest.raises(StoreDamagedError, match="hold"):
        tally.subtract(features, labels)
    with pytest.raises(StoreDamagedError, match="hold"):
        tally.subtract(features[1:], labels[1:])


def test_sums_that_would_become_impossible_are_noticed() -> None:
    small = np.ones((3, FEATURES), np.int8)
    with pytest.raises(StoreDamagedError, match="hold"):
        EMPTY.add(small, ["a"] * 3).subtract(small[:1] * 100, ["a"])


def test_what_does_not_fit_is_refused() -> None:
    features, labels = drawn(3)
    with pytest.raises(UsageError, match="fit"):
        EMPTY.add(features, labels[:2])
    with pytest.raises(UsageError, match="fit"):
        EMPTY.add(features.astype(np.float32), labels)
    with pytest.raises(UsageError, match="different features"):
        EMPTY.merge(Tally.empty(FEATURES + 1))


def test_bytes_come_back_and_are_counted() -> None:
    for count in (0, 1, 40):
        tally = EMPTY.add(*drawn(count))
        data = to_bytes(tally)
        again = from_bytes(data)
        assert to_bytes(again) == data
        assert again.classes == tally.classes
        assert tally.nbytes == bytes_needed(FEATURES, len(tally.classes), count)


@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("samples", [0, 1, 9, LAST_SMALL + 1])
def test_any_reader_of_safetensors_reads_a_tally(features: int, samples: int) -> None:
    labels = ['a "quoted"\\', "\u00e4\u2028\x7f", "line\nbreak\x01", "\U0001f41b"]
    given = [labels[i % 4] for i in range(samples)]
    tally = Tally.empty(features).add(np.full((samples, features), 3, np.int8), given)
    arrays = {"moment": tally.moment, "gram": tally.gram, "counts": tally.counts}
    data = to_bytes(tally)
    read = safetensors.numpy.load(data)
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    again = from_bytes(data)
    assert again.classes == tuple(sorted(set(given)))
    assert all(np.array_equal(getattr(again, name), array) for name, array in arrays.items())


def test_damaged_bytes_are_refused() -> None:
    tally = EMPTY.add(*drawn(9))
    data = to_bytes(tally)
    for cut in (0, 7, 8, 60, len(data) - 1):
        with pytest.raises(StoreDamagedError):
            from_bytes(data[:cut])
    for other in (data + b"\0", data.replace(b"[0,", b"[8,", 1)):
        with pytest.raises(StoreDamagedError, match="not a tally"):
            from_bytes(other)
    with pytest.raises(StoreDamagedError, match="wrong type"):
        from_bytes(data.replace(b"I32", b"F32"))
    with pytest.raises(StoreFormatError):
        from_bytes(data.replace(b"shardgraph-tally-2", b"shardgraph-tally-9"))
    with pytest.raises(StoreDamagedError, match="class list"):
        from_bytes(data.replace(b"class 0", b"class 9"))
    for counts in (tally.counts * 0, tally.counts - 10**12, tally.counts + 10**12):
        lied = Tally(tally.classes, tally.gram, tally.moment, counts)
        with pytest.raises(StoreDamagedError, match="number of samples"):
            from_bytes(to_bytes(lied))
    wide = Tally(tally.classes, tally.gram.astype(np.int64), tally.moment, tally.counts)
    with pytest.raises(StoreDamagedError, match="type"):
        from_bytes(to_bytes(wide))


def nodes(count: int) -> list[module.Projection]:
    return [
        random_projection(i, width=16, heads=2, value_width=6, sharpness=1.0) for i in range(count)
    ]


def token_rows(count: int) -> tuple[TokenRows, list[str]]:
    generator = np.random.default_rng(2)
    tokens = generator.standard_normal((count, 5, 16)).astype(np.float16)
    rows = TokenRows([tokens], np.zeros(count, np.int64), np.arange(count))
    return rows, [str(label) for label in generator.integers(0, 4, count)]


def test_tallying_nodes_together_or_alone_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = token_rows(30)
    together = tally_all(nodes(3), rows, labels, workers=2)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    for node, tally in zip(nodes(3), together, strict=True):
        alone = tally_all([node], rows, labels, dtype=torch.float64)
        assert to_bytes(alone[0]) == to_bytes(tally)
        features = Projections([node])(rows.gather(np.arange(30)))[0].numpy()
        assert to_bytes(EMPTY.add(features, labels)) == to_bytes(tally)


@pytest.mark.parametrize("nodes_at_once", [1, 3])
def test_many_threads_blocks_and_groups_lose_nothing(
    nodes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 8)
    monkeypatch.setattr(module, "SUMS_BYTES", nodes_at_once * 8 * 256 * (256 + 4))
    stack = [
        random_projection(i, width=16, heads=16, value_width=16, sharpness=1.0) for i in range(5)
    ]
    rows, labels = token_rows(700)
    for node, tally in zip(stack, tally_all(stack, rows, labels, workers=8), strict=True):
        features = Projections([node])(rows.gather(np.arange(700)))[0].numpy().astype(np.int64)
        assert tally.gram.tolist() == (features.T @ features)[upper_triangle(256)].tolist()
        for place, label in enumerate(tally.classes):
            mine = np.array(labels) == label
            assert tally.moment[place].tolist() == features[mine].sum(axis=0).tolist()
            assert tally.counts[place] == mine.sum()


def test_sums_of_a_node_are_added_to_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums, held = module._Sums(FEATURES, 2), []

    class Watched:
        def addmm_(self, *_: object) -> None:
            held.append(sums._turn.locked())

        index_add_ = addmm_

    monkeypatch.setattr(sums, "_gram", Watched())
    monkeypatch.setattr(sums, "_moment", Watched())
    sums.add(drawn(4)[0], np.zeros(4, np.int64))
    assert held == [True, True]
    assert not sums._turn.locked()


def test_blocks_are_bounded_by_samples_and_bytes() -> None:
    def sizes(*given: int) -> set[int]:
        cuts = module._blocks(*given)
        assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts[:-1])]
        assert cuts[-1].stop == given[0]
        return {cut.stop - cut.start for cut in cuts}

    assert sizes(100_000, 16, 64) <= {892, 893}  # 112 blocks, 7 for each thread
    assert max(sizes(100_000, 2, 256 * 512)) <= module.BLOCK_BYTES // (256 * 512)
    assert min(sizes(2999, 16, 512)) >= 90
    assert sizes(30, 16, 512) == {30}
    assert sizes(70, 16, 512) == {23, 24}
    assert module._blocks(0, 16, 512) == []


def test_an_error_in_a_thread_is_the_error() -> None:
    rows, labels = token_rows(40)
    other = [random_projection(0, width=8, heads=2, value_width=6, sharpness=1.0)]
    with pytest.raises(UsageError, match="do not fit"):
        tally_all(other, rows, labels, workers=4)


def test_a_fit_of_many_samples_is_of_wider_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "entry_dtype", lambda count: np.dtype([np.int32, np.int64][count > 20])
    )
    rows, labels = token_rows(30)
    wide = tally_all(nodes(1), rows, labels)[0]
    narrow = tally_all(
        nodes(1), TokenRows([rows.gather(np.arange(20))], [0] * 20, range(20)), labels[:20]
    )[0]
    assert (wide.gram.dtype, narrow.gram.dtype) == (np.int64, np.int32)


def test_no_samples_have_an_empty_tally() -> None:
    rows, _ = token_rows(0)
    assert [to_bytes(tally) for tally in tally_all(nodes(2), rows, [])] == [to_bytes(EMPTY)] * 2


def test_forgetting_many_at_once_equals_never_having_had_them() -> None:
    rows, labels = token_rows(30)
    keep, gone = np.arange(0, 30, 2), np.arange(1, 30, 2)
    before = tally_all(nodes(2), rows, labels)

    def part(places: np.ndarray) -> list[Tally]:
        taken = rows.gather(places)
        own = TokenRows([taken], np.zeros(len(places), np.int64), np.arange(len(places)))
        return tally_all(nodes(2), own, pick(labels, places))

    after = [old.without(taken) for old, taken in zip(before, part(gone), strict=True)]
    assert [to_bytes(tally) for tally in after] == [to_bytes(tally) for tally in part(keep)]


def test_no_nodes_have_no_tallies() -> None:
    rows, labels = token_rows(3)
    assert tally_all([], rows, labels) == []


def test_rows_and_labels_must_agree() -> None:
    rows, labels = token_rows(3)
    with pytest.raises(UsageError, match="3 samples but 2 labels"):
        tally_all(nodes(1), rows, labels[:2])
