from __future__ import annotations

import dataclasses

import pytest

from shardgraph.errors import RecipeError
from shardgraph.nodes.tally_recipe import BUDGETED_SAMPLES, TallyRecipe


@pytest.mark.parametrize("budget", [20_000, 400_000, 3_000_000])
def test_a_budget_takes_the_widest_nodes_that_fit(budget: int) -> None:
    nodes, classes = 4, 9
    found = TallyRecipe().within(budget, nodes, classes)
    wider = dataclasses.replace(found, value_width=found.value_width + 1)
    taken, more = (
        nodes * recipe.bytes_per_node(classes, BUDGETED_SAMPLES) for recipe in (found, wider)
    )
    assert taken <= budget
    assert more > budget or found == TallyRecipe()
    assert dataclasses.replace(found, value_width=TallyRecipe().value_width) == TallyRecipe()


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(RecipeError, match="9 classes do not fit 100 bytes"):
        TallyRecipe().within(100, 4, 9)


def test_a_budget_holds_up_to_its_number_of_samples() -> None:
    recipe = TallyRecipe()
    before, after = (recipe.bytes_per_node(9, BUDGETED_SAMPLES + more) for more in (0, 1))
    assert after - 9 * 8 == 2 * (before - 9 * 8)
