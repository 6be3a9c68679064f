from __future__ import annotations

import numpy as np
import pytest

from shardgraph.activations.averaged import Averaged, fewer_tokens
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.encode import encode
from shardgraph.activations.open import open_backbone
from shardgraph.activations.selftest import batch_is_safe
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import DataError, RecipeError


class Tiny:
    """A backbone of four tokens that are the input."""

    kind, libraries, name, layer, digest = "images", (), "tiny", "all", "0" * 64
    tokens, width, batch_size = 4, 1, 4

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        return raw.astype(np.float32)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return batch

    def example(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random((4, 1))


def test_fewer_tokens_are_means_of_neighbours() -> None:
    tokens = np.arange(2 * 17 * 1, dtype=np.float16).reshape(2, 17, 1)
    found = fewer_tokens(tokens, 2)
    assert found.shape == (2, 5, 1)
    assert found[0, :, 0].tolist() == [0, 3.5, 5.5, 11.5, 13.5]
    assert fewer_tokens(tokens, 4)[1, :, 0].tolist() == [17, 25.5]
    assert fewer_tokens(tokens, 1).tobytes() == tokens.tobytes()
    for side in (0, 3, 8):
        with pytest.raises(RecipeError, match="grid of 4 x 4"):
            fewer_tokens(tokens, side)


def test_means_are_formed_in_float32() -> None:
    tokens = np.full((1, 4, 1), 60000, np.float16)  # the sum of two exceeds float16
    assert fewer_tokens(tokens, 2).tolist() == [[[60000]]]


def test_the_default_encoder_averaged_to_one_token() -> None:
    averaged = open_backbone("efficientnet-lite0?average=7", "blocks.15")
    assert isinstance(averaged, Averaged)
    assert (averaged.tokens, averaged.width) == (1, 320)
    image = averaged.prepare(averaged.example(1))[np.newaxis]
    whole = open_backbone("efficientnet-lite0", "blocks.15").encode(image)
    assert np.allclose(averaged.encode(image)[0, 0], whole[0].mean(axis=0), atol=1e-2)


def test_all_else_is_that_of_the_encoder() -> None:
    encoder = efficientnet_lite0("blocks.2", image_size=64)
    averaged = Averaged(encoder, 2)
    for name in ("kind", "layer", "width", "libraries", "batch_size"):
        assert getattr(averaged, name) == getattr(encoder, name)
    assert np.array_equal(averaged.example(3), encoder.example(3))


def test_a_token_beyond_float16_is_refused_with_the_name_of_its_sample() -> None:
    class Wild(Tiny):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            return np.tile([[[1e6], [-1e6]]], (len(batch), 2, 1))  # their sum is no number

    data = ArrayDataset(np.zeros((2, 4, 1)), ["a", "b"], ids=["one", "two"])
    data.kind = "images"
    with pytest.raises(DataError, match="'one' is not finite"):
        list(encode(data, range(2), Averaged(Wild(), 2), batch_size=2))


def test_a_batch_is_asked_for_the_tokens_before_they_are_averaged() -> None:
    class Leaking(Tiny):
        """Adds less than float16 can show of the first row to all."""

        def encode(self, batch: np.ndarray) -> np.ndarray:
            return (1 + batch + np.float32(1e-6) * batch[:1]).astype(np.float32)

    assert batch_is_safe(Averaged(Tiny(), 2))
    assert not batch_is_safe(Averaged(Leaking(), 2))


def test_digests_tell_averages_apart() -> None:
    encoder = efficientnet_lite0("blocks.2", image_size=64)
    digests = {one.digest for one in (encoder, Averaged(encoder, 2), Averaged(encoder, 4))}
    assert len(digests) == 3


def test_refused() -> None:
    for number in ("0", "two", "", "9" * 5000, "2?tokens=9", "7/clip.onnx"):
        with pytest.raises(RecipeError, match="averaged over"):
            open_backbone(f"efficientnet-lite0?average={number}")
    with pytest.raises(RecipeError, match="does not divide"):
        open_backbone("efficientnet-lite0?average=2")
    with pytest.raises(RecipeError, match="lie in no grid"):
        Averaged(Precomputed(4, 2), 2)
