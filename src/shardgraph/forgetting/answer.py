"""Answers: the ensemble of the current generation, without the nodes that are fenced."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.forgetting.reading import NodeCache, StoreReader
from shardgraph.nodes.closed_form import solve_all
from shardgraph.nodes.mixed import MixedEnsemble, TalliedNode
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.weights import NodeWeights
from shardgraph.store import Store, View

Member = NodeWeights | TalliedNode
"""A node in memory, as the ensemble takes it."""


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
    ensemble: MixedEnsemble

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
        self.cache = NodeCache()
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._members: dict[int, tuple[tuple[str | None, ...], Member]] = {}

    def snapshot(self) -> Snapshot:
        """The current snapshot, taken anew if the store has changed."""
        with self._lock:
            if self._snapshot is None or self._store.changed(self._snapshot.view):
                view, ensemble = self._store.consistent(self._load)
                self._snapshot = Snapshot(view, ensemble)
            return self._snapshot

    def _load(self, view: View) -> MixedEnsemble:
        reader = StoreReader(self._store, view, self.cache)
        keys: dict[int, tuple[str | None, ...]] = {
            node: (digest, view.tallies.get(node))
            for node, digest in sorted(view.nodes.items())
            if node not in view.fenced
        }
        held = {
            node: self._members[node]
            for node, key in keys.items()
            if node in self._members and self._members[node][0] == key
        }
        fresh = load_members(reader, [node for node in keys if node not in held])
        held |= {node: (keys[node], member) for node, member in fresh.items()}
        self._members = held
        self.cache.keep(view.nodes.values())
        members = [member for _, (_, member) in sorted(held.items())]
        return MixedEnsemble(
            [member for member in members if isinstance(member, NodeWeights)],
            [member for member in members if isinstance(member, TalliedNode)],
            view.labels(),
        )


def load_members(reader: StoreReader, nodes: Sequence[int]) -> dict[int, Member]:
    """Nodes as members of an ensemble; a node whose tally is empty cannot answer and is left out.

    Raises:
        StoreDamagedError: a file is missing or damaged.
    """
    found: dict[int, Member] = {}
    tallies: dict[int, Tally] = {}
    for node in nodes:
        if node in reader.view.tallies:
            tally = reader.tally(node)
            if tally.samples:
                tallies[node] = tally
        else:
            representation = reader.representation(node)
            if isinstance(representation, NodeWeights):
                found[node] = representation
    heads = solve_all(list(tallies.values()), reader.setting.nodes.tally.head_rule())
    for node, head in zip(tallies, heads, strict=True):
        found[node] = TalliedNode(node, reader.projection(node), head)
    return found
