"""The whole path on real photographs: accuracy by shards, and what one deletion takes.

    python benchmarks/whole_path.py [--data cub100] [--shards 1 8 32 128] [--epochs 30]

Accuracy is on the data set's test folder. Forgetting is timed inside a running process, from the
call to the published generation and to the receipt, for several samples; "cheaper" is the time of
refitting every node in the same process over the time to publish, and the same in processor
seconds, of all threads, over those to the receipt.
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
from shardgraph.forgetting.reading import StoreReader
from shardgraph.forgetting.refit import fit_nodes
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

DELETIONS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    folder = data_folder() / options.data
    train, test = activations(folder / "train"), activations(folder / "test")
    results = {
        str(shards): measure(train, test, shards, options.epochs) for shards in options.shards
    }
    path = record("whole_path", vars(options), results)
    print(path.read_text())


def measure(train: Any, test: Any, shards: int, epochs: int) -> dict[str, Any]:
    tokens, labels, ids = train
    dataset = ArrayDataset(tokens, labels, ids=ids)
    with tempfile.TemporaryDirectory() as directory:
        settings = FitSettings(shards=shards, graph="isolated", epochs=epochs)
        model, _ = SafeModel.fit(dataset, Path(directory) / "store", settings)
        with model:
            result: dict[str, Any] = {"accuracy": accuracy(model, test)}
            started, before = time.perf_counter(), time.process_time()
            reader = StoreReader(model.store, model.store.view())
            fit_nodes(reader.view.nodes, reader.setting, reader.content)
            result["refit_all_seconds"] = time.perf_counter() - started
            result["refit_all_cpu_seconds"] = time.process_time() - before
            if shards > 1:
                result |= deletions(model, ids, result)
    return result


def accuracy(model: SafeModel, test: Any) -> float:
    tokens, labels, _ = test
    found = [
        label
        for start in range(0, len(tokens), 256)
        for label in model.answer(tokens[start : start + 256]).labels
    ]
    return float(np.mean([a == b for a, b in zip(found, labels, strict=True)]))


def deletions(model: SafeModel, ids: list[str], whole: dict[str, Any]) -> dict[str, Any]:
    before = time.process_time()
    outcomes = [
        model.forget(ForgetRequest.of(samples=[ids[(index * 397) % len(ids)]]))
        for index in range(DELETIONS)
    ]
    processor = (time.process_time() - before) / DELETIONS
    published = [outcome.seconds_to_publish or 0.0 for outcome in outcomes]
    return {
        "seconds_to_fence": [outcome.seconds_to_fence for outcome in outcomes],
        "seconds_to_publish": published,
        "seconds_to_receipt": [outcome.seconds for outcome in outcomes],
        "median_seconds_to_publish": statistics.median(published),
        "cheaper_than_refitting_all": whole["refit_all_seconds"] / statistics.median(published),
        "cpu_seconds_to_receipt": processor,
        "cheaper_in_cpu_seconds": whole["refit_all_cpu_seconds"] / processor,
        "nodes_refit": [len(outcome.nodes_refit) for outcome in outcomes],
    }


if __name__ == "__main__":
    main()
