"""Tallies on real photographs: accuracy by shards and kinds, while fenced, and against the cost.

    python benchmarks/tallies.py --data cub100 [--shards 8 256] [--parts baselines tallied ...]
                                 [--record tallies-cub100]

Everything is fitted in one run on the same cached activations and scored on the test folder, which
chooses nothing; the record is written anew after each part. Baselines: one unsharded adapter; four
ensembled (a complete graph of four); every adapter by itself at the largest number of shards; ridge
on mean-pooled activations, its strength chosen by leave-one-out on the training set. Ensembles are
combined as the program does it, and beside it by the plain mean of what their nodes say, in which
a class that a node does not know has probability zero.

``frontier`` goes from no reads at all to no sharding: reads of a tenth, a quarter and a half of the
data by cliques, hub and ring, tallies of everything, with nodes in closed form and with trained
ones. Its cost is that of one request of a random sample: ``adapter_work`` and ``distinct_samples``
as the plan counts them (`shardgraph.graph.cost`), and the processor seconds of one request, of all
threads, from the call to the receipt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import activations, data_folder, record
from sklearn.linear_model import RidgeClassifierCV

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.graph.node import Node
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.model import SafeModel
from shardgraph.nodes.ensemble import combine

BATCH = 256
RIDGE_STRENGTHS = np.logspace(-3, 5, 17)
FRONTIER = {
    "a tenth": [("cliques:2", 20), ("ring:2", 20), ("hub:1", 20)],
    "a quarter": [("cliques:2", 8), ("ring:2", 8), ("hub:1", 8)],
    "a half": [("cliques:2", 4), ("ring:2", 4), ("hub:1", 4)],
    "all": [("complete", 4)],
}
KINDS = ("random", "discriminant", "trained")
MANY = 256
SIDE_BY_SIDE = 16
"""Nodes of each kind, on 256 shards; a safe part is the first eighth of the shards."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--shards", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=EACH_ONCE)
    parser.add_argument("--kinds", nargs="+", default=KINDS[1:], help="of the frontier's nodes")
    parser.add_argument("--record", help="its name; by default that of the data")
    options = parser.parse_args()
    folder = data_folder() / options.data
    bench = Bench(activations(folder / "train"), activations(folder / "test"))
    results = {}
    for part in options.parts:
        results[part] = PARTS[part](bench, options)
        name = options.record or f"tallies-{options.data}"
        print(record(name, vars(options), results).read_text())


def baselines(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "ridge_on_pooled": bench.ridge(),
        "one_adapter": bench.run(FitSettings(shards=1, graph="isolated")),
        "four_adapters": bench.run(FitSettings(shards=4, graph="complete")),
        **isolated(bench, options),
    }


def isolated(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    most = max(options.shards)
    return {f"isolated_{most}": bench.run(FitSettings(shards=most, graph="isolated"))}


def tallied(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    return {f"{count}_shards": bench.tallied(count) for count in options.shards}


def narrow(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """What many nodes lose where each has fewer features: a deletion solves them all anew."""
    return {
        f"{MANY} nodes of {32 * width} features": bench.run(
            FitSettings(shards=MANY, graph=f"tallied:{MANY}", tally={"value_width": width})
        )
        for width in (2, 4, 8)
    }


def representations(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Kinds of nodes side by side, reading their own shard or a safe part of the data."""
    found = {}
    shards = max(options.shards)
    safe = tuple(range(shards // 8))
    for where in ("own shard", "safe part"):
        mixed = [KINDS[node % len(KINDS)] for node in range(SIDE_BY_SIDE)]
        for name, kinds in {**{k: [k] * SIDE_BY_SIDE for k in KINDS}, "mixed": mixed}.items():
            if name == "random" and where == "safe part":
                continue  # random nodes hold no data, whatever they read
            reads = [(node,) if where == "own shard" else safe for node in range(SIDE_BY_SIDE)]
            graph = ShardGraph(
                shards,
                tuple(
                    Node(node, reads[node], tuple(range(shards)), kind)
                    for node, kind in enumerate(kinds)
                ),
            )
            found[f"{name}, {where}"] = bench.run(FitSettings(graph=graph))
    return found


def frontier(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"nothing": {"tallied": bench.run(FitSettings(shards=20), forget=True)}}
    for level, graphs in FRONTIER.items():
        found[level] = {}
        for name, shards in graphs:
            for kind in options.kinds:
                tally = {"representation": kind}
                settings = FitSettings(shards=shards, graph=name, tallies="all", tally=tally)
                found[level][f"{name}, {kind}"] = bench.run(settings, forget=True)
    return {**found, "cheapest": _cheapest(found)}


def _cheapest(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The graph of each level, of one kind, whose request costs least: by samples, by seconds."""

    def samples(entry: dict[str, Any]) -> float:
        return float(entry["cost"]["expected"]["adapter_samples"])

    def seconds(entry: dict[str, Any]) -> float:
        return float(entry["request_cpu_seconds"])

    named: dict[str, dict[str, str]] = {}
    for level, entries in found.items():
        named[level] = {}
        for kind in sorted({name.rpartition(", ")[2] for name in entries}):
            own = {name: entry for name, entry in entries.items() if name.endswith(kind)}
            for measure in (samples, seconds):
                best = min(own, key=lambda name: measure(own[name]))
                named[level][f"{kind}, by {measure.__name__}"] = best.partition(", ")[0]
    return named


PARTS = {
    "baselines": baselines,
    "isolated": isolated,
    "tallied": tallied,
    "frontier": frontier,
    "representations": representations,
    "narrow": narrow,
}
EACH_ONCE = [part for part in PARTS if part not in ("isolated", "narrow")]


class Bench:
    """One data set: fit, score, forget."""

    def __init__(self, train: Any, test: Any) -> None:
        self._train, self._test = train, test

    def ridge(self) -> dict[str, float]:
        features = [
            np.asarray(tokens, np.float32).mean(axis=1) for tokens, *_ in (self._train, self._test)
        ]
        model = RidgeClassifierCV(alphas=RIDGE_STRENGTHS).fit(features[0], self._train[1])
        accuracy = float(model.score(features[1], self._test[1]))
        return {"accuracy": accuracy, "alpha": float(model.alpha_)}

    def run(self, settings: FitSettings, *, forget: bool = False) -> dict[str, Any]:
        """Accuracy of the ensemble and of its nodes, and optionally the cost of a request."""
        with self._fitted(settings) as (model, found):
            said, known, right = self._ask(model)
            found["accuracy"] = _accuracy(said, known, right, range(len(said)))
            plain = said.mean(axis=0).argmax(axis=1)
            found["accuracy_of_plain_mean"] = float(np.mean(plain == right))
            each = [_accuracy(said, known, right, [node]) for node in range(len(said))]
            found["accuracy_of_one_node"] = float(np.mean(each))
            if forget:
                found |= self._cost(model)
        print(settings.shards, found, flush=True)
        return found

    def tallied(self, shards: int) -> dict[str, Any]:
        """The default graph: the whole ensemble, and the nodes that never saw some sample."""
        with self._fitted(FitSettings(shards=shards)) as (model, found):
            said, known, right = self._ask(model)
            found["accuracy"] = _accuracy(said, known, right, range(len(said)))
            nodes = model.snapshot().ensemble.nodes
            fenced = []
            for index in range(0, len(self._train[2]), len(self._train[2]) // 10):
                plan = model.plan(ForgetRequest.of(samples=[self._train[2][index]]))
                kept = [place for place, node in enumerate(nodes) if node not in plan.fenced]
                if kept:
                    fenced.append(_accuracy(said, known, right, kept))
            found["accuracy_while_fenced"] = {"mean": float(np.mean(fenced)), "least": min(fenced)}
            found |= self._cost(model)
        print(shards, found, flush=True)
        return found

    @contextmanager
    def _fitted(self, settings: FitSettings) -> Iterator[tuple[SafeModel, dict[str, Any]]]:
        tokens, labels, ids = self._train
        with tempfile.TemporaryDirectory() as directory:
            started = time.process_time()
            dataset = ArrayDataset(np.asarray(tokens), labels, ids=ids)
            model, _ = SafeModel.fit(dataset, Path(directory) / "store", settings)
            with model:
                yield (
                    model,
                    {
                        "fit_cpu_seconds": time.process_time() - started,
                        "nodes": len(model.store.view().nodes),
                        "tally_bytes": model.store.status().bytes["tallies"],
                    },
                )

    def _ask(self, model: SafeModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What every node says of the test set [nodes, B, C], what it knows, the right column."""
        tokens, labels, _ = self._test
        ensemble = model.snapshot().ensemble
        said = np.concatenate(
            [
                ensemble.node_probabilities(np.asarray(tokens[start : start + BATCH]))
                for start in range(0, len(tokens), BATCH)
            ],
            axis=1,
        )
        columns = {label: column for column, label in enumerate(ensemble.classes)}
        return said, ensemble.known, np.array([columns[label] for label in labels])

    def _cost(self, model: SafeModel) -> dict[str, Any]:
        cost = model.describe_graph()["cost"]
        started = time.process_time()
        outcome = model.forget(ForgetRequest.of(samples=[self._train[2][11]]))
        return {
            "cost": cost,
            "request_cpu_seconds": time.process_time() - started,
            "request_nodes_refit": len(outcome.nodes_refit),
            "request_nodes_subtracted": len(outcome.nodes_subtracted),
        }


def _accuracy(
    said: np.ndarray, known: np.ndarray, right: np.ndarray, nodes: Sequence[int]
) -> float:
    chosen = list(nodes)
    found = [
        combine(said[chosen, start : start + BATCH], known[chosen]).argmax(axis=1)
        for start in range(0, said.shape[1], BATCH)
    ]
    return float(np.mean(np.concatenate(found) == right))


if __name__ == "__main__":
    main()
