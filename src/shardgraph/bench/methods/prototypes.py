"""ProtoSISA: isolated shards with class-mean prototypes mixed into their answer.

The prototypes are means over **all** live samples, so they bring back some of what shards lose of
each other, and forget a sample by subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.bench.data import Part
from shardgraph.bench.methods.pooled import MeansModel
from shardgraph.bench.methods.protocol import Guarantee, Model, Work
from shardgraph.bench.methods.sharded import Sharded
from shardgraph.identity import digest_json


@dataclass(frozen=True)
class ProtoSisa:
    """SISA and prototypes.

    Attributes:
        sisa: the isolated shards.
        share: weight of the prototypes in the answer, 0 to 1.
        temperature: of the softmax over cosines with the prototypes.
        feature: of the prototypes, see `pooled`.
    """

    sisa: Sharded
    share: float
    temperature: float
    feature: str = "root"

    @property
    def guarantee(self) -> Guarantee:
        """A deletion leaves the bytes of a fresh fit."""
        return "refit"

    def fit(self, train: Part, live: np.ndarray) -> ProtoSisaModel:
        """Fit both."""
        parts = self.sisa.fit(train, live), MeansModel(train, live, self.feature)
        return ProtoSisaModel(self, *parts)


class ProtoSisaModel:
    """Shards and prototypes of the same samples."""

    def __init__(self, method: ProtoSisa, shards: Model, prototypes: MeansModel) -> None:
        self._method, self._shards, self._prototypes = method, shards, prototypes

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """Both mixed; behind a fence, the shards that did not hold the rows answer alone."""
        said = self._shards.answers(tokens, fences)
        near = self._prototypes.answers(tokens, fences)
        share, temperature = self._method.share, self._method.temperature
        return [
            one if one is None or other is None else mix(one, other, share, temperature)
            for one, other in zip(said, near, strict=True)
        ]

    def forget(self, rows: Sequence[int]) -> Work:
        """Refit the shards that held the rows; subtract the rows from the prototypes."""
        return self._shards.forget(rows) + self._prototypes.forget(rows)

    def digest(self) -> str:
        """Over the digests of both."""
        return digest_json([self._shards.digest(), self._prototypes.digest()])


def mix(said: np.ndarray, cosines: np.ndarray, share: float, temperature: float) -> np.ndarray:
    """Probabilities [B, C] mixed with a softmax over cosines [B, C]."""
    scores = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
    mixed: np.ndarray = (1 - share) * said + share * scores / scores.sum(axis=1, keepdims=True)
    return mixed
