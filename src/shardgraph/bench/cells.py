"""One cell of the comparison: fit one method with one seed, score it, let it forget."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph.bench.data import BenchData, accuracy
from shardgraph.bench.methods.catalogue import Spec, Tuned, build
from shardgraph.bench.methods.protocol import Model, predict
from shardgraph.bench.methods.sharded import Memory, Sharded
from shardgraph.bench.streams import deletion_order, request_rows
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import UsageError
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

Results = dict[str, Any]

LATENCY_REQUESTS = 5
TIMED_ANSWERS = 256
"""Test samples whose prediction is timed, after all have been predicted once."""


def compare(
    data: BenchData,
    spec: Spec,
    tuned: Tuned,
    seed: int,
    *,
    requests: int,
    request_seconds: float,
    memory: Memory | None = None,
) -> Results:
    """Accuracy, accuracy while a request is carried out, and what single deletions take.

    Deletions follow each other on one model. ``seconds`` are processor seconds of all threads,
    ``wall_seconds`` those of the clock, which other programs disturb.
    """
    method = build(spec, tuned, seed, memory)
    model = method.fit(data.train, np.arange(len(data.train)))
    rows = request_rows(data.train, seed, requests)
    whole, fenced = model.answers(data.test.tokens, [(), rows[:1]])
    few = data.test.tokens[:TIMED_ANSWERS]
    began = time.process_time()
    predict(model, few)
    predicting = time.process_time() - began
    return {
        "accuracy": _score(whole, data),
        "accuracy_while_fenced": None if fenced is None else _score(fenced, data),
        "forget": measured(model, rows, request_seconds),
        "guarantee": method.guarantee,
        "predict_seconds_per_1000": 1000 * predicting / len(few),
        "samples_per_class": len(data.train) / len(data.classes),
    }


def measured(model: Model, rows: Sequence[int], most_seconds: float) -> Results:
    """What single deletions took, on average: samples, passes, processor and wall seconds."""
    taken: list[dict[str, float]] = []
    for row in rows:
        wall, processor = time.perf_counter(), time.process_time()
        work = model.forget([row])
        spent = {
            "seconds": time.process_time() - processor,
            "wall_seconds": time.perf_counter() - wall,
        }
        taken.append({**asdict(work), **spent})
        if sum(item["seconds"] for item in taken) > most_seconds:
            break
    means: Results = {name: statistics.mean(item[name] for item in taken) for name in taken[0]}
    return {**means, "requests": len(taken)}


def stream(
    data: BenchData,
    spec: Spec,
    tuned: Tuned,
    seed: int,
    *,
    order: str,
    sources: int,
    checkpoints: Sequence[int],
    requests: int,
    request_seconds: float,
    memory: Memory | None = None,
) -> Results:
    """Accuracy and the cost of the next deletion after so many deletions, one after the other.

    A method whose deletions leave a fresh fit is fitted afresh on what is left at each checkpoint:
    the conformance tests say that this is the same state. One that only removes goes through every
    deletion. Totals over the stream are means of neighbouring checkpoints times the deletions
    between them; they are interpolated, not measured.
    """
    train = data.train.from_sources(sources)
    method = build(spec, tuned, seed, memory)
    rows = deletion_order(train, order, seed)
    most = min(checkpoints[-1], len(rows) - requests)
    points: list[Results] = []
    gone = 0
    model = method.fit(train, np.arange(len(train)))
    for done in (point for point in checkpoints if point <= most):
        if method.guarantee == "removed":
            for row in rows[gone:done]:
                model.forget([int(row)])
        elif done:
            model = method.fit(train, np.sort(rows[done:]))
        found = _score(predict(model, data.test.tokens), data)
        coming = [int(row) for row in rows[done : done + requests]]
        cost = measured(model, coming, request_seconds)
        gone = done + cost["requests"]
        points.append({"deletions": done, "accuracy": found, "forget": cost})
    return {"points": points, "totals": _totals(points)}


def latency(
    data: BenchData, spec: Spec, tuned: Tuned, seed: int, memory: Memory | None = None
) -> Results:
    """Single requests through a store on disk: time to fence, to publish, to the receipt.

    ``memory`` takes no part: a store fits its own nodes.

    Raises:
        UsageError: the method is no shard graph, so it has no store.
    """
    method = build(spec, tuned, seed, memory)
    if not isinstance(method, Sharded):
        raise UsageError(f"{spec.title} has no store whose latency could be measured.")
    setting = method.setting
    settings = FitSettings(
        graph=setting.graph,
        recipe=setting.nodes.recipe.to_json(),
        tally=setting.nodes.tally.to_json(),
        seed=seed,
    )
    ids = [sample.id for sample in data.train.samples]
    dataset = ArrayDataset(data.train.tokens, data.train.labels, ids=ids)
    rows = request_rows(data.train, seed, LATENCY_REQUESTS)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        model, _ = SafeModel.fit(dataset, Path(folder) / "store", settings)
        fitting = time.process_time() - began
        with model:
            model.answer(data.test.tokens[:1])
            took = [_one_request(model, ids[row], data.test.tokens[:1]) for row in rows]
            size = sum(model.store.status().bytes.values())
    names = took[0]
    return {
        **{name: statistics.median(item[name] for item in took) for name in names},
        "each": took,
        "fit_processor_seconds": fitting,
        "store_bytes": size,
    }


def _one_request(model: SafeModel, name: str, tokens: np.ndarray) -> dict[str, float]:
    began = time.process_time()
    outcome = model.forget(ForgetRequest.of(samples=[name]))
    processor = time.process_time() - began
    asked = time.perf_counter()
    model.answer(tokens)
    return {
        "fence_seconds": outcome.seconds_to_fence or 0.0,
        "publish_seconds": outcome.seconds_to_publish or 0.0,
        "receipt_seconds": outcome.seconds,
        "processor_seconds": processor,
        "first_answer_seconds": time.perf_counter() - asked,
    }


def _score(found: np.ndarray | None, data: BenchData) -> float:
    """Test accuracy; none at all where nothing can answer any more."""
    return 0.0 if found is None else accuracy(data.test, data.classes, found)


def _totals(points: Sequence[Results]) -> Results:
    """Costs summed over the stream, straight lines drawn between checkpoints."""
    deletions = [point["deletions"] for point in points]
    return {
        name: float(np.trapezoid([point["forget"][name] for point in points], deletions))
        for name in ("samples", "passes", "seconds")
    }
