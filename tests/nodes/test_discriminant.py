"""Closed-form attention: what it finds, and what it does with very little."""

from __future__ import annotations

import numpy as np
import pytest

from shardgraph.errors import RecipeError, UsageError
from shardgraph.nodes import discriminant as module
from shardgraph.nodes.discriminant import discriminant_projection
from shardgraph.nodes.projection import Projection, Projections, integer_tokens, random_projection
from shardgraph.nodes.tokens import TokenRows

WIDTH, HEADS = 24, 6


def rows_of(tokens: np.ndarray) -> TokenRows:
    return TokenRows([tokens], np.zeros(len(tokens), np.int64), np.arange(len(tokens)))


def found(tokens: np.ndarray, labels: list[str], seed: int = 1) -> Projection:
    return discriminant_projection(
        seed, rows_of(tokens), labels, heads=HEADS, value_width=4, sharpness=1.5
    )


def plain(seed: int = 1) -> Projection:
    return random_projection(seed, width=WIDTH, heads=HEADS, value_width=4, sharpness=1.5)


def images(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Tokens whose columns 0, 1, ... tell classes apart, the first columns best."""
    generator = np.random.default_rng(seed)
    centres = np.zeros((classes, 1, WIDTH))
    centres[:, 0, :3] = generator.standard_normal((classes, 3)) * [4.0, 2.0, 1.0]
    numbers = np.arange(count) % classes
    tokens = centres[numbers] + generator.standard_normal((count, 10, WIDTH))
    return tokens.astype(np.float16), [str(number) for number in numbers]


def same(one: Projection, other: Projection) -> bool:
    parts = ("attention", "rate", "values")
    return all(getattr(one, p).tobytes() == getattr(other, p).tobytes() for p in parts)


def test_directions_are_those_that_tell_classes_apart() -> None:
    node = found(*images(200, 8))
    leading = np.abs(node.attention[::2].astype(int))
    assert leading.argmax(axis=1).tolist() == [0, 1, 2]
    assert (leading.max(axis=1) == 127).all()


def test_directions_equal_those_of_a_plain_eigenproblem() -> None:
    tokens, labels = images(120, 5)
    rounded = integer_tokens(tokens).numpy().astype(np.float64)
    names, mean = np.array(labels), rounded.mean(axis=(0, 1))
    between, within = np.zeros((WIDTH, WIDTH)), np.zeros((WIDTH, WIDTH))
    for label in set(labels):
        own = rounded[names == label].reshape(-1, WIDTH)
        away = own.mean(axis=0) - mean
        between += len(own) * np.outer(away, away)
        within += (own - own.mean(axis=0)).T @ (own - own.mean(axis=0))
    level = np.trace(within) / WIDTH
    values, vectors = np.linalg.eig(np.linalg.solve((within + level * np.eye(WIDTH)) / 2, between))
    order = np.argsort(-values.real)[: HEADS // 2]
    node = found(tokens, labels)
    for expected, vector in zip(vectors.real.T[order], node.attention[::2], strict=True):
        cosine = expected @ vector / np.linalg.norm(expected) / np.linalg.norm(vector)
        assert abs(cosine) > 0.9995


def test_attention_comes_in_pairs_of_both_signs_with_the_declared_spread() -> None:
    tokens, labels = images(120, 5)
    node = found(tokens, labels)
    assert (node.attention[::2] == -node.attention[1::2]).all()
    assert (node.rate[::2] == node.rate[1::2]).all()
    scores = integer_tokens(tokens).flatten(0, 1).numpy() @ node.attention.T.astype(np.float32)
    assert (scores * node.rate).std(axis=0) == pytest.approx(1.5, rel=1e-3)


def test_order_of_samples_does_not_matter() -> None:
    tokens, labels = images(90, 5)
    order = np.random.default_rng(1).permutation(90)
    assert same(found(tokens, labels), found(tokens[order], [labels[i] for i in order]))


def test_cuts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, labels = images(50, 5)
    whole = found(tokens, labels)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    assert same(found(tokens, labels), whole)


def test_samples_decide_the_attention_and_the_seed_the_values() -> None:
    tokens, labels = images(90, 5)
    one, other_seed = found(tokens, labels), found(tokens, labels, seed=2)
    assert one.attention.tobytes() == other_seed.attention.tobytes()
    assert one.values.tobytes() != other_seed.values.tobytes()
    assert one.values.tobytes() == plain().values.tobytes()
    assert one.attention.tobytes() != found(tokens[:89], labels[:89]).attention.tobytes()


@pytest.mark.parametrize(("count", "classes"), [(0, 1), (1, 1), (9, 1)])
def test_without_two_classes_attention_is_random(count: int, classes: int) -> None:
    assert same(found(*images(count, classes)), plain())


def test_tokens_without_spread_give_random_attention() -> None:
    tokens = np.ones((4, 3, WIDTH), np.float16)
    assert same(found(tokens, ["a", "a", "b", "b"]), plain())


def test_classes_with_equal_means_give_random_attention() -> None:
    tokens = np.repeat(images(1, 1)[0], 3, axis=0)
    assert same(found(tokens, ["a", "b", "b"]), plain())


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_classes_are_filled_up_with_random_vectors(count: int) -> None:
    node = found(*images(count, count))
    directions = 2 * (count - 1)
    assert (node.attention[:directions:2] == -node.attention[1:directions:2]).all()
    assert (node.attention[directions:] == plain().attention[directions:]).all()
    assert (node.rate[directions:] == plain().rate[directions:]).all()


def test_features_of_found_attention_are_finite() -> None:
    tokens, labels = images(3, 3)
    features = Projections([found(tokens, labels)])(tokens)
    assert features.any()


def test_what_cannot_be_is_refused() -> None:
    tokens, labels = images(4, 2)
    with pytest.raises(RecipeError, match="even"):
        discriminant_projection(1, rows_of(tokens), labels, heads=3, value_width=4, sharpness=1.0)
    with pytest.raises(UsageError, match="4 samples but 3 labels"):
        found(tokens, labels[:3])
