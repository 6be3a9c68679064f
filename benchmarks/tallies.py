"""Tallies on real photographs: accuracy by shards, while fenced, and what a deletion takes.

    python benchmarks/tallies.py [--data cub100 grocery81] [--shards 8 64 256]

Baselines in the same run, on the same cached activations: one unsharded adapter, four unsharded
adapters ensembled (a complete graph of four), isolated adapters at the largest number of shards,
ridge on mean-pooled activations (strength chosen by leave-one-out on the training set).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import activations, data_folder, record
from sklearn.linear_model import RidgeClassifierCV

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

BATCH = 256
RIDGE_STRENGTHS = np.logspace(-3, 5, 17)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["cub100", "grocery81"])
    parser.add_argument("--shards", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    results = {name: measure(data_folder() / name, options) for name in options.data}
    print(record("tallies", vars(options), results).read_text())


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    train, test = activations(folder / "train"), activations(folder / "test")
    most = max(options.shards)
    epochs = options.epochs
    result: dict[str, Any] = {
        "ridge_on_pooled": ridge(train, test),
        "one_adapter": fitted(train, test, FitSettings(shards=1, graph="isolated", epochs=epochs)),
        "four_adapters": fitted(
            train, test, FitSettings(shards=4, graph="complete", epochs=epochs)
        ),
        f"isolated_{most}": fitted(
            train, test, FitSettings(shards=most, graph="isolated", epochs=epochs)
        ),
    }
    for shards in options.shards:
        settings = FitSettings(shards=shards, tallies="all")
        result[f"tallies_all_{shards}"] = fitted(train, test, settings, forget=True)
    for shards in {64, most}:
        settings = FitSettings(shards=shards, tallies="all-but:8")
        result[f"tallies_all_but_8_{shards}"] = fitted(train, test, settings, fence=True)
    random = FitSettings(shards=most, tallies="all", tally={"representation": "random"})
    result[f"random_tallies_all_{most}"] = fitted(train, test, random, forget=True)
    return result


def ridge(train: Any, test: Any) -> dict[str, float]:
    features = [tokens.astype(np.float32).mean(axis=1) for tokens, _, _ in (train, test)]
    model = RidgeClassifierCV(alphas=RIDGE_STRENGTHS).fit(features[0], train[1])
    return {"accuracy": float(model.score(features[1], test[1])), "alpha": float(model.alpha_)}


def fitted(
    train: Any, test: Any, settings: FitSettings, *, forget: bool = False, fence: bool = False
) -> dict[str, Any]:
    tokens, labels, ids = train
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        dataset = ArrayDataset(tokens, labels, ids=ids)
        model, _ = SafeModel.fit(dataset, Path(directory) / "store", settings)
        with model:
            found: dict[str, Any] = {
                "nodes": len(model.store.view().nodes),
                "fit_seconds": time.perf_counter() - started,
                "accuracy": accuracy(model, test),
                "tally_bytes": model.store.status().bytes["tallies"],
            }
            if fence:
                found["accuracy_while_fenced"] = fenced_accuracy(model, test, ids)
            if forget:
                found |= deletions(model, ids)
    print(settings, found, flush=True)
    return found


def accuracy(model: SafeModel, test: Any, without: frozenset[int] = frozenset()) -> float:
    tokens, labels, _ = test
    ensemble = model.snapshot().ensemble
    right = 0
    for start in range(0, len(tokens), BATCH):
        rows = slice(start, start + BATCH)
        found = ensemble.predict_proba(tokens[rows], without).argmax(axis=1)
        right += sum(
            ensemble.classes[c] == label for c, label in zip(found, labels[rows], strict=True)
        )
    return right / len(labels)


def fenced_accuracy(model: SafeModel, test: Any, ids: list[str]) -> dict[str, float]:
    """Accuracy of the nodes that never saw a sample, for several samples."""
    found = []
    for index in range(0, len(ids), len(ids) // 5):
        plan = model.plan(ForgetRequest.of(samples=[ids[index]]))
        found.append(accuracy(model, test, frozenset(plan.fenced)))
    return {"mean": float(np.mean(found)), "lowest": min(found)}


def deletions(model: SafeModel, ids: list[str]) -> dict[str, Any]:
    singles = [model.forget(ForgetRequest.of(samples=[ids[index]])) for index in (11, 222, 1333)]
    gone = {11, 222, 1333}
    many = [name for index, name in enumerate(ids) if index not in gone][:1000]
    batch = model.forget(ForgetRequest.of(samples=many))
    one = sorted(outcome.seconds_to_publish or 0.0 for outcome in singles)[1]
    return {
        "one_seconds_to_publish": one,
        "one_seconds_to_receipt": sorted(outcome.seconds for outcome in singles)[1],
        "one_nodes_refit": [len(outcome.nodes_refit) for outcome in singles],
        "thousand_seconds_to_publish": batch.seconds_to_publish,
        "thousand_over_one": (batch.seconds_to_publish or 0.0) / one,
    }


if __name__ == "__main__":
    main()
