"""Head settings chosen on a declared tuning set: a function of its live samples, and of no other.

The samples are tallied through one projection that holds no data, in `FOLDS` parts; the settings
are those whose heads, solved without a part, give the labels of that part the largest likelihood.
Nothing is stored: whoever answers works the settings out again from what is live. So a tuning
sample is forgotten like any other, and what it costs beside is to tune once more.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.nodes.closed_form import HeadRule, solve
from shardgraph.nodes.projection import Projection, Projections
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.tokens import TokenRows

FOLDS = 3
SHRINKAGES = (0.005, 0.02, 0.08)
PRIOR_COUNTS = (2.0, 6.0, 18.0)
SPREADS = (5.5, 11.0, 22.0, 44.0)


def tuned_rule(
    projection: Projection,
    rows: TokenRows,
    labels: Sequence[str],
    base: HeadRule,
    dtype: torch.dtype = torch.float32,
) -> HeadRule:
    """The settings that are best for these samples, or ``base`` where they are too few.

    Args:
        projection: gives the features; it must not depend on any sample.
        rows: the tuning samples, in an order that depends on them alone.
        labels: their labels, in the same order.
        base: what holds where fewer than two classes have `FOLDS` samples.
        dtype: in which features are computed, see `tally_all`.
    """
    folds = _folds(labels)
    held_out = Counter(label for label, fold in zip(labels, folds, strict=True) if fold >= 0)
    if len(held_out) < 2:
        return base
    with runtime.pinned_threads():
        features = Projections([projection], dtype)(rows.gather(np.arange(len(rows))))[0].numpy()
        found = dict.fromkeys(itertools.product(SHRINKAGES, PRIOR_COUNTS, SPREADS), 0.0)
        for fold, shrinkage, prior in itertools.product(range(FOLDS), SHRINKAGES, PRIOR_COUNTS):
            rule = replace(base, shrinkage=shrinkage, prior_count=prior, spread=1.0)
            truth, scores = _held_out(features, labels, folds == fold, rule)
            for spread in SPREADS:
                found[shrinkage, prior, spread] += _likelihood(truth, scores * spread)
    shrinkage, prior, spread = max(found, key=found.__getitem__)
    return replace(base, shrinkage=shrinkage, prior_count=prior, spread=spread)


def _folds(labels: Sequence[str]) -> np.ndarray:
    """The part of each sample, dealt out within its class; -1 where a class has too few."""
    counts, seen = Counter(labels), Counter[str]()
    folds = []
    for label in labels:
        folds.append(seen[label] % FOLDS if counts[label] >= FOLDS else -1)
        seen[label] += 1
    return np.array(folds, np.int64)


def _held_out(
    features: np.ndarray, labels: Sequence[str], out: np.ndarray, rule: HeadRule
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the right labels, and scores, of the samples left out of a head."""
    kept, tested = np.flatnonzero(~out).tolist(), np.flatnonzero(out).tolist()
    tally = Tally.empty(features.shape[1]).add(features[kept], [labels[row] for row in kept])
    head = solve(tally, rule)
    column = {label: number for number, label in enumerate(head.classes)}
    scores = features[tested].astype(np.float64) @ head.weight.astype(np.float64) + head.bias
    return np.array([column[labels[row]] for row in tested], np.int64), scores


def _likelihood(truth: np.ndarray, scores: np.ndarray) -> float:
    """Sum of the logarithms of the probabilities of the right labels."""
    chosen = torch.log_softmax(torch.from_numpy(scores), dim=1).numpy()
    return math.fsum(chosen[np.arange(len(truth)), truth].tolist())
