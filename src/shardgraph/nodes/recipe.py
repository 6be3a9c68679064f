"""The settings that, with a node's samples and seed, determine its bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from shardgraph.errors import RecipeError
from shardgraph.identity import digest_json

KINDS = ("inca", "open-inca")
"""``inca``: a few shared queries and a linear head. ``open-inca``: one query per class."""

LANE = 16
"""Widths are multiples of this many floats, so that no vector instruction straddles two nodes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a node is built and trained. Immutable; equal recipes have equal digests.

    Attributes:
        kind: form of the adapter, one of `KINDS`.
        heads: attention heads; each has its own value projection.
        queries: queries per head (``inca``); must be 1 for ``open-inca``, which has one per class.
        value_width: floats per head and query behind the value projection, a multiple of 16.
        epochs: passes over the samples a node reads.
        batch_size: most samples in one step, a multiple of 8. A node's samples are dealt evenly
            over the fewest steps that this allows.
        learning_rate: peak of the cosine schedule (AdamW).
        weight_decay: decoupled decay per unit of learning rate, on matrices only.
        label_smoothing: share of the target spread over the node's classes, in [0, 1).
        warmup: share of all steps over which the rate rises linearly, in [0, 1).

    Raises:
        RecipeError: a value is out of its range, of the wrong type, or contradicts another.
    """

    kind: str = "inca"
    heads: int = 16
    queries: int = 1
    value_width: int = 64
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.1

    def __post_init__(self) -> None:
        for name, expected in get_type_hints(type(self)).items():
            _check_type(name, getattr(self, name), expected)
            if expected is float:
                object.__setattr__(self, name, float(getattr(self, name)))
        self._check_ranges()
        self._check_contradictions()

    def _check_ranges(self) -> None:
        if self.kind not in KINDS:
            _refuse("kind", self.kind, f"Choose one of: {', '.join(KINDS)}.")
        for name in ("heads", "queries", "value_width", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "Give at least 1.")
        if not 0 < self.learning_rate < math.inf:
            _refuse("learning_rate", self.learning_rate, "Give a positive number.")
        if not 0 <= self.weight_decay < math.inf:
            _refuse("weight_decay", self.weight_decay, "Give zero or a positive number.")
        for name in ("label_smoothing", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "Give a number from 0 to below 1.")

    def _check_contradictions(self) -> None:
        if self.value_width % LANE:
            _refuse("value_width", self.value_width, f"Give a multiple of {LANE}.")
        if self.batch_size % 8:
            _refuse("batch_size", self.batch_size, "Give a multiple of 8.")
        if self.kind == "open-inca" and self.queries != 1:
            _refuse("queries", self.queries, "The kind open-inca has one query per class: give 1.")

    def to_json(self) -> dict[str, Any]:
        """All settings as a flat JSON object; `from_json` turns it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """The recipe with these settings; those left out have their defaults.

        Raises:
            RecipeError: a setting is unknown, of the wrong type, or out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise RecipeError(
                f"Unknown recipe setting: {', '.join(unknown)}.",
                advice=f"Known settings: {', '.join(sorted(known))}.",
            )
        return cls(**value)

    @property
    def features(self) -> int:
        """Floats behind the pooling of an ``inca`` adapter, and the integers that it tallies."""
        return self.heads * self.queries * self.value_width

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return digest_json(self.to_json())


def _refuse(name: str, value: object, advice: str) -> None:
    raise RecipeError(f"Recipe setting {name}={value!r} is not possible.", advice=advice)


def _check_type(name: str, value: object, expected: type) -> None:
    allowed: tuple[type, ...] = (float, int) if expected is float else (expected,)
    if isinstance(value, bool) or not isinstance(value, allowed):
        _refuse(name, value, f"It must be of type {expected.__name__}.")
