"""Answers: the ensemble of the current generation, without the nodes that are fenced."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.forgetting.reading import NodeCache, StoreReader
from shardgraph.identity import NodeId
from shardgraph.nodes.closed_form import HeadRule
from shardgraph.nodes.mixed import MixedEnsemble, TalliedNode
from shardgraph.nodes.representation import Representation
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.weights import NodeWeights
from shardgraph.store import Store, View

Member = NodeWeights | TalliedNode
"""A node in memory, as the ensemble takes it."""

_Key = tuple[str, str | None, HeadRule]
"""What decides a member: the digests of its files, and the settings of its head."""


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
        self._members: dict[int, tuple[_Key, Member]] = {}

    def snapshot(self) -> Snapshot:
        """The current snapshot, taken anew if the store has changed."""
        with self._lock:
            if self._snapshot is None or self._store.changed(self._snapshot.view):
                view, ensemble = self._store.consistent(self._load)
                self._snapshot = Snapshot(view, ensemble)
            return self._snapshot

    def prepare(self, digest: str, tally: Tally, reader: StoreReader) -> None:
        """Solve a head that the next generation will need, where one was asked for here.

        ``digest`` is that of the tally's file. May be called from several threads.
        """
        if self._snapshot is not None:
            self.cache.solve({digest: tally}, reader.head_rule)

    def refresh(self) -> None:
        """Take the current snapshot at once, where one was asked for here.

        What was in memory of the generation before is let go.
        """
        if self._snapshot is not None:
            self.snapshot()

    def _load(self, view: View) -> MixedEnsemble:
        if self._snapshot is not None and _alike(view, self._snapshot.view):
            return self._snapshot.ensemble
        reader = StoreReader(self._store, view, self.cache)
        keys: dict[int, _Key] = {
            node: (digest, view.tallies.get(node), reader.head_rule)
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
        self.cache.keep(view)
        members = [member for _, (_, member) in sorted(held.items())]
        return MixedEnsemble(
            [member for member in members if isinstance(member, NodeWeights)],
            [member for member in members if isinstance(member, TalliedNode)],
            view.labels(),
            reader.setting.nodes.features,
            softmax_weight=reader.setting.nodes.tally.softmax_weight,
            like=self._snapshot.ensemble if self._snapshot is not None else None,
        )


def _alike(one: View, other: View) -> bool:
    """Whether the same nodes answer alike in both views, for the same labels."""
    return (one.config, one.nodes, one.tallies, one.fenced, one.labels()) == (
        other.config,
        other.nodes,
        other.tallies,
        other.fenced,
        other.labels(),
    )


def load_members(reader: StoreReader, nodes: Sequence[int]) -> dict[int, Member]:
    """Nodes as members of an ensemble; a node whose tally is empty cannot answer and is left out.

    Raises:
        StoreDamagedError: a file is missing or damaged.
    """
    digests, cache = reader.view.tallies, reader.cache
    rule = reader.head_rule
    unsolved = [
        node
        for node in nodes
        if node in digests and cache.head(digests[NodeId(node)], rule) is None
    ]
    cache.solve({digests[NodeId(node)]: reader.tally(node) for node in unsolved}, rule)
    blended = reader.setting.nodes.tally.softmax_weight > 0
    found: dict[int, Member] = {}
    for node in nodes:
        head = cache.head(digests[NodeId(node)], rule) if node in digests else None
        adapter = None
        if node not in digests or (blended and reader.setting.kind_of(node) == "trained"):
            adapter = _adapter(reader.representation(node))
        if head is not None:
            found[node] = TalliedNode(node, reader.projection(node), head, adapter)
        elif adapter is not None and node not in digests:
            found[node] = adapter
    return found


def _adapter(representation: Representation) -> NodeWeights | None:
    return representation if isinstance(representation, NodeWeights) else None
