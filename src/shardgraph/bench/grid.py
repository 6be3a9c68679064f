"""Everything that a configuration asks for, cell by cell; finished cells are not run again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shardgraph.bench import cells
from shardgraph.bench.config import BenchConfig
from shardgraph.bench.data import BenchData
from shardgraph.bench.methods.catalogue import Spec, Tuned
from shardgraph.bench.methods.sharded import Memory
from shardgraph.bench.records import Records
from shardgraph.bench.tuning import SEED, Tuner
from shardgraph.forgetting.progress import Progress
from shardgraph.identity import digest_json

Record = dict[str, Any]


@dataclass(frozen=True)
class _Cell:
    """One thing to measure: what identifies it, and how."""

    config: dict[str, Any]
    run: Callable[..., cells.Results]


def run_grid(data: BenchData, config: BenchConfig, out: Path, progress: Progress) -> list[Record]:
    """The records of all cells for one data set, in a fixed order.

    Interrupted, the same call goes on with the first cell that has no record. A change of the
    code that decides results, of the settings or of the data makes a new record; old ones stay.
    """
    records = Records(out / "records")
    about = {"data": data.name, "encoder": data.encoder, "rows": data_digest(data)}
    tuning = _tune(data, config, about, records, progress)
    tuned = Tuned(**tuning["results"]["tuned"])
    found = [tuning]
    wanted = list(_cells(data, config, tuned, about))
    memories = {cell.config["seed"]: Memory() for cell in wanted}
    for number, cell in enumerate(wanted):
        record = records.find(cell.config)
        if record is None:
            memory = memories[cell.config["seed"]]
            record = records.keep(cell.config, cell.run(memory=memory))
        found.append(record)
        progress(f"comparing on {data.name}", number + 1, len(wanted), "cells")
    return found


def data_digest(data: BenchData) -> str:
    """SHA-256 of the ids, labels and order of all samples of a data set."""
    parts = (data.train, data.test, *([data.val] if data.val is not None else []))
    return digest_json([[[sample.id, sample.label] for sample in part.samples] for part in parts])


def _is_uneven(spec: Spec) -> bool:
    """Whether a few deletions cost far more than the others."""
    some_read = spec.family == "safe-tallies" and spec.nodes is not None
    return some_read or spec.graph.startswith("hub")


def _tune(
    data: BenchData, config: BenchConfig, about: Record, records: Records, progress: Progress
) -> Record:
    specs = (*config.methods, *config.streams.methods, *config.latency)
    families = sorted({spec.family for spec in specs})
    wanted = {**about, "families": families, "grid": config.tuning, "kind": "tuning", "seed": SEED}
    found = records.find(wanted)
    if found is None:
        tuner = Tuner(data.for_tuning(), config.tuning, progress)
        tuned = tuner.run(families)
        found = records.keep(wanted, {"trials": tuner.trials, "tuned": tuned.to_json()})
    return found


def _cells(data: BenchData, config: BenchConfig, tuned: Tuned, about: Record) -> Iterator[_Cell]:
    limits: Record = {"requests": config.requests, "request_seconds": config.request_seconds}
    uneven: Record = {"requests": config.uneven_requests, "request_seconds": 1e9}
    streams = config.streams

    def cell(kind: str, spec: Spec, seed: int, run: Callable[..., Any], **how: Any) -> _Cell:
        decided = {"method": spec.to_json(), "seed": seed, "tuned": tuned.to_json()}
        named = {"family": spec.family, "kind": kind, "title": spec.title}
        measure = partial(run, data, spec, tuned, seed, **how)
        return _Cell({**about, **decided, **named, **how}, measure)

    for spec in config.methods:
        for seed in config.seeds if spec.seeded else config.seeds[:1]:
            few = uneven if _is_uneven(spec) else limits
            yield cell("compare", spec, seed, cells.compare, **few)
    how = {"checkpoints": list(streams.checkpoints), "sources": streams.sources, **limits}
    for spec, order in itertools.product(streams.methods, streams.orders):
        for seed in config.seeds if streams.seeds is None else streams.seeds:
            yield cell("stream", spec, seed, cells.stream, order=order, **how)
    for spec in config.latency:
        yield cell("latency", spec, config.seeds[0], cells.latency)
