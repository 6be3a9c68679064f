"""Fill the tables of README.md and docs/results.md from records, and draw their pictures.

    python benchmarks/pages.py

Records are ``results/bench_*.json``: the ``results.json`` of ``shardgraph bench``, copied. A table
stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; text around it is written by hand.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardgraph.bench import plots, tables
from shardgraph.bench.records import read_all
from shardgraph.bench.summary import of_kind, rows, streams, where

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURES = ROOT / "docs" / "images" / "results"
RECORDS = sorted((ROOT / "benchmarks" / "results").glob("bench_*.json"))

SHORT = (
    "no sharding, one adapter",
    "SISA, 16 shards",
    "SISA, 64 shards",
    "ProtoSISA, 16 shards",
    "S3T policy, 16 shards x 4 slices",
    "SAFE cliques:2, 16 shards",
    "SAFE isolated + tallies of all, trained, 4 shards",
    "SAFE isolated, 16 nodes + tallies of all-but:8, discriminant, 64 shards",
    "random attention + tallies, 16 nodes",
    "ridge on pooled activations",
)
"""The rows of the README's table."""

MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = dict[str, Any]


def main() -> None:
    records = all_records()
    for page in PAGES:
        page.write_text(filled(page.read_text(), records))
    with tempfile.TemporaryDirectory() as folder:
        plots.draw_all(records, Path(folder))
        plots.save(plots.overview(records), Path(folder) / "overview")
        PICTURES.mkdir(parents=True, exist_ok=True)
        for picture in Path(folder).glob("*.svg"):
            shutil.copy(picture, PICTURES / picture.name)


def all_records() -> list[Record]:
    return [record for path in RECORDS for record in read_all(path)]


def filled(text: str, records: list[Record]) -> str:
    """The page with every marked table made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{made(found[2], records)}\n{found[3]}", text)


def made(name: str, records: list[Record]) -> str:
    """The table called NAME: ``short``, ``conditions``, or ``KIND DATA ENCODER``."""
    if name == "short":
        return tables.short(records, SHORT)
    if name == "conditions":
        return tables.conditions(records)
    kind, data, encoder = name.split(" ", 2)
    here = [record for record in records if where(record) == (data, encoder)]
    makers: dict[str, Callable[[], str]] = {
        "comparison": lambda: tables.comparison(rows(here)),
        "equal-cost": lambda: tables.equal_cost(rows(here)),
        "latency": lambda: tables.latency_table(of_kind(here, "latency")),
        "settings": lambda: tables.tuning_table(of_kind(here, "tuning")[-1]),
        "skewed": lambda: tables.stream_table(streams(here)[data, encoder, "skewed"]),
        "unbeaten": lambda: tables.unbeaten(rows(here)),
        "uniform": lambda: tables.stream_table(streams(here)[data, encoder, "uniform"]),
    }
    return makers[kind]()


if __name__ == "__main__":
    main()
