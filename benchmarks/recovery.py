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


def fit(samples: int, path: Path, graph: str) -> SafeModel:
    """A store of made-up samples, a hundred classes, two to an owner."""
    random = np.random.Generator(np.random.Philox(5))
    tokens = random.standard_normal((samples, 1, 8)).astype(np.float16)
    data = ArrayDataset(
        tokens,
        [f"class{n % 100}" for n in range(samples)],
        ids=[f"folder{n % 100}/image-{n}.jpg" for n in range(samples)],
        owners=[f"owner-{n // 2}" for n in range(samples)],
    )
    tallies = "own" if graph == "isolated" else None
    settings = FitSettings(graph=graph, shards=64, tallies=tallies, tally=_TALLY)
    return SafeModel.fit(data, path, settings)[0]


def killed(model: SafeModel, path: Path, copy: Path, request: ForgetRequest) -> Path:
    """The store as it lies after a process was killed with the request just accepted."""
    fenced = model.plan(request).fenced
    ids = [record.id for record in model._wanted(request)]
    model.store.accept(request.key, "forget", ids, fenced)
    model.close()
    return Path(shutil.copytree(path, copy))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    given = parser.parse_args()
    results: dict[str, object] = {}
    for name, graph, wanted in (
        ("one_owner_isolated", "isolated", {"owners": ["owner-7"]}),
        ("many_owners_isolated", "isolated", {"owners": [f"owner-{n}" for n in range(0, 2000, 4)]}),
        ("one_owner_tallied", "tallied", {"owners": ["owner-7"]}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "store")
            started = time.perf_counter()
            model = fit(given.samples, path, graph)
            fitted = time.perf_counter() - started
            with_request = killed(model, path, Path(folder, "killed"), ForgetRequest.of(**wanted))
            found = seconds_until_refits(with_request)
            started = time.perf_counter()
            SafeModel.open(with_request, write=True).close()
            whole = time.perf_counter() - started
            started = time.perf_counter()
            with SafeModel.open(with_request) as reader:
                reader.snapshot()
            results[name] = {
                "seconds_to_fit": round(fitted, 3),
                "seconds_to_open": round(found["open"], 3),
                "seconds_until_first_refit": round(found["until_first_refit"], 3),
                "processor_seconds_until_first_refit": round(found["processor"], 3),
                "seconds_of_whole_recovery": round(whole, 3),
                "seconds_to_first_answer_of_a_reader": round(time.perf_counter() - started, 3),
            }
            print(name, results[name])
    record("recovery", {"samples": given.samples, "shards": 64}, results)


if __name__ == "__main__":
    main()
