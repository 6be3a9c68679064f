"""The embedded demonstration data: handwritten digits that scikit-learn ships.

1,797 real 8 x 8 images from the UCI ML hand-written digits data set, test part (Alpaydin and
Kaynak, 1998, doi:10.24432/C50P49). The data set does not say who wrote which digit, so the owners
here are **synthetic**: about five images each, by a keyed hash of the sample's id.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from shardgraph.data.arrays import array_fingerprint
from shardgraph.data.sample import Kind, Sample, check_samples
from shardgraph.errors import UsageError
from shardgraph.identity import OwnerId, SampleId, derived_seed

Part = Literal["all", "train", "test"]

_OWNERS = 360
_TEST_OWNERS = 5  # one owner in so many belongs to the test part
_SEED = 0
_BRIGHTEST = 16  # values in the data set run from 0 to this


class DigitsDataset:
    """Handwritten digits as RGB images, with synthetic owners.

    ``train`` and ``test`` split by owner, four to one, so no owner is in both; the split depends
    on nothing but the sample ids.

    Example:
        >>> data = DigitsDataset("train")
        >>> data.read(0).shape, data.samples[0].label
        ((8, 8, 3), '0')
    """

    kind: Kind = "images"

    def __init__(self, part: Part = "all"):
        """Load one part of the data.

        Raises:
            UsageError: ``part`` is none of "all", "train", "test".
        """
        if part not in ("all", "train", "test"):
            raise UsageError(f"The digits have no part {part!r}.", advice="Use all, train or test.")
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        samples = [_sample(position, int(label)) for position, label in enumerate(labels)]
        kept = [row for row, sample in enumerate(samples) if part in ("all", _part(sample))]
        grey = np.rint(pixels * (255 / _BRIGHTEST)).astype(np.uint8).reshape(-1, 8, 8)
        self._images = np.repeat(grey[kept][..., np.newaxis], 3, axis=-1)
        self._samples = check_samples([samples[row] for row in kept], "The digits")

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples of the part, in the order of the data set."""
        return self._samples

    def read(self, index: int) -> np.ndarray:
        """The image of ``samples[index]``: uint8, 8 x 8 x 3."""
        image: np.ndarray = self._images[index]
        return image

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the image's type, shape and bytes."""
        return array_fingerprint(self._images[index])

    def inspect(self, index: int) -> None:
        """Nothing can be wrong with embedded data."""


def _sample(position: int, label: int) -> Sample:
    name = SampleId(f"digit-{position:04d}")
    owner = OwnerId(f"writer-{derived_seed(_SEED, f'digits owner {name}') % _OWNERS:03d}")
    return Sample(name, str(label), owner)


def _part(sample: Sample) -> str:
    chosen = derived_seed(_SEED, f"digits part {sample.owner}") % _TEST_OWNERS == 0
    return "test" if chosen else "train"
