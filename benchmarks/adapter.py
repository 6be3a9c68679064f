"""The adapter: speed of the fold, accuracy and training time by number of isolated shards.

    python benchmarks/adapter.py speed [--rounds 9]
    python benchmarks/adapter.py accuracy [--data DATA] [--seeds 1]

DATA is a folder with ``train`` and ``test``, each a folder of class folders.

- ``speed`` (``results/adapter_speed.json``): training steps (forward, backward, AdamW) of the
  folded adapter and of the plain multi-head module, 197 tokens x 768, 12 heads, 100 classes,
  batches of 64 that are ready in memory, with 1 and 2 threads. The two alternate, so that a busy
  machine disturbs both; figures are medians over rounds, the ratio is the median of the rounds'
  ratios. With two threads on two cores, one more busy thread anywhere slows small operators out
  of proportion: read ``load_averages`` with the figures.
- ``accuracy`` (``results/adapter.json``): test accuracy of the default recipe on default
  activations, one adapter without sharding and isolated shards, and the seconds that training
  took. Test samples are looked at here and nowhere else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import activations, data_folder, record

from shardgraph import runtime
from shardgraph.identity import node_seed, order_key, shard_position
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.ensemble import Ensemble
from shardgraph.nodes.oracle import PlainAdapter
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train

TOKENS, WIDTH, BATCH, CLASSES = 197, 768, 64, 100
HEADS, VALUE_WIDTH = 12, 64
SHARDS = (1, 8, 32, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=["speed", "accuracy"])
    parser.add_argument(
        "--data", type=Path, default=data_folder() / "cub100", help="a folder with train and test"
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the speed measurement")
    parser.add_argument("--seeds", type=int, default=1, help="store seeds to repeat accuracy with")
    options = parser.parse_args()
    runtime.keep_freed_memory()
    loads = [os.getloadavg()[0]]
    results: dict[str, object]
    if options.part == "speed":
        name = "adapter_speed"
        shape = {"tokens": TOKENS, "width": WIDTH, "batch": BATCH, "heads": HEADS}
        config = {"rounds": options.rounds, "shape": shape}
        results = {f"{count} threads": speed(count, options.rounds) for count in (1, 2)}
    else:
        name = "adapter"
        config = {"data": options.data.name, "recipe": Recipe().to_json()}
        results = {"isolated_shards": accuracy(options.data, options.seeds)}
    results["load_averages"] = [*loads, os.getloadavg()[0]]
    print(record(name, config, results).read_text())


def speed(threads: int, rounds: int) -> dict[str, object]:
    """Samples per second of one training step of either form, and their ratio."""
    tokens = torch.randn(BATCH, TOKENS, WIDTH)
    labels = torch.arange(BATCH) % CLASSES
    with runtime.pinned_threads(threads):
        folded, plain = folded_step(tokens, labels), plain_step(tokens, labels)
        folded(), plain()
        pairs = [(rate(folded, 10), rate(plain, 1)) for _ in range(rounds)]
    return {
        "folded": statistics.median(pair[0] for pair in pairs),
        "plain": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(fast / slow for fast, slow in pairs),
        "ratios": [fast / slow for fast, slow in pairs],
    }


def rate(step: Callable[[], None], steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * BATCH / (time.perf_counter() - begin)


def stepper(
    forward: Callable[[], torch.Tensor], parameters: list[torch.Tensor], labels: torch.Tensor
) -> Callable[[], None]:
    """One training step; the same loss and the same optimiser for both forms."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward(), labels).backward()
        optimiser.step()

    return step


def folded_step(tokens: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    recipe = Recipe(heads=HEADS, value_width=VALUE_WIDTH)
    adapter = adapters.stack("inca", [adapters.initialise(recipe, 0, WIDTH, CLASSES)])
    parameters = [tensor.requires_grad_() for tensor in adapter.tensors().values()]

    def forward() -> torch.Tensor:
        own = adapters.normalise_tokens(tokens[None], WIDTH)
        return adapters.logits(adapter, own)[0]

    return stepper(forward, parameters, labels)


def plain_step(tokens: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    plain = PlainAdapter(
        WIDTH, CLASSES, heads=HEADS, queries=1, value_width=VALUE_WIDTH, key_width=VALUE_WIDTH
    )

    def forward() -> torch.Tensor:
        scores: torch.Tensor = plain(adapters.normalise_tokens(tokens, WIDTH))
        return scores

    return stepper(forward, list(plain.parameters()), labels)


def accuracy(data: Path, seeds: int) -> list[dict[str, object]]:
    tokens, labels, ids = activations(data / "train")
    test_tokens, test_labels, _ = activations(data / "test")
    results: list[dict[str, object]] = []
    for seed in range(seeds):
        for shards in SHARDS:
            jobs = isolated_jobs(ids, tokens, labels, shards, seed)
            begin, cpu = time.perf_counter(), time.process_time()
            weights = train(jobs, Recipe())
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
            classes = sorted(set(labels))
            begin = time.perf_counter()
            found = Ensemble(weights, classes).predict_proba(test_tokens)
            hits = [
                classes[i] == label for i, label in zip(found.argmax(1), test_labels, strict=True)
            ]
            results.append(
                {
                    "shards": shards,
                    "seed": seed,
                    "accuracy_percent": round(100 * statistics.mean(hits), 2),
                    "train_seconds": round(seconds, 2),
                    "train_cpu_seconds": round(cpu_seconds, 2),
                    "predict_images_per_second": round(len(hits) / (time.perf_counter() - begin)),
                }
            )
            print(results[-1], flush=True)
    return results


def isolated_jobs(
    ids: list[str], tokens: np.ndarray, labels: list[str], shards: int, seed: int
) -> list[Job]:
    """One node per shard that is not empty, its samples in the order that a store keeps."""
    members: list[list[int]] = [[] for _ in range(shards)]
    for i in sorted(range(len(ids)), key=lambda i: order_key(seed, ids[i])):
        members[shard_position(seed, f"s:{ids[i]}") % shards].append(i)
    return [
        Job(
            node=node,
            seed=node_seed(seed, node),
            rows=TokenRows.of([(tokens, rows)]),
            labels=tuple(labels[i] for i in rows),
        )
        for node, rows in enumerate(members)
        if rows
    ]


if __name__ == "__main__":
    main()
