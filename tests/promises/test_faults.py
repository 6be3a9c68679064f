"""The suite can fail: it notices every planted fault, and nothing where none is planted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import store_faults  # noqa: F401 - registers its faults
import tally_faults  # noqa: F401 - the same
from faults import FAULTS, Fault, planted
from harness.battery import run_battery
from harness.fresh import FreshFits
from harness.world import scratch

LEAST = 30


@pytest.fixture(scope="module")
def noticed(figure: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Which check noticed which fault; counted at the end."""
    checks: dict[str, str] = {}
    yield checks
    figure(f"planted faults: {len(checks)} noticed of {len(FAULTS)}")


@pytest.mark.parametrize("graph", sorted({one.graph for one in FAULTS}))
def test_without_a_fault_nothing_is_noticed(graph: str, fresh: FreshFits) -> None:
    with scratch() as folder:
        assert run_battery(fresh, folder, graph) is None


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.name)
def test_notices(one: Fault, fresh: FreshFits, noticed: dict[str, str]) -> None:
    with scratch() as folder, planted(one):
        caught = run_battery(fresh, folder, one.graph)
    assert caught is not None, f"no check notices this fault: {one.name}"
    noticed[one.name] = caught.check


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/guide/exact.md"])
def test_the_documents_tell_how_many_faults_there_are(page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text()
    told = re.findall(r"(\d+) (?:named )?faults", text)
    assert told == [str(len(FAULTS))]


def test_there_are_enough_faults_and_each_has_its_name() -> None:
    assert len(FAULTS) >= LEAST
    assert len({one.name for one in FAULTS}) == len(FAULTS)
