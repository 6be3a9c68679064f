"""Fill the tables of README.md and docs/results.md from records, and draw their pictures.

    python benchmarks/pages.py

Records are ``results/bench_*.json``: the ``results.json`` of ``shardgraph bench``, copied. A table
stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; text around it is written by hand.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardgraph.bench import plots, tables
from shardgraph.bench.records import read_all, read_run
from shardgraph.bench.summary import of_kind, rows, streams, where

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURES = ROOT / "docs" / "images" / "results"
RECORDS = sorted((ROOT / "benchmarks" / "results").glob("bench_*.json"))

RIDGE = "ridge on pooled activations"
RANDOM = "random attention + tallies, 16 nodes"
ONE = "no sharding, one adapter"
READING = "SAFE isolated, 16 nodes + tallies of all-but:8, discriminant, 64 shards"
TRAINED_1 = "SAFE isolated + tallies of all, trained, 1 shards"
TRAINED_4 = "SAFE isolated + tallies of all, trained, 4 shards"
TRAINED_16 = "SAFE isolated + tallies of all-but:8, trained, 16 shards"

Named = tuple[tuple[str, str], ...]


def plain(*titles: str) -> Named:
    """Methods under their own titles."""
    return tuple((title, title) for title in titles)


ACROSS: dict[str, Named] = {
    "short": plain(
        ONE,
        "SISA, 16 shards",
        "SISA, 64 shards",
        "ProtoSISA, 16 shards",
        "S3T policy, 16 shards x 4 slices",
        "SAFE cliques:2, 16 shards",
        TRAINED_4,
        READING,
        RANDOM,
        RIDGE,
    ),
    "choose": (
        ("cheap deletions, good answers: **`tallied:16`**", RANDOM),
        (
            "the same with 64 nodes, the default of `shardgraph fit`",
            "random attention + tallies, 64 nodes",
        ),
        ("the best answers of a graph: **trained nodes that tally**, 16 shards", TRAINED_16),
        ("the same with 4 shards", TRAINED_4),
        ("no dependency at all: **ridge** on pooled activations", RIDGE),
        ("deletions are so rare that you can refit all: **one adapter**", ONE),
        ("the same with tallies beside its head", TRAINED_1),
    ),
    "isolated": plain(ONE, *(f"SISA, {shards} shards" for shards in (4, 16, 64, 256))),
    "small": plain(
        ONE,
        "SISA, 4 shards",
        "SISA, 64 shards",
        "SISA, 256 shards",
        READING,
        READING.replace("64 shards", "256 shards"),
        RANDOM,
    ),
    "attention": plain(RIDGE, RANDOM, READING, TRAINED_4, TRAINED_16),
}
"""Tables over all data sets and encoders: what a line is called, and the method in it."""

GAINS = (
    "SAFE cliques:2, 16 shards",
    "SAFE ring:2, 16 shards",
    "SAFE random:2, 16 shards",
    "SAFE hub:1, 16 shards",
    TRAINED_4,
    TRAINED_16,
    READING,
)

CELL = ("data", "encoder", "kind", "method", "order", "seed", "families")
"""What makes two records those of one cell, whatever their settings."""

MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = dict[str, Any]


def main() -> None:
    records = all_records()
    for page in PAGES:
        page.write_text(filled(page.read_text(), records))
    with tempfile.TemporaryDirectory() as folder:
        plots.draw_all(records, Path(folder))
        plots.save(plots.overview(records), Path(folder) / "overview")
        shutil.rmtree(PICTURES, ignore_errors=True)
        PICTURES.mkdir(parents=True)
        for picture in Path(folder).glob("*.svg"):
            shutil.copy(picture, PICTURES / picture.name)


def all_records() -> list[Record]:
    """All records; of two of one cell, that of the file whose name comes later."""
    found = {}
    for path in RECORDS:
        for record in read_all(path):
            about = {name: record["config"].get(name) for name in CELL}
            found[json.dumps(about, sort_keys=True)] = record
    return list(found.values())


def filled(text: str, records: list[Record]) -> str:
    """The page with every marked table made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{made(found[2], records)}\n{found[3]}", text)


def made(name: str, records: list[Record]) -> str:
    """The table called NAME: ``across WHICH``, ``gains``, ``runs``, or ``KIND DATA ENCODER``."""
    if name == "gains":
        return tables.gains(records, GAINS)
    if name == "runs":
        return runs()
    kind, _, rest = name.partition(" ")
    if kind == "across":
        return tables.across(records, ACROSS[rest])
    data, encoder = rest.split(" ", 1)
    here = [record for record in records if where(record) == (data, encoder)]
    makers: dict[str, Callable[[], str]] = {
        "comparison": lambda: tables.comparison(rows(here)),
        "equal-cost": lambda: tables.equal_cost(rows(here)),
        "latency": lambda: tables.latency_table(of_kind(here, "latency")),
        "settings": lambda: tables.tuning_table(of_kind(here, "tuning")),
        "skewed": lambda: tables.stream_table(streams(here)[data, encoder, "skewed"]),
        "unbeaten": lambda: tables.unbeaten(rows(here)),
        "uniform": lambda: tables.stream_table(streams(here)[data, encoder, "uniform"]),
    }
    return makers[kind]()


def runs() -> str:
    """A line for each file of records: what was measured when, on what, and how long it took."""
    lines = []
    for path in RECORDS:
        records = read_all(path)
        (data, encoder), *_ = tables.places(records)
        about = f"**{data}, {encoder}**: {tables.run_line(read_run(path))}"
        lines.append(f"- {about} {tables.conditions(records)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
