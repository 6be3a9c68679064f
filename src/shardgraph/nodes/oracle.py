"""The plain, unfolded adapter: the slow form that the folded one is compared with.

Ordinary multi-head cross-attention with its own query, key and value projections, one node at a
time, as one would write it from the papers. Nothing else in shardgraph uses it: tests compare
forward values, gradients and trained results with it, and a benchmark compares speed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shardgraph.nodes.adapter import NORM_EPSILON, Adapter, Head, Projection


class PlainAdapter(nn.Module):
    """Multi-head cross-attention of learned queries to tokens, LayerNorm, linear head.

    Args:
        width: floats per token, D.
        classes: number of classes, C.
        heads: attention heads, H.
        queries: learned queries, Q; for ``open-inca`` it must equal ``classes``.
        value_width: floats per head behind the value projection, V.
        key_width: floats per head in which queries and keys are compared, E.
        kind: ``inca`` (linear head over all queries) or ``open-inca`` (diagonal head).
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        heads: int,
        queries: int,
        value_width: int,
        key_width: int,
        kind: str = "inca",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.heads = heads
        self.query_tokens = nn.Parameter(torch.randn(queries, width))
        self.to_query = nn.Linear(width, heads * key_width, bias=False)
        self.to_key = nn.Linear(width, heads * key_width, bias=False)
        self.to_value = nn.Linear(width, heads * value_width, bias=False)
        diagonal = kind == "open-inca"
        inner = heads * value_width * (1 if diagonal else queries)
        self.norm = nn.LayerNorm(inner, eps=NORM_EPSILON)
        self.head = nn.Linear(inner, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class scores [B, C] for normalised tokens [B, T, D]."""
        queries = self._split(self.to_query(self.query_tokens)[None])  # [1, H, Q, E]
        keys = self._split(self.to_key(tokens))  # [B, H, T, E]
        values = self._split(self.to_value(tokens))  # [B, H, T, V]
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
        mixed = torch.softmax(scores, dim=-1) @ values  # [B, H, Q, V]
        mixed = mixed.transpose(1, 2).flatten(2)  # [B, Q, H*V]
        if self.kind == "open-inca":
            diagonal: Tensor = (self.norm(mixed) * self.head.weight).sum(dim=-1) + self.head.bias
            return diagonal
        linear: Tensor = self.head(self.norm(mixed.flatten(1)))
        return linear

    def _split(self, projected: Tensor) -> Tensor:
        """[B, N, H*E] as [B, H, N, E]."""
        batch, count, _ = projected.shape
        return projected.view(batch, count, self.heads, -1).transpose(1, 2)

    def folded(self) -> Adapter:
        """The same function as a stack of one folded adapter.

        Differentiable: gradients of the folded parameters flow back into the plain ones, which
        is the chain rule that the tests check. Widths are not padded; choose D and C as
        multiples of `recipe.LANE` to train the result.
        """
        width = self.query_tokens.shape[1]
        queries = self._split(self.to_query(self.query_tokens)[None])[0]  # [H, Q, E]
        keys = self.to_key.weight.view(self.heads, -1, width)  # [H, E, D]
        attention = queries @ keys / math.sqrt(keys.shape[1])
        values = self.to_value.weight.view(self.heads, -1, width).transpose(1, 2)
        diagonal = self.kind == "open-inca"
        weight = self.head.weight if diagonal else self.head.weight.T
        return Adapter(
            self.kind,
            Projection(
                attention[None],
                values[None],
                self.norm.weight[None, None],
                self.norm.bias[None, None],
            ),
            Head(weight[None], self.head.bias[None, None]),
        )

    @classmethod
    def unfolded(cls, adapter: Adapter) -> PlainAdapter:
        """A plain adapter that computes what a stack of one folded adapter does.

        The fold has many inverses. In this one, query i is the i-th unit vector, the query
        projection hands it on unchanged, and the keys hold the folded vectors.

        Raises:
            ValueError: the stack has several nodes, or more queries than floats per token.
        """
        nodes, heads, queries, width = adapter.projection.attention.shape
        if nodes != 1 or queries > width:
            raise ValueError("Only one node with no more queries than token width is unfolded.")
        weight = adapter.head.weight[0]
        plain = cls(
            width,
            adapter.head.bias.shape[-1],
            heads=heads,
            queries=queries,
            value_width=adapter.projection.values.shape[-1],
            key_width=queries,
            kind=adapter.kind,
        )
        vectors = adapter.projection.attention[0].flatten(0, 1) * math.sqrt(queries)
        with torch.no_grad():
            plain.query_tokens.copy_(torch.eye(queries, width))
            plain.to_query.weight.copy_(torch.eye(queries, width).repeat(heads, 1))
            plain.to_key.weight.copy_(vectors)
            plain.to_value.weight.copy_(adapter.projection.values[0].transpose(1, 2).flatten(0, 1))
            plain.norm.weight.copy_(adapter.projection.gain[0, 0])
            plain.norm.bias.copy_(adapter.projection.offset[0, 0])
            plain.head.weight.copy_(weight if adapter.kind == "open-inca" else weight.T)
            plain.head.bias.copy_(adapter.head.bias[0, 0])
        return plain
