"""What every source of data provides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from shardgraph.errors import DataError
from shardgraph.identity import OwnerId, SampleId, SourceName

Kind = Literal["images", "texts", "activations"]
"""What the samples of a dataset are, and what an encoder takes."""


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
    """Samples and, for each, what the backbone takes as input.

    All methods may be called from several threads at once.
    """

    @property
    def kind(self) -> Kind:
        """What `read` returns."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, ids unique, in no particular order."""
        ...

    def read(self, index: int) -> np.ndarray:
        """The raw input of ``samples[index]``.

        An image is uint8, H x W x 3 (RGB, EXIF orientation applied); a text is an array without
        dimensions that holds one string; an activation is T x D.

        Raises:
            BadFileError: the file cannot be read as such; the message names it.
        """
        ...

    def fingerprint(self, index: int) -> str:
        """SHA-256 of what ``read(index)`` is made from (the file's bytes, or the array's).

        Raises:
            BadFileError: the file cannot be read.
        """
        ...

    def inspect(self, index: int) -> None:
        """A cheap look at ``samples[index]``, without decoding it.

        Not guaranteed: that `read` succeeds afterwards; a truncated image has a sound header.

        Raises:
            BadFileError: it is already clear that `read` would fail.
        """
        ...


def is_text(name: str) -> bool:
    """Whether a string is valid Unicode; halves of surrogate pairs stand for bytes that are not."""
    if name.isascii():
        return True
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def check_samples(samples: Iterable[Sample], where: str) -> tuple[Sample, ...]:
    """Return ``samples`` as a tuple after checking ids and labels; ``where`` is for messages.

    Raises:
        DataError: there is no sample; an id is empty or occurs twice; a label is empty; or a name
            is not valid Unicode text (file names can hold bytes that no text encodes).
    """
    found = tuple(samples)
    if not found:
        raise DataError(f"{where} holds no samples.", advice="Check that it is the right one.")
    seen: set[SampleId] = set()
    for sample in found:
        _check_names(sample, where)
        if sample.id in seen:
            raise DataError(
                f"{where}: the id {sample.id!r} occurs twice.",
                advice="Give every sample an id of its own.",
            )
        seen.add(sample.id)
    return found


def _check_names(sample: Sample, where: str) -> None:
    if not sample.id:
        raise DataError(f"{where}: a sample has an empty id.", advice="Give it one.")
    if not sample.label:
        raise DataError(
            f"{where}: sample {sample.id!r} has an empty label.",
            advice="Every sample needs a label.",
        )
    for name in (sample.id, sample.label, sample.owner, sample.source):
        if name is not None and not is_text(name):
            raise DataError(
                f"{where}: {name!r} is not valid Unicode text.",
                advice="Rename the file or folder.",
            )
