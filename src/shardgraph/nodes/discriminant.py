"""Attention vectors in closed form, from the tokens of what a node reads.

Tokens that tell classes apart should get the attention. From the tokens of the samples that a
node reads, take the scatter of class mean tokens S_b and the scatter of tokens around them S_w,
shrunk towards the identity. The leading directions u of S_w^-1 S_b (Fisher's discriminants), each
with both signs, become attention vectors. No gradient descent: one pass over the tokens and one
small eigenproblem.

C classes give at most C - 1 directions, and one image or one class gives none; the remaining
attention vectors are random, as in `projection.random_projection`, and so is the value
projection. Sums over tokens are exact integers; the eigenproblem is solved in float64 and its
result rounded to integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shardgraph import runtime
from shardgraph.errors import RecipeError, UsageError
from shardgraph.nodes.projection import (
    EXACT_FLOAT64,
    ROWS_AT_ONCE,
    TOKEN_LIMIT,
    Projection,
    attention_limit,
    integer_tokens,
    random_attention,
    random_values,
)
from shardgraph.nodes.tokens import TokenRows

SHRINKAGE = 0.5
"""Share of the identity in the shrunk scatter within classes."""

LEAST_STRENGTH = 1e-6
"""Directions in which class means spread less than this share of the scatter are not used."""


def discriminant_projection(
    seed: int,
    rows: TokenRows,
    labels: Sequence[str],
    *,
    heads: int,
    value_width: int,
    sharpness: float,
) -> Projection:
    """The projection of a node that reads ``rows``: a function of the arguments alone.

    ``sharpness`` is the spread of attention logits over the tokens that the node reads. The bits
    depend on the order of neither samples nor nodes; like a fit, they may depend on the machine,
    though rounding hides most differences. With no samples the projection is a random one.

    Raises:
        RecipeError: ``heads`` is odd.
        UsageError: rows and labels differ in number, or are too many for exact sums.
    """
    if heads % 2:
        raise RecipeError("Discriminant attention comes in pairs: give an even number of heads.")
    if len(rows) != len(labels):
        raise UsageError(f"There are {len(rows)} samples but {len(labels)} labels.")
    generator = np.random.Generator(np.random.Philox(seed))
    attention, rate = random_attention(generator, heads, rows.width, sharpness)
    values = random_values(generator, heads, rows.width, value_width)
    with runtime.pinned_threads(), torch.inference_mode():
        found, speeds = _directions(rows, labels, heads // 2)
        runtime.require_pinned()
    pairs = len(found)
    attention[: 2 * pairs : 2], attention[1 : 2 * pairs : 2] = found, -found
    rate[: 2 * pairs] = np.repeat(sharpness * speeds, 2)
    return Projection(attention, rate, values)


def _directions(rows: TokenRows, labels: Sequence[str], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``most`` integer directions, int8 [k, D], and one over their scores' spread."""
    gram, sums, counts = _token_sums(rows, labels)
    if len(counts) < 2:
        return np.zeros((0, rows.width), np.int8), np.zeros(0)
    total = counts.sum()
    mean = sums.sum(dim=0, keepdim=True) / total
    within = (gram - (sums / counts).T @ sums) / total
    toward = (sums / counts - mean) * (counts / total).sqrt()
    level = float(within.trace()) / rows.width
    if level <= 0:
        return np.zeros((0, rows.width), np.int8), np.zeros(0)
    shrunk = within * (1 - SHRINKAGE) + torch.eye(rows.width, dtype=gram.dtype) * SHRINKAGE * level
    vectors = _rounded(_leading(shrunk, toward, most))
    wide = vectors.to(torch.float64)
    centred = gram / total - mean.T @ mean
    spread = ((wide @ centred) * wide).sum(dim=1).clamp(min=1.0).sqrt()
    return vectors.numpy(), (1 / spread).numpy()


def _leading(within: Tensor, toward: Tensor, most: int) -> Tensor:
    """Leading eigenvectors of within^-1 toward^T toward, [k, D], k at most ``most``."""
    factor = torch.linalg.cholesky(within)
    whitened = torch.linalg.solve_triangular(factor, toward.T, upper=False)
    strengths, vectors = torch.linalg.eigh(whitened @ whitened.T)
    strengths, vectors = strengths.flip(0), vectors.flip(1)
    count = min(most, int((strengths > LEAST_STRENGTH).sum()))
    found = torch.linalg.solve_triangular(factor.T, vectors[:, :count], upper=True)
    rows: Tensor = found.T
    return rows


def _rounded(vectors: Tensor) -> Tensor:
    """Each row scaled to the largest integers allowed, its largest entry positive; int8."""
    place = vectors.abs().argmax(dim=1, keepdim=True)
    limit = attention_limit(vectors.shape[1])
    return torch.round(vectors * (limit / vectors.gather(1, place))).to(torch.int8)


def _token_sums(rows: TokenRows, labels: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Exact sums of z z^T [D, D], of z per class [C, D], and tokens per class [C, 1]; float64."""
    if len(labels) * rows.tokens * TOKEN_LIMIT**2 >= EXACT_FLOAT64:
        raise UsageError("A node reads more tokens than can be summed exactly.")
    number = {label: i for i, label in enumerate(sorted(set(labels)))}
    targets = torch.tensor([number[label] for label in labels], dtype=torch.int64)
    gram = torch.zeros((rows.width, rows.width), dtype=torch.float64)
    sums = torch.zeros((len(number), rows.width), dtype=torch.float64)
    for begin in range(0, len(labels), ROWS_AT_ONCE):
        places = np.arange(begin, min(begin + ROWS_AT_ONCE, len(labels)))
        tokens = integer_tokens(rows.gather(places)).to(torch.float64)
        flat = tokens.flatten(0, 1)
        gram += flat.T @ flat
        sums.index_add_(0, targets[begin : begin + ROWS_AT_ONCE], tokens.sum(dim=1))
    counts = torch.bincount(targets, minlength=len(number)).unsqueeze(1) * rows.tokens
    return gram, sums, counts.to(torch.float64)
