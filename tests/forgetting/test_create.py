"""How much tallies may take, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardgraph import FitSettings, ForgetRequest, SafeModel
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import RecipeError
from shardgraph.forgetting.reading import StoreReader
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph

ADAPTER = {"heads": 2, "value_width": 32, "epochs": 2}
EVERY = tuple(range(6))
KINDS = ShardGraph(
    6,
    (
        Node(0, (0,), EVERY, "trained"),
        Node(1, (0, 1), EVERY, "trained"),
        Node(2, (2,), EVERY, "discriminant"),
        Node(0, (0, 1), EVERY, "discriminant"),
        Node(None, (), EVERY, "random"),
    ),
)
"""Shards 0 and 1 are a safe part that some nodes read and nothing else; the rest reads more."""


def data(rows: list[int]) -> ArrayDataset:
    rng = np.random.default_rng(0)
    y = np.arange(72) % 3
    X = rng.normal(size=(72, 2, 8)) + 3 * rng.normal(size=(3, 2, 8))[y]
    return ArrayDataset(X[rows], y[rows], ids=rows)


def settings(**changes: Any) -> FitSettings:
    kept = {"graph": KINDS, "recipe": ADAPTER, "tally": {"heads": 4, "value_width": 8}}
    return FitSettings(**{**kept, **changes})


def tallied_bytes(path: Path, chosen: FitSettings) -> tuple[int, SafeModel]:
    model, _ = SafeModel.fit(data(list(range(72))), path, chosen)
    reader = StoreReader(model.store, model.store.view())
    return sum(reader.tally(node).nbytes for node in reader.view.tallies), model


def test_tallies_of_nodes_of_all_kinds_keep_to_the_budget(tmp_path: Path) -> None:
    whole, model = tallied_bytes(tmp_path / "whole", settings())
    model.close()
    budget = whole - 1000
    found, model = tallied_bytes(tmp_path / "less", settings(tally_budget=budget, tally_classes=3))
    model.close()
    assert 0 < found <= budget


def test_a_budget_that_trained_nodes_alone_exceed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="2 trained nodes"):
        SafeModel.fit(
            data([0, 1, 2]), tmp_path / "store", settings(tally_budget=1000, tally_classes=3)
        )
    assert not (tmp_path / "store").exists()


def test_adapters_whose_features_grow_with_the_classes_cannot_tally(tmp_path: Path) -> None:
    chosen = settings(recipe={**ADAPTER, "kind": "open-inca"})
    with pytest.raises(RecipeError, match="open-inca"):
        SafeModel.fit(data([0, 1, 2]), tmp_path / "store", chosen)
    assert not (tmp_path / "store").exists()


AS_TRAINED = {"heads": ADAPTER["heads"], "value_width": ADAPTER["value_width"]}
"""All kinds of one shape: only how they scale tokens keeps trained nodes in stacks of their own."""


@pytest.mark.parametrize(
    "tally", [{"heads": 4, "value_width": 8}, {**AS_TRAINED, "softmax_weight": 0.5}]
)
def test_kinds_mixed_in_one_graph_forget_to_the_bytes_of_a_fresh_fit(
    tmp_path: Path, tally: dict[str, Any]
) -> None:
    chosen = settings(tally=tally)
    everything = list(range(72))
    with SafeModel.fit(data(everything), tmp_path / "lived", chosen)[0] as model:
        assert len(model.snapshot().ensemble.nodes) == 5
        shard = {int(r.id): r.shard for s in EVERY for r in model.store.records(s)}
        unread = next(row for row in everything if shard[row] > 2)
        safe = next(row for row in everything if shard[row] == 0)
        outcome = model.forget(ForgetRequest.of(samples=[str(unread)]))
        assert (outcome.nodes_refit, outcome.nodes_subtracted) == ((), (0, 1, 2, 3, 4))
        outcome = model.forget(ForgetRequest.of(samples=[str(safe)]))
        assert (outcome.nodes_refit, outcome.nodes_subtracted) == ((0, 1, 3), (2, 4))
        left = [row for row in everything if row not in (unread, safe)]
        tokens = model.encode(data(everything))
        answer, digest = model.answer(tokens), model.store.digest()
    with SafeModel.fit(data(left), tmp_path / "fresh", chosen)[0] as fresh:
        assert fresh.store.digest() == digest
        assert fresh.answer(tokens).probabilities.tobytes() == answer.probabilities.tobytes()
