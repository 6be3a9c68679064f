"""Integer features: a light attention node whose output is the same integer everywhere.

A node that tallies needs features that are integers, and the integers of a sample must not depend
on its batch, its row, its neighbours, or on which nodes are computed with it. Rounding a float
result cannot promise that. So every step here is a product of small integers, held in float32 and
bounded so that **every partial sum is an integer below 2**24**, which float32 represents exactly
in whatever order it is added; the steps in between act on one number at a time and round as
IEEE 754 prescribes::

    z  tokens [T, D], scaled to unit spread, rounded, cut       |z| <= 127
    s  = z u                                                    |s| <= D * 127 * |u|  < 2**24
    a  = round(255 exp(-rate (max s - s)))                      0 <= a <= 255
    p  = round(4 a z / sum a)                                   |p| <= 508
    v  = concat_k p_k V_k                                       |v| <= D * 508 * |V|  < 2**24
    f  = round(32 (v - mean v) / std v)                         |f| <= 127

The integers are therefore the same on every machine, thread count, BLAS library and device whose
float32 products are IEEE 754, and all nodes' attention vectors can share one large product.
`shardgraph.nodes.exactness` tries that on the machine at hand; float64 is the slow, safe form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shardgraph.errors import RecipeError, UsageError

EXACT_FLOAT32 = 1 << 24
"""Integers up to this size, and sums of them that stay below it, are exact in float32."""

EXACT_FLOAT64 = 1 << 53
"""The same for float64."""

TOKEN_LIMIT, TOKEN_UNIT = 127, 16
"""Largest integer of a token, and the integer that stands for one standard deviation."""

FINE_LIMIT = 16_383
"""Tokens are first rounded to integers of this size, so that their spread is an exact sum."""

CUT, CUT_ROUNDS = 4, 2
"""Where outliers do not count: so many spreads off they are cut, and the spread is taken anew."""

WEIGHT_LIMIT = 255
"""Largest integer attention weight (smaller for very many tokens, see `weight_limit`)."""

RATE_STEPS = 64
"""Attention logits are cut to multiples of 1/64 before they are exponentiated."""

POOLED_UNIT = 4
"""Integers per token integer in the attention-pooled token."""

POOLED_LIMIT = TOKEN_LIMIT * POOLED_UNIT

FEATURE_LIMIT, FEATURE_UNIT = 127, 32
"""Largest integer feature (8 bits), and the integer that stands for one standard deviation."""

LEAST_WEIGHT_LIMIT = 15
"""Samples with so many tokens that weights would be coarser than this are refused."""

SMALLEST = 1e-30
"""Divisors are at least this, so that a constant input becomes zeros."""

ROWS_AT_ONCE, HEADS_AT_ONCE = 32, 512
"""Samples and attention vectors in one product. They bound the memory; they change no bit."""


def attention_limit(width: int) -> int:
    """Largest integer in an attention vector for tokens of ``width`` floats."""
    return min(127, (EXACT_FLOAT32 - 1) // (width * TOKEN_LIMIT))


def weight_limit(tokens: int) -> int:
    """Largest integer attention weight for a sample of ``tokens`` tokens."""
    return min(WEIGHT_LIMIT, (EXACT_FLOAT32 - 1) // (tokens * TOKEN_LIMIT))


def value_limit(width: int, features: int) -> int:
    """Largest integer in a value projection from ``width`` to a node of ``features`` features.

    Keeps projected values below 2**24 and the sum of their squares below 2**53.
    """
    spread = int((EXACT_FLOAT64 / features) ** 0.5)
    return min(127, min(EXACT_FLOAT32 - 1, spread) // (width * POOLED_LIMIT))


@dataclass(frozen=True, eq=False)
class Projection:
    """What turns the tokens of a sample into the integer features of one node.

    Attributes:
        attention: int8 [K, D], one attention vector per head.
        rate: float32 [K], attention logits per integer of score; not negative.
        values: int8 [K, D, V], value projection of each head.

    Raises:
        RecipeError: shapes or types contradict each other, or some sum could leave the range in
            which it is exact.
    """

    attention: np.ndarray
    rate: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_bounds()
        for array in (self.attention, self.rate, self.values):
            array.flags.writeable = False

    def _check_shapes(self) -> None:
        dtypes = [array.dtype.name for array in (self.attention, self.rate, self.values)]
        if dtypes != ["int8", "float32", "int8"]:
            raise RecipeError("A projection needs int8 attention and values and a float32 rate.")
        heads, width = self.attention.shape
        if self.rate.shape != (heads,) or self.values.shape[:2] != (heads, width):
            raise RecipeError("The arrays of a projection differ in heads or width.")
        if not (np.isfinite(self.rate).all() and (self.rate >= 0).all()):
            raise RecipeError("The rate of a projection must be finite and not negative.")

    def _check_bounds(self) -> None:
        attention = int(np.abs(self.attention.astype(np.int16)).max(initial=0))
        values = int(np.abs(self.values.astype(np.int16)).max(initial=0))
        if attention > attention_limit(self.width):
            raise RecipeError(f"Attention vectors for width {self.width} exceed the exact range.")
        if values > value_limit(self.width, self.features):
            raise RecipeError(
                f"{self.features} features of width {self.width} exceed the exact range.",
                advice="Use fewer heads or a smaller value width.",
            )

    @property
    def shape(self) -> tuple[object, ...]:
        """What projections must have in common to be computed in one stack."""
        return self.values.shape

    @property
    def heads(self) -> int:
        """Attention heads, K."""
        return int(self.attention.shape[0])

    @property
    def width(self) -> int:
        """Integers per token, D."""
        return int(self.attention.shape[1])

    @property
    def features(self) -> int:
        """Integers per sample, F = K * V."""
        return int(self.values.shape[0] * self.values.shape[2])


def random_projection(
    seed: int, *, width: int, heads: int, value_width: int, sharpness: float
) -> Projection:
    """A projection that holds no data: a function of the arguments alone.

    Attention vectors are normal, values are random signs, drawn from NumPy's Philox. With
    ``sharpness`` 1, attention logits have unit spread on tokens without structure.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    attention, rate = random_attention(generator, heads, width, sharpness)
    return Projection(attention, rate, random_values(generator, heads, width, value_width))


def random_attention(
    generator: np.random.Generator, heads: int, width: int, sharpness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Attention vectors int8 [K, D] and rates float32 [K] from a generator."""
    limit = attention_limit(width)
    unit = max(1, limit // 4)
    drawn = generator.standard_normal((heads, width))
    attention = np.clip(np.rint(drawn * unit), -limit, limit).astype(np.int8)
    rate = np.full(heads, sharpness / (unit * TOKEN_UNIT * width**0.5), np.float32)
    return attention, rate


def random_values(
    generator: np.random.Generator, heads: int, width: int, value_width: int
) -> np.ndarray:
    """Value projections of random signs, int8 [K, D, V]."""
    drawn = generator.integers(0, 2, (heads, width, value_width), dtype=np.int8)
    return drawn * np.int8(2) - np.int8(1)


def trained_projection(attention: np.ndarray, values: np.ndarray) -> Projection:
    """The representation of a trained adapter, rounded to integers.

    Args:
        attention: folded attention vectors [H, Q, D] for tokens of unit spread.
        values: value projections [H, D, V].

    The adapter's LayerNorm gain and offset are left out: a linear head behind them absorbs both.
    """
    heads, queries, width = attention.shape
    vectors = np.asarray(attention, np.float64).reshape(heads * queries, width)
    limit = attention_limit(width)
    largest = np.maximum(np.abs(vectors).max(axis=1), SMALLEST)
    rounded = np.rint(vectors * (limit / largest)[:, None]).astype(np.int8)
    rate = (largest / (limit * TOKEN_UNIT)).astype(np.float32)
    features = heads * queries * values.shape[2]
    most = float(np.abs(values).max()) or 1.0
    scaled = np.rint(np.asarray(values, np.float64) * (value_limit(width, features) / most))
    spread = np.repeat(scaled.astype(np.int8), queries, axis=0)
    return Projection(rounded, rate, spread)


def integer_tokens(tokens: np.ndarray) -> Tensor:
    """Tokens [B, T, D] as integers in [-127, 127], held in float32; a function of each sample.

    A sample has one scale for all its tokens (the spread of their bulk becomes `TOKEN_UNIT`), so
    that they keep their relative lengths. A sample of zeros stays zero.

    Some encoders have a few columns with numbers a hundred times those of the others (vision
    transformers do). They would set the scale, and every attention score and feature would be
    theirs. So they count for the scale only up to `CUT` times it, and reach `TOKEN_LIMIT` and no
    further.

    Raises:
        UsageError: a token is not finite, or the shape is not [B, T, D].
    """
    if tokens.ndim != 3:
        raise UsageError(f"Tokens of shape {tokens.shape}.", advice="Give an array [B, T, D].")
    wide = torch.from_numpy(np.array(tokens, order="C")).to(torch.float32)
    largest = wide.abs().amax(dim=(1, 2), keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        raise UsageError("Activations hold values that are not finite.")
    fine = wide.mul_(FINE_LIMIT / largest.clamp(min=SMALLEST)).round_()
    exact = fine.to(torch.float64)
    spread = _root_mean_square(exact)
    for _ in range(CUT_ROUNDS):
        most = (CUT * spread).floor()  # an integer, so that sums stay exact
        spread = _root_mean_square(exact.clamp(-most, most))
    scale = TOKEN_UNIT / spread.clamp(min=SMALLEST)
    return fine.mul_(scale.to(torch.float32)).round_().clamp_(-TOKEN_LIMIT, TOKEN_LIMIT)


def _root_mean_square(integers: Tensor) -> Tensor:
    """Of the integers [B, T, D] of each sample, float64 [B, 1, 1]."""
    squares = (integers * integers).sum(dim=(1, 2), keepdim=True)
    return (squares / (integers.shape[1] * integers.shape[2])).sqrt()


@functools.cache
def weight_table(limit: int) -> Tensor:
    """Integer attention weights by the number of steps behind the best token; ends in a zero.

    Looked up rather than computed, so that no library's exponential decides a bit.
    """
    weights = [limit]
    while weights[-1] > 0:
        weights.append(round(limit * math.exp(-len(weights) / RATE_STEPS)))
    return torch.tensor(weights, dtype=torch.float32)


class Projections:
    """Several projections of one shape, laid out for shared products. Immutable."""

    def __init__(
        self, projections: Sequence[Projection], dtype: torch.dtype = torch.float32
    ) -> None:
        """Stack the projections; ``dtype`` float64 is the slow, safe form.

        Raises:
            RecipeError: there are none, or they differ in shape.
        """
        shapes = {p.shape for p in projections}
        if len(shapes) != 1:
            raise RecipeError("Projections in one stack must share their shape.")
        first = projections[0]
        self.count, self.features, self.width = len(projections), first.features, first.width
        self.dtype, self._heads = dtype, first.heads
        attention = np.concatenate([p.attention for p in projections])
        self._attention = torch.from_numpy(attention).to(dtype)
        self._rate = torch.from_numpy(np.concatenate([p.rate for p in projections]) * RATE_STEPS)
        self._values = torch.from_numpy(np.concatenate([p.values for p in projections])).to(dtype)

    def __call__(self, tokens: np.ndarray) -> Tensor:
        """Integer features, int8 [nodes, B, F], of tokens [B, T, D] in float16 or float32.

        Raises:
            UsageError: the tokens do not fit, are too many per sample, or are not finite.
        """
        self._check(tokens)
        out = torch.empty((self.count, len(tokens), self.features), dtype=torch.int8)
        step = max(1, HEADS_AT_ONCE // self._heads)
        with torch.inference_mode():
            for row in range(0, len(tokens), ROWS_AT_ONCE):
                rows = slice(row, row + ROWS_AT_ONCE)
                whole = integer_tokens(tokens[rows]).to(self.dtype)
                for node in range(0, self.count, step):
                    nodes = slice(node, node + step)
                    out[nodes, rows] = self._round(self._project(whole, nodes))
        return out

    def _check(self, tokens: np.ndarray) -> None:
        if tokens.ndim != 3 or tokens.shape[2] != self.width:
            raise UsageError(
                f"Tokens of shape {tokens.shape} do not fit.",
                advice=f"Give an array of shape [B, T, {self.width}].",
            )
        if weight_limit(tokens.shape[1]) < LEAST_WEIGHT_LIMIT:
            raise UsageError(
                f"{tokens.shape[1]} tokens per sample are too many for exact attention.",
                advice="Choose a layer with fewer tokens.",
            )

    def _project(self, tokens: Tensor, nodes: slice) -> Tensor:
        """Projected values [nodes, B, F] of integer tokens [B, T, D]: exact integers."""
        batch, count, width = tokens.shape
        heads = slice(nodes.start * self._heads, nodes.stop * self._heads)
        scores = tokens.view(batch * count, width) @ self._attention[heads].T
        weights = self._weigh(scores.view(batch, count, -1), self._rate[heads])
        pooled = torch.bmm(weights.transpose(1, 2), tokens)
        total = weights.sum(dim=1).unsqueeze(2)
        pooled.mul_(POOLED_UNIT).div_(total).round_()
        projected = torch.bmm(pooled.transpose(0, 1), self._values[heads])
        projected = projected.view(-1, self._heads, batch, projected.shape[2])
        return projected.transpose(1, 2).flatten(2)

    def _weigh(self, scores: Tensor, rate: Tensor) -> Tensor:
        """Integer attention weights [B, T, K] from integer scores."""
        table = weight_table(weight_limit(scores.shape[1])).to(scores.dtype)
        behind = scores.amax(dim=1, keepdim=True) - scores
        steps = behind.to(torch.float32).mul_(rate).floor_().clamp_(max=len(table) - 1)
        return table.index_select(0, steps.to(torch.int32).view(-1)).view(scores.shape)

    def _round(self, values: Tensor) -> Tensor:
        """Features int8 from projected values: mean zero, spread `FEATURE_UNIT`, rounded."""
        exact = values.to(torch.float64, copy=True)
        total = exact.sum(dim=2, keepdim=True)
        squares = (exact * exact).sum(dim=2, keepdim=True)
        count = self.features
        spread = (squares * count - total * total).clamp(min=0).sqrt()  # count times the spread
        scale = FEATURE_UNIT / spread.clamp(min=SMALLEST)
        rounded = exact.mul_(count).sub_(total).mul_(scale).round_()
        return rounded.clamp_(-FEATURE_LIMIT, FEATURE_LIMIT).to(torch.int8)
