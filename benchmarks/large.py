"""A store of a million samples: how long it takes to fit, open and forget, and how much it holds.

    python benchmarks/large.py [--samples N] [--classes C] [--tokens T] [--width D] [--graph NAME]

Activations are made up (a direction for each class, and noise), since what is asked is how the
store, the plan and the tallies grow; accuracy is that of made-up data. Every owner has ten samples.
Requests are planned first, then carried out, one after the other in one process: their files are
in the page cache. Of each step: wall and processor seconds; the most memory that was resident
meanwhile, mapped files included; and anonymous memory at its end. All of it lies below
``--folder``, whose file system decides what syncs cost.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import subprocess
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
QUESTIONS = 256
_BLOCK = 4096


def made_up(path: Path, given: argparse.Namespace) -> None:
    """Write activations, float16 [N, T, D], and labels beside them."""
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
    np.save(path.with_name("labels.npy"), labels)


def read(path: Path) -> ArrayDataset:
    """The data set that `made_up` wrote, mapped into memory."""
    labels = np.load(path.with_name("labels.npy"))
    return ArrayDataset(
        np.load(path, mmap_mode="r"),
        [f"class-{label}" for label in labels],
        ids=[f"folder-{n % 997}/image-{n}.jpg" for n in range(len(labels))],
        owners=[f"owner-{n // PER_OWNER}" for n in range(len(labels))],
    )


class Clock:
    """What named steps took."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Any]]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        wall, processor = time.perf_counter(), time.process_time()
        found = self.steps[name] = {}
        yield found
        found["seconds"] = round(time.perf_counter() - wall, 3)
        found["processor_seconds"] = round(time.process_time() - processor, 3)
        found["peak_resident_mib"], found["anonymous_mib"] = memory("VmHWM"), memory("RssAnon")
        print(name, found, flush=True)


def memory(name: str) -> int:
    """An entry of what Linux says of this process's memory, in MiB."""
    said = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(said.group(1)) // 1024 if said else 0


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    clock, store = Clock(), folder / "store"
    child = multiprocessing.get_context("spawn").Process(
        target=made_up, args=(folder / "made-up.npy", given)
    )
    child.start()
    child.join()
    with clock("read the list of samples"):
        data = read(folder / "made-up.npy")
    with clock("fit"):
        SafeModel.fit(data, store, FitSettings(graph=given.graph, shards=given.shards))[0].close()
    questions = np.array([data.read(row) for row in range(QUESTIONS)])
    with clock("open"):
        model = SafeModel.open(store, write=True)
    with model:
        with clock("first answer"):
            model.answer(questions[:1])
        with clock(f"{QUESTIONS} answers"):
            said = model.answer(questions)
        size = dict(model.store.status().bytes)
        right = [a == s.label for a, s in zip(said.labels, data.samples, strict=False)]
        wanted: dict[str, Callable[[], ForgetRequest]] = {
            "a sample": lambda: ForgetRequest.of(samples=[data.samples[1].id]),
            "an owner": lambda: ForgetRequest.of(owners=["owner-7"]),
            "a thousand": lambda: ForgetRequest.of(
                samples=[sample.id for sample in data.samples[100 : 100 + TOGETHER]]
            ),
        }
        for name, request in wanted.items():
            with clock(f"plan {name}"):
                model.plan(request())
            with clock(f"forget {name}") as found:
                outcome = model.forget(request())
                found["until_fenced"] = outcome.seconds_to_fence
                found["until_published"] = outcome.seconds_to_publish
    return {
        "accuracy_on_fitted": float(np.mean(right)),
        "bytes": size,
        "file_system": kind_of(folder),
        "steps": clock.steps,
    }


def kind_of(folder: Path) -> str:
    """The file system below a folder, such as ext4."""
    command = ["stat", "--file-system", "--format=%T", folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--graph", default="tallied:16")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        results = measure(given, Path(folder))
    config = {name: value for name, value in vars(given).items() if name != "folder"}
    print(record("large", config, results).read_text())


if __name__ == "__main__":
    main()
