"""The activations that one node reads, gathered row by row from shard files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from shardgraph.errors import UsageError


class TokenRows:
    """Rows of several [n, T, D] arrays as one sequence, in node order; nothing is copied.

    The arrays may be memory-mapped and read-only, in float16 or float32, and one array may
    serve many nodes. They are read when `gather` is called, so they must stay open until then.

    Example:
        >>> first, second = np.zeros((2, 1, 4), np.float16), np.ones((3, 1, 4), np.float16)
        >>> rows = TokenRows([first, second], array_of=[1, 0], row_of=[2, 0])
        >>> rows.gather(np.array([0])).tolist()
        [[[1.0, 1.0, 1.0, 1.0]]]
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        array_of: npt.ArrayLike,
        row_of: npt.ArrayLike,
    ) -> None:
        """Row i of the sequence is ``arrays[array_of[i]][row_of[i]]``.

        Raises:
            UsageError: the arrays differ in T, D or dtype, or a row lies outside its array.
        """
        self._arrays = tuple(arrays)
        self._array_of = np.asarray(array_of, dtype=np.int64).reshape(-1)
        self._row_of = np.asarray(row_of, dtype=np.int64).reshape(-1)
        self._check()

    @classmethod
    def of(cls, pieces: Sequence[tuple[np.ndarray, npt.ArrayLike]]) -> TokenRows:
        """The rows of each (array, row numbers) piece, one piece after the other."""
        rows = [np.asarray(row_of, dtype=np.int64).reshape(-1) for _, row_of in pieces]
        array_of = np.repeat(np.arange(len(rows)), [len(piece) for piece in rows])
        row_of = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return cls([array for array, _ in pieces], array_of, row_of)

    def _check(self) -> None:
        advice = "Give arrays of one shape [n, T, D] and one dtype, float16 or float32."
        if not self._arrays:
            raise UsageError("No activation arrays were given.", advice=advice)
        kinds = {(array.shape[1:], array.dtype) for array in self._arrays}
        if len(kinds) != 1 or self._arrays[0].ndim != 3:
            raise UsageError("The activation arrays differ in shape or dtype.", advice=advice)
        if self._arrays[0].dtype not in (np.float16, np.float32):
            raise UsageError(f"Activations of dtype {self._arrays[0].dtype}.", advice=advice)
        lengths = np.array([len(array) for array in self._arrays])
        if len(self._array_of) != len(self._row_of):
            raise UsageError("array_of and row_of differ in length.")
        if len(self._array_of) == 0:
            return
        if self._array_of.min() < 0 or self._array_of.max() >= len(lengths):
            raise UsageError("array_of points outside the arrays.")
        if self._row_of.min() < 0 or (self._row_of >= lengths[self._array_of]).any():
            raise UsageError("row_of points outside its array.")

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def tokens(self) -> int:
        """Tokens per sample, T."""
        return int(self._arrays[0].shape[1])

    @property
    def width(self) -> int:
        """Floats per token, D."""
        return int(self._arrays[0].shape[2])

    def gather(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows ``indices`` of the sequence as float32 [len(indices), T, D].

        With ``out`` (float32, [len(indices), T, >= D]) the rows are written into its first D
        columns and ``out`` is returned; the other columns are left alone.
        """
        if out is None:
            out = np.empty((len(indices), self.tokens, self.width), np.float32)
        target = out[..., : self.width]
        arrays, rows = self._array_of[indices], self._row_of[indices]
        for number in np.unique(arrays):
            places = np.flatnonzero(arrays == number)
            taken = np.take(self._arrays[number], rows[places], axis=0)
            converted = torch.from_numpy(taken)  # torch converts float16 25 times faster than NumPy
            if len(places) == len(indices):
                torch.from_numpy(target).copy_(converted)
            else:
                target[places] = converted.float().numpy()
        return out
