"""The settings of nodes that tally: their features and their closed-form head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardgraph.errors import RecipeError
from shardgraph.nodes.closed_form import HeadRule
from shardgraph.nodes.tally import bytes_needed

BUDGETED_SAMPLES = 133_144
"""Samples that a budget is worked out for; with more in a tally, its sums take twice the bytes."""

REPRESENTATIONS = ("trained", "discriminant", "random")
"""What a node's attention comes from: gradient descent on what it reads, class scatter of what it
reads in closed form, or its seed alone (no data)."""

_ALLOWED: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


@dataclass(frozen=True, slots=True)
class TallyRecipe:
    """How a node that tallies is built. Immutable; used only where a graph has tally edges.

    Attributes:
        representation: default for nodes whose kind the graph leaves open, one of
            `REPRESENTATIONS`.
        heads: attention vectors of a discriminant or random node, even.
        value_width: integers per attention vector; heads * value_width features in all.
        sharpness: spread of the attention logits.
        shrinkage, prior_count, spread: of the head, see `HeadRule`.
        softmax_weight: the part of a trained node's softmax head in what it says beside the head
            solved from its tally, from 0 to 1; see `shardgraph.nodes.mixed.blend`.
        tune_on: a source whose live samples choose shrinkage, prior_count and spread, see
            `shardgraph.nodes.tuning`; empty for the settings above.

    Raises:
        RecipeError: a value is out of its range.
    """

    representation: str = "discriminant"
    heads: int = 32
    value_width: int = 16
    sharpness: float = 1.5
    shrinkage: float = 0.02
    prior_count: float = 6.0
    spread: float = 22.0
    softmax_weight: float = 0.0
    tune_on: str = ""

    def __post_init__(self) -> None:
        if self.representation not in REPRESENTATIONS:
            raise RecipeError(
                f"There is no representation {self.representation!r}.",
                advice=f"Choose one of: {', '.join(REPRESENTATIONS)}.",
            )
        if self.heads < 2 or self.heads % 2 or self.value_width < 1:
            raise RecipeError(
                f"{self.heads} heads of width {self.value_width} are not possible.",
                advice="Give an even number of heads and a positive width.",
            )
        if not 0 < self.sharpness < math.inf:
            raise RecipeError(f"A sharpness of {self.sharpness} is not possible.")
        if not 0 <= self.softmax_weight <= 1:
            raise RecipeError(
                f"A softmax weight of {self.softmax_weight} is not possible.",
                advice="Give a number from 0 to 1.",
            )
        self.head_rule()

    @property
    def features(self) -> int:
        """Integer features of a discriminant or random node."""
        return self.heads * self.value_width

    def head_rule(self) -> HeadRule:
        """The settings of the head."""
        return HeadRule(self.shrinkage, self.prior_count, self.spread)

    def bytes_per_node(self, classes: int, samples: int) -> int:
        """Bytes of one node's sums over so many samples of so many classes."""
        return bytes_needed(self.features, classes, samples)

    def within(self, budget: int, nodes: int, classes: int) -> TallyRecipe:
        """This recipe, narrowed until the sums of ``nodes`` nodes take at most ``budget`` bytes.

        ``classes`` is the most that a node tallies. Holds for up to `BUDGETED_SAMPLES` samples.

        Raises:
            RecipeError: not even the narrowest nodes fit.
        """
        for width in range(self.value_width, 0, -1):
            narrowed = dataclasses.replace(self, value_width=width)
            if nodes * narrowed.bytes_per_node(classes, BUDGETED_SAMPLES) <= budget:
                return narrowed
        raise RecipeError(
            f"The tallies of {nodes} nodes and {classes} classes do not fit {budget} bytes.",
            advice="Give a larger budget, or let fewer nodes tally.",
        )

    def to_json(self) -> dict[str, Any]:
        """All settings as a flat JSON object; `from_json` turns it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TallyRecipe:
        """The recipe with these settings; those left out have their defaults.

        Raises:
            RecipeError: a setting is unknown or out of its range.
        """
        known = {item.name: item.type for item in dataclasses.fields(cls)}
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise RecipeError(
                f"Unknown tally setting: {', '.join(unknown)}.",
                advice=f"Known settings: {', '.join(sorted(known))}.",
            )
        for name, given in value.items():
            allowed = _ALLOWED[str(known[name])]
            if isinstance(given, bool) or not isinstance(given, allowed):
                raise RecipeError(f"Tally setting {name}={given!r} must be of type {known[name]}.")
        floats = {name: float(given) for name, given in value.items() if known[name] == "float"}
        return cls(**{**value, **floats})
