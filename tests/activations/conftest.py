from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.image_input import ImageInput
from shardgraph.activations.torch_module import TorchModule
from shardgraph.data.folder import FolderDataset

SIZE = 16


def tiny_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 5),
        )


@pytest.fixture
def make_tiny() -> Callable[..., TorchModule]:
    def make(layer: str = "1", mean: float = 127.0, size: int = SIZE) -> TorchModule:
        images = ImageInput(size, mean=(mean,) * 3, scale=(128.0,) * 3)
        return TorchModule(tiny_network(), layer, name="tiny", image_input=images, batch_size=4)

    return make


@pytest.fixture
def tiny(make_tiny: Callable[..., TorchModule]) -> TorchModule:
    return make_tiny()


@pytest.fixture(scope="session")
def lite0() -> TorchModule:
    return efficientnet_lite0()


@pytest.fixture
def folder(tmp_path: Path) -> FolderDataset:
    """Eleven images of different sizes in two classes."""
    random = np.random.default_rng(5)
    for number in range(11):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (int(random.integers(16, 40)), int(random.integers(16, 40)), 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    return FolderDataset(tmp_path / "data")
