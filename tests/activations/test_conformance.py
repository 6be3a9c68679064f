"""What every backbone must keep; add a new kind to `KINDS`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shardgraph.activations.backbone import Backbone, Precomputed
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.selftest import batch_is_safe

KINDS: dict[str, Callable[[], Backbone]] = {
    "activations": lambda: Precomputed(3, 4),
    "efficientnet-lite0": lambda: efficientnet_lite0("blocks.2", image_size=64),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Callable[[], Backbone]:
    return KINDS[request.param]


def test_shapes_and_types(kind: Callable[[], Backbone]) -> None:
    backbone = kind()
    inputs = np.stack([backbone.prepare(backbone.example(seed)) for seed in range(2)])
    tokens = backbone.encode(inputs)
    assert tokens.shape == (2, backbone.tokens, backbone.width)
    assert tokens.dtype == np.float32
    assert np.isfinite(tokens).all()
    assert np.ptp(tokens) > 0
    assert backbone.name
    assert backbone.layer
    assert backbone.batch_size >= 1


def test_made_anew_it_gives_the_same_bits_and_digest(kind: Callable[[], Backbone]) -> None:
    one, other = kind(), kind()
    assert one.digest == other.digest
    assert len(one.digest) == 64
    inputs = np.stack([one.prepare(one.example(seed)) for seed in range(2)])
    assert one.encode(inputs).tobytes() == other.encode(inputs).tobytes()


def test_examples_differ_by_seed_alone(kind: Callable[[], Backbone]) -> None:
    backbone = kind()
    assert np.array_equal(backbone.example(1), backbone.example(1))
    assert not np.array_equal(
        backbone.prepare(backbone.example(1)), backbone.prepare(backbone.example(2))
    )


def test_the_input_is_left_alone(kind: Callable[[], Backbone]) -> None:
    backbone = kind()
    raw = backbone.example(1)
    batch = backbone.prepare(raw)[np.newaxis]
    before = raw.copy(), batch.copy()
    backbone.encode(batch)
    assert np.array_equal(raw, before[0])
    assert np.array_equal(batch, before[1])


def test_rows_do_not_influence_each_other(kind: Callable[[], Backbone]) -> None:
    assert batch_is_safe(kind(), 4)
