"""The tables of README and results page are what the records give."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

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


def test_records_are_of_the_configurations(pages: ModuleType) -> None:
    """Two data sets and two encoders: all families asked for, and nothing that is not."""
    places = set()
    for path in pages.RECORDS:
        vit = path.stem.endswith("_vit")
        config = read_config(ROOT / "benchmarks" / "vit.json" if vit else DEFAULT)
        asked = {spec.title: spec.family for spec in config.methods}
        found = [r["config"] for r in pages.read_all(path) if r["config"]["kind"] == "compare"]
        assert {record["seed"] for record in found} <= set(config.seeds)
        titles = {record["title"] for record in found}
        assert titles <= set(asked), path.name
        assert {asked[title] for title in titles} == set(asked.values()), path.name
        places |= {(record["data"], record["encoder"]) for record in found}
    assert len({data for data, _ in places}) >= 2
    assert len({encoder for _, encoder in places}) >= 2


def test_records_name_no_place_on_a_machine(pages: ModuleType) -> None:
    for path in pages.RECORDS:
        assert not re.search(r"/(work|home|tmp|root|Users)/", path.read_text()), path.name
