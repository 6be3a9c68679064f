"""The simple rivals: closed forms, neighbours and a linear probe on pooled activations.

They see one vector per sample: the mean of its tokens, of unit spread, rounded to integers. Sums of
integers can be taken back exactly (as in `shardgraph.nodes.tally`), so ridge regression and class
means forget a sample for the price of one subtraction, which is kinder to them than the usual
retraining. The linear probe is retrained from scratch, as most people do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from shardgraph.bench.data import Part
from shardgraph.bench.methods.protocol import Guarantee, Work, class_list, class_numbers
from shardgraph.identity import digest_bytes

UNIT, LIMIT = 64, 2047
"""The integer that stands for one standard deviation, and the largest one."""

ROWS_AT_ONCE = 256


def pooled(tokens: np.ndarray, feature: str) -> np.ndarray:
    """Integers, held in float64 [B, D], of activations [B, T, D]; a function of each row.

    ``feature`` is ``mean``, the mean of the tokens, or ``root``, its signed square root.
    """
    found = np.empty((len(tokens), tokens.shape[2]))
    for start in range(0, len(tokens), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        found[rows] = np.asarray(tokens[rows], np.float32).mean(axis=1)
    if feature == "root":
        found = np.sign(found) * np.sqrt(np.abs(found))
    spread = np.sqrt((found**2).mean(axis=1, keepdims=True))
    scaled = np.rint(found * (UNIT / np.maximum(spread, 1e-30)))
    clipped: np.ndarray = np.clip(scaled, -LIMIT, LIMIT)
    return clipped


class PooledModel(ABC):
    """Live samples as pooled integers. Kinds differ in what they keep beside them."""

    def __init__(self, train: Part, live: np.ndarray, feature: str) -> None:
        self._feature = feature
        self.classes = class_list(train)
        self.live = np.sort(np.asarray(live, np.int64))
        self.features = pooled(train.tokens, feature)
        self.targets = class_numbers(train)

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """Scores. One model that saw every sample cannot answer while it forgets one."""
        found = self.scores(pooled(tokens, self._feature))
        return [None if len(fence) else found for fence in fences]

    def forget(self, rows: Sequence[int]) -> Work:
        """Remove rows from what is live, then from the model."""
        self.live = np.setdiff1d(self.live, rows)
        return self.remove(np.asarray(rows, np.int64))

    def digest(self) -> str:
        """Over the arrays that decide the scores."""
        return digest_bytes(b"".join(np.ascontiguousarray(part).tobytes() for part in self.state()))

    @abstractmethod
    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores [B, C] of pooled features [B, D]."""

    @abstractmethod
    def remove(self, rows: np.ndarray) -> Work:
        """Bring the model up to date after ``rows`` have left the live ones."""

    @abstractmethod
    def state(self) -> Sequence[np.ndarray]:
        """What decides the scores."""


class RidgeModel(PooledModel):
    """Ridge regression to one-hot targets, from exact sums; targets and features centred."""

    def __init__(self, train: Part, live: np.ndarray, feature: str, strength: float) -> None:
        super().__init__(train, live, feature)
        self._strength = strength
        x, y = self._rows(self.live)
        self._gram, self._moment = x.T @ x, x.T @ y
        self._solve()

    def _rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features with a one behind them, and one-hot targets, of some rows."""
        x = np.hstack([self.features[rows], np.ones((len(rows), 1))])
        return x, np.eye(len(self.classes))[self.targets[rows]]

    def _solve(self) -> None:
        count = self._gram[-1, -1]
        mean, share = self._gram[-1, :-1] / count, self._moment[-1] / count
        scatter = self._gram[:-1, :-1] - count * np.outer(mean, mean)
        scatter += self._strength * UNIT**2 * np.eye(len(scatter))
        self._weight = np.linalg.solve(scatter, self._moment[:-1] - count * np.outer(mean, share))
        self._bias = share - mean @ self._weight

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Regressed targets."""
        found: np.ndarray = features @ self._weight + self._bias
        return found

    def remove(self, rows: np.ndarray) -> Work:
        """Subtract and solve again."""
        x, y = self._rows(rows)
        self._gram, self._moment = self._gram - x.T @ x, self._moment - x.T @ y
        self._solve()
        return Work(len(rows), len(rows))

    def state(self) -> Sequence[np.ndarray]:
        """Sums, and what follows from them."""
        return self._gram, self._moment, self._weight, self._bias


class MeansModel(PooledModel):
    """The nearest class mean, by cosine."""

    def __init__(self, train: Part, live: np.ndarray, feature: str) -> None:
        super().__init__(train, live, feature)
        self._sums = np.zeros((len(self.classes), self.features.shape[1]))
        np.add.at(self._sums, self.targets[self.live], self.features[self.live])

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Cosines with the class sums; a class without samples has the lowest."""
        found: np.ndarray = _unit(features) @ _unit(self._sums).T
        found[:, ~self._sums.any(axis=1)] = -1
        return found

    def remove(self, rows: np.ndarray) -> Work:
        """Subtract."""
        np.subtract.at(self._sums, self.targets[rows], self.features[rows])
        return Work(len(rows), len(rows))

    def state(self) -> Sequence[np.ndarray]:
        """The class sums."""
        return (self._sums,)


class NeighboursModel(PooledModel):
    """k nearest neighbours by cosine, voting with the exponential of their similarity."""

    def __init__(
        self, train: Part, live: np.ndarray, feature: str, k: int, temperature: float
    ) -> None:
        super().__init__(train, live, feature)
        self._k, self._temperature = k, temperature

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Votes per class."""
        near = _unit(features) @ _unit(self.features[self.live]).T
        k = min(self._k, near.shape[1])
        best = np.argsort(-near, axis=1, kind="stable")[:, :k]
        weight = np.exp((np.take_along_axis(near, best, axis=1) - 1) / self._temperature)
        found = np.zeros((len(features), len(self.classes)))
        columns = self.targets[self.live][best]
        np.add.at(found, (np.arange(len(features))[:, None], columns), weight)
        return found

    def remove(self, rows: np.ndarray) -> Work:
        """Nothing is left to do: the samples are the model."""
        return Work(len(rows), 0)

    def state(self) -> Sequence[np.ndarray]:
        """The live samples."""
        return self.live, self.features[self.live], self.targets[self.live]


class ProbeModel(PooledModel):
    """A linear softmax classifier by L-BFGS, retrained from scratch at every deletion."""

    def __init__(
        self, train: Part, live: np.ndarray, feature: str, inverse_strength: float, most: int
    ) -> None:
        super().__init__(train, live, feature)
        self._inverse, self._most = inverse_strength, most
        self._train()

    def _train(self) -> int:
        """Fit on the live rows; the iterations that took."""
        model = LogisticRegression(C=self._inverse, max_iter=self._most, tol=1e-3)
        model.fit(self.features[self.live] / UNIT, self.targets[self.live])
        self._model = model
        return int(model.n_iter_[0])

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Probabilities; zero for classes without live samples."""
        found = np.zeros((len(features), len(self.classes)))
        found[:, self._model.classes_] = self._model.predict_proba(features / UNIT)
        return found

    def remove(self, rows: np.ndarray) -> Work:  # noqa: ARG002 - the live rows say it all
        """Train again."""
        iterations = self._train()
        return Work(len(self.live), len(self.live) * iterations)

    def state(self) -> Sequence[np.ndarray]:
        """Classes and weights."""
        return self._model.classes_, self._model.coef_, self._model.intercept_


@dataclass(frozen=True)
class Pooled:
    """A pooled method: ``build`` fits it on the live rows of a part."""

    build: Callable[[Part, np.ndarray], PooledModel]

    @property
    def guarantee(self) -> Guarantee:
        """A deletion leaves the bytes of a fresh fit."""
        return "refit"

    def fit(self, train: Part, live: np.ndarray) -> PooledModel:
        """Pool and fit."""
        return self.build(train, live)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.maximum(length, 1e-30)
    return scaled
