from __future__ import annotations

import numpy as np
import pytest

from shardgraph.activations.averaged import Averaged, fewer_tokens
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.open import open_backbone
from shardgraph.errors import RecipeError


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


def test_digests_tell_averages_apart() -> None:
    encoder = efficientnet_lite0("blocks.2", image_size=64)
    digests = {one.digest for one in (encoder, Averaged(encoder, 2), Averaged(encoder, 4))}
    assert len(digests) == 3


def test_refused() -> None:
    for name in ("efficientnet-lite0?average=0", "efficientnet-lite0?average=two"):
        with pytest.raises(RecipeError, match="averaged over"):
            open_backbone(name)
    with pytest.raises(RecipeError, match="does not divide"):
        open_backbone("efficientnet-lite0?average=2")
    with pytest.raises(RecipeError, match="lie in no grid"):
        Averaged(Precomputed(4, 2), 2)
