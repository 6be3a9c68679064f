"""Settings for every method, chosen without a test sample.

Each candidate is fitted on a part of the training data and scored on another (`for_tuning`), with
a seed that no figure uses. The best wins, the first of equals. What was tried is kept with the
results. Nodes that tally use the package's defaults, which were chosen on training folds of other
work (``docs/adr/0006-tallies.md``): rivals are tuned to the data set, they are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shardgraph.bench.data import accuracy
from shardgraph.bench.methods.catalogue import DEFAULTS, WITHOUT_ADAPTER, Spec, Tuned, build
from shardgraph.bench.methods.pooled import MeansModel
from shardgraph.bench.methods.protocol import predict
from shardgraph.bench.methods.prototypes import mix
from shardgraph.bench.workers import Desk, Work, Workers
from shardgraph.forgetting.progress import Progress

SEED = 1_000_003
"""The seed of every tuning fit."""

POOLED = ("ridge", "means", "neighbours", "probe")

Trial = dict[str, Any]
"""One candidate: family, parts, setting, accuracy."""


@dataclass(frozen=True)
class _Fit:
    """A candidate to be fitted and scored on tuning data."""

    spec: Spec
    tuned: Tuned

    def answer(self, desk: Desk) -> np.ndarray:
        """What it says of the samples that are scored on."""
        train = desk.tuning.train
        model = build(self.spec, self.tuned, SEED, desk.memory).fit(train, np.arange(len(train)))
        found = predict(model, desk.tuning.test.tokens)
        assert found is not None
        return found

    def __call__(self, desk: Desk) -> list[float]:
        """Its accuracy."""
        return [accuracy(desk.tuning.test, desk.tuning.classes, self.answer(desk))]


@dataclass(frozen=True)
class _Mixes(_Fit):
    """Shares and temperatures of prototypes, on one fit of the shards that ``spec`` names."""

    settings: Sequence[dict[str, Any]]

    def __call__(self, desk: Desk) -> list[float]:
        """The accuracy of each setting."""
        train, test, classes = desk.tuning.train, desk.tuning.test, desk.tuning.classes
        said = self.answer(desk)
        near = {
            feature: predict(MeansModel(train, np.arange(len(train)), feature), test.tokens)
            for feature in {setting["feature"] for setting in self.settings}
        }
        found = []
        for setting in self.settings:
            cosines = near[setting["feature"]]
            assert cosines is not None
            mixed = mix(said, cosines, setting["share"], setting["temperature"])
            found.append(accuracy(test, classes, mixed))
        return found


@dataclass(frozen=True)
class _Choice:
    """What one setting is chosen from, and the work that gives the accuracy of each, in order."""

    family: str
    parts: int
    settings: Sequence[Any]
    work: Sequence[Work]


class Tuner:
    """Chooses settings for one data set and keeps what it tried."""

    def __init__(self, grid: Mapping[str, Any], side_by_side: Workers, progress: Progress) -> None:
        """Tune on what `BenchData.for_tuning` gives of the data of the workers."""
        self._grid, self._side_by_side, self._progress = grid, side_by_side, progress
        self.trials: list[Trial] = []

    def run(self, families: Iterable[str]) -> Tuned:
        """Settings for these families; what no family needs is not tuned."""
        wanted = set(families)
        tuned = Tuned()
        if wanted - set(WITHOUT_ADAPTER):
            tuned = replace(tuned, adapter=self._adapters())
        if wanted & {"safe", "sisa", "proto-sisa"}:
            tuned = replace(tuned, vote=self._votes(tuned))
        candidates = {family: self._candidates(family) for family in POOLED}
        candidates |= {family: self._stages(family, tuned) for family in ("sisa-sliced", "s3t")}
        choices = [
            self._of_family(family, settings, tuned)
            for family, settings in candidates.items()
            if family in wanted
        ]
        if "proto-sisa" in wanted:
            choices.append(self._of_prototypes(tuned))
        chosen = self._choose("families", choices)
        families_of = [choice.family for choice in choices]
        return replace(tuned, families=dict(zip(families_of, chosen, strict=True)))

    @property
    def _shards(self) -> int:
        return int(self._grid.get("shards", 16))

    @property
    def _parts(self) -> Sequence[int]:
        parts: Sequence[int] = self._grid.get("parts", [1])
        return parts

    def _candidates(self, family: str) -> list[dict[str, Any]]:
        """All combinations of a family's values."""
        values: Mapping[str, Sequence[Any]] = self._grid.get(family, {})
        if not values:
            return [DEFAULTS[family]]
        return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]

    def _stages(self, family: str, tuned: Tuned) -> list[dict[str, Any]]:
        """Multiples of the learning rate of whole shards: stages see less data each."""
        rate = tuned.recipe(self._shards).learning_rate
        factors = self._grid.get(family, {}).get("rate_factors", [1.0])
        return [{"learning_rate": rate * factor} for factor in factors]

    def _adapters(self) -> dict[str, dict[str, Any]]:
        """The recipe for each share of the data that a node may read."""
        recipes: Sequence[dict[str, Any]] = self._grid.get("recipes", [{}])
        choices = [
            _Choice(
                "adapter",
                parts,
                recipes,
                [_Fit(_sisa(parts, "combine"), Tuned(adapter={"1": one})) for one in recipes],
            )
            for parts in self._parts
        ]
        return self._by_parts(self._choose("adapters", choices))

    def _votes(self, tuned: Tuned) -> dict[str, str]:
        """The better of two rules, by number of shards."""
        votes = ("combine", "mean")
        choices = [
            _Choice("sisa vote", parts, votes, [_Fit(_sisa(parts, vote), tuned) for vote in votes])
            for parts in self._parts
        ]
        return self._by_parts(self._choose("votes", choices))

    def _of_family(self, family: str, settings: Sequence[dict[str, Any]], tuned: Tuned) -> _Choice:
        spec = Spec(family, shards=self._shards)
        work = [_Fit(spec, replace(tuned, families={family: setting})) for setting in settings]
        return _Choice(family, self._shards, settings, work)

    def _of_prototypes(self, tuned: Tuned) -> _Choice:
        """Feature, share and temperature of the prototypes, on one fit of the shards."""
        settings = self._candidates("proto-sisa")
        mixes = _Mixes(Spec("sisa", shards=self._shards), tuned, settings)
        return _Choice("proto-sisa", self._shards, settings, [mixes])

    def _choose(self, stage: str, choices: Sequence[_Choice]) -> list[Any]:
        """The best setting of each choice, the first of equals; one alone is not tried."""
        work = [piece for choice in choices for piece in choice.work if len(choice.settings) > 1]
        found: dict[int, list[float]] = {}
        for place, accuracies in self._side_by_side(work):
            found[place] = accuracies
            self._progress(f"tuning {stage}", len(found), len(work), "fits")
        in_order = iter([found[place] for place in range(len(work))])
        best = []
        for choice in choices:
            if len(choice.settings) == 1:
                best.append(choice.settings[0])
                continue
            accuracies = [value for _ in choice.work for value in next(in_order)]
            best.append(choice.settings[int(np.argmax(accuracies))])
            about = {"family": choice.family, "parts": choice.parts}
            self.trials += [
                {**about, "setting": setting, "accuracy": value}
                for setting, value in zip(choice.settings, accuracies, strict=True)
            ]
        return best

    def _by_parts(self, chosen: Sequence[Any]) -> dict[str, Any]:
        return {str(parts): one for parts, one in zip(self._parts, chosen, strict=True)}


def _sisa(parts: int, vote: str) -> Spec:
    return Spec("sisa", shards=parts, vote=vote)
