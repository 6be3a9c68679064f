"""Head settings from a tuning set: a function of its samples, better on what they resemble."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shardgraph.nodes.closed_form import HeadRule, solve
from shardgraph.nodes.projection import Projections, random_projection
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.tuning import FOLDS, PRIOR_COUNTS, SHRINKAGES, SPREADS, tuned_rule

PROJECTION = random_projection(1, width=16, heads=4, value_width=4, sharpness=1.0)
BASE = HeadRule()


def drawn(noise: float, count: int = 60) -> tuple[TokenRows, list[str]]:
    generator = np.random.default_rng(5)
    numbers = np.arange(count) % 4
    centres = generator.standard_normal((4, 1, 16))
    tokens = centres[numbers] + noise * generator.standard_normal((count, 4, 16))
    return TokenRows.of([(tokens.astype(np.float32), np.arange(count))]), [
        f"class {number}" for number in numbers
    ]


def likelihood(rows: TokenRows, labels: list[str], rule: HeadRule) -> float:
    """Of every sample whose class has one in each part, by the head of the other parts' samples."""
    features = Projections([PROJECTION])(rows.gather(np.arange(len(labels))))[0].numpy()
    part = [labels[:row].count(label) % FOLDS for row, label in enumerate(labels)]
    judged = [labels.count(label) >= FOLDS for label in labels]
    total = 0.0
    for fold in range(FOLDS):
        out = [row for row in range(len(labels)) if judged[row] and part[row] == fold]
        kept = [row for row in range(len(labels)) if row not in out]
        head = solve(Tally.empty(16).add(features[kept], [labels[row] for row in kept]), rule)
        for row in out:
            scores = features[row] @ head.weight.astype(np.float64) + head.bias[0]
            total += scores[head.classes.index(labels[row])] - np.logaddexp.reduce(scores)
    return total


@pytest.mark.parametrize("noise", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("rare", [0, 2])
def test_the_settings_are_those_of_the_largest_likelihood_on_samples_left_out(
    noise: float, rare: int
) -> None:
    rows, labels = drawn(noise, count=24)
    labels[24 - rare :] = ["rare"] * rare
    every = itertools.starmap(HeadRule, itertools.product(SHRINKAGES, PRIOR_COUNTS, SPREADS))
    best = max(every, key=lambda rule: likelihood(rows, labels, rule))
    assert tuned_rule(PROJECTION, rows, labels, BASE) == best


def test_heads_are_surer_of_themselves_where_classes_are_plain() -> None:
    plain = tuned_rule(PROJECTION, *drawn(0.3), BASE)
    blurred = tuned_rule(PROJECTION, *drawn(4.0), BASE)
    assert plain.spread > blurred.spread


def test_too_few_samples_leave_the_settings_as_they_are() -> None:
    rows, labels = drawn(1.0, count=8)
    assert tuned_rule(PROJECTION, rows, labels, BASE) == BASE
    one_class = tuned_rule(PROJECTION, rows, ["only"] * 8, BASE)
    assert one_class == BASE
