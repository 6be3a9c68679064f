"""What a method must be able to do to be compared.

A new method is a class with ``fit`` in a file of its family, and an entry in the catalogue; the
tests in ``tests/bench/test_conformance.py`` take every method of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from shardgraph.bench.data import Part
from shardgraph.nodes.ensemble import combine

Guarantee = Literal["refit", "removed"]
"""What holds after `Model.forget`.

- ``refit``: the model has the digest of one fitted from scratch on the samples that are left.
- ``removed``: nothing computed from the sample answers any more, but the model differs from one
  fitted on what is left: it depends on the order of the deletions.
"""

BATCH = 256
"""Rows that are predicted at one time."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a deletion took, counted while it ran.

    Attributes:
        samples: samples that models which changed went through, once per model.
        passes: visits of one sample by one light model: every epoch of a training counts, and a
            sample that is only tallied, averaged or subtracted counts once. A visit with a
            gradient costs a few times one without; the measured seconds tell them apart.
    """

    samples: int = 0
    passes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.samples + other.samples, self.passes + other.passes)


class Model(Protocol):
    """A method fitted on the live rows of a training part."""

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """For each fence, probabilities or scores [B, C] over the classes of the training part.

        A fence is the rows that are just being forgotten: the answer is that of the parts of the
        model that never saw them, which may be given at once, exactly, while the rest is brought
        up to date; None if there are none. An empty fence asks the whole model.
        """
        ...

    def forget(self, rows: Sequence[int]) -> Work:
        """Remove live rows, given by their number in the training part; changes the model."""
        ...

    def digest(self) -> str:
        """SHA-256 of all that decides its predictions."""
        ...


class Method(Protocol):
    """A way to fit a model that can forget. Immutable."""

    @property
    def guarantee(self) -> Guarantee:
        """What holds after a deletion."""
        ...

    def fit(self, train: Part, live: np.ndarray) -> Model:
        """Fit on the rows ``live`` of ``train``; a function of the arguments and settings alone."""
        ...


def predict(model: Model, tokens: np.ndarray, forgetting: Sequence[int] = ()) -> np.ndarray | None:
    """One answer, see `Model.answers`."""
    return model.answers(tokens, [forgetting])[0]


def combined(
    ask: Callable[[np.ndarray], np.ndarray],
    known: np.ndarray,
    tokens: np.ndarray,
    kept: Sequence[Sequence[int]],
    vote: str = "combine",
) -> list[np.ndarray | None]:
    """Answers of several choices of nodes from one pass over the tokens.

    Args:
        ask: what every node says, [nodes, b, C] for tokens [b, T, D].
        known: bool [nodes, C], which classes each node knows.
        tokens: [B, T, D].
        kept: the nodes of each choice.
        vote: ``combine``, the package's rule, or ``mean`` of the nodes' probabilities.
    """
    blocks: list[list[np.ndarray]] = [[] for _ in kept]
    for start in range(0, len(tokens), BATCH):
        said = ask(tokens[start : start + BATCH])
        for found, nodes in zip(blocks, kept, strict=True):
            if vote == "mean" and nodes:
                found.append(said[nodes].mean(axis=0))
            elif nodes:
                found.append(combine(said[nodes], known[nodes]))
    return [np.concatenate(found) if found else None for found in blocks]


def class_list(train: Part) -> tuple[str, ...]:
    """The columns of predictions: the sorted labels of all rows, live or not."""
    return tuple(sorted({sample.label for sample in train.samples}))


def class_numbers(train: Part) -> np.ndarray:
    """The column of each row's label, int64 [N]."""
    number = {label: column for column, label in enumerate(class_list(train))}
    return np.array([number[sample.label] for sample in train.samples], np.int64)
