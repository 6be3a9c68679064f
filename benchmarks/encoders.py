"""A vision transformer from an ONNX file: an inner layer against the last one.

    python benchmarks/encoders.py [--data cub100 grocery81] [--blocks 9 12] [--seeds 3]

CLIP ViT-B/16 (see ``assets.py``) at the output of a block, its places averaged two by two: 50
tokens x 768. For each block: ridge on the mean token and on the class token (strength chosen by
leave-one-out on the training set), one unsharded adapter, and the default graph (64 shards, every
node tallies all, none reads). Everything else is at its default, nothing was tuned on the test
sets, which are looked at once per figure. Encoding takes about 20 minutes for a data set and block
on one core; ``cache/`` keeps it, and finished fits too, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import assets
import numpy as np
from common import CACHE, activations, commit, data_folder, record
from tallies import Bench

from shardgraph.activations.averaged import Averaged
from shardgraph.bench.data import encoder_title
from shardgraph.forgetting.create import FitSettings

FINISHED = CACHE / "encoders.json"
GRAPHS: dict[str, dict[str, Any]] = {
    "tallied_64": {"shards": 64, "graph": "tallied"},
    "one_adapter": {"shards": 1, "graph": "isolated"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["cub100", "grocery81"])
    parser.add_argument("--blocks", type=int, nargs="+", default=[9, 12])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = {
        data: {f"block {block}": measure(data, block, options.seeds) for block in options.blocks}
        for data in options.data
    }
    print(record("encoders", vars(options), results).read_text())


def measure(data: str, block: int, seeds: int) -> dict[str, Any]:
    backbone = Averaged(assets.clip(block), 2)
    folder = data_folder() / data
    train, test = (activations(folder / part, backbone) for part in ("train", "test"))
    found: dict[str, Any] = {
        "encoder": encoder_title(backbone),
        "digest": backbone.digest,
        "ridge_on_mean": Bench(train, test).ridge(),
        "ridge_on_class_token": Bench(class_token(train), class_token(test)).ridge(),
    }
    for name, graph in GRAPHS.items():
        key = f"{data} {backbone.digest[:12]} {name}"
        runs = [fit(f"{key} {seed}", train, test, graph, seed) for seed in range(seeds)]
        found[name] = {
            "accuracy": statistics.mean(run["accuracy"] for run in runs),
            "standard_deviation": statistics.stdev(run["accuracy"] for run in runs)
            if seeds > 1
            else None,
            "runs": runs,
        }
    return found


def fit(key: str, train: Any, test: Any, graph: dict[str, Any], seed: int) -> dict[str, Any]:
    """One fit and its accuracy; done once, as long as ``cache/`` keeps it."""
    done = json.loads(FINISHED.read_text()) if FINISHED.exists() else {}
    if key not in done:
        ran = {"commit": commit()}  # before the fit, which may outlast a change of the sources
        done[key] = Bench(train, test).run(FitSettings(**graph, seed=seed)) | ran
        FINISHED.write_text(json.dumps(done, indent=2) + "\n")
    result: dict[str, Any] = done[key]
    return result


def class_token(data: Any) -> Any:
    tokens, labels, ids = data
    return np.ascontiguousarray(tokens[:, :1]), labels, ids


if __name__ == "__main__":
    main()
