"""A whole run: data sets in, records, tables and pictures out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shardgraph import runtime
from shardgraph.activations.open import open_backbone
from shardgraph.bench import plots, tables
from shardgraph.bench.config import DEFAULT, QUICK, BenchConfig, read_config
from shardgraph.bench.data import DIGITS, load
from shardgraph.bench.grid import kept, run_grid
from shardgraph.bench.records import write_all
from shardgraph.errors import UsageError
from shardgraph.files import make_directory, write_atomic
from shardgraph.forgetting.progress import Progress


@dataclass(frozen=True)
class Wanted:
    """What a run covers: data sets, and what is compared on each."""

    data: tuple[str, ...]
    config: BenchConfig
    test: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run wrote."""

    cells: int
    pictures: list[Path]


def configured(
    data: Sequence[str],
    *,
    quick: bool = False,
    config: Path | None = None,
    methods: Sequence[str] = (),
    seeds: int | None = None,
    test: Path | None = None,
) -> Wanted:
    """What the options of the command ask for.

    Raises:
        UsageError: no data, contradicting options, fewer than one seed, or an unknown method.
    """
    if quick and config is not None:
        raise UsageError("--quick has its own configuration.", advice="Leave out --config.")
    if not data and not quick:
        raise UsageError("Name the data to compare on.", advice="Give a folder, or --quick.")
    if test is not None and len(data) != 1:
        raise UsageError("--test goes with one training folder.", advice="Name one DATA.")
    chosen = read_config(config or (QUICK if quick else DEFAULT))
    if methods:
        chosen = chosen.only(methods)
    if seeds is not None:
        if seeds < 1:
            raise UsageError("--seeds must be at least 1.", advice="Three give an interval.")
        chosen = replace(chosen, seeds=tuple(range(seeds)))
    return Wanted(tuple(data) or (DIGITS,), chosen, test)


def bench_all(
    wanted: Wanted,
    out: Path,
    *,
    backbone: str,
    layer: str | None,
    progress: Progress,
    jobs: int | None = None,
    measure: bool = True,
) -> Outcome:
    """Run what is wanted and write ``results.json``, ``results.md`` and ``plots/`` below ``out``.

    Without ``measure``, what an interrupted run has measured is written, and nothing else is done.

    Raises:
        UsageError: fewer than one job, or nothing was kept.
        DataError, BadFileError, RecipeError: as `shardgraph.bench.data.load` says.
    """
    if jobs is not None and jobs < 1:
        raise UsageError("--jobs must be at least 1.", advice="Leave it out for one per core.")
    began, started = time.perf_counter(), time.time()
    encoder = open_backbone(backbone, layer)
    records: list[dict[str, Any]] = []
    for spec in wanted.data:
        data = load(spec, encoder, out / "activations", progress, wanted.test)
        if measure:
            records += run_grid(data, wanted.config, out, progress, jobs)
        else:
            records += kept(data, wanted.config, out)
    if not records:
        raise UsageError(
            f"Nothing that this version has measured lies in {out}.",
            advice="Leave out --kept to measure.",
        )
    run = {
        "cells": len(records),
        "cells_found": sum(record["ended"] < started for record in records),
        "jobs": jobs or runtime.worker_count(),
        "wall_seconds": time.perf_counter() - began,
    }
    return publish(records, run, out)


def publish(records: list[dict[str, Any]], run: dict[str, Any], out: Path) -> Outcome:
    """Write records, what is said of the run, tables and pictures."""
    make_directory(out)
    write_all(out / "results.json", records, run)
    write_atomic(out / "results.md", tables.page(records, [run]).encode())
    return Outcome(len(records), plots.draw_all(records, out / "plots"))
