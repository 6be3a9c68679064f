from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.selftest import batch_is_safe, check_batches
from shardgraph.activations.torch_module import TorchModule


class Leaky(Precomputed):
    """Rows that differ in a way that only some placements show."""

    def __init__(self, leak: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(1, 3)
        self.batch_size = 8
        self._leak = leak

    def encode(self, batch: np.ndarray) -> np.ndarray:
        return self._leak(super().encode(batch))


def by_row(batch: np.ndarray) -> np.ndarray:
    batch[5] += 1e-6
    return batch


def by_neighbour(batch: np.ndarray) -> np.ndarray:
    return batch + 1e-4 * np.roll(batch, 1, axis=0)


def by_whole_batch(batch: np.ndarray) -> np.ndarray:
    return batch - batch.mean(axis=0)


def by_padding(batch: np.ndarray) -> np.ndarray:
    return batch * 2 if (batch[1:] == 0).all() else batch


@pytest.mark.parametrize("leak", [by_row, by_neighbour, by_whole_batch, by_padding])
def test_leaks_are_found(leak: Callable[[np.ndarray], np.ndarray]) -> None:
    finding = check_batches(Leaky(leak))
    assert not finding.safe
    assert finding.batch_size == 1
    assert "one at a time" in finding.message


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 15])
def test_sound_backbones_pass_at_every_size(tiny: TorchModule, size: int) -> None:
    assert batch_is_safe(tiny, size)


def test_the_size_that_was_asked_for_is_kept(tiny: TorchModule) -> None:
    assert check_batches(tiny).batch_size == tiny.batch_size
    assert check_batches(tiny, 3).batch_size == 3


def test_default_encoder_is_safe_here(lite0: TorchModule) -> None:
    finding = check_batches(lite0)
    assert finding.safe, finding.message
