from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from shardgraph.activations.image_input import ImageInput
from shardgraph.errors import DataError, RecipeError

INPUT = ImageInput(8, mean=(127.0, 127.0, 127.0), scale=(128.0, 128.0, 128.0))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(8, 8), (16, 11), (11, 16), (3, 5), (1, 9), (500, 1)])
def test_any_size_becomes_the_square(shape: tuple[int, int]) -> None:
    prepared = INPUT.prepare(picture(*shape))
    assert prepared.shape == (8, 8, 3)
    assert prepared.dtype == np.uint8


def test_resize_short_side_then_crop_the_centre() -> None:
    raw = picture(16, 22)
    resized = Image.fromarray(raw).resize((11, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(INPUT.prepare(raw), np.asarray(resized)[:, 1:9])


def test_image_of_the_right_size_is_not_touched() -> None:
    raw = picture(8, 8)
    assert np.array_equal(INPUT.prepare(raw), raw)


def test_a_thread_of_pixels_costs_no_more_than_a_square() -> None:
    raw = np.zeros((1, 3_000_000, 3), np.uint8)
    raw[0, 1_499_998:1_500_002] = 200
    assert INPUT.prepare(raw).min() == 200


def test_values_are_normalised() -> None:
    batch = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3).repeat(8, 1).repeat(8, 2)
    tensor = INPUT.to_tensor(batch)
    assert tensor.shape == (1, 3, 8, 8)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor[0, :, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]


def test_what_is_not_an_image_is_refused() -> None:
    for raw in (np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match="Expected an image"):
            INPUT.prepare(raw)


@pytest.mark.parametrize(("size", "scale"), [(0, 1.0), (8, 0.0)])
def test_impossible_input(size: int, scale: float) -> None:
    with pytest.raises(RecipeError, match="impossible"):
        ImageInput(size, mean=(0.0,) * 3, scale=(scale,) * 3)
