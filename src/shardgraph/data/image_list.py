"""Image files by path, for questions about images that nobody stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shardgraph.data import images
from shardgraph.data.sample import Kind, Sample
from shardgraph.identity import SampleId


class ImageList:
    """Image files, in the order given, without labels or owners. A path may occur twice."""

    kind: Kind = "images"

    def __init__(self, paths: Sequence[Path], *, max_pixels: int = images.MAX_PIXELS) -> None:
        """Wrap the paths; no file is opened."""
        self._paths = tuple(paths)
        self._max_pixels = max_pixels
        self._samples = tuple(Sample(SampleId(str(path)), "?") for path in self._paths)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """One sample per path; the label is a question mark."""
        return self._samples

    def read(self, index: int) -> np.ndarray:
        """The image: uint8, H x W x 3. BadFileError if it cannot be read."""
        return images.decode(self._paths[index], max_pixels=self._max_pixels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the file's bytes."""
        return images.fingerprint(self._paths[index])

    def inspect(self, index: int) -> None:
        """Look at the file's header. BadFileError if it is not an image."""
        images.inspect(self._paths[index], max_pixels=self._max_pixels)
