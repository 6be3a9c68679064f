"""Rows of several files come back in node order, as float32, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardgraph.errors import UsageError
from shardgraph.nodes.tokens import TokenRows


def _arrays(dtype: type[np.floating] = np.float16) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((n, 3, 5)).astype(dtype) for n in (4, 1, 6)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gather_interleaves_arrays(dtype: type[np.floating]) -> None:
    arrays = _arrays(dtype)
    array_of, row_of = [2, 0, 1, 2, 0], [5, 3, 0, 0, 3]
    rows = TokenRows(arrays, array_of, row_of)
    indices = np.array([4, 0, 0, 2, 3, 1])
    expected = [arrays[array_of[i]][row_of[i]] for i in indices]
    found = rows.gather(indices)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.stack(expected).astype(np.float32))
    assert (len(rows), rows.tokens, rows.width) == (5, 3, 5)


def test_gather_into_a_wider_buffer_leaves_its_other_columns() -> None:
    arrays = _arrays()
    for rows in (TokenRows.of([(arrays[0], [0, 2])]), TokenRows.of([(a, [0]) for a in arrays])):
        out = np.full((2, 3, 16), 7, np.float32)
        assert rows.gather(np.array([1, 0]), out=out) is out
        np.testing.assert_array_equal(out[..., :5], rows.gather(np.array([1, 0])))
        assert (out[..., 5:] == 7).all()


def test_pieces_follow_one_another() -> None:
    arrays = _arrays()
    rows = TokenRows.of([(arrays[0], [1, 3]), (arrays[2], [5]), (arrays[1], [])])
    expected = np.stack([arrays[0][1], arrays[0][3], arrays[2][5]]).astype(np.float32)
    np.testing.assert_array_equal(rows.gather(np.arange(3)), expected)


def test_read_only_memory_maps_are_read_in_place(tmp_path: Path) -> None:
    array = _arrays()[0]
    array.tofile(tmp_path / "shard")
    mapped = np.memmap(tmp_path / "shard", np.float16, "r", shape=array.shape)
    found = TokenRows.of([(mapped, [3, 0])]).gather(np.array([0, 1]))
    np.testing.assert_array_equal(found, array[[3, 0]].astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "array_of", "row_of"),
    [
        ([], [], []),
        ([np.zeros((2, 3, 5), np.float16), np.zeros((2, 3, 4), np.float16)], [0], [0]),
        ([np.zeros((2, 3, 5), np.float16), np.zeros((2, 3, 5), np.float32)], [0], [0]),
        ([np.zeros((2, 3), np.float16)], [0], [0]),
        ([np.zeros((2, 3, 5), np.float64)], [0], [0]),
        ([np.zeros((2, 3, 5), np.float16)], [0], [2]),
        ([np.zeros((2, 3, 5), np.float16)], [0], [-1]),
        ([np.zeros((2, 3, 5), np.float16)], [1], [0]),
        ([np.zeros((2, 3, 5), np.float16)], [0, 0], [0]),
    ],
)
def test_rows_that_do_not_exist_are_refused(
    arrays: list[np.ndarray], array_of: list[int], row_of: list[int]
) -> None:
    with pytest.raises(UsageError):
        TokenRows(arrays, array_of, row_of)
