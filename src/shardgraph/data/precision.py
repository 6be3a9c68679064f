"""Does an array survive float16, in which activations are kept? Asked before any is written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shardgraph.errors import DataError

LARGEST = float(np.finfo(np.float16).max)
"""The largest float16, 65,504."""

MAX_LOSS = 0.05
"""Most that rounding may move the samples, as a share of what they differ by (both rms)."""

_BLOCK = 1024  # samples looked at together, so that memory stays flat


def check_overflow(X: np.ndarray) -> None:
    """Refuse numbers that float16 cannot hold; ``X`` is [N, ...] and finite.

    Raises:
        DataError: a number rounds to infinity; names the first sample that has one.
    """
    for start, block in _blocks(X):
        outside = np.isinf(_rounded(block)).reshape(len(block), -1).any(axis=1)
        if outside.any():
            row = int(outside.argmax())
            raise DataError(
                f"X[{start + row}] holds {np.abs(block[row]).max():.6g}, more than float16 does "
                f"({LARGEST:,.0f}).",
                advice="Scale X down: activations are kept in float16.",
            )


def check_half_precision(X: np.ndarray) -> None:
    """Refuse samples [N, ...] that float16 cannot hold or cannot tell apart.

    The rounding errors are compared with the samples' deviations from their mean, as root mean
    squares over all of ``X``. So a few features that are lost do not matter, and a constant ``X``
    is fine; times in seconds since 1970, or billionths, are not.

    Raises:
        DataError: a number overflows, or the rounding is more than `MAX_LOSS` of the deviations.
    """
    check_overflow(X)
    loss, squares = 0.0, 0.0
    total = np.zeros(X.shape[1:])
    for _, block in _blocks(X):
        loss += float(np.square(_rounded(block).astype(np.float64) - block).sum())
        shifted = block - X[0].astype(np.float64)  # exactly zero for a constant X
        squares += float(np.square(shifted).sum())
        total += shifted.sum(axis=0)
    deviation = max(0.0, squares - float(np.square(total).sum()) / len(X))
    if loss > MAX_LOSS**2 * deviation and deviation > 0:
        raise DataError(
            f"In float16, rounding moves X by {np.sqrt(loss / deviation):.0%} of what its samples "
            "differ by.",
            advice="Subtract a constant from X and scale it to about one: activations are kept in "
            "float16.",
        )


def _rounded(block: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return block.astype(np.float16)


def _blocks(X: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(X), _BLOCK):
        yield start, X[start : start + _BLOCK]
