"""Tuning on a declared source: forgotten exactly, counted in the plan, and nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardgraph import FitSettings, ForgetRequest, SafeModel
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import RecipeError
from shardgraph.forgetting.reading import StoreReader
from shardgraph.nodes.closed_form import HeadRule

TALLY = {"heads": 4, "value_width": 4, "tune_on": "trial"}
SETTINGS = FitSettings(shards=8, graph="tallied:4", tally=TALLY)


def data(rows: list[int], noise: float = 3.0) -> ArrayDataset:
    """Rows of one fixed array, every other one of the source that heads are tuned on."""
    rng = np.random.default_rng(0)
    y = np.arange(80) // 2 % 4
    X = rng.normal(size=(80, 2, 8)) * noise + 2 * rng.normal(size=(4, 2, 8))[y]
    sources = ["trial" if row % 2 else "bulk" for row in rows]
    return ArrayDataset(X[rows], y[rows], ids=rows, sources=sources)


def rule_of(model: SafeModel) -> HeadRule:
    return StoreReader(model.store, model.store.view()).head_rule


def test_forgetting_a_tuning_sample_tunes_as_if_it_had_never_been_there(tmp_path: Path) -> None:
    everything = list(range(80))
    left = [row for row in everything if row % 2 == 0 or row > 60]
    gone = [str(row) for row in everything if row not in left]
    tokens = np.random.default_rng(1).normal(size=(5, 2, 8)).astype(np.float32)
    with SafeModel.fit(data(everything), tmp_path / "lived", SETTINGS)[0] as model:
        model.answer(tokens)
        before = rule_of(model)
        request = ForgetRequest.of(samples=gone)
        assert model.plan(request).tuning_samples == 10
        assert model.plan(ForgetRequest.of(samples=["0"])).tuning_samples == 0
        model.forget(request)
        answer, digest, after = model.answer(tokens), model.store.digest(), rule_of(model)
    assert before != HeadRule()
    assert before != after, "the samples that are left must choose otherwise for this to test much"
    with SafeModel.fit(data(left), tmp_path / "fresh", SETTINGS)[0] as fresh:
        assert rule_of(fresh) == after
        assert fresh.store.digest() == digest
        assert fresh.answer(tokens).probabilities.tobytes() == answer.probabilities.tobytes()


def test_nodes_that_lose_nothing_answer_by_the_new_settings(tmp_path: Path) -> None:
    own = FitSettings(shards=8, graph="isolated", tallies="own", tally=TALLY)
    tokens = np.random.default_rng(1).normal(size=(5, 2, 8)).astype(np.float32)
    with SafeModel.fit(data(list(range(80))), tmp_path / "lived", own)[0] as model:
        model.answer(tokens)
        before, tallies = rule_of(model), model.store.view().tallies
        lost = [record for shard in range(6) for record in model.store.records(shard)]
        gone = {int(record.id) for record in lost if record.source == "trial"}
        model.forget(ForgetRequest.of(samples=[str(row) for row in gone]))
        answer = model.answer(tokens)
        assert rule_of(model) != before
        assert set(tallies.items()) & set(model.store.view().tallies.items())
    left = [row for row in range(80) if row not in gone]
    with SafeModel.fit(data(left), tmp_path / "fresh", own)[0] as fresh:
        assert fresh.answer(tokens).probabilities.tobytes() == answer.probabilities.tobytes()


def test_a_sample_that_waits_to_be_forgotten_takes_no_part(tmp_path: Path) -> None:
    everything = list(range(80))
    with SafeModel.fit(data(everything), tmp_path / "store", SETTINGS)[0] as model:
        gone = [str(row) for row in everything if row % 2 == 1 and row <= 60]
        records = model.store.find(gone)  # type: ignore[arg-type]
        model.store.accept("key", "forget", [item.id for item in records], [0])
        waiting = rule_of(model)
        model.forget(ForgetRequest.of(samples=["0"]))
        assert rule_of(model) == waiting


def test_without_any_tuning_sample_the_settings_are_those_of_the_recipe(tmp_path: Path) -> None:
    chosen = FitSettings(shards=8, graph="tallied:4", tally={**TALLY, "spread": 7.0})
    tokens = np.random.default_rng(1).normal(size=(5, 2, 8)).astype(np.float32)
    with SafeModel.fit(data(list(range(80))), tmp_path / "store", chosen)[0] as model:
        model.answer(tokens)
        model.forget(ForgetRequest.of(sources=["trial"]))
        assert rule_of(model) == HeadRule(spread=7.0)
        answer = model.answer(tokens)
    untuned = replace(chosen, tally={**chosen.tally, "tune_on": ""})
    with SafeModel.fit(data(list(range(0, 80, 2))), tmp_path / "fresh", untuned)[0] as fresh:
        assert fresh.answer(tokens).probabilities.tobytes() == answer.probabilities.tobytes()


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    chosen = FitSettings(shards=8, tally={**TALLY, "tune_on": "nowhere"})
    with pytest.raises(RecipeError, match="nowhere"):
        SafeModel.fit(data([0, 1, 2]), tmp_path / "store", chosen)
    assert not (tmp_path / "store").exists()
