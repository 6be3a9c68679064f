"""How long a store of 100,000 samples takes to come back after a kill, before it refits anything.

    python benchmarks/recovery.py [--samples N]

Fits a store of made-up activations (one token of eight numbers, so that rows and files of samples
are what costs, not fitting), accepts a request and leaves the store as a killed process leaves it.
Then measures, in this process, from opening the store to the first node that is fitted again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from common import record

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting import carry_out
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from shardgraph.store import Store

_TALLY = {"heads": 2, "value_width": 4}


class _ReachedError(Exception):
    """The first refit is due."""


def fit(samples: int, path: Path) -> SafeModel:
    """A store of made-up samples, a hundred classes, two to an owner."""
    random = np.random.Generator(np.random.Philox(5))
    tokens = random.standard_normal((samples, 1, 8)).astype(np.float16)
    data = ArrayDataset(
        tokens,
        [f"class{n % 100}" for n in range(samples)],
        ids=[f"folder{n % 100}/image-{n}.jpg" for n in range(samples)],
        owners=[f"owner-{n // 2}" for n in range(samples)],
    )
    settings = FitSettings(graph="isolated", shards=64, tallies="own", tally=_TALLY)
    return SafeModel.fit(data, path, settings)[0]


def killed(path: Path, copy: Path, request: ForgetRequest) -> Path:
    """A copy of the store as it lies after a process was killed with the request just accepted."""
    shutil.copytree(path, copy)
    with SafeModel.open(copy, write=True) as model:
        ids = [one.id for owner in request.owners for one in model.store.owned_by(owner)]
        model.store.accept(request.key, "forget", ids, model.plan(request).fenced)
    return copy


def seconds_until_refits(path: Path) -> dict[str, float]:
    """Seconds from opening for writing to the first refit, and of their first parts."""
    real = carry_out.fit_nodes

    def reached(*_: object, **__: object) -> None:
        raise _ReachedError

    carry_out.fit_nodes = reached  # type: ignore[assignment]
    try:
        started = time.perf_counter()
        with Store.open(path, "write"):
            opened = time.perf_counter() - started
        started = time.perf_counter()
        busy = time.process_time()
        with suppress(_ReachedError):
            SafeModel.open(path, write=True).close()
        until, busy = time.perf_counter() - started, time.process_time() - busy
    finally:
        carry_out.fit_nodes = real
    return {"open": opened, "until_first_refit": until, "processor": busy}


def measure(path: Path) -> dict[str, float]:
    """Seconds of the recovery of one store, and to a reader's first answer afterwards."""
    found = seconds_until_refits(path)
    started = time.perf_counter()
    SafeModel.open(path, write=True).close()
    found["whole_recovery"] = time.perf_counter() - started
    started = time.perf_counter()
    with SafeModel.open(path) as reader:
        reader.snapshot()
    found["first_snapshot_of_a_reader"] = time.perf_counter() - started
    return {f"seconds_{name}": round(seconds, 3) for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    given = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        started = time.perf_counter()
        fit(given.samples, path).close()
        results["seconds_to_fit"] = round(time.perf_counter() - started, 3)
        for name, owners in (("one_owner", 1), ("500_owners_in_every_shard", 500)):
            wanted = ForgetRequest.of(owners=[f"owner-{7 + 3 * n}" for n in range(owners)])
            results[name] = measure(killed(path, Path(folder, name), wanted))
            print(name, results[name])
    record("recovery", {"samples": given.samples, "shards": 64}, results)


if __name__ == "__main__":
    main()
