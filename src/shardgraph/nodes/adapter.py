"""The folded InCA adapter: attention over tokens, value projection, LayerNorm, linear head.

A learned query that does not depend on the input lets the key projection fold into the query,
``u = W_k W_q^T q / sqrt(d)``, and the value projection move behind the pooling (cross-attention
as in InCA, arXiv 2303.04105; the fold is exact and `shardgraph.nodes.oracle` is its proof)::

    a = softmax(z u)          over the tokens of one sample
    v = concat_h (a_h^T z) W_h
    f = LayerNorm(v) * gain + offset
    logits = f W + b

Everything here works on a *stack*: several nodes of equal shape, along a first axis. Stacked
matrix products go through ``bmm`` only, and per-node vectors are spread over rows by ``bmm``
with ones, because the gradient of such a product is again a product per node: plain broadcasting
leaves the order of its gradient's sum to the shape of the whole stack. No product is one with a
vector (`_spread`).

Widths are padded: the token width D and the class count to multiples of `LANE`. Padded token
columns are zero, padded classes have bias `ABSENT`; neither ever gets a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shardgraph.nodes.projection import CUT, CUT_ROUNDS, TOKEN_LIMIT, TOKEN_UNIT
from shardgraph.nodes.recipe import LANE, Recipe

ABSENT = -1e4
"""Bias of a padded class: its probability is exactly zero in float32."""

NORM_EPSILON = 1e-5
"""Added to the variance in every LayerNorm."""

TINY = 1e-20
"""Samples shorter than this count as zero."""

MOST = TOKEN_LIMIT / TOKEN_UNIT
"""Largest entry of a token, in spreads: what the integers of a tally go up to."""

BROADEST, SHARPEST = 1.0, 4.0
"""Spread of the first and the last head's scores at the start; the others lie between."""


@dataclass(frozen=True, slots=True)
class Projection:
    """From tokens to features, for g stacked nodes with H heads and Q queries per head.

    Attributes:
        attention: [g, H, Q, D], folded attention vectors.
        values: [g, H, D, V], value projection of each head.
        gain: [g, 1, F], LayerNorm gain, with F = Q*H*V (``inca``) or H*V (``open-inca``).
        offset: [g, 1, F], LayerNorm offset.
    """

    attention: Tensor
    values: Tensor
    gain: Tensor
    offset: Tensor


@dataclass(frozen=True, slots=True)
class Head:
    """From features to logits.

    Attributes:
        weight: [g, F, C] (``inca``), or [g, C, F] (``open-inca``, the diagonal head).
        bias: [g, 1, C]; `ABSENT` for padded classes.
    """

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """A stack of g adapters of one kind."""

    kind: str
    projection: Projection
    head: Head

    def tensors(self) -> dict[str, Tensor]:
        """All parameters by name, in a fixed order."""
        parts = (self.projection, self.head)
        return {field.name: getattr(part, field.name) for part in parts for field in fields(part)}

    @classmethod
    def of(cls, kind: str, tensors: Mapping[str, Tensor]) -> Adapter:
        """The adapter that `tensors` came from."""
        projection = Projection(**{f.name: tensors[f.name] for f in fields(Projection)})
        return cls(kind, projection, Head(**{f.name: tensors[f.name] for f in fields(Head)}))


def padded(size: int) -> int:
    """``size`` rounded up to a multiple of `LANE`."""
    return -(-size // LANE) * LANE


def normalise_tokens(tokens: Tensor, width: int, *, out: Tensor | None = None) -> Tensor:
    """Tokens [..., T, D], each sample scaled to unit spread over its T*width entries and cut.

    The tokens of one sample keep their relative lengths, which say where its subject is: scaling
    each token by itself cost up to eight points of accuracy on small shards. The spread is that of
    their bulk, as in `shardgraph.nodes.projection.integer_tokens`: entries count for it only up to
    `CUT` times it, and end at `MOST`. The few columns of vision transformers with numbers a
    hundred times those of the others would set the scale otherwise, and adapters of small shards
    hardly learn from the rest.

    A sample of zeros stays zero. ``width`` is the number of columns that are not padding; ``out``
    may be ``tokens``.
    """
    spread = _root_mean_square(tokens, width)
    for _ in range(CUT_ROUNDS):
        most = CUT * spread
        spread = _root_mean_square(tokens.clamp(-most, most), width)
    return torch.mul(tokens, 1 / spread.clamp_min(TINY), out=out).clamp_(-MOST, MOST)


def _root_mean_square(tokens: Tensor, width: int) -> Tensor:
    """Of the entries of each sample [..., T, D] but its padding, which is zero: [..., 1, 1]."""
    length: Tensor = torch.linalg.vector_norm(tokens.flatten(-2), dim=-1)[..., None, None]
    return length / math.sqrt(tokens.shape[-2] * width)


def features(projection: Projection, tokens: Tensor) -> Tensor:
    """Pooled, projected, LayerNormed features [g, B, F] of the kind ``inca``.

    ``tokens`` come from `normalise_tokens` and are [B, T, D], the same for every node (one
    product over all nodes' attention vectors), or [g, B, T, D], each node's own.
    """
    return _layer_norm(_attend(projection, tokens).flatten(2), projection)


def class_features(projection: Projection, tokens: Tensor) -> Tensor:
    """Features [g, B, C, F] of the kind ``open-inca``: one query and one feature per class."""
    attended = _attend(projection, tokens)
    return _layer_norm(attended.flatten(1, 2), projection).reshape(attended.shape)


def logits(adapter: Adapter, tokens: Tensor) -> Tensor:
    """Class scores [g, B, C] for normalised tokens [B, T, D] or [g, B, T, D]."""
    head = adapter.head
    if adapter.kind == "open-inca":
        per_class = class_features(adapter.projection, tokens).transpose(1, 2).flatten(0, 1)
        # A column of zeros keeps it a product of matrices, see `_spread`.
        weight = functional.pad(head.weight.flatten(0, 1).unsqueeze(2), (0, 1))
        scores = torch.bmm(per_class, weight)[:, :, 0]
        scores = scores.view(*head.weight.shape[:2], -1).transpose(1, 2)
    else:
        scores = torch.bmm(features(adapter.projection, tokens), head.weight)
    return scores + _spread(head.bias, scores.shape[1])


def _attend(projection: Projection, tokens: Tensor) -> Tensor:
    """Attention and value projection: [g, B, Q, H*V]."""
    nodes, heads, queries, width = projection.attention.shape
    batch = tokens.shape[-3]
    vectors = projection.attention.reshape(nodes, heads * queries, width)
    pooled = _pool_shared(vectors, tokens) if tokens.dim() == 3 else _pool_own(vectors, tokens)
    pooled = pooled.view(nodes, batch, heads, queries, width).permute(0, 2, 1, 3, 4)
    pooled = pooled.reshape(nodes * heads, batch * queries, width)
    projected = torch.bmm(pooled, projection.values.flatten(0, 1))
    projected = projected.view(nodes, heads, batch, queries, -1).permute(0, 2, 3, 1, 4)
    return projected.flatten(3)


def _pool_own(vectors: Tensor, tokens: Tensor) -> Tensor:
    """Attention-pooled tokens [g, B, K, D] for vectors [g, K, D] and tokens [g, B, T, D]."""
    nodes, batch, count, width = tokens.shape
    scores = torch.bmm(vectors, tokens.view(nodes, batch * count, width).transpose(1, 2))
    weights = torch.softmax(scores.view(nodes, -1, batch, count), dim=-1)
    weights = weights.transpose(1, 2).reshape(nodes * batch, -1, count)
    pooled = torch.bmm(weights, tokens.view(nodes * batch, count, width))
    return pooled.view(nodes, batch, -1, width)


def _pool_shared(vectors: Tensor, tokens: Tensor) -> Tensor:
    """Attention-pooled tokens [g, B, K, D] for vectors [g, K, D] and tokens [B, T, D]."""
    nodes, per_node, width = vectors.shape
    batch, count, _ = tokens.shape
    scores = vectors.reshape(nodes * per_node, width) @ tokens.reshape(batch * count, width).T
    weights = torch.softmax(scores.view(-1, batch, count), dim=-1).transpose(0, 1)
    pooled = torch.bmm(weights, tokens)
    return pooled.view(batch, nodes, per_node, width).transpose(0, 1)


def _layer_norm(values: Tensor, projection: Projection) -> Tensor:
    """LayerNorm over the last axis of [g, rows, F], with each node's gain and offset."""
    rows = values.shape[1]
    normalised = functional.layer_norm(values, values.shape[-1:], eps=NORM_EPSILON)
    return normalised * _spread(projection.gain, rows) + _spread(projection.offset, rows)


def _spread(vector: Tensor, rows: int) -> Tensor:
    """[g, 1, F] repeated over rows to [g, rows, F], by a product (see the module's docstring).

    A row of zeros goes with the vector, so that its gradient is a product of matrices: a product
    with a vector goes to another kernel, with other bits, where a stack holds one node (MKL
    2024.2 on AVX-512 with AMX).
    """
    beside = functional.pad(vector, (0, 0, 0, 1))
    return torch.bmm(vector.new_ones(vector.shape[0], rows, 2), beside)


def initialise(recipe: Recipe, seed: int, width: int, classes: int) -> dict[str, np.ndarray]:
    """Unpadded start values of one node, by name, without the stack axis (float32).

    A function of the arguments alone: drawn from a generator of its own (NumPy's Philox). Heads
    differ in sharpness, from attending to most tokens to attending to few. Projected values have
    unit spread; head and offset start at zero.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    per_class = recipe.kind == "open-inca"
    queries = classes if per_class else recipe.queries
    inner = recipe.heads * recipe.value_width * (1 if per_class else queries)
    scale = 1 / math.sqrt(width)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    sharpness = np.geomspace(BROADEST, SHARPEST, recipe.heads).astype(np.float32)
    return {
        "attention": normal(recipe.heads, queries, width) * sharpness[:, None, None],
        "values": normal(recipe.heads, width, recipe.value_width),
        "gain": np.ones((1, inner), np.float32),
        "offset": np.zeros((1, inner), np.float32),
        "weight": np.zeros((classes, inner) if per_class else (inner, classes), np.float32),
        "bias": np.zeros((1, classes), np.float32),
    }


def _padding(kind: str, width: int, classes: int) -> dict[str, tuple[int, int]]:
    """Columns and rows to add to each array: (last axis, axis before it)."""
    more, lanes = padded(classes) - classes, padded(width) - width
    per_class = kind == "open-inca"
    return {
        "attention": (lanes, more if per_class else 0),
        "values": (0, lanes),
        "weight": (0, more) if per_class else (more, 0),
        "bias": (more, 0),
    }


def stack(kind: str, nodes: Sequence[Mapping[str, np.ndarray]]) -> Adapter:
    """Unpadded arrays of several nodes (as from `initialise`) as one padded stack.

    The nodes must agree in every shape but the class count, and in the padded class count.
    """
    stacked: dict[str, Tensor] = {}
    for name, first in nodes[0].items():
        width, classes = nodes[0]["attention"].shape[-1], nodes[0]["bias"].shape[-1]
        last, before = _padding(kind, width, classes).get(name, (0, 0))
        room = (*first.shape[:-2], first.shape[-2] + before, first.shape[-1] + last)
        rows = np.full((len(nodes), *room), ABSENT if name == "bias" else 0, np.float32)
        for row, arrays in zip(rows, nodes, strict=True):
            row[tuple(map(slice, arrays[name].shape))] = arrays[name]
        stacked[name] = torch.from_numpy(rows)
    return Adapter.of(kind, stacked)


def unstack(adapter: Adapter, node: int, width: int, classes: int) -> dict[str, np.ndarray]:
    """Arrays of one node of a stack, unpadded, as `stack` took them (copies)."""
    result = {}
    for name, tensor in adapter.tensors().items():
        array = tensor[node].detach()
        last, before = _padding(adapter.kind, width, classes).get(name, (0, 0))
        array = array[..., : array.shape[-2] - before, : array.shape[-1] - last]
        result[name] = array.contiguous().numpy().copy()
    return result
