"""Head settings from a tuning set: a function of its samples, better on what they resemble."""

from __future__ import annotations

import numpy as np

from shardgraph.nodes.closed_form import HeadRule
from shardgraph.nodes.projection import random_projection
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.tuning import PRIOR_COUNTS, SHRINKAGES, SPREADS, tuned_rule

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


def test_the_settings_are_of_the_grid_and_repeat() -> None:
    rows, labels = drawn(1.0)
    rule = tuned_rule(PROJECTION, rows, labels, BASE)
    assert rule.shrinkage in SHRINKAGES
    assert rule.prior_count in PRIOR_COUNTS
    assert rule.spread in SPREADS
    assert tuned_rule(PROJECTION, rows, labels, BASE) == rule


def test_heads_are_surer_of_themselves_where_classes_are_plain() -> None:
    plain = tuned_rule(PROJECTION, *drawn(0.3), BASE)
    blurred = tuned_rule(PROJECTION, *drawn(4.0), BASE)
    assert plain.spread > blurred.spread


def test_too_few_samples_leave_the_settings_as_they_are() -> None:
    rows, labels = drawn(1.0, count=8)
    assert tuned_rule(PROJECTION, rows, labels, BASE) == BASE
    one_class = tuned_rule(PROJECTION, rows, ["only"] * 8, BASE)
    assert one_class == BASE


def test_a_class_of_too_few_samples_is_left_out_of_the_judgement_and_not_of_the_heads() -> None:
    rows, labels = drawn(0.5)
    rare = [*labels[:-1], "rare"]
    assert tuned_rule(PROJECTION, rows, rare, BASE).spread in SPREADS
