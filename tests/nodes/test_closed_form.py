"""Closed-form heads: the formula, its limits, and equal bits for equal sums."""

from __future__ import annotations

import numpy as np
import pytest

from shardgraph.errors import RecipeError, StoreDamagedError, UsageError
from shardgraph.nodes.closed_form import ClosedFormHead, HeadRule, solve, solve_all
from shardgraph.nodes.tally import Tally

FEATURES = 16
RULE = HeadRule()


def drawn(
    count: int, classes: int = 4, seed: int = 0, width: int = FEATURES
) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    centres = generator.integers(-60, 61, (classes, width))
    numbers = np.arange(count) % classes
    noise = generator.normal(0, 25, (count, width))
    features = np.clip(np.rint(centres[numbers] + noise), -127, 127).astype(np.int8)
    return features, [f"class {number}" for number in numbers]


def tally_of(features: np.ndarray, labels: list[str]) -> Tally:
    return Tally.empty(features.shape[1]).add(features, labels)


def scores(head: ClosedFormHead, features: np.ndarray) -> np.ndarray:
    result: np.ndarray = features @ head.weight + head.bias
    return result


@pytest.mark.parametrize("width", [1, FEATURES, 150])
def test_head_is_the_shrunk_discriminant_of_the_samples(width: int) -> None:
    features, labels = drawn(90, width=width)
    head = solve(tally_of(features, labels), RULE)
    wide, names = features.astype(np.float64), np.array(labels)
    mean = wide.mean(axis=0)
    within = np.zeros((width, width))
    shrunk = []
    for label in head.classes:
        own = wide[names == label]
        within += (own - own.mean(axis=0)).T @ (own - own.mean(axis=0))
        shrunk.append((own.mean(axis=0) - mean) * len(own) / (len(own) + RULE.prior_count))
    within += RULE.shrinkage * (wide**2).sum() / width * np.eye(width)
    toward = np.array(shrunk)
    weight = np.linalg.solve(within, toward.T)
    gain = RULE.spread / (toward * weight.T).sum(axis=1).mean()
    expected = gain * ((wide - mean) @ weight - (toward * weight.T).sum(axis=1) / 2)
    assert np.allclose(scores(head, wide), expected, rtol=1e-4, atol=1e-3)


def test_head_tells_classes_apart() -> None:
    features, labels = drawn(200)
    head = solve(tally_of(features[:100], labels[:100]), RULE)
    guessed = scores(head, features[100:]).argmax(axis=1)
    assert np.mean([head.classes[i] == y for i, y in zip(guessed, labels[100:], strict=True)]) > 0.9


def test_equal_sums_give_equal_bits_however_they_are_solved() -> None:
    tallies = [tally_of(*drawn(60, seed=i)) for i in range(12)]
    together = solve_all(tallies, RULE, workers=3)
    for tally, head in zip(tallies, together, strict=True):
        alone = solve(tally, RULE)
        assert alone.weight.tobytes() == head.weight.tobytes()
        assert alone.bias.tobytes() == head.bias.tobytes()


def test_a_downdated_tally_has_the_head_of_a_fresh_one() -> None:
    features, labels = drawn(60)
    downdated = tally_of(features, labels).subtract(features[40:], labels[40:])
    fresh, again = solve(tally_of(features[:40], labels[:40]), RULE), solve(downdated, RULE)
    assert fresh.weight.tobytes() == again.weight.tobytes()
    assert fresh.bias.tobytes() == again.bias.tobytes()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_samples_have_a_finite_head(count: int) -> None:
    head = solve(tally_of(*drawn(count)), RULE)
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()
    assert head.weight.shape == (FEATURES, count)


def test_one_class_has_a_score_of_zero() -> None:
    features, _ = drawn(5)
    head = solve(tally_of(features, ["only"] * 5), RULE)
    assert not head.weight.any()
    assert not head.bias.any()


def test_features_of_zero_have_scores_of_zero() -> None:
    head = solve(tally_of(np.zeros((4, FEATURES), np.int8), ["a", "a", "b", "b"]), RULE)
    assert not head.weight.any()


def test_equal_samples_in_two_classes_are_not_told_apart() -> None:
    features = np.full((4, FEATURES), 9, np.int8)
    head = solve(tally_of(features, ["a", "a", "b", "b"]), RULE)
    assert not scores(head, features).any()


def test_spread_is_how_sure_the_head_is() -> None:
    tally = tally_of(*drawn(80))
    mild, sure = solve(tally, HeadRule(spread=1.0)), solve(tally, HeadRule(spread=10.0))
    assert np.allclose(mild.weight * 10, sure.weight, rtol=1e-5)


def test_an_empty_tally_has_no_head() -> None:
    with pytest.raises(UsageError, match="no head"):
        solve(Tally.empty(FEATURES), RULE)


def test_sums_of_no_samples_are_reported_as_damage() -> None:
    tally = tally_of(*drawn(30))
    gram = tally.gram.copy()
    gram[1] = 10**7
    with pytest.raises(StoreDamagedError, match="no samples"):
        solve(Tally(tally.classes, gram, tally.moment, tally.counts), RULE)


@pytest.mark.parametrize(
    "setting", [{"shrinkage": 0.0}, {"spread": -1.0}, {"prior_count": -1.0}, {"spread": np.inf}]
)
def test_impossible_rules_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(RecipeError):
        HeadRule(**setting)
