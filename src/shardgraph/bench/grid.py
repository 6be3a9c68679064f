"""Everything that a configuration asks for, cell by cell; finished cells are not run again."""

from __future__ import annotations

import itertools
import time
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
from shardgraph.bench.records import Records, code_digest
from shardgraph.bench.tuning import SEED, Tuner
from shardgraph.bench.workers import Desk, Workers, workers
from shardgraph.forgetting.progress import Progress
from shardgraph.identity import digest_json

Record = dict[str, Any]


@dataclass(frozen=True)
class _Cell:
    """One thing to measure: what identifies it, how, and where its record goes."""

    config: dict[str, Any]
    run: Callable[..., cells.Results]
    records: Records

    def __call__(self, desk: Desk) -> Record:
        """Measure it, and keep the record."""
        wall, processor = time.perf_counter(), time.process_time()
        results = self.run(desk.data, memory=desk.memory)
        took = {
            "processor_seconds": time.process_time() - processor,
            "wall_seconds": time.perf_counter() - wall,
        }
        return self.records.keep(self.config, results, took)


def run_grid(
    data: BenchData, config: BenchConfig, out: Path, progress: Progress, jobs: int | None = None
) -> list[Record]:
    """The records of all cells for one data set, in a fixed order.

    Cells are measured side by side, in so many processes (`workers`), except latencies by the
    clock: they come last, one by one, with all cores to themselves. Interrupted, the same call
    goes on with the cells that have no record. A change of the code that decides results, of the
    settings or of the data makes a new record; old ones stay.
    """
    records, about = Records(out / "records"), _about(data)
    fits = out / "fits" / code_digest()[:16]
    with workers(data, fits, jobs) as side_by_side:
        tuning = _tune(config, about, records, side_by_side, progress)
        tuned = Tuned(**tuning["results"]["tuned"])
        wanted = list(_cells(config, tuned, about, records))
        found = {place: records.find(cell.config) for place, cell in enumerate(wanted)}
        missing = [place for place, record in found.items() if record is None]
        shared = [place for place in missing if wanted[place].config["kind"] != "latency"]
        alone = [place for place in missing if place not in shared]

        def finished(place: int, record: Record) -> None:
            found[place] = record
            done = sum(record is not None for record in found.values())
            progress(f"comparing on {data.name}", done, len(wanted), "cells")

        for number, record in side_by_side([wanted[place] for place in shared]):
            finished(shared[number], record)
    desk = Desk(data, Memory(fits))
    for place in alone:
        finished(place, wanted[place](desk))
    return [tuning, *(record for record in found.values() if record is not None)]


def kept(data: BenchData, config: BenchConfig, out: Path) -> list[Record]:
    """The records that an interrupted run has left; nothing is measured."""
    records, about = Records(out / "records"), _about(data)
    tuning = records.find(_tuning_of(config, about))
    if tuning is None:
        return []
    wanted = _cells(config, Tuned(**tuning["results"]["tuned"]), about, records)
    found = (records.find(cell.config) for cell in wanted)
    return [tuning, *(record for record in found if record is not None)]


def _about(data: BenchData) -> Record:
    """What the records of one data set have in common."""
    return {"data": data.name, "encoder": data.encoder, "rows": data_digest(data)}


def data_digest(data: BenchData) -> str:
    """SHA-256 of the ids, labels and order of all samples of a data set."""
    parts = (data.train, data.test, *([data.val] if data.val is not None else []))
    return digest_json([[[sample.id, sample.label] for sample in part.samples] for part in parts])


def _is_uneven(spec: Spec) -> bool:
    """Whether a few deletions cost far more than the others."""
    some_read = spec.family == "safe-tallies" and spec.nodes is not None
    return some_read or spec.graph.startswith("hub")


def _tune(
    config: BenchConfig,
    about: Record,
    records: Records,
    side_by_side: Workers,
    progress: Progress,
) -> Record:
    wanted = _tuning_of(config, about)
    found = records.find(wanted)
    if found is None:
        began = time.perf_counter()
        tuner = Tuner(config.tuning, side_by_side, progress)
        tuned = tuner.run(wanted["families"])
        results = {"trials": tuner.trials, "tuned": tuned.to_json()}
        took = {"wall_seconds": time.perf_counter() - began}
        found = records.keep(wanted, results, took)
    return found


def _tuning_of(config: BenchConfig, about: Record) -> Record:
    specs = (*config.methods, *config.streams.methods, *config.latency)
    families = sorted({spec.family for spec in specs})
    return {**about, "families": families, "grid": config.tuning, "kind": "tuning", "seed": SEED}


def _cells(config: BenchConfig, tuned: Tuned, about: Record, records: Records) -> Iterator[_Cell]:
    limits: Record = {"requests": config.requests, "request_seconds": config.request_seconds}
    uneven: Record = {"requests": config.uneven_requests, "request_seconds": 1e9}
    streams = config.streams

    def cell(kind: str, spec: Spec, seed: int, run: Callable[..., Any], **how: Any) -> _Cell:
        settings = tuned.for_family(spec.family)
        decided = {"method": spec.to_json(), "seed": seed, "tuned": settings.to_json()}
        named = {"family": spec.family, "kind": kind, "title": spec.title}
        measure = partial(run, spec=spec, tuned=settings, seed=seed, **how)
        return _Cell({**about, **decided, **named, **how}, measure, records)

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
