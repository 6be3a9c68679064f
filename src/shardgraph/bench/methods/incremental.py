"""Training that goes on from a checkpoint: what slices need, and no node of a store ever gets.

The same adapter, loss, optimiser and schedule as `shardgraph.nodes.train`, for one adapter, with
two additions: start values that come from an earlier stage, and fixed scores of earlier stages to
which the adapter's are added. All classes have a column; those not seen yet are masked out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.adapter import ABSENT, Adapter
from shardgraph.nodes.recipe import Recipe

DECAYED = ("attention", "values", "weight")
"""Parameters with weight decay, as in `shardgraph.nodes.train`."""

Arrays = dict[str, np.ndarray]
"""An adapter's parameters by name, unpadded (`adapters.initialise`)."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The samples of one stage.

    Attributes:
        tokens: [n, T, D].
        targets: int64 [n], class columns.
        seen: bool [C], the classes that may get probability.
        before: float32 [n, C], scores of earlier stages that stay as they are; or None.
        seed: of the order of samples.
    """

    tokens: np.ndarray
    targets: np.ndarray
    seen: np.ndarray
    before: np.ndarray | None
    seed: int


def train_stage(start: Mapping[str, np.ndarray], stage: Stage, recipe: Recipe) -> Arrays:
    """The adapter after ``recipe.epochs`` passes over a stage; unchanged if it has no samples.

    Bits depend on the arguments and the machine alone.
    """
    if not len(stage.targets):
        return dict(start)
    width, classes = stage.tokens.shape[2], len(stage.seen)
    adapter = adapters.stack(recipe.kind, [start])
    parameters = adapter.tensors()
    for tensor in parameters.values():
        tensor.requires_grad_()
    groups: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in parameters if name in DECAYED]},
        {
            "params": [parameters[name] for name in parameters if name not in DECAYED],
            "weight_decay": 0.0,
        },
    ]
    optimiser = torch.optim.AdamW(
        groups,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    steps = math.ceil(len(stage.targets) / recipe.batch_size)
    total = recipe.epochs * steps
    hidden, table = _mask(stage.seen), _targets(stage.seen, recipe.label_smoothing)
    with runtime.pinned_threads():
        tokens = normalised(stage.tokens)
        for step in range(total):
            if step % steps == 0:
                dealt = _deal(stage, step // steps, steps)
            rows = dealt[step % steps]
            for group in optimiser.param_groups:
                group["lr"] = _rate(recipe, step, total)
            scores = adapters.logits(adapter, tokens[rows][None])[0, :, :classes] + hidden
            if stage.before is not None:
                scores = scores + torch.from_numpy(stage.before[rows])
            wanted = table[stage.targets[rows]]
            loss = -(wanted * torch.log_softmax(scores, dim=-1)).sum() / len(rows)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
    return adapters.unstack(adapter, 0, width, classes)


def normalised(tokens: np.ndarray) -> torch.Tensor:
    """Tokens as `adapters.logits` takes them: float32 [n, T, padded D], scaled per sample."""
    width = tokens.shape[2]
    padded = torch.zeros((*tokens.shape[:2], adapters.padded(width)))
    padded[..., :width] = torch.from_numpy(np.array(tokens))
    return adapters.normalise_tokens(padded, width)


def score(adapter: Adapter, tokens: np.ndarray, classes: int) -> np.ndarray:
    """Scores [g, n, C] of every adapter of a stack, for tokens [n, T, D]."""
    with torch.inference_mode(), runtime.pinned_threads():
        found: np.ndarray = adapters.logits(adapter, normalised(tokens))[..., :classes].numpy()
    return found


def _deal(stage: Stage, epoch: int, steps: int) -> list[np.ndarray]:
    generator = np.random.Generator(np.random.Philox([stage.seed, epoch + 1]))
    return np.array_split(generator.permutation(len(stage.targets)), steps)


def _mask(seen: np.ndarray) -> torch.Tensor:
    """Added to scores: nothing for classes that were seen, `ABSENT` for the others."""
    return torch.from_numpy(np.where(seen, 0.0, ABSENT).astype(np.float32))


def _targets(seen: np.ndarray, smoothing: float) -> torch.Tensor:
    """The target distribution of each class, [C, C], smoothed over the classes seen."""
    table = np.eye(len(seen), dtype=np.float32) * (1 - smoothing)
    table += np.where(seen, smoothing / seen.sum(), 0.0).astype(np.float32)
    return torch.from_numpy(table.astype(np.float32))


def _rate(recipe: Recipe, step: int, total: int) -> float:
    """Linear warm-up and cosine decay, as in `shardgraph.nodes.train`."""
    warm = math.ceil(recipe.warmup * total)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
