"""Settings for every method, chosen without a test sample.

Each candidate is fitted on a part of the training data and scored on another (`for_tuning`), with
a seed that no figure uses. The best wins, the first of equals. What was tried is kept with the
results. Nodes that tally use the package's defaults, which were chosen on training folds of other
work (``docs/adr/0006-tallies.md``): rivals are tuned to the data set, they are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shardgraph.bench.data import BenchData, accuracy
from shardgraph.bench.methods.catalogue import DEFAULTS, Spec, Tuned, build
from shardgraph.bench.methods.pooled import MeansModel
from shardgraph.bench.methods.protocol import predict
from shardgraph.bench.methods.prototypes import mix
from shardgraph.bench.methods.sharded import Memory
from shardgraph.forgetting.progress import Progress

SEED = 1_000_003
"""The seed of every tuning fit."""

Trial = dict[str, Any]
"""One candidate: family, parts, setting, accuracy."""


class Tuner:
    """Chooses settings for one data set and keeps what it tried."""

    def __init__(self, data: BenchData, grid: Mapping[str, Any], progress: Progress) -> None:
        """Tune on ``data``, which is already what `BenchData.for_tuning` gives."""
        self._data, self._grid, self._progress = data, grid, progress
        self._memory = Memory()
        self.trials: list[Trial] = []

    def run(self, families: Iterable[str]) -> Tuned:
        """Settings for these families; what no family needs is not tuned."""
        wanted = set(families)
        tuned = Tuned()
        if wanted - {"ridge", "means", "neighbours", "probe", "tallied"}:
            tuned = replace(tuned, adapter=self._adapters())
        if wanted & {"sisa", "proto-sisa"}:
            tuned = replace(tuned, vote=self._votes(tuned))
        chosen: dict[str, dict[str, Any]] = {}
        for family in ("ridge", "means", "neighbours", "probe"):
            if family in wanted:
                chosen[family] = self._best(family, self._candidates(family), tuned)
        for family in ("sisa-sliced", "s3t"):
            if family in wanted:
                chosen[family] = self._best(family, self._stages(tuned), tuned)
        if "proto-sisa" in wanted:
            chosen["proto-sisa"] = self._prototypes(tuned)
        return replace(tuned, families=chosen)

    def _candidates(self, family: str) -> list[dict[str, Any]]:
        """All combinations of a family's values."""
        values: Mapping[str, Sequence[Any]] = self._grid.get(family, {})
        if not values:
            return [DEFAULTS[family]]
        return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]

    def _stages(self, tuned: Tuned) -> list[dict[str, Any]]:
        """Learning rates around that of whole shards: stages see less data each."""
        rate = tuned.recipe(self._shards).learning_rate
        factors = self._grid.get("stage_rate_factors", [1.0])
        return [{"learning_rate": rate * factor} for factor in factors]

    @property
    def _shards(self) -> int:
        return int(self._grid.get("shards", 16))

    def _best(
        self, family: str, candidates: Sequence[dict[str, Any]], tuned: Tuned
    ) -> dict[str, Any]:
        def score(setting: dict[str, Any]) -> float:
            trial = replace(tuned, families={family: setting})
            return self._score(Spec(family, shards=self._shards), trial)

        found: dict[str, Any] = self._choose(family, self._shards, candidates, score)
        return found

    def _choose(
        self,
        family: str,
        parts: int,
        candidates: Sequence[Any],
        score: Callable[[Any], float],
    ) -> Any:
        if len(candidates) == 1:
            return candidates[0]
        found = []
        for number, setting in enumerate(candidates):
            found.append(score(setting))
            self.trials.append(
                {"family": family, "parts": parts, "setting": setting, "accuracy": found[-1]}
            )
            self._progress(f"tuning {family}", number + 1, len(candidates), "settings")
        return candidates[int(np.argmax(found))]

    def _score(self, spec: Spec, tuned: Tuned) -> float:
        found = self._answer(spec, tuned)
        return accuracy(self._data.test, self._data.classes, found)

    def _answer(self, spec: Spec, tuned: Tuned) -> np.ndarray:
        train = self._data.train
        model = build(spec, tuned, SEED, self._memory).fit(train, np.arange(len(train)))
        found = predict(model, self._data.test.tokens)
        assert found is not None
        return found

    def _adapters(self) -> dict[str, dict[str, Any]]:
        """The recipe for each share of the data that a node may read."""
        recipes: Sequence[dict[str, Any]] = self._grid.get("recipes", [{}])
        chosen = {}
        for parts in self._grid.get("parts", [1]):

            def score(setting: dict[str, Any], parts: int = parts) -> float:
                return self._score(
                    Spec("sisa", shards=parts, vote="combine"), Tuned(adapter={"1": setting})
                )

            chosen[str(parts)] = self._choose("adapter", parts, recipes, score)
        return chosen

    def _votes(self, tuned: Tuned) -> dict[str, str]:
        """The better of two rules, by number of shards."""
        chosen = {}
        for parts in self._grid.get("parts", [1]):

            def score(vote: str, parts: int = parts) -> float:
                return self._score(Spec("sisa", shards=parts, vote=vote), tuned)

            chosen[str(parts)] = self._choose("sisa vote", parts, ["combine", "mean"], score)
        return chosen

    def _prototypes(self, tuned: Tuned) -> dict[str, Any]:
        """Feature, share and temperature of the prototypes, on one fit of the shards."""
        candidates = self._candidates("proto-sisa")
        if len(candidates) == 1:
            return candidates[0]
        train, test = self._data.train, self._data.test
        said = self._answer(Spec("sisa", shards=self._shards), tuned)
        near = {
            feature: predict(MeansModel(train, np.arange(len(train)), feature), test.tokens)
            for feature in {setting["feature"] for setting in candidates}
        }

        def score(setting: dict[str, Any]) -> float:
            cosines = near[setting["feature"]]
            assert cosines is not None
            mixed = mix(said, cosines, setting["share"], setting["temperature"])
            return accuracy(test, self._data.classes, mixed)

        found: dict[str, Any] = self._choose("proto-sisa", self._shards, candidates, score)
        return found
