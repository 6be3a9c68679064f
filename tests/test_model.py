from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardgraph import FitSettings, ForgetRequest, SafeModel, ShardGraph
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import (
    DataError,
    EnvironmentChangedError,
    GraphError,
    RecipeError,
    StoreDamagedError,
    StoreError,
    StoreExistsError,
    UnknownIdError,
)
from shardgraph.forgetting import reading
from shardgraph.graph.topologies import ring
from shardgraph.identity import SampleId
from shardgraph.nodes.tally_recipe import TallyRecipe
from shardgraph.store import Store

RECIPE = {"heads": 2, "value_width": 16, "learning_rate": 1e-2}
SETTINGS = FitSettings(shards=4, graph="ring:2", epochs=10, recipe=RECIPE, seed=2)


def data(rows: Iterable[int] = range(40)) -> ArrayDataset:
    """Rows of one fixed array: four to an owner, every other one of a source, three classes."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 2, 4)) + 4 * rng.normal(size=(3, 2, 4))[y]
    kept = list(rows)
    owners, sources = [f"u{row // 4}" for row in kept], [f"s{row % 2}" for row in kept]
    return ArrayDataset(X[kept], y[kept], ids=kept, owners=owners, sources=sources)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[SafeModel]:
    fitted, _ = SafeModel.fit(data(), tmp_path / "store", SETTINGS)
    with fitted:
        yield fitted


def test_evaluate_stores_nothing_and_counts_unknown_labels_as_wrong(model: SafeModel) -> None:
    digest = model.store.digest()
    seen: list[tuple[str, int, int, str]] = []
    evaluation = model.evaluate(data(), progress=lambda *event: seen.append(event))
    assert evaluation.accuracy > 0.9
    assert evaluation.samples == 40
    assert seen[0] == ("encoding", 0, 40, "activations")
    assert seen[-1] == ("encoding", 40, 40, "activations")
    strange = ArrayDataset(np.zeros((2, 2, 4)), ["0", "moon"])
    assert model.evaluate(strange).unknown_labels == ("moon",)
    assert model.evaluate(strange).accuracy <= 0.5
    assert model.store.digest() == digest


def test_activations_of_another_shape_are_refused(model: SafeModel) -> None:
    with pytest.raises(DataError, match="do not fit"):
        model.answer(np.zeros((1, 2, 5), np.float32))
    with pytest.raises(DataError, match="shape"):
        model.evaluate(ArrayDataset(np.zeros((2, 3, 4)), ["0", "1"]))


def test_a_request_is_planned_as_it_is_carried_out(model: SafeModel) -> None:
    request = ForgetRequest.of(owners=["u1", "u2"], samples=["30"])
    plan = model.plan(request)
    assert plan.predicted_seconds is not None
    assert not model.knows(request)
    tokens = model.encode(data())
    before = model.node_probabilities(tokens)
    outcome = model.forget(request)
    assert (outcome.samples, plan.samples) == (9, 9)
    assert outcome.nodes_refit == plan.refit
    assert outcome.nodes_dropped == plan.dropped
    assert outcome.samples_refit == plan.samples_refit
    after = model.node_probabilities(tokens)
    changed = {node for node in before if before[node].tobytes() != after[node].tobytes()}
    assert changed == set(plan.refit)
    assert model.knows(request)
    again = model.forget(request)
    assert again.generation == outcome.generation == 2
    assert again.nodes_refit == ()


def test_unfinished_work_is_carried_out_when_the_store_is_opened_to_write(
    model: SafeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ForgetRequest.of(owners=["u1"])
    with monkeypatch.context() as patch:
        patch.setattr("shardgraph.model.resume", lambda *_: None)
        model.forget(request)
    assert len(model.answer(model.encode(data())).without) > 0
    model.close()
    stages: list[str] = []
    with SafeModel.open(
        model.store.path, write=True, progress=lambda stage, *_: stages.append(stage)
    ) as opened:
        assert stages[-1] == "fitting"
        assert not opened.answer(opened.encode(data())).without
        with pytest.raises(UnknownIdError):
            opened.plan(request)


def test_a_changed_environment_may_answer_and_not_write(
    model: SafeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.close()
    monkeypatch.setattr("shardgraph.runtime.environment", lambda *_: {"torch": "0"})
    with pytest.raises(EnvironmentChangedError, match="torch"):
        SafeModel.open(model.store.path, write=True)
    with SafeModel.open(model.store.path) as reader:
        assert reader.evaluate(data()).samples == 40


def test_a_budget_for_tallies_remembers_no_class_that_is_forgotten(tmp_path: Path) -> None:
    recipe = {"heads": 2, "value_width": 16}
    budget = 4 * TallyRecipe(**recipe).bytes_per_node(2, 40)  # full width for two classes
    settings = FitSettings(shards=4, graph="tallied:4", tally=recipe, tally_budget=budget)
    with pytest.raises(RecipeError, match="how many classes"):
        SafeModel.fit(data(), tmp_path / "none", settings)
    settings = replace(settings, tally_classes=3)
    kept = [row for row in range(40) if row % 3]
    digests = []
    for name, rows in (("lived", range(40)), ("fresh", kept)):
        model, _ = SafeModel.fit(data(rows), tmp_path / name, settings)
        with model:
            if name == "lived":
                gone = [str(row) for row in range(40) if row not in kept]
                model.forget(ForgetRequest.of(samples=gone))
            digests.append(model.store.digest())
            assert model.store.config.recipe["tally"]["value_width"] < 16
    assert digests[0] == digests[1]


def damage(store: Store, name: str) -> None:
    """Turn the sign of the last number of the shard that holds a sample."""
    (record,) = store.find([SampleId(name)])
    path = store.path_of("activations", record.shard, store.view().shards[record.shard].activations)
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x80
    path.write_bytes(content)


@pytest.mark.parametrize("graph", ["ring:2", "tallied:4"])
def test_a_damaged_activation_is_refused_before_a_change_uses_it(
    tmp_path: Path, graph: str
) -> None:
    settings = FitSettings(shards=4, graph=graph, epochs=2, recipe=RECIPE)
    model, _ = SafeModel.fit(data(), tmp_path / "store", settings)
    with model:
        shards = model.store.view().shards
        damage(model.store, "7")
        with pytest.raises(StoreDamagedError, match="differs from its digest"):
            model.forget(ForgetRequest.of(samples=["7"]))
        assert model.store.view().shards == shards
        assert [finding.kind for finding in model.store.check()] == ["blob"]


def test_a_damaged_activation_proves_nothing(model: SafeModel) -> None:
    damage(model.store, "7")
    with pytest.raises(StoreDamagedError, match="differs from its digest"):
        model.verify()


def test_status_holds_counts_and_no_names(model: SafeModel) -> None:
    status = model.status()
    assert status["samples"] == 40
    assert status["classes"] == 3
    assert status["graph"] == "ring:2"
    text = json.dumps(status)
    assert all(f'"u{owner}"' not in text for owner in range(10))


def test_the_graph_is_described_drawn_and_written(model: SafeModel, tmp_path: Path) -> None:
    summary = model.describe_graph(owners=["u1"])
    assert summary["edges"] == 4
    assert summary["cost"]["expected"]["nodes_refit"] == 2
    assert summary["touched"]["samples"] == 4
    plain, marked = tmp_path / "plain.svg", tmp_path / "marked.svg"
    model.describe_graph(save=plain)
    model.describe_graph(save=marked, owners=["u1"])
    assert plain.read_bytes() != marked.read_bytes()
    written = tmp_path / "graph.json"
    model.describe_graph(save=written)
    assert ShardGraph.from_json(json.loads(written.read_text())).nodes == ring(4, 2).nodes
    with pytest.raises(GraphError, match="json"):
        model.describe_graph(save=tmp_path / "graph.pdf")
    for name in ("graph.svg", "graph.json"):
        with pytest.raises(StoreError):
            model.describe_graph(save=tmp_path / "missing" / name)


def test_what_a_request_touches_is_marked(
    model: SafeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: dict[str, tuple[int, ...]] = {}
    monkeypatch.setattr("shardgraph.graph.picture.draw", lambda *_, **given: marked.update(given))
    shard = model.plan(ForgetRequest.of(owners=["u1"])).shards[0]
    alone = [row.id for row in model.store.records(shard)]
    plan = model.plan(ForgetRequest.of(samples=alone))
    assert plan.dropped
    assert plan.refit
    model.describe_graph(save=tmp_path / "graph.svg", samples=alone)
    assert set(marked["touched_nodes"]) == {*plan.dropped, *plan.refit}
    assert marked["touched_shards"] == plan.shards == (shard,)


def test_add_passes_over_what_is_there_and_refuses_what_differs(model: SafeModel) -> None:
    outcome = model.add(data(range(36, 44)))
    assert (outcome.samples, outcome.passed_over) == (4, 4)
    before = model.store.digest()
    other = ArrayDataset(np.zeros((1, 2, 4)), ["1"], ids=["0"], owners=["u0"])
    with pytest.raises(DataError, match="another label"):
        model.add(other)
    assert model.store.digest() == before
    assert model.add(data()).samples == 0


def test_fit_never_touches_a_store_that_is_there(model: SafeModel) -> None:
    before = model.store.digest()
    with pytest.raises(StoreExistsError):
        SafeModel.fit(data(), model.store.path, SETTINGS)
    assert model.store.digest() == before


def test_a_copy_is_a_store_of_its_own(model: SafeModel, tmp_path: Path) -> None:
    model.copy_to(tmp_path / "copy")
    model.forget(ForgetRequest.of(owners=["u1"]))
    with SafeModel.open(tmp_path / "copy", write=True) as copy:
        assert copy.status()["samples"] == 40
        copy.forget(ForgetRequest.of(owners=["u1"]))
        assert copy.store.digest() == model.store.digest()


@pytest.mark.parametrize("tune_on", ["", "s1"])
def test_heads_are_ready_when_a_generation_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune_on: str
) -> None:
    solved: list[int] = []
    published: list[int] = []
    plain, publish = reading.solve_all, Store.publish
    monkeypatch.setattr(
        reading,
        "solve_all",
        lambda tallies, rule: [solved.append(len(tallies)), plain(tallies, rule)][1],
    )
    monkeypatch.setattr(
        Store,
        "publish",
        lambda store, change: [published.append(sum(solved)), publish(store, change)][1],
    )
    tally = {"heads": 2, "value_width": 4, "tune_on": tune_on}
    settings = FitSettings(shards=4, graph="tallied:3", tally=tally)
    fitted, _ = SafeModel.fit(data(), tmp_path / "store", settings)
    with fitted:
        fitted.forget(ForgetRequest.of(samples=["1"]))
        assert sum(solved) == 0, "nobody has asked this process for an answer"
        before = fitted.snapshot()
        assert sum(solved) == 3
        fitted.forget(ForgetRequest.of(samples=["3"]))
        assert published[-1] == sum(solved) == 6, "heads were not there when a generation was"
        held = {digest for digest, _ in fitted._answerer.cache._heads}
        assert held == set(fitted.store.view().tallies.values()), "heads outlive their tallies"
        after = fitted.snapshot()
        assert sum(solved) == 6, "the answer had to wait for heads"
        assert after.view.generation == before.view.generation + 1
        tokens = fitted.encode(data())
        assert (
            after.answer(tokens).probabilities.tobytes()
            != before.answer(tokens).probabilities.tobytes()
        )
        with SafeModel.open(tmp_path / "store") as reader:
            again = reader.answer(tokens)
        assert again.probabilities.tobytes() == after.answer(tokens).probabilities.tobytes()
