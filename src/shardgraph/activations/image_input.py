"""From an image of any size to the fixed-size input of an image encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from shardgraph.errors import DataError, RecipeError

_LONGEST = 4  # sides longer than this times the short one are cut before resizing


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Resize the short side (bicubic), crop the centre, then ``(value - mean) / scale``.

    ``size`` is the side of the square in pixels; ``mean`` and ``scale`` are per channel (RGB), for
    values from 0 to 255.
    """

    size: int
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.size < 1 or min(self.scale) <= 0:
            raise RecipeError(
                f"An image input of {self.size} pixels with scale {self.scale} is impossible.",
                advice="Size and scale must be positive.",
            )

    def to_json(self) -> dict[str, Any]:
        """All constants, for a digest."""
        return {**asdict(self), "resize": "short side, PIL bicubic, centre crop"}

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """uint8 H x W x 3 to uint8 size x size x 3.

        An image more than four times as long as wide is first cut to that, around its centre: the
        crop would not show the rest, and resizing a thread-thin image would fill the memory.

        Raises:
            DataError: ``raw`` is not a uint8 image.
        """
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3 or 0 in raw.shape:
            raise DataError(
                f"Expected an image (uint8, H x W x 3), got {raw.dtype} of shape {raw.shape}.",
                advice="Use the backbone 'activations' for arrays of activations.",
            )
        image = Image.fromarray(_without_long_ends(raw))
        short = min(image.size)
        width, height = (
            self.size if side == short else max(self.size, round(side * self.size / short))
            for side in image.size
        )
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))

    def to_tensor(self, batch: np.ndarray) -> torch.Tensor:
        """uint8 [B, size, size, 3] to float32 [B, 3, size, size], channels last in memory."""
        writable = np.require(batch, requirements=["C", "W"])  # torch warns of read-only arrays
        pixels = torch.from_numpy(writable).permute(0, 3, 1, 2).to(torch.float32)
        mean, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.scale))
        return pixels.sub_(mean).div_(scale)

    def example(self, seed: int) -> np.ndarray:
        """A made-up photograph, a little over ``size``; see `example_image`."""
        return example_image(self.size, seed)


def example_image(size: int, seed: int) -> np.ndarray:
    """A made-up photograph: smooth colours, fine grain; uint8, up to 31 pixels over ``size``."""
    random = np.random.default_rng(seed)
    height, width = (size + int(extra) for extra in random.integers(0, 32, 2))
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = random.normal(0, 12, smooth.shape)
    return np.clip(np.rint(smooth + grain), 0, 255).astype(np.uint8)


def _without_long_ends(raw: np.ndarray) -> np.ndarray:
    height, width = raw.shape[:2]
    longest = _LONGEST * min(height, width)
    top, left = max(0, (height - longest) // 2), max(0, (width - longest) // 2)
    return raw[top : top + longest, left : left + longest]
