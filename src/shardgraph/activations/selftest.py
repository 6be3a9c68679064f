"""Does an activation depend on its own sample alone? Asked of this machine, not assumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardgraph import runtime
from shardgraph.activations.averaged import Averaged
from shardgraph.activations.backbone import Backbone


@dataclass(frozen=True, slots=True)
class BatchFinding:
    """What `check_batches` found: the batch size to encode with, and why.

    ``safe`` says whether the size that was asked for may be used; if not, ``batch_size`` is 1.
    """

    safe: bool
    batch_size: int
    message: str


def check_batches(backbone: Backbone, batch_size: int | None = None) -> BatchFinding:
    """Choose the largest batch whose rows do not influence each other: the one asked for, or one.

    A store must keep to the size returned, because other sizes may give other bits.
    """
    size = backbone.batch_size if batch_size is None else batch_size
    if batch_is_safe(backbone, size):
        return BatchFinding(True, size, f"Batches of {size} give every row the same bits.")
    return BatchFinding(
        False,
        1,
        f"In batches of {size} an activation depends on its row or its neighbours on this "
        "machine; samples are encoded one at a time.",
    )


def batch_is_safe(backbone: Backbone, batch_size: int | None = None) -> bool:
    """Whether a row's bits are the same at every place in the batch and beside any neighbours.

    Every one of ``batch_size`` made-up inputs is encoded at every row, beside the others in
    changing places and beside padding, with one thread per operator. Where tokens are averaged,
    those that they are averages of are compared.

    Not guaranteed: the same for inputs that were not tried. Arithmetic does not depend on values,
    except where a library branches on them.
    """
    if isinstance(backbone, Averaged):
        return batch_is_safe(backbone.backbone, batch_size)
    size = backbone.batch_size if batch_size is None else batch_size
    inputs = np.stack([backbone.prepare(backbone.example(seed)) for seed in range(size)])
    with runtime.pinned_threads():
        expected = backbone.encode(inputs)
        return all(
            _same_bits(backbone.encode(inputs[order]), expected[order])
            for order in _placements(size)
        ) and all(
            _same_bits(backbone.encode(_alone(inputs, row))[row], expected[row])
            for row in {0, size // 2, size - 1}
        )


def _placements(size: int) -> list[np.ndarray]:
    """Orders of the inputs in which each stands at each row once, with varying neighbours."""
    stride = next(step for step in (3, 5, 7, 1) if np.gcd(step, size) == 1)
    places = np.arange(size)
    return [(places * (stride if shift % 2 else 1) + shift) % size for shift in range(size)]


def _alone(inputs: np.ndarray, row: int) -> np.ndarray:
    batch = np.zeros_like(inputs)
    batch[row] = inputs[row]
    return batch


def _same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == right.tobytes()
