"""Answers: the ensemble of the current generation, without the nodes that are fenced."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from shardgraph.nodes.ensemble import Ensemble
from shardgraph.nodes.weights import NodeWeights, from_bytes
from shardgraph.store import Store, View


@dataclass(frozen=True)
class Answer:
    """Probabilities and where they come from.

    Attributes:
        probabilities: float32 [B, C]; each row sums to one.
        classes: the C labels, sorted: those of the live samples.
        generation: the number of the one generation that answered.
        without: nodes that were fenced and took no part.
    """

    probabilities: np.ndarray
    classes: tuple[str, ...]
    generation: int
    without: frozenset[int]

    @property
    def labels(self) -> list[str]:
        """The most probable label of each row; the first in order where several are equal."""
        return [self.classes[column] for column in self.probabilities.argmax(axis=1)]


@dataclass(frozen=True)
class Snapshot:
    """One generation in memory: its view and an ensemble of the nodes that may answer."""

    view: View
    ensemble: Ensemble

    def answer(self, tokens: np.ndarray) -> Answer:
        """Answer for activations [B, T, D].

        Raises:
            UsageError: no node is left that can answer.
        """
        return Answer(
            probabilities=self.ensemble.predict_proba(tokens),
            classes=self.ensemble.classes,
            generation=self.view.generation,
            without=self.view.fenced,
        )


class Answerer:
    """Answers from a store that others may be changing.

    Before each answer it looks whether the store has changed; then it takes a new snapshot as a
    whole. So an answer never mixes two generations, and no node answers once a request that it
    must forget has been accepted, in this process or another.

    Weights are held in memory, verified against their digests, so erasure cannot reach into an
    answer that is being worked out. An answer that began before a request was accepted may still
    end after it; it carries the number of its generation.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._weights: dict[int, tuple[str, NodeWeights]] = {}

    def snapshot(self) -> Snapshot:
        """The current snapshot, taken anew if the store has changed."""
        with self._lock:
            if self._snapshot is None or self._store.changed(self._snapshot.view):
                view, ensemble = self._store.consistent(self._load)
                self._snapshot = Snapshot(view, ensemble)
            return self._snapshot

    def _load(self, view: View) -> Ensemble:
        held: dict[int, tuple[str, NodeWeights]] = {}
        for node, digest in sorted(view.nodes.items()):
            known = self._weights.get(node)
            if node in view.fenced:
                continue
            if known is None or known[0] != digest:
                known = digest, from_bytes(node, self._store.read("nodes", node, digest))
            held[node] = known
        self._weights = held
        return Ensemble([weights for _, weights in held.values()], view.labels())
