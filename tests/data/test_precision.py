from __future__ import annotations

import numpy as np
import pytest

from shardgraph.data import precision
from shardgraph.data.precision import check_half_precision, check_overflow
from shardgraph.errors import DataError


def numbers(mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (mean + scale * np.random.default_rng(0).normal(size=(50, 4))).astype(np.float32)


@pytest.mark.parametrize("array", [numbers(), numbers(10), numbers(0, 1e-3), numbers(0, 1e4)])
def test_ordinary_numbers_pass(array: np.ndarray) -> None:
    check_half_precision(array)
    check_half_precision(array.reshape(50, 2, 2))


@pytest.mark.parametrize("array", [numbers(1000), numbers(0, 1e-8), numbers(30_000, 10)])
def test_numbers_that_rounding_blurs_are_refused(array: np.ndarray) -> None:
    check_overflow(array)
    with pytest.raises(DataError, match="rounding moves X"):
        check_half_precision(array)


def test_the_line_lies_where_it_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    array = numbers(1000).astype(np.float64)
    rounded = array.astype(np.float16).astype(np.float64)
    loss = np.sqrt(np.square(rounded - array).mean() / array.var(axis=0).mean())
    monkeypatch.setattr(precision, "MAX_LOSS", loss * 1.001)
    check_half_precision(array)
    monkeypatch.setattr(precision, "MAX_LOSS", loss * 0.999)
    with pytest.raises(DataError):
        check_half_precision(array)


def test_one_lost_feature_among_many_does_not_matter() -> None:
    array = numbers()
    array[:, 2] *= 1e-9
    check_half_precision(array)


def test_blocks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_BLOCK", 7)
    check_half_precision(numbers())
    with pytest.raises(DataError, match="rounding"):
        check_half_precision(numbers(1000))
    array = numbers()
    array[33, 1] = -65_520  # the smallest that rounds to infinity
    with pytest.raises(DataError, match=r"X\[33\] holds 65520"):
        check_overflow(array)
    array[33, 1] = -65_519
    check_overflow(array)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-9, 60_000.0])
def test_a_constant_passes(value: float) -> None:
    check_half_precision(np.full((9, 3), value, np.float32))
    check_half_precision(np.full((1, 3), value, np.float32))
