"""Random histories on real activations: after each, every file against a fit from scratch.

    python benchmarks/histories.py [--data cub100] [--histories 200] [--samples 100] [--steps 6]

A history fits three quarters of a random choice of the training images, then takes random steps:
forget one sample, twelve at once, an owner, most of a source, all that is left of a class, the
sample that the model is surest of, a whole shard; add back some of what is gone; close the store
and open it again; a step with nothing to do is passed over. Owners and sources are synthetic, dealt
out by position: the data has none.

Then a process that never saw a history fits the live samples from scratch, in a directory of
another name and depth, given in reversed order. Such a process is forked from a server that has
imported the package and nothing else, has another hash seed than the histories, and does ten fits.
Compared are the influence digest and the name and bytes of every file of the store but the
database, its companions, the lock and the signing key, which remember that requests happened.
Histories go through `KINDS` of nodes and graphs in turn. Exits with 1 on a mismatch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import activations, data_folder, record

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.graph.topologies import by_source, parse
from shardgraph.model import SafeModel

ACCOUNTABILITY = ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm", "lock", "keys")
SOURCES = ("licensed", "web", "archive")
STEPS = ("one", "several", "owner", "source", "class", "surest", "shard", "add", "add", "reopen")
MOST_OF_SOURCE = 30
FITS_PER_PROCESS = 10
ARRAYS = "activations.npy"
SMALL = {"heads": 8, "value_width": 16}
KINDS: dict[str, dict[str, Any]] = {
    "isolated": {"shards": 8, "graph": "isolated"},
    "cliques:2": {"shards": 8, "graph": "cliques:2"},
    "ring:3": {"shards": 8, "graph": "ring:3"},
    "random:2": {"shards": 8, "graph": "random:2"},
    "two-level:2": {"shards": 8, "graph": "two-level:2"},
    "complete": {"shards": 3, "graph": "complete"},
    "hub:1, a safe source": {"shards": 8, "graph": "hub:1", "safe_sources": ("licensed",)},
    "ring:2, web apart": {
        "graph": by_source({"web": parse("ring:2", 3)}, parse("ring:2", 5)),
    },
    "tallied, default width": {"shards": 8, "graph": "tallied:6"},
    "tallied": {"shards": 16, "graph": "tallied:9", "tally": SMALL},
    "isolated, trained, tallies all": {
        "shards": 8,
        "graph": "isolated",
        "tallies": "all",
        "tally": {"representation": "trained"},
    },
    "ring:2, discriminant, all-but:4": {
        "shards": 8,
        "graph": "ring:2",
        "tallies": "all-but:4",
        "tally": SMALL,
    },
    "cliques:2, random, tallies own": {
        "shards": 8,
        "graph": "cliques:2",
        "tallies": "own",
        "tally": {**SMALL, "representation": "random"},
    },
}


@dataclass
class Fresh:
    """What the process that never saw the history is told, and what it found."""

    arrays: Path
    rows: Sequence[int]
    labels: Sequence[str]
    names: Sequence[tuple[str, str | None, str]]
    settings: FitSettings
    place: Path


@dataclass
class Lived:
    """How one history ended."""

    number: int
    kind: str
    steps: list[str]
    path: Path
    digest: str
    told: Fresh


@dataclass
class World:
    """The samples of one history: drawn rows of the data, and which of them are live."""

    tokens: np.ndarray
    labels: dict[int, str]
    names: dict[int, tuple[str, str | None, str]]  # id, owner, source
    live: set[int]
    gone: set[int] = field(default_factory=set)

    def dataset(self, rows: Sequence[int]) -> ArrayDataset:
        return dataset(
            self.tokens, rows, [self.labels[r] for r in rows], [self.names[r] for r in rows]
        )

    def forget(self, rows: set[int]) -> None:
        self.live -= rows
        self.gone |= rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="histories lived side by side")
    parser.add_argument("--first", type=int, default=0, help="number of the first history")
    options = parser.parse_args()
    tokens, labels, ids = activations(data_folder() / options.data / "train")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["histories"])
    started = time.perf_counter()
    with (
        ProcessPoolExecutor(
            options.jobs, mp_context=multiprocessing.get_context("spawn")
        ) as livers,
        ProcessPoolExecutor(1, mp_context=server, max_tasks_per_child=FITS_PER_PROCESS) as fitters,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = Path(name)
        np.save(folder / ARRAYS, tokens)
        waiting = [
            livers.submit(live, number, folder, labels, ids, options)
            for number in range(options.first, options.first + options.histories)
        ]
        found = []
        for lived in waiting:
            found.append(compared(lived.result(), fitters))
            print(found[-1], flush=True)
    results = summary(found) | {"seconds": time.perf_counter() - started}
    print(record("histories", vars(options), results).read_text())
    sys.exit(1 if results["mismatches"] else 0)


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    taken = [step for item in found for step in item["steps"]]
    return {
        "bytes_compared": sum(item["bytes"] for item in found),
        "files_compared": sum(item["files"] for item in found),
        "fresh_processes": len({item["process"] for item in found}),
        "histories": len(found),
        "histories_by_kind": {
            kind: sum(item["kind"] == kind for item in found) for kind in sorted(KINDS)
        },
        "mismatches": [item for item in found if item["different"]],
        "steps": {name: taken.count(name) for name in sorted(set(STEPS))},
        "steps_in_all": len(taken),
    }


def live(
    number: int, folder: Path, labels: list[str], ids: list[str], options: argparse.Namespace
) -> Lived:
    """Live one history; where its store lies, and what a fit from scratch must be told."""
    choose = random.Random(number)
    kind = sorted(KINDS)[number % len(KINDS)]
    settings = FitSettings(**KINDS[kind], epochs=options.epochs, seed=number)
    tokens = np.load(folder / ARRAYS, mmap_mode="r")
    world = drawn(choose, tokens, labels, ids, options.samples)
    path = folder / f"lived-{number}"
    model, _ = SafeModel.fit(world.dataset(sorted(world.live)), path, settings)
    steps = []
    for _ in range(options.steps):
        steps.append(choose.choice(STEPS))
        model = step(steps[-1], model, world, choose)
    with model:
        digest = model.store.digest()
    rows = sorted(world.live, reverse=True)
    told = Fresh(
        folder / ARRAYS,
        rows,
        [world.labels[row] for row in rows],
        [world.names[row] for row in rows],
        settings,
        folder / "another" / f"place-{number}" / "fresh",
    )
    return Lived(number, kind, steps, path, digest, told)


def compared(lived: Lived, fitters: ProcessPoolExecutor) -> dict[str, Any]:
    """Have the end of a history fitted afresh, and compare; both stores are removed."""
    lived.told.place.parent.mkdir(parents=True)
    digest, process = fitters.submit(fit_afresh, lived.told).result()
    one, two = files(lived.path), files(lived.told.place)
    different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    shutil.rmtree(lived.path)
    shutil.rmtree(lived.told.place)
    return {
        "history": lived.number,
        "kind": lived.kind,
        "bytes": sum(map(len, two.values())),
        "files": len(two),
        "process": process,
        "steps": lived.steps,
        "different": different or ([] if digest == lived.digest else ["digest"]),
    }


def fit_afresh(told: Fresh) -> tuple[str, int]:
    """In a process of its own: fit, and return the digest and the process's number."""
    tokens = np.load(told.arrays, mmap_mode="r")
    model, _ = SafeModel.fit(
        dataset(tokens, told.rows, told.labels, told.names), told.place, told.settings
    )
    with model:
        return model.store.digest(), multiprocessing.current_process().pid or 0


def drawn(
    choose: random.Random, tokens: np.ndarray, labels: list[str], ids: list[str], count: int
) -> World:
    """A random choice of samples, the first three quarters of them live.

    Ten classes, so that they meet in a node. Four samples in a row share an owner, except that
    every fifth such group has none; sources alternate.
    """
    classes = choose.sample(sorted(set(labels)), 10)
    rows = [row for row, label in enumerate(labels) if label in classes]
    rows = choose.sample(rows, min(count, len(rows)))
    names = {
        row: (
            ids[row],
            None if place // 4 % 5 == 4 else f"owner-{place // 4}",
            SOURCES[place % len(SOURCES)],
        )
        for place, row in enumerate(rows)
    }
    live = set(rows[: len(rows) * 3 // 4])
    return World(tokens, {row: labels[row] for row in rows}, names, live, set(rows) - live)


def step(kind: str, model: SafeModel, world: World, choose: random.Random) -> SafeModel:
    """Take one step; the model to go on with."""
    if kind == "reopen":
        model.close()
        return SafeModel.open(model.store.path, write=True)
    if kind == "add":
        back = set(choose.sample(sorted(world.gone), min(15, len(world.gone))))
        if back:
            model.add(world.dataset(sorted(back)))
        world.live |= back
        world.gone -= back
        return model
    away = CHOICES[kind](model, world, choose)
    if not away or away == world.live:
        return model
    owners = {world.names[row][1] for row in away}
    if kind == "owner" and None not in owners:
        model.forget(ForgetRequest.of(owners=[str(owner) for owner in owners]))
    else:
        model.forget(ForgetRequest.of(samples=[world.names[row][0] for row in sorted(away)]))
    world.forget(away)
    return model


def an_owner(_model: SafeModel, world: World, choose: random.Random) -> set[int]:
    owner = world.names[choose.choice(sorted(world.live))][1]
    return {row for row in world.live if owner and world.names[row][1] == owner}


def a_source(_model: SafeModel, world: World, choose: random.Random) -> set[int]:
    source = choose.choice(SOURCES)
    rows = sorted(row for row in world.live if world.names[row][2] == source)
    return set(rows[:MOST_OF_SOURCE])


def a_class(_model: SafeModel, world: World, choose: random.Random) -> set[int]:
    label = world.labels[choose.choice(sorted(world.live))]
    return {row for row in world.live if world.labels[row] == label}


def the_surest(model: SafeModel, world: World, _choose: random.Random) -> set[int]:
    rows = sorted(world.live)
    sure = model.answer(world.tokens[rows]).probabilities.max(axis=1)
    return {rows[int(sure.argmax())]}


def a_shard(model: SafeModel, world: World, choose: random.Random) -> set[int]:
    shard_of = {
        record.id: record.shard
        for record in model.store.find(world.names[row][0] for row in sorted(world.live))
    }
    shard = choose.choice(sorted(set(shard_of.values())))
    return {row for row in world.live if shard_of[world.names[row][0]] == shard}


CHOICES = {
    "one": lambda _m, world, choose: {choose.choice(sorted(world.live))},
    "several": lambda _m, world, choose: set(choose.sample(sorted(world.live), 12)),
    "owner": an_owner,
    "source": a_source,
    "class": a_class,
    "surest": the_surest,
    "shard": a_shard,
}


def dataset(
    tokens: np.ndarray,
    rows: Sequence[int],
    labels: Sequence[str],
    names: Sequence[tuple[str, str | None, str]],
) -> ArrayDataset:
    ids, owners, sources = zip(*names, strict=True)
    return ArrayDataset(tokens[list(rows)], labels, ids=ids, owners=owners, sources=sources)


def files(store: Path) -> dict[str, bytes]:
    """Every file below a store, by name, but those that remember that requests happened."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.relative_to(store).parts[0] not in ACCOUNTABILITY
    }


if __name__ == "__main__":
    main()
