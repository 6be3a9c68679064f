"""The head of a node that tallies: a linear discriminant solved from exact sums.

With class means m_c, the mean m of all samples, and the scatter within classes
S = sum f f^T - sum_c n_c m_c m_c^T (all from the tally), the scores are those of Fisher's linear
discriminant with shrunk means and covariance:

    r_c = (m_c - m) n_c / (n_c + k)
    w_c = A^-1 r_c,   A = S + shrinkage * trace(sum f f^T) / F * I
    score_c(f) = g (w_c . (f - m) - w_c . r_c / 2)

``g`` makes the mean of w_c . r_c over classes equal to ``spread``: the discriminant of few samples
and many features is far too sure of itself, and this undoes it without held-out data.

A is positive definite with a condition number of at most 1 + F / shrinkage (its largest eigenvalue
is at most the trace), so the Cholesky factorisation in float64 cannot fail on a true tally; there
is no fallback, and a failure is reported as damage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.errors import RecipeError, StoreDamagedError, UsageError
from shardgraph.nodes.tally import Tally, upper_triangle

_ROWS_AT_ONCE = 64  # rows of a scatter in one product, which passes over what lies before them


@dataclass(frozen=True, slots=True)
class HeadRule:
    """Settings of the closed-form head; good across data sets, and never fitted.

    Attributes:
        shrinkage: weight of the identity in the scatter, as a share of the mean squared feature.
        prior_count: samples of the overall mean that are mixed into each class mean, k.
        spread: mean squared distance of a class mean to the overall mean in units of the scatter,
            after rescaling: how sure of itself the head is.

    Raises:
        RecipeError: a value is out of its range.
    """

    shrinkage: float = 0.02
    prior_count: float = 6.0
    spread: float = 22.0

    def __post_init__(self) -> None:
        for name in ("shrinkage", "spread"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"{name}={getattr(self, name)!r} must be positive and finite.")
        if not 0 <= self.prior_count < math.inf:
            raise RecipeError(f"prior_count={self.prior_count!r} must be finite, not negative.")


@dataclass(frozen=True, eq=False)
class ClosedFormHead:
    """From integer features to class scores.

    Attributes:
        classes: sorted labels of the tally, the order of the columns.
        weight: float32 [F, C].
        bias: float32 [1, C].
    """

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.weight, self.bias):
            array.flags.writeable = False


def solve(tally: Tally, rule: HeadRule) -> ClosedFormHead:
    """The head of a tally: a function of both arguments alone, computed with one thread.

    With one class, or features that are all zero, every score is zero.

    Raises:
        UsageError: the tally is empty.
        StoreDamagedError: no samples have these sums.
    """
    return solve_all([tally], rule)[0]


def solve_all(
    tallies: Sequence[Tally], rule: HeadRule, *, workers: int | None = None
) -> list[ClosedFormHead]:
    """Heads of several tallies, bit for bit those of `solve`, by several threads.

    While it runs, torch uses `runtime.TRAINING_THREADS` threads per operator in this process.

    Raises:
        UsageError: a tally is empty.
        StoreDamagedError: no samples have the sums of some tally.
    """
    runtime.keep_freed_memory()
    count = min(len(tallies), workers or runtime.worker_count())
    with runtime.pinned_threads():
        if count < 2:
            return [_solve(tally, rule) for tally in tallies]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda tally: _solve(tally, rule), tallies))


def _solve(tally: Tally, rule: HeadRule) -> ClosedFormHead:
    if not tally.samples:
        raise UsageError("A tally of no samples has no head.", advice="Leave its node out.")
    counts = torch.from_numpy(tally.counts.astype(np.float64)).unsqueeze(1)
    moment = torch.from_numpy(tally.moment.astype(np.float64))
    gram = np.zeros((tally.features, tally.features))
    gram[upper_triangle(tally.features)] = tally.gram  # the other half is never read
    scatter = torch.from_numpy(gram)
    trace = float(scatter.trace())
    mean = moment.sum(dim=0, keepdim=True) / counts.sum()
    own_mean = moment / counts
    if trace == 0:
        return _head(tally, torch.zeros_like(moment), torch.zeros_like(counts))
    for begin in range(0, tally.features, _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        scatter[rows, begin:].addmm_(moment[:, rows].T, own_mean[:, begin:], alpha=-1)
    scatter.diagonal().add_(rule.shrinkage * trace / tally.features)
    factor = _factored(scatter.T)
    toward = own_mean.sub_(mean).mul_(counts / (counts + rule.prior_count))
    halfway = torch.linalg.solve_triangular(factor, toward.T, upper=False)
    weight = torch.linalg.solve_triangular(factor.T, halfway, upper=True).T
    squared = (weight * toward).sum(dim=1, keepdim=True)  # of the way from the mean to a class
    distance = float(squared.mean())
    gain = rule.spread / distance if distance > 0 else 0.0
    bias = weight @ mean.T + squared / 2
    return _head(tally, weight * gain, -gain * bias)


def _factored(matrix: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of the lower triangle, in its place: copies would take half as long."""
    failed = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(matrix, out=(matrix, failed))
    if int(failed):
        raise StoreDamagedError(
            "A tally is damaged: no samples have these sums.",
            advice="Tally the node again from its samples.",
        )
    return matrix


def _head(tally: Tally, weight: torch.Tensor, bias: torch.Tensor) -> ClosedFormHead:
    columns = weight.to(torch.float32).T.contiguous().numpy()
    return ClosedFormHead(tally.classes, columns, bias.T.to(torch.float32).contiguous().numpy())
