"""The tables of README and results page are what the records give."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shardgraph.bench.config import DEFAULT, read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "benchmarks" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pages"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_tables_are_those_of_the_records(pages: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text()
    assert pages.MARKED.search(text), "a page without tables checks nothing"
    assert pages.filled(text, pages.all_records()) == text, "run python benchmarks/pages.py"


def test_a_changed_figure_would_be_noticed(pages: ModuleType) -> None:
    text = (ROOT / "README.md").read_text()
    table = pages.MARKED.search(text)
    changed = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), table[0], count=1)
    assert pages.filled(text.replace(table[0], changed), pages.all_records()) == text


def test_records_are_of_the_default_configuration(pages: ModuleType) -> None:
    """On two data sets at least, every family, and nothing that the configuration does not ask."""
    config = read_config(DEFAULT)
    asked = {spec.title: spec.family for spec in config.methods}
    found: dict[Any, set[str]] = {}
    for record in pages.all_records():
        place = record["config"]["data"], record["config"]["encoder"]
        if record["config"]["kind"] == "compare":
            assert record["config"]["seed"] in config.seeds
            found.setdefault(place, set()).add(record["config"]["title"])
    assert len(found) >= 2
    for place, titles in found.items():
        assert titles <= set(asked), place
        assert {asked[title] for title in titles} == set(asked.values()), place


def test_records_name_no_place_on_a_machine(pages: ModuleType) -> None:
    for path in pages.RECORDS:
        assert not re.search(r"/(work|home|tmp|root|Users)/", path.read_text()), path.name
