"""Random histories on real activations: after each, every file against a fit from scratch.

    python benchmarks/histories.py [--data cub100] [--histories 50] [--samples 240]

Each history fits a random part of the training images and then forgets and adds at random: one
sample, several at once, an owner (synthetic: dealt out by position), back again. Then a store is
fitted from scratch, in another directory, on what is left, given in reversed order; names and bytes
of all activations, weights and tallies must be equal, and so must the digest. Half of the histories
train adapters on a graph of reads, half tally too.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import activations, data_folder, record

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

GRAPHS = ("isolated", "cliques:2", "ring:3", "hub:1")
TALLIES = (None, "all", None, "all-but:4")
STEPS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--histories", type=int, default=50)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    data = activations(data_folder() / options.data / "train")
    started = time.perf_counter()
    found = [history(number, data, options) for number in range(options.histories)]
    results = {
        "bytes_compared": sum(item["bytes"] for item in found),
        "changes": sum(item["changes"] for item in found),
        "histories": len(found),
        "mismatches": [item for item in found if item["different"]],
        "seconds": time.perf_counter() - started,
    }
    print(record("histories", vars(options), results).read_text())


def history(number: int, data: Any, options: argparse.Namespace) -> dict[str, Any]:
    choose = random.Random(number)
    rows = choose.sample(range(len(data[1])), options.samples)
    settings = FitSettings(
        shards=8,
        graph=GRAPHS[number % len(GRAPHS)],
        tallies=TALLIES[number // len(GRAPHS) % len(TALLIES)],
        epochs=options.epochs,
        seed=number,
    )
    with tempfile.TemporaryDirectory() as folder:
        live = set(rows[: options.samples * 3 // 4])
        gone = set(rows) - live
        model, _ = SafeModel.fit(dataset(data, sorted(live)), Path(folder) / "lived", settings)
        changes = 0
        with model:
            for _ in range(STEPS):
                live, gone = step(model, data, live, gone, choose)
                changes += 1
            digest = model.store.digest()
        again = dataset(data, sorted(live, reverse=True))
        fresh, _ = SafeModel.fit(again, Path(folder) / "fresh", settings)
        with fresh:
            equal = fresh.store.digest() == digest
        lived, new = files(Path(folder) / "lived"), files(Path(folder) / "fresh")
    different = sorted(
        name for name in lived.keys() | new.keys() if lived.get(name) != new.get(name)
    )
    size = sum(map(len, new.values()))
    return {
        "history": number,
        "bytes": size,
        "changes": changes,
        "different": different or ([] if equal else ["digest"]),
    }


def step(
    model: SafeModel, data: Any, live: set[int], gone: set[int], choose: random.Random
) -> tuple[set[int], set[int]]:
    kind = choose.choice(["one", "several", "owner", "add"])
    if kind == "add" and gone:
        back = set(choose.sample(sorted(gone), min(5, len(gone))))
        model.add(dataset(data, sorted(back)))
        return live | back, gone - back
    if kind == "owner":
        owner = choose.choice(sorted(live)) // 5
        away = {row for row in live if row // 5 == owner}
        model.forget(ForgetRequest.of(owners=[f"owner-{owner}"]))
    else:
        away = set(choose.sample(sorted(live), 1 if kind == "one" else 12))
        model.forget(ForgetRequest.of(samples=[data[2][row] for row in away]))
    return live - away, gone | away


def dataset(data: Any, rows: Sequence[int]) -> ArrayDataset:
    tokens, labels, ids = data
    return ArrayDataset(
        tokens[list(rows)],
        [labels[row] for row in rows],
        ids=[ids[row] for row in rows],
        owners=[f"owner-{row // 5}" for row in rows],
    )


def files(store: Path) -> dict[str, bytes]:
    """Every influence file of a store, by name."""
    folders = ("activations", "nodes", "tallies")
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in folders
        for path in (store / folder).iterdir()
    }


if __name__ == "__main__":
    main()
