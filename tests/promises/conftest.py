"""The promises share a harness: a small world, an independent reference, clean fits elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.actor import Actor
from harness.fresh import FreshFits
from harness.world import World, scratch


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshFits]:
    """Fits from scratch in another process, one that no test has touched."""
    with FreshFits() as fits:
        yield fits


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty folder, in memory where the machine has such a place."""
    with scratch() as path:
        yield path


@pytest.fixture
def actor(directory: Path) -> Iterator[Actor]:
    """A fitted store over a graph in which every node reads three shards, with one source apart."""
    acting = Actor(World(0), "custom", directory)
    acting.fit(acting.world.ids[:24])
    yield acting
    acting.close()
