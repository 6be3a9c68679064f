"""Activations that the caller has computed: arrays in memory, or memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardgraph.data.sample import Kind, Sample, check_samples
from shardgraph.errors import DataError
from shardgraph.identity import OwnerId, SampleId, SourceName, digest_chunks

_NUMBERS = "biuf"  # kinds of numpy dtype that float16 can stand for


class ArrayDataset:
    """Precomputed activations with labels, and optionally ids, owners and sources.

    Example:
        >>> data = ArrayDataset(np.zeros((3, 8)), ["cat", "dog", "cat"], owners=["a", "b", "a"])
        >>> data.tokens, data.width
        (1, 8)
    """

    kind: Kind = "activations"

    def __init__(
        self,
        X: np.ndarray,
        y: Sequence[Any] | np.ndarray,
        ids: Sequence[Any] | None = None,
        owners: Sequence[Any] | None = None,
        sources: Sequence[Any] | None = None,
    ):
        """Wrap ``X``, which is not copied and must not be changed afterwards.

        Args:
            X: N x T x D, or N x D for one token each.
            y: N labels; anything but text is turned into text by ``str``.
            ids: N unique names; positions ("0", "1", ...) when left out.
            owners: N data subjects; None or "" where there is none.
            sources: N sources; None or "" where there is none.

        Raises:
            DataError: shapes or lengths do not fit, ``X`` does not hold real numbers, an id occurs
                twice, or a label is empty.
        """
        array = np.asanyarray(X)
        if array.ndim not in (2, 3) or 0 in array.shape[1:] or array.dtype.kind not in _NUMBERS:
            raise DataError(
                f"Activations of shape {array.shape} and type {array.dtype} cannot be used.",
                advice="Pass real numbers, N x T x D or N x D.",
            )
        self._array = array if array.ndim == 3 else array[:, np.newaxis, :]
        count = len(array)
        columns = {"labels": y, "ids": ids, "owners": owners, "sources": sources}
        for name, column in columns.items():
            if column is not None and len(column) != count:
                raise DataError(
                    f"There are {count} activations and {len(column)} {name}.",
                    advice=f"Pass one of the {name} for each activation.",
                )
        self._samples = check_samples(
            (
                Sample(
                    SampleId(str(position) if ids is None else _text(ids[position])),
                    _text(y[position]),
                    OwnerId(_text(owners[position])) or None if owners is not None else None,
                    SourceName(_text(sources[position])) or None if sources is not None else None,
                )
                for position in range(count)
            ),
            "The array of activations",
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in the order of the array."""
        return self._samples

    @property
    def tokens(self) -> int:
        """T, the tokens of one sample."""
        return int(self._array.shape[1])

    @property
    def width(self) -> int:
        """D, the width of one token."""
        return int(self._array.shape[2])

    def read(self, index: int) -> np.ndarray:
        """The activation of ``samples[index]``, T x D, in the type of the array."""
        return np.asarray(self._array[index])

    def fingerprint(self, index: int) -> str:
        """SHA-256 of type, shape and bytes of one activation."""
        return array_fingerprint(self.read(index))

    def inspect(self, index: int) -> None:
        """Nothing can be wrong that costs less to see here than when encoding."""


def array_fingerprint(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and little-endian bytes, in hexadecimal."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    kind = f"{little.dtype.str} {little.shape}\n".encode()
    return digest_chunks([kind, little.tobytes()])


def _text(value: Any) -> str:
    return "" if value is None else str(value)
