from __future__ import annotations

import numpy as np
import pytest

from shardgraph.data.arrays import ArrayDataset, array_fingerprint
from shardgraph.errors import DataError


def test_two_dimensions_become_one_token() -> None:
    data = ArrayDataset(np.arange(6).reshape(3, 2), ["a", "b", "a"])
    assert (data.tokens, data.width) == (1, 2)
    assert data.read(1).tolist() == [[2, 3]]
    assert [s.id for s in data.samples] == ["0", "1", "2"]


def test_names_become_text() -> None:
    data = ArrayDataset(
        np.zeros((2, 3, 4)),
        np.array([1, 2]),
        ids=[10, 20],
        owners=[None, 7],
        sources=["", "s"],
    )
    first, second = data.samples
    assert (first.id, first.label, first.owner, first.source) == ("10", "1", None, None)
    assert (second.owner, second.source) == ("7", "s")
    data.inspect(0)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros(3), {}, "shape"),
        (np.zeros((3, 0)), {}, "shape"),
        (np.zeros((3, 2), complex), {}, "complex"),
        (np.zeros((3, 2), object), {}, "object"),
        (np.zeros((2, 2)), {}, "2 activations and 3 labels"),
        (np.zeros((3, 2)), {"ids": ["a", "b", "a"]}, "occurs twice"),
        (np.zeros((3, 2)), {"ids": ["a", "b", ""]}, "empty id"),
        (np.zeros((3, 2)), {"owners": ["a"]}, "1 owners"),
    ],
)
def test_each_fault_has_its_message(
    array: np.ndarray, options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ArrayDataset(array, ["x", "y", "z"], **options)


def test_no_samples_and_no_label() -> None:
    with pytest.raises(DataError, match="no samples"):
        ArrayDataset(np.zeros((0, 2)), [])
    with pytest.raises(DataError, match="empty label"):
        ArrayDataset(np.zeros((1, 2)), [None])


def test_fingerprint_tells_type_shape_and_values_apart() -> None:
    zeros = np.zeros((2, 3), np.float32)
    variants = [zeros, zeros.astype(np.float64), zeros.reshape(3, 2), zeros + 1]
    assert len({array_fingerprint(array) for array in variants}) == 4
    assert array_fingerprint(zeros.astype(">f4")) == array_fingerprint(zeros)
    assert array_fingerprint(np.asfortranarray(zeros + 1)) == array_fingerprint(zeros + 1)
