"""What every source of data provides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shardgraph.identity import OwnerId, SampleId, SourceName


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample: what the store records of it, beside its activation.

    ``label`` is text. ``owner`` is the data subject whose request removes it; ``source`` is where
    it came from. Both are optional.
    """

    id: SampleId
    label: str
    owner: OwnerId | None = None
    source: SourceName | None = None


class Dataset(Protocol):
    """Samples and, for each, what the backbone takes as input."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, ids unique, in no particular order."""
        ...

    def read(self, index: int) -> np.ndarray:
        """The raw input of ``samples[index]``.

        An image is uint8, H x W x 3 (RGB, EXIF orientation applied); an activation is T x D.

        Raises:
            BadFileError: the file cannot be read as an image; the message names it.
        """
        ...
