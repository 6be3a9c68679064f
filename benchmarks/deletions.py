"""What a request costs where no node reads: one sample, and a thousand in one batch.

    python benchmarks/deletions.py [--data cub100] [--shapes 256x4 256x8 64x16]

A shape is a number of nodes and a value width; with 32 heads, a width of 8 is 256 features. One
process fits, answers and forgets. ``published`` is the time until the new generation answers there:
tallies subtracted and durable, heads solved, ensemble in place. Processor seconds are of all
threads and go on to the receipt. On a busy machine neither says much about an idle one; the load is
in the record.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import activations, data_folder, record

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--samples", type=int, default=1200)
    parser.add_argument("--shapes", nargs="+", default=["256x4", "256x8", "64x16"])
    parser.add_argument("--singles", type=int, default=9)
    options = parser.parse_args()
    tokens, labels, ids = activations(data_folder() / options.data / "train")
    step = len(ids) // options.samples
    data = ArrayDataset(np.asarray(tokens[::step]), labels[::step], ids=ids[::step])
    results: dict[str, Any] = {}
    for shape in options.shapes:
        results[shape] = measure(data, ids[::step], shape, options.singles)
        print(record("deletions", vars(options), results).read_text())


def measure(data: ArrayDataset, ids: list[str], shape: str, singles: int) -> dict[str, Any]:
    nodes, width = map(int, shape.split("x"))
    settings = FitSettings(
        shards=256, graph=f"tallied:{nodes}", tallies="all", tally={"value_width": width}
    )
    with tempfile.TemporaryDirectory() as directory:
        model, _ = SafeModel.fit(data, Path(directory) / "store", settings)
        with model:
            model.snapshot()
            one = [forgotten(model, [name]) for name in ids[:singles]]
            many = forgotten(model, ids[singles : singles + BATCH])
            size = model.store.status().bytes["tallies"]
    found = {
        "nodes": nodes,
        "features": 32 * width,
        "tally_bytes_per_node": size // nodes,
        "one": {key: [item[key] for item in one] for key in one[0]},
        "batch": many,
        "batch_samples": min(BATCH, len(ids) - singles),
    }
    for key in ("published", "cpu"):
        found[f"batch_over_one_{key}"] = many[key] / statistics.median(item[key] for item in one)
    return found


def forgotten(model: SafeModel, names: list[str]) -> dict[str, float]:
    started, before = time.perf_counter(), time.process_time()
    outcome = model.forget(ForgetRequest.of(samples=names))
    found = {"receipt": time.perf_counter() - started, "cpu": time.process_time() - before}
    return {
        **found,
        "fenced": outcome.seconds_to_fence or 0.0,
        "published": outcome.seconds_to_publish or 0.0,
    }


if __name__ == "__main__":
    main()
