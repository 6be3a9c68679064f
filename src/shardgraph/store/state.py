"""What the store tells of itself: values without behaviour, all immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from shardgraph.identity import NodeId, OwnerId, SampleId, ShardId, SourceName, digest_json

BlobKind = Literal["activations", "nodes", "tallies"]
"""What a blob file holds: one shard's activations, one node's weights, one node's tallies."""

BLOB_KINDS: tuple[BlobKind, ...] = ("activations", "nodes", "tallies")

RequestState = Literal["accepted", "refitted", "published", "erased", "receipted"]
"""The life of a request, in order. From ``accepted`` on its nodes are fenced; from ``published``
on the model has never seen the samples; at ``erased`` nothing derived from them is left."""

REQUEST_STATES: tuple[RequestState, ...] = (
    "accepted",
    "refitted",
    "published",
    "erased",
    "receipted",
)


@dataclass(frozen=True)
class StoreConfig:
    """Everything that decides influence besides the samples. Written once, at creation.

    All mappings must be JSON. ``settings`` holds whatever else decides bits (the batch size of
    the encoder, the tokens and width of an activation, ...).
    """

    seed: int
    recipe: Mapping[str, Any]
    graph: Mapping[str, Any]
    backbone: Mapping[str, Any]
    environment: Mapping[str, str]
    label_type: str = "text"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON."""
        return {
            "backbone": dict(self.backbone),
            "environment": dict(self.environment),
            "graph": dict(self.graph),
            "label_type": self.label_type,
            "recipe": dict(self.recipe),
            "seed": str(self.seed),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoreConfig:
        """The inverse of `to_json`."""
        return cls(**{**value, "seed": int(value["seed"])})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the configuration."""
        return digest_json(self.to_json())

    @cached_property
    def graph_digest(self) -> str:
        """SHA-256 of the canonical JSON of the graph, which may be large."""
        return digest_json(dict(self.graph))

    @cached_property
    def recipe_digest(self) -> str:
        """SHA-256 of the canonical JSON of the recipe."""
        return digest_json(dict(self.recipe))


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded of one live sample."""

    id: SampleId
    label: str
    owner: OwnerId | None
    source: SourceName | None
    shard: ShardId


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard that has samples. An empty shard has no state, whatever it held before."""

    activations: str
    records: str
    samples: int
    labels: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """One consistent state of the store, read in one transaction.

    ``fenced`` are the nodes that must not answer: some request that is accepted but not yet
    published concerns a sample that influenced them. ``pending_labels`` counts, per label, the
    samples of those requests; they are still in ``shards``. ``digest`` is the influence digest.
    """

    generation: int
    config: StoreConfig
    shards: Mapping[ShardId, ShardState]
    nodes: Mapping[NodeId, str]
    tallies: Mapping[NodeId, str]
    fenced: frozenset[NodeId]
    pending_labels: Mapping[str, int]
    digest: str
    revision: tuple[int, int] = field(compare=False)

    @property
    def samples(self) -> int:
        """Live samples, pending ones not counted."""
        return sum(s.samples for s in self.shards.values()) - sum(self.pending_labels.values())

    def labels(self) -> tuple[str, ...]:
        """The sorted labels of live samples, those only pending samples have left out."""
        counts: dict[str, int] = {}
        for shard in self.shards.values():
            for label, count in shard.labels.items():
                counts[label] = counts.get(label, 0) + count
        for label, count in self.pending_labels.items():
            counts[label] = counts.get(label, 0) - count
        return tuple(sorted(label for label, count in counts.items() if count > 0))


@dataclass(frozen=True, slots=True)
class NodesChanged:
    """What carrying out a request did to the nodes that it concerned.

    ``refitted`` were fitted again, ``subtracted`` only had their tallies brought up to date,
    ``dropped`` ceased to exist.
    """

    refitted: tuple[int, ...] = ()
    subtracted: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request to forget.

    ``samples`` is empty from ``published`` on. ``fenced`` are the nodes that the samples had
    influenced; it is empty once the request is ``receipted``.
    Times are seconds since the epoch. ``commitment`` is 32 random bytes in hexadecimal that stand
    for the request wherever no id may be named. ``state_opening`` are 32 more, with which the state
    in its receipt is sealed; None from the first generation after the receipt on, so that no state
    of the past can be confirmed. ``changed`` are the nodes that were brought up to date; empty
    before ``published`` and once the request is ``receipted``.
    """

    id: int
    kind: str
    state: RequestState
    accepted: float
    deadline: float
    commitment: str
    samples: tuple[SampleId, ...] = ()
    fenced: frozenset[NodeId] = frozenset()
    generation: int | None = None
    state_opening: str | None = None
    changed: NodesChanged = NodesChanged()
    receipt: int | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state == "receipted"

    def late(self, now: float) -> bool:
        """Whether it is unfinished and two thirds of its time have passed."""
        return not self.finished and now > self.accepted + (self.deadline - self.accepted) * 2 / 3

    def overdue(self, now: float) -> bool:
        """Whether it is unfinished after its deadline."""
        return not self.finished and now > self.deadline


@dataclass(frozen=True, slots=True)
class Change:
    """The step from one generation to the next.

    ``requests`` are carried out by it: exactly the samples they name are removed. ``added`` are
    new samples. Pointers map a shard or node to the digest of its new blob, or to None where it
    has none any more; what is not named stays as it is. A shard has an activations blob if and
    only if it has samples. ``environment``, if given, replaces that of the configuration (every
    node that may answer must then be refitted by the caller), and ``settings`` those of its
    settings that it names.
    """

    requests: tuple[int, ...] = ()
    added: tuple[Record, ...] = ()
    activations: Mapping[int, str | None] = field(default_factory=dict)
    nodes: Mapping[int, str | None] = field(default_factory=dict)
    tallies: Mapping[int, str | None] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """Figures for people: counts, bytes per kind of file, and what is deleted but not erased.

    ``late_requests`` are unfinished and have used two thirds of their time, those past their
    deadline included; ``overdue_requests`` are past it.
    """

    generation: int
    digest: str
    samples: int
    pending_samples: int
    shards: int
    nodes: int
    tallies: int
    fenced: int
    requests: Mapping[str, int]
    late_requests: int
    overdue_requests: int
    pending_erasures: int
    backups: int
    bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that may be restored one day, and how many requests have left a note for it."""

    id: str
    made: float
    requests: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` found: what kind, which file or row, and what to do."""

    kind: str
    what: str
    advice: str
