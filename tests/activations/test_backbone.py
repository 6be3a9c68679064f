from __future__ import annotations

import numpy as np
import pytest

from shardgraph.activations.backbone import Precomputed
from shardgraph.errors import DataError, RecipeError


def test_float16_survives_exactly() -> None:
    array = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float16)
    backbone = Precomputed(2, 3)
    found = backbone.encode(backbone.prepare(array)[np.newaxis])[0]
    assert np.array_equal(found.astype(np.float16), array)


def test_doubles_are_rounded_once() -> None:
    # Between two float16 numbers; by way of float32 it would fall on the tie and round down.
    value = 1 + 2**-11 + 2**-40
    prepared = Precomputed(1, 1).prepare(np.array([[value]]))
    assert float(prepared[0, 0]) == 1 + 2**-10


def test_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        Precomputed(2, 3).prepare(np.zeros((3, 2)))
    with pytest.raises(RecipeError, match="hold nothing"):
        Precomputed(0, 3)


def test_digest_covers_the_shape() -> None:
    assert len({Precomputed(*shape).digest for shape in ((1, 2), (2, 1), (2, 2))}) == 3
