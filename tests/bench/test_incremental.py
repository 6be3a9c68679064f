"""Stages that go on from earlier ones."""

from __future__ import annotations

import numpy as np

from shardgraph.bench.data import BenchData
from shardgraph.bench.methods.incremental import Stage, train_stage
from shardgraph.bench.methods.protocol import class_numbers
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.recipe import Recipe


def test_a_stage_learns_what_earlier_ones_do_not_say_yet(data: BenchData) -> None:
    recipe = Recipe(heads=2, value_width=16, epochs=2, batch_size=8, label_smoothing=0.0)
    tokens, targets = data.train.tokens, class_numbers(data.train)
    seen = np.ones(len(data.classes), bool)
    start = adapters.initialise(recipe, 0, tokens.shape[2], len(seen))

    def moved(before: np.ndarray | None) -> float:
        found = train_stage(start, Stage(tokens, targets, seen, before, seed=0), recipe)
        return float(np.abs(found["weight"] - start["weight"]).max())

    certain = 99 * np.eye(len(seen), dtype=np.float32)[targets]
    assert moved(certain) < 0.1 * moved(None)
