"""What this machine can be trusted in: tried when a store is created, and kept with it.

Exactness rests on properties of kernels that no library promises. Where one does not hold, the
slower path that does without it is chosen, recorded in the store's settings, and told to the user.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from shardgraph.activations.backbone import PRECOMPUTED, Backbone
from shardgraph.activations.selftest import check_batches
from shardgraph.errors import UsageError
from shardgraph.forgetting.refit import FitSetting
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.nodes.exactness import check_exactness
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.representation import Settings
from shardgraph.nodes.selftest import check_machine
from shardgraph.nodes.tally_recipe import TallyRecipe

_ADVICE = "Use another machine, or another build of torch."


def examine_machine(
    backbone: Backbone, graph: ShardGraph, recipe: Recipe, tally: TallyRecipe
) -> dict[str, Any]:
    """The settings of a store on this machine, by the self-tests that its graph calls for.

    - ``batch_size``: of the encoder; 1 where an activation depends on its batch. Activations that
      are given need no test, since nothing is computed from them.
    - ``stacked``: whether nodes may be trained together.
    - ``features``: the type in which integer features are computed, "float32", or "float64" where
      products of small integers are not exact in float32.

    The last two are tried once in a process for each recipe and shape.

    Raises:
        UsageError: fits do not repeat on this machine, so that nothing could be verified.
    """
    given = backbone.name == PRECOMPUTED
    size = backbone.batch_size if given else check_batches(backbone).batch_size
    shape = (backbone.tokens, backbone.width)
    setting = FitSetting(graph, Settings(recipe, tally), seed=0)
    trains = any(setting.kind_of(node) == "trained" for node in range(len(graph.nodes)))
    tallies = any(node.tallies for node in graph.nodes)
    return {
        "batch_size": size,
        "features": _features(tally, *shape) if tallies else "float32",
        "stacked": _may_stack(recipe, *shape) if trains else True,
    }


def slower_paths(settings: Mapping[str, Any], encoder: str) -> tuple[str, ...]:
    """One line for each slower path that the settings of a store say was chosen."""
    found = []
    if settings["batch_size"] == 1 and encoder != PRECOMPUTED:
        found.append("Images are encoded one at a time: an activation may depend on its batch.")
    if not settings["stacked"]:
        found.append("Nodes are trained one by one: together they get other bits on this machine.")
    if settings.get("features", "float32") != "float32":
        found.append("Features are computed in float64: float32 products are not exact here.")
    return tuple(found)


@functools.cache
def _may_stack(recipe: Recipe, tokens: int, width: int) -> bool:
    check = check_machine(recipe, tokens=tokens, width=width)
    if not check.repeatable:
        raise UsageError("Training twice gives different bytes on this machine.", advice=_ADVICE)
    return check.stacked


@functools.cache
def _features(recipe: TallyRecipe, tokens: int, width: int) -> str:
    found = check_exactness(
        tokens=tokens, width=width, heads=recipe.heads, value_width=recipe.value_width
    )
    holds = {finding.name: finding.holds for finding in found}
    if not holds["solve"]:
        raise UsageError(
            "Solving a head twice gives different bytes on this machine.", advice=_ADVICE
        )
    return "float32" if holds["products"] and holds["features"] else "float64"
