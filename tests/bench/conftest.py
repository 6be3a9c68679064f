"""A small made-up data set on which every method does far better than chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shardgraph.bench.data import BenchData, Part
from shardgraph.data.sample import Sample
from shardgraph.identity import SampleId
from shardgraph.runtime import pinned_threads

CLASSES, TOKENS, WIDTH = 4, 3, 16


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with pinned_threads():
        yield


def part(count: int, seed: int, name: str) -> Part:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, TOKENS, WIDTH)) * 1.5
    labels = [row % CLASSES for row in range(count)]
    tokens = centres[labels] + generator.normal(size=(count, TOKENS, WIDTH))
    samples = [
        Sample(SampleId(f"{name}-{row}"), f"class {label}") for row, label in enumerate(labels)
    ]
    return Part(tuple(samples), tokens.astype(np.float16))


@pytest.fixture(scope="session")
def data() -> BenchData:
    return BenchData("made up", "none:none", part(96, 1, "train"), part(60, 2, "test"))
