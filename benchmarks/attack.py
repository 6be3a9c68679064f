"""Membership inference by likelihood ratios, and how well an attack separates two groups.

LiRA (Carlini et al., *Membership Inference Attacks From First Principles*, IEEE S&P 2022): an
attacker who knows everything but whether sample x was among the training samples fits many
*shadow* models, half of them with x, and notes how sure each is of x's label. Two normal
distributions are fitted per sample, and the score of a target model is the log of their ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_PROBABILITY = 1e-12
LEAST_SPREAD = 1e-6


def confidence(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """log p(label) - log p(all others), [..., B], for probabilities [..., B, C]."""
    wide = probabilities.astype(np.float64)
    chosen = np.take_along_axis(wide, np.broadcast_to(truth[:, None], (*wide.shape[:-1], 1)), -1)
    right = chosen[..., 0]
    wrong = wide.sum(axis=-1) - right
    sure: np.ndarray = np.log(right + LEAST_PROBABILITY) - np.log(wrong + LEAST_PROBABILITY)
    return sure


@dataclass(frozen=True, eq=False)
class Shadows:
    """What the shadow models say of each sample, with it (``inside``) and without it.

    Attributes:
        inside, outside: mean confidence per sample, [..., B].
        spread_inside, spread_outside: standard deviations within samples, pooled over all
            samples, [..., 1]; Carlini et al. advise pooling below 64 shadow models.
    """

    inside: np.ndarray
    outside: np.ndarray
    spread_inside: np.ndarray
    spread_outside: np.ndarray

    @classmethod
    def of(cls, sure: np.ndarray, member: np.ndarray) -> Shadows:
        """From confidences [shadows, ..., B] and who was a member, bool [shadows, B]."""
        shape = (len(member), *[1] * (sure.ndim - 2), member.shape[1])
        inside, within = _moments(sure, member.reshape(shape))
        outside, without = _moments(sure, ~member.reshape(shape))
        return cls(inside, outside, within, without)

    @property
    def memorised(self) -> np.ndarray:
        """How far membership moves the confidence, in pooled standard deviations, [..., B]."""
        spread = np.sqrt((self.spread_inside**2 + self.spread_outside**2) / 2)
        moved: np.ndarray = (self.inside - self.outside) / spread
        return moved

    def scores(self, sure: np.ndarray) -> np.ndarray:
        """Log likelihood ratio, member over non-member, of confidences [..., B]."""
        ratio: np.ndarray = _log_normal(sure, self.inside, self.spread_inside) - _log_normal(
            sure, self.outside, self.spread_outside
        )
        return ratio


def _moments(sure: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight = np.broadcast_to(chosen, sure.shape).astype(np.float64)
    count = weight.sum(axis=0)
    mean = (sure * weight).sum(axis=0) / count
    squares = ((sure - mean) ** 2 * weight).sum(axis=(0, -1))
    spread = np.sqrt(squares / (count - 1).sum(axis=-1))
    return mean, np.maximum(spread, LEAST_SPREAD)[..., None]


def _log_normal(value: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    density: np.ndarray = -(((value - mean) / spread) ** 2) / 2 - np.log(spread)
    return density


def roc(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, each from 0 to 1, over all thresholds; ties move together."""
    values, place = np.unique(-scores, return_inverse=True)
    weight = np.ones(len(scores)) if weights is None else weights
    rates = []
    for group in (~positive, positive):
        heights = np.bincount(place[group], weight[group], minlength=len(values))
        rates.append(np.concatenate([[0.0], np.cumsum(heights) / heights.sum()]))
    return rates[0], rates[1]


def area(false: np.ndarray, true: np.ndarray) -> float:
    """Area under the curve that `roc` gives: 0.5 for a coin, 1 for certainty."""
    return float(np.trapezoid(true, false))


def true_at(false: np.ndarray, true: np.ndarray, most: float = 0.01) -> float:
    """The true positive rate at the last threshold with at most ``most`` false positives."""
    return float(true[np.flatnonzero(false <= most + 1e-12)[-1]])


def separation(
    scores: np.ndarray, positive: np.ndarray, counted: np.ndarray, *, rounds: int, seed: int
) -> dict[str, Any]:
    """How well scores [targets, B] tell positives from the rest of what is ``counted``.

    Intervals hold 95 % of a bootstrap that draws targets and samples anew, both with replacement
    (Owen, *The pigeonhole bootstrap*, 2007), because scores of one target or of one sample hang
    together. It errs on the wide side.
    """
    targets, samples = np.nonzero(counted)
    flat, sign = scores[counted], positive[counted]
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = []
    for _ in range(rounds):
        weights = (
            _multiplicity(generator, scores.shape[0])[targets]
            * _multiplicity(generator, scores.shape[1])[samples]
        )
        curve = roc(flat, sign, weights)
        drawn.append((area(*curve), true_at(*curve)))
    curve = roc(flat, sign)
    areas, rates = zip(*drawn, strict=True)
    return {
        "auc": area(*curve),
        "auc_interval_95": _interval(areas),
        "true_positives_at_1_percent": true_at(*curve),
        "true_positives_interval_95": _interval(rates),
        "pairs": [int(sign.sum()), int((~sign).sum())],
    }


def _multiplicity(generator: np.random.Generator, count: int) -> np.ndarray:
    return np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)


def _interval(values: Sequence[float]) -> list[float]:
    return [float(edge) for edge in np.percentile(values, [2.5, 97.5])]
