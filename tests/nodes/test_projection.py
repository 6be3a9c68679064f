"""Integer features against a plain oracle, at their bounds, and independent of company."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shardgraph.errors import RecipeError, UsageError
from shardgraph.nodes import projection as module
from shardgraph.nodes.projection import (
    CUT,
    CUT_ROUNDS,
    EXACT_FLOAT32,
    EXACT_FLOAT64,
    FEATURE_LIMIT,
    FINE_LIMIT,
    POOLED_LIMIT,
    POOLED_UNIT,
    RATE_STEPS,
    TOKEN_LIMIT,
    TOKEN_UNIT,
    Projection,
    Projections,
    attention_limit,
    integer_tokens,
    random_projection,
    trained_projection,
    value_limit,
    weight_limit,
    weight_table,
)

WIDTH, HEADS, VALUE_WIDTH = 24, 4, 8


def nodes(count: int, sharpness: float = 1.5) -> list[Projection]:
    return [
        random_projection(i, width=WIDTH, heads=HEADS, value_width=VALUE_WIDTH, sharpness=sharpness)
        for i in range(count)
    ]


def samples(count: int, tokens: int = 7, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, tokens, WIDTH)).astype(np.float16)


def oracle(node: Projection, tokens: np.ndarray) -> list[int]:
    """The formulas of the module's docstring for one sample, one number at a time, in int."""
    rounded = integer_tokens(tokens[None])[0].numpy().astype(int).tolist()
    limit, count = weight_limit(len(tokens)), node.features
    values: list[int] = []
    for head in range(node.heads):
        scores = [
            sum(z * int(u) for z, u in zip(token, node.attention[head], strict=True))
            for token in rounded
        ]
        rate = node.rate[head] * np.float32(RATE_STEPS)
        steps = [int(np.floor(np.float32(max(scores) - score) * rate)) for score in scores]
        weights = [round(limit * math.exp(-step / RATE_STEPS)) for step in steps]
        pooled = []
        for column in range(node.width):
            total = sum(w * token[column] for w, token in zip(weights, rounded, strict=True))
            scaled = np.float32(total * POOLED_UNIT) / np.float32(sum(weights))
            pooled.append(int(np.rint(scaled)))
        values += [
            sum(p * int(v) for p, v in zip(pooled, column, strict=True))
            for column in node.values[head].T
        ]
    total, squares = sum(values), sum(value * value for value in values)
    spread = math.sqrt(count * squares - total * total)
    return [
        max(-FEATURE_LIMIT, min(FEATURE_LIMIT, round((count * v - total) * (32 / spread))))
        for v in values
    ]


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 4.0])
def test_features_equal_the_oracle(sharpness: float) -> None:
    stack, batch = nodes(3, sharpness), samples(4)
    found = Projections(stack)(batch).numpy()
    for i, node in enumerate(stack):
        for j, tokens in enumerate(batch):
            assert found[i, j].tolist() == oracle(node, tokens)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_integers_depend_on_sample_and_node_alone(data: st.DataObject) -> None:
    stack, batch = nodes(6), samples(70)
    whole = Projections(stack)(batch)
    chosen = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    rows = data.draw(st.lists(st.integers(0, 69), min_size=1, max_size=40))
    part = Projections([stack[i] for i in chosen])(batch[rows])
    assert torch.equal(part, whole[chosen][:, rows])


def test_cuts_threads_and_precision_change_no_integer(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, batch = nodes(5), samples(33)
    whole = Projections(stack)(batch)
    assert torch.equal(Projections(stack, torch.float64)(batch), whole)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(module, "HEADS_AT_ONCE", HEADS)
    torch.set_num_threads(2)
    assert torch.equal(Projections(stack)(batch), whole)


@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (49, 320), (197, 768), (577, 1024)])
def test_extreme_integers_stay_exact(tokens: int, width: int) -> None:
    limit, values = attention_limit(width), value_limit(width, 256)
    node = Projection(
        np.full((16, width), limit, np.int8),
        np.zeros(16, np.float32),
        np.where(np.arange(16) % 2, values, 1 - values)
        .astype(np.int8)
        .repeat(width * 16)
        .reshape(16, width, 16),
    )
    batch = np.ones((2, tokens, width), np.float32)
    batch[0] *= -1
    found = Projections([node])(batch)
    assert torch.equal(found, Projections([node], torch.float64)(batch))
    assert torch.equal(found[0, 0], -found[0, 1])
    assert found.any()


@pytest.mark.parametrize("width", [1, 16, 320, 768, 1024, 2048])
@pytest.mark.parametrize("features", [16, 256, 1024])
def test_bounds_keep_every_sum_exact(width: int, features: int) -> None:
    assert width * TOKEN_LIMIT * attention_limit(width) < EXACT_FLOAT32
    largest = width * POOLED_LIMIT * value_limit(width, features)
    assert 1 <= largest < EXACT_FLOAT32
    assert features * largest**2 <= EXACT_FLOAT64
    for tokens in (1, 49, 197, 577, 5000):
        assert tokens * weight_limit(tokens) * TOKEN_LIMIT < EXACT_FLOAT32
        assert tokens * width * FINE_LIMIT**2 < EXACT_FLOAT64


def test_weights_fall_like_an_exponential_and_do_not_lie_near_ties() -> None:
    for limit in range(15, 256):
        table = weight_table(limit).tolist()
        assert (table[0], table[-1]) == (limit, 0)
        for step, weight in enumerate(table):
            exact = limit * math.exp(-step / RATE_STEPS)
            assert weight == round(exact)
            assert abs(exact - math.floor(exact) - 0.5) > 1e-9


def test_scale_of_a_sample_does_not_matter_but_lengths_of_its_tokens_do() -> None:
    batch = samples(3).astype(np.float32)
    stack = Projections(nodes(2))
    assert torch.equal(stack(batch * 4), stack(batch))
    longer = batch.copy()
    longer[:, 0] *= 4
    assert not torch.equal(stack(longer), stack(batch))


def plain_tokens(tokens: np.ndarray) -> list[int]:
    """What `integer_tokens` says of one sample, one number at a time."""
    numbers = tokens.astype(np.float32).ravel()
    fine = [int(np.rint(x * np.float32(FINE_LIMIT / np.abs(numbers).max()))) for x in numbers]
    cut = list(fine)
    for _ in range(CUT_ROUNDS):
        most = math.floor(CUT * math.sqrt(sum(x * x for x in cut) / len(cut)))
        cut = [max(-most, min(most, x)) for x in fine]
    scale = np.float32(TOKEN_UNIT / math.sqrt(sum(x * x for x in cut) / len(cut)))
    return [max(-TOKEN_LIMIT, min(TOKEN_LIMIT, int(np.rint(np.float32(x) * scale)))) for x in fine]


@pytest.mark.parametrize("outlier", [1, 30, 1000])
def test_tokens_equal_a_plain_oracle(outlier: float) -> None:
    batch = samples(3, tokens=9).astype(np.float32)
    batch[:, :, 5] *= outlier
    found = integer_tokens(batch).to(torch.int64)
    for sample, tokens in zip(found, batch, strict=True):
        assert sample.ravel().tolist() == plain_tokens(tokens)


def test_tokens_have_unit_spread() -> None:
    tokens = integer_tokens(samples(20, tokens=49))
    assert tokens.square().mean().sqrt().item() == pytest.approx(TOKEN_UNIT, rel=0.01)
    assert not integer_tokens(np.zeros((1, 3, WIDTH), np.float16)).any()


def test_a_column_far_above_the_rest_does_not_set_the_scale() -> None:
    batch = np.random.default_rng(0).standard_normal((20, 9, 256)).astype(np.float32)
    batch[:, :, 5] *= 200
    others = np.arange(256) != 5
    spread = integer_tokens(batch)[:, :, others].square().mean().sqrt().item()
    assert 0.6 * TOKEN_UNIT < spread < TOKEN_UNIT


def test_a_token_far_above_the_rest_is_cut_to_the_limit() -> None:
    batch = np.full((1, 49, WIDTH), 0.01, np.float32)
    batch[0, 0, :2] = 100, -100
    tokens = integer_tokens(batch)
    assert (tokens.max().item(), tokens.min().item()) == (TOKEN_LIMIT, -TOKEN_LIMIT)


def test_constant_samples_give_zeros_or_finite_features() -> None:
    batch = np.zeros((1, 5, WIDTH), np.float16)
    assert not Projections(nodes(2))(batch).any()
    one = np.full((1, 1, WIDTH), 3, np.float16)
    assert Projections(nodes(2))(one).any()


def test_random_projections_follow_from_their_arguments() -> None:
    first, again = nodes(1)[0], nodes(1)[0]
    assert first.attention.tobytes() == again.attention.tobytes()
    assert first.values.tobytes() == again.values.tobytes()
    other = random_projection(9, width=WIDTH, heads=HEADS, value_width=VALUE_WIDTH, sharpness=1.5)
    assert first.attention.tobytes() != other.attention.tobytes()
    assert set(np.unique(first.values)) == {-1, 1}


def test_sharpness_is_the_spread_of_attention_logits() -> None:
    node = random_projection(0, width=512, heads=64, value_width=1, sharpness=2.0)
    tokens = np.random.default_rng(0).standard_normal((1, 400, 512)).astype(np.float32)
    rounded = integer_tokens(tokens)[0].numpy()
    logits = rounded @ node.attention.T.astype(np.float32) * node.rate
    assert logits.std(axis=0).mean() == pytest.approx(2.0, rel=0.1)


def test_trained_projection_follows_the_adapter() -> None:
    generator = np.random.default_rng(3)
    attention = generator.standard_normal((2, 2, WIDTH)) / WIDTH**0.5
    values = generator.standard_normal((2, WIDTH, VALUE_WIDTH))
    node = trained_projection(attention, values)
    batch = samples(30).astype(np.float64)
    scaled = batch / np.sqrt((batch**2).mean(axis=(1, 2), keepdims=True))
    scores = np.einsum("btd,hqd->bthq", scaled, attention)
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    projected = np.einsum("bthq,btd,hdv->bhqv", weights, scaled, values).reshape(30, -1)
    projected -= projected.mean(axis=1, keepdims=True)
    expected = 32 * projected / projected.std(axis=1, keepdims=True)
    found = Projections([node])(batch.astype(np.float32))[0].numpy()
    assert np.abs(found - expected).mean() < 1.0


def test_impossible_projections_are_refused() -> None:
    node = nodes(1)[0]
    with pytest.raises(RecipeError, match="int8"):
        Projection(node.attention.astype(np.int16), node.rate, node.values)
    with pytest.raises(RecipeError, match="differ"):
        Projection(node.attention[:2].copy(), node.rate, node.values)
    with pytest.raises(RecipeError, match="rate"):
        Projection(node.attention, -np.ones(HEADS, np.float32), node.values)
    wide = np.full((1, 2000), 127, np.int8)
    with pytest.raises(RecipeError, match="exact range"):
        Projection(wide, np.ones(1, np.float32), np.ones((1, 2000, 2), np.int8))
    large = np.full((1, 2000, 2), 127, np.int8)
    with pytest.raises(RecipeError, match="exact range"):
        Projection(np.ones((1, 2000), np.int8), np.ones(1, np.float32), large)
    with pytest.raises(RecipeError, match="share"):
        Projections([])
    other = random_projection(1, width=WIDTH, heads=HEADS, value_width=1, sharpness=1.0)
    with pytest.raises(RecipeError, match="share"):
        Projections([node, other])


def test_impossible_tokens_are_refused() -> None:
    stack = Projections(nodes(1))
    with pytest.raises(UsageError, match="fit"):
        stack(np.zeros((1, 3, WIDTH + 1), np.float32))
    with pytest.raises(UsageError, match="finite"):
        stack(np.full((1, 3, WIDTH), np.nan, np.float32))
    with pytest.raises(UsageError, match="too many"):
        stack(np.zeros((1, 9000, WIDTH), np.float16))
