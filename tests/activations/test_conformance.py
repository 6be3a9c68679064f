"""What every backbone must keep; add a new kind to `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shardgraph.activations.averaged import Averaged
from shardgraph.activations.backbone import Backbone, Precomputed
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.hugging import HuggingModel
from shardgraph.activations.onnx_model import OnnxModel
from shardgraph.activations.open import open_backbone
from shardgraph.activations.selftest import batch_is_safe

Fixture = Callable[[str], Path]
"""The folder or file that a fixture makes, when it is first asked for."""

KINDS: dict[str, Callable[[Fixture], Backbone]] = {
    "activations": lambda _: Precomputed(3, 4),
    "efficientnet-lite0": lambda _: efficientnet_lite0("blocks.2", image_size=64),
    "averaged": lambda fixture: Averaged(OnnxModel(fixture("onnx_file"), "hidden"), 2),
    "onnx": lambda fixture: OnnxModel(fixture("onnx_file"), "hidden"),
    "transformers images": lambda fixture: HuggingModel(str(fixture("tiny_vit")), "2"),
    "transformers texts": lambda fixture: HuggingModel(str(fixture("tiny_bert"))),
}


@pytest.fixture(scope="session")
def onnx_file(write_onnx: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Callable[[], Backbone]:
    return lambda: KINDS[request.param](request.getfixturevalue)


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
    assert backbone.kind in ("images", "texts", "activations")


def test_it_is_found_again_by_the_name_and_layer_that_a_store_keeps(
    kind: Callable[[], Backbone],
) -> None:
    backbone = kind()
    if backbone.name == "efficientnet-lite0":
        backbone = efficientnet_lite0(backbone.layer)  # the size of its input is not in the name
    shape = (backbone.tokens, backbone.width)
    again = open_backbone(backbone.name, backbone.layer, shape=shape)
    assert again.digest == backbone.digest
    assert (again.name, again.layer) == (backbone.name, backbone.layer)


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
