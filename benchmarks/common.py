"""What every benchmark shares: cached activations of an image folder, and records of results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph import runtime
from shardgraph.activations.backbone import Backbone
from shardgraph.activations.open import open_backbone
from shardgraph.bench.data import activations as cached
from shardgraph.data.open import open_dataset
from shardgraph.forgetting.progress import silent

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CACHE = HERE / "cache"


def activations(
    folder: Path, backbone: Backbone | None = None
) -> tuple[np.ndarray, list[str], list[str]]:
    """Activations [N, T, D], labels and ids; cached under ``cache/``, and memory-mapped.

    The encoder is the default one unless another is given. Files are named as those that
    ``shardgraph bench`` keeps below ``--out``, so either may be given the other's.
    """
    backbone = open_backbone() if backbone is None else backbone
    dataset = open_dataset(folder)
    file = cached(dataset, backbone, CACHE, silent)
    labels = [sample.label for sample in dataset.samples]
    ids = [str(sample.id) for sample in dataset.samples]
    return np.load(file, mmap_mode="r"), labels, ids


def data_folder() -> Path:
    """The folder of data sets: ``SHARDGRAPH_DATA``, or ``shared/data`` beside the project."""
    given = os.environ.get("SHARDGRAPH_DATA")
    return Path(given) if given else HERE.parent.parent / "shared" / "data"


def record(name: str, config: dict[str, Any], results: dict[str, Any]) -> Path:
    """Write one benchmark's record: what was run, on what, and what came out."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "config": config,
        "commit": commit(),
        "environment": runtime.environment(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "results": results,
        "workers": runtime.worker_count(),
    }
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path


def commit() -> str:
    """The commit that was measured, with ``+`` behind it if files had changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
