"""A store of a million samples: how long it takes to fit, open and forget, and how much it holds.

    python benchmarks/large.py [--samples N] [--classes C] [--tokens T] [--width D] [--graph NAME]

Activations are made up (a direction for each class, and noise), since what is asked is how the
store, the plan and the tallies grow; accuracy is that of made-up data. Every sample has an owner of
ten samples. The figures: fitting, opening for reading, the first answer, one request for a sample,
for an owner and for a thousand samples, each until the new generation answers and until the
receipt. Memory is the most that this process held, mapped files included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import record

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

PER_OWNER = 10
TOGETHER = 1000
_BLOCK = 4096


def made_up(path: Path, given: argparse.Namespace) -> ArrayDataset:
    """Activations in a file, float16 [N, T, D], mapped into memory."""
    random = np.random.Generator(np.random.Philox(11))
    centres = random.standard_normal((given.classes, given.tokens, given.width), np.float32)
    shape = (given.samples, given.tokens, given.width)
    tokens = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    labels = random.integers(0, given.classes, given.samples)
    for start in range(0, given.samples, _BLOCK):
        chosen = labels[start : start + _BLOCK]
        noise = random.standard_normal((len(chosen), *shape[1:]), np.float32)
        tokens[start : start + _BLOCK] = 0.5 * centres[chosen] + noise
    tokens.flush()
    return ArrayDataset(
        np.load(path, mmap_mode="r"),
        [f"class-{label}" for label in labels],
        ids=[f"folder-{n % 997}/image-{n}.jpg" for n in range(given.samples)],
        owners=[f"owner-{n // PER_OWNER}" for n in range(given.samples)],
    )


class Clock:
    """Wall and processor seconds of named steps."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, float]]:
        wall, processor = time.perf_counter(), time.process_time()
        found = self.steps[name] = {}
        yield found
        found["seconds"] = round(time.perf_counter() - wall, 3)
        found["processor_seconds"] = round(time.process_time() - processor, 3)
        found["peak_resident_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(name, found, flush=True)


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    clock = Clock()
    with clock("make up the data"):
        data = made_up(folder / "made-up.npy", given)
    store = folder / "store"
    settings = FitSettings(graph=given.graph, shards=given.shards)
    with clock("fit"):
        SafeModel.fit(data, store, settings)[0].close()
    questions = np.array([data.read(row) for row in range(256)])
    with clock("open and answer the first"), SafeModel.open(store) as model:
        model.answer(questions[:1])
        size = dict(model.store.status().bytes)
    with SafeModel.open(store, write=True) as model:
        with clock("open for writing, answer 256"):
            said = model.answer(questions)
        right = [a == s.label for a, s in zip(said.labels, data.samples, strict=False)]
        found = {"accuracy_on_256_fitted": float(np.mean(right))}
        wanted: dict[str, Callable[[], ForgetRequest]] = {
            "a sample": lambda: ForgetRequest.of(samples=[data.samples[1].id]),
            "an owner": lambda: ForgetRequest.of(owners=["owner-7"]),
            "a thousand": lambda: ForgetRequest.of(
                samples=[data.samples[row].id for row in range(100, 100 + TOGETHER)]
            ),
        }
        for name, request in wanted.items():
            with clock(f"plan {name}"):
                model.plan(request())
            with clock(f"forget {name}") as found_here:
                outcome = model.forget(request())
            found_here["until_fenced"] = round(outcome.seconds_to_fence or 0.0, 4)
            found_here["until_published"] = round(outcome.seconds_to_publish or 0.0, 3)
    with clock("open and answer the first, later"), SafeModel.open(store) as model:
        model.answer(questions[:1])
    return {"bytes": size, "steps": clock.steps, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--graph", default="tallied:16")
    parser.add_argument("--shards", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(given, Path(folder))
    print(record("large", vars(given), results).read_text())


if __name__ == "__main__":
    main()
