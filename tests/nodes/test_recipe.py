"""A recipe is canonical, and refuses what cannot be."""

from __future__ import annotations

import dataclasses
import json

import pytest

from shardgraph.errors import RecipeError
from shardgraph.identity import canonical_json
from shardgraph.nodes.recipe import Recipe


def test_json_round_trip_keeps_every_setting() -> None:
    recipe = Recipe(heads=3, queries=2, value_width=32, epochs=7, batch_size=16, warmup=0.0)
    text = canonical_json(recipe.to_json())
    assert Recipe.from_json(json.loads(text)) == recipe
    assert Recipe.from_json(json.loads(text)).digest == recipe.digest


def test_every_setting_decides_the_digest() -> None:
    changed = {
        "kind": "open-inca",
        "heads": 5,
        "queries": 3,
        "value_width": 16,
        "epochs": 2,
        "batch_size": 24,
        "learning_rate": 0.5,
        "weight_decay": 0.5,
        "label_smoothing": 0.5,
        "warmup": 0.5,
    }
    assert set(changed) == {field.name for field in dataclasses.fields(Recipe)}
    digests = {Recipe(**{name: value}).digest for name, value in changed.items()}  # type: ignore[arg-type]
    assert len(digests | {Recipe().digest}) == len(changed) + 1


def test_whole_numbers_in_place_of_floats_give_the_same_recipe() -> None:
    assert Recipe(weight_decay=0).digest == Recipe(weight_decay=0.0).digest
    assert Recipe(learning_rate=1) == Recipe(learning_rate=1.0)
    assert isinstance(Recipe(learning_rate=1).learning_rate, float)


def test_unknown_settings_are_named_with_advice() -> None:
    with pytest.raises(RecipeError, match=r"learning_speed.*Known settings: .*learning_rate"):
        Recipe.from_json({"learning_speed": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "mlp"),
        ("heads", 0),
        ("queries", -1),
        ("value_width", 24),
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", 12),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "fast"),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("warmup", 1.0),
        ("warmup", float("nan")),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RecipeError, match=f"{name}=.*not possible"):
        Recipe.from_json({name: value})


def test_open_inca_has_one_query_per_class() -> None:
    assert Recipe(kind="open-inca").queries == 1
    with pytest.raises(RecipeError, match="one query per class"):
        Recipe(kind="open-inca", queries=2)
