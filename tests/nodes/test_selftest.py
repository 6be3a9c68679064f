"""The machine check passes where it should, and notices what it is there to notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shardgraph.nodes import selftest, train
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.selftest import check_machine
from shardgraph.nodes.weights import NodeWeights

FAST = Recipe(heads=2, value_width=16, epochs=1, batch_size=32)


def _check() -> selftest.MachineCheck:
    return check_machine(FAST, tokens=4, width=16, samples=(3, 40), classes=(1, 3))


def test_this_machine_may_stack() -> None:
    check = _check()
    assert check.repeatable
    assert check.stacked
    assert [finding.name for finding in check.findings] == ["repeat", "together", "place"]
    assert all("for all 12 nodes" in finding.detail for finding in check.findings)


def _nudged(node: NodeWeights) -> NodeWeights:
    arrays = {name: array.copy() for name, array in node.arrays.items()}
    arrays["values"].flat[0] = np.nextafter(arrays["values"].flat[0], np.float32(9))
    return NodeWeights(node.node, node.kind, node.classes, arrays)


def test_a_last_bit_that_depends_on_the_stack_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(jobs: Sequence[Any], recipe: Recipe, **options: Any) -> list[NodeWeights]:
        weights = train.train(jobs, recipe, **options)
        return weights if options.get("stacked") is False else [_nudged(weights[0]), *weights[1:]]

    monkeypatch.setattr(selftest, "train", faulty)
    check = _check()
    assert check.repeatable
    assert not check.stacked
    assert [finding.holds for finding in check.findings] == [True, False, False]
    assert "other bytes for 1 nodes" in check.findings[1].detail


def test_bits_that_do_not_repeat_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def faulty(jobs: Sequence[Any], recipe: Recipe, **options: Any) -> list[NodeWeights]:
        calls.append(1)
        weights = train.train(jobs, recipe, **options)
        return weights if len(calls) == 1 else [_nudged(node) for node in weights]

    monkeypatch.setattr(selftest, "train", faulty)
    assert not _check().repeatable
