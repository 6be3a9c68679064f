"""Training: a pure function from what nodes read to their weights.

Nodes of equal shape are trained together, in stacks. A node's bits depend on its recipe, seed,
rows and labels alone: not on which nodes share its stack, how stacks are cut, the order of jobs,
or the number of workers. That rests on kernels that treat each node of a stack alike, which is a
property of the machine: `shardgraph.nodes.selftest` checks it, and ``stacked=False`` does without.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.errors import InterruptedWorkError, UsageError
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.adapter import Adapter
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.weights import NodeWeights

STACK_BYTES = 32 << 20
"""Most bytes of float32 tokens in one step of a stack; more nodes than that are cut apart."""

ROW_MULTIPLE = 8
"""Rows of a step are a multiple of this; rows without a sample have weight zero."""

BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8
DECAYED = ("attention", "values", "weight")
"""Parameters with weight decay: matrices, not gains, offsets and biases."""


@dataclass(frozen=True, slots=True)
class Job:
    """One node to train.

    Attributes:
        node: its number in the shard graph.
        seed: seed of everything random in it (`identity.node_seed`).
        rows: activations of the samples it reads, in node order.
        labels: their labels, in the same order.

    Raises:
        UsageError: there are no samples, or rows and labels differ in number.
    """

    node: int
    seed: int
    rows: TokenRows
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError(
                f"Node {self.node} reads no samples.", advice="Leave it out of the ensemble."
            )
        if len(self.rows) != len(self.labels):
            raise UsageError(
                f"Node {self.node} has {len(self.rows)} rows but {len(self.labels)} labels."
            )


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What nodes must share to be trained in one stack."""

    steps: int
    rows: int
    classes: int
    tokens: int
    width: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    job: Job
    classes: tuple[str, ...]
    targets: np.ndarray  # per sample, its number in ``classes``
    shape: Shape


def train(
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    workers: int | None = None,
    stacked: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[NodeWeights]:
    """Train every job's node and return the weights in the order of the jobs.

    Args:
        jobs: the nodes; none may be without samples.
        recipe: settings, the same for all.
        workers: stacks trained side by side; by default one per core. Does not change the bits.
        stacked: False trains every node in a stack of its own (slower on many small nodes).
        progress: called with (nodes done, nodes in all), from this thread.

    While it runs, torch uses `runtime.TRAINING_THREADS` threads per operator in this process.
    Where a worker finds another number, it stops (`runtime.require_pinned`).
    An exception here (``progress`` raised, or Ctrl-C) stops the workers at their next epoch.
    """
    runtime.keep_freed_memory()
    prepared = [_prepare(job, recipe) for job in jobs]
    stacks = _cut(prepared, workers or runtime.worker_count(), stacked)
    results: dict[int, NodeWeights] = {}
    stop = threading.Event()
    with (
        runtime.pinned_threads(),
        ThreadPoolExecutor(workers or runtime.worker_count()) as pool,
    ):
        futures = {
            pool.submit(_train_stack, [prepared[i] for i in stack], recipe, stop): stack
            for stack in stacks
        }
        try:
            for future in as_completed(futures):
                results.update(zip(futures[future], future.result(), strict=True))
                if progress is not None:
                    progress(len(results), len(prepared))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return [results[i] for i in range(len(prepared))]


def _prepare(job: Job, recipe: Recipe) -> _Prepared:
    classes = tuple(sorted(set(job.labels)))
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([number[label] for label in job.labels], np.int64)
    steps = math.ceil(len(targets) / recipe.batch_size)
    rows = math.ceil(len(targets) / steps)
    shape = Shape(
        steps=steps,
        rows=-(-rows // ROW_MULTIPLE) * ROW_MULTIPLE,
        classes=adapters.padded(len(classes)),
        tokens=job.rows.tokens,
        width=job.rows.width,
    )
    return _Prepared(job, classes, targets, shape)


def _cut(prepared: Sequence[_Prepared], workers: int, stacked: bool) -> list[list[int]]:
    """Positions of jobs, stack by stack, the stacks with most work first."""
    groups: dict[Shape, list[int]] = {}
    for i, node in enumerate(prepared):
        groups.setdefault(node.shape, []).append(i)
    stacks = []
    for shape, members in groups.items():
        node_bytes = shape.rows * shape.tokens * adapters.padded(shape.width) * 4
        most = max(1, STACK_BYTES // node_bytes) if stacked else 1
        most = min(most, math.ceil(len(members) / workers))
        stacks += [members[i : i + most] for i in range(0, len(members), most)]

    def work(stack: list[int]) -> int:
        shape = prepared[stack[0]].shape
        return len(stack) * shape.steps * shape.rows

    return sorted(stacks, key=work, reverse=True)


def _train_stack(
    nodes: Sequence[_Prepared], recipe: Recipe, stop: threading.Event
) -> list[NodeWeights]:
    shape = nodes[0].shape
    start = [
        adapters.initialise(recipe, node.job.seed, shape.width, len(node.classes)) for node in nodes
    ]
    adapter = adapters.stack(recipe.kind, start)
    optimiser = _AdamW(adapter, recipe, total=recipe.epochs * shape.steps)
    batches = _Batches(nodes, recipe)
    for epoch in range(recipe.epochs):
        if stop.is_set():
            raise InterruptedWorkError("Training was stopped.", advice="Start it again.")
        batches.shuffle(epoch)
        for step in range(shape.steps):
            tokens, targets = batches.load(step)
            logits = adapters.logits(adapter, tokens)
            loss = -(targets * torch.log_softmax(logits, dim=-1)).sum()
            optimiser.step(loss)
    runtime.require_pinned()
    return [
        NodeWeights(
            node=node.job.node,
            kind=recipe.kind,
            classes=node.classes,
            arrays=adapters.unstack(adapter, i, shape.width, len(node.classes)),
        )
        for i, node in enumerate(nodes)
    ]


class _Batches:
    """The steps of a stack of nodes: reused buffers, and each node's own order of samples."""

    def __init__(self, nodes: Sequence[_Prepared], recipe: Recipe) -> None:
        self._nodes = nodes
        self._shape = shape = nodes[0].shape
        width = adapters.padded(shape.width)
        self._tokens = np.zeros((len(nodes), shape.rows, shape.tokens, width), np.float32)
        self._targets = np.zeros((len(nodes), shape.rows, shape.classes), np.float32)
        self._tables = [_target_table(node, recipe.label_smoothing) for node in nodes]
        self._dealt: list[list[np.ndarray]] = []

    def shuffle(self, epoch: int) -> None:
        """Deal each node's samples over the steps of ``epoch``, in an order of its own."""
        self._dealt = []
        for node in self._nodes:
            generator = np.random.Generator(np.random.Philox([node.job.seed, epoch + 1]))
            order = generator.permutation(len(node.targets))
            self._dealt.append(np.array_split(order, self._shape.steps))

    def load(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised tokens [g, rows, T, D] and weighted targets [g, rows, C] of one step.

        Rows that a node has no sample for repeat its first and have targets of zero.
        """
        self._targets.fill(0)
        for i, (node, table) in enumerate(zip(self._nodes, self._tables, strict=True)):
            chosen = self._dealt[i][step]
            filled = np.resize(chosen, self._shape.rows)
            node.job.rows.gather(filled, out=self._tokens[i])
            self._targets[i, : len(chosen)] = table[node.targets[chosen]] / len(chosen)
        tokens = torch.from_numpy(self._tokens)
        adapters.normalise_tokens(tokens, self._shape.width, out=tokens)
        return tokens, torch.from_numpy(self._targets)


def _target_table(node: _Prepared, smoothing: float) -> np.ndarray:
    """Target distribution of each of the node's classes, [classes, padded classes]."""
    count = len(node.classes)
    table = np.zeros((count, node.shape.classes), np.float32)
    table[:, :count] = smoothing / count
    table[np.arange(count), np.arange(count)] += 1 - smoothing
    return table


class _AdamW:
    """AdamW (arXiv 1711.05101) with linear warm-up and cosine decay, on a stack of adapters.

    Calls the fused kernel behind `torch.optim.AdamW` directly: importing ``torch.optim`` costs
    seconds in a fresh process, and unfused updates take four times as long.
    """

    def __init__(self, adapter: Adapter, recipe: Recipe, total: int) -> None:
        self._recipe = recipe
        self._total = total
        self._done = 0
        named = adapter.tensors()
        self._groups = [
            (recipe.weight_decay, [named[name] for name in named if name in DECAYED]),
            (0.0, [named[name] for name in named if name not in DECAYED]),
        ]
        self._state = [
            ([torch.zeros_like(p) for p in group], [torch.zeros_like(p) for p in group])
            for _, group in self._groups
        ]
        for parameter in named.values():
            parameter.requires_grad_()

    def rate(self) -> float:
        """Learning rate of the step to come."""
        warm = math.ceil(self._recipe.warmup * self._total)
        if self._done < warm:
            return self._recipe.learning_rate * (self._done + 1) / warm
        share = (self._done - warm) / max(1, self._total - warm)
        return self._recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def step(self, loss: torch.Tensor) -> None:
        """Differentiate ``loss`` and move every parameter once."""
        parameters = [p for _, group in self._groups for p in group]
        gradients = list(torch.autograd.grad(loss, parameters))
        rate = self.rate()
        self._done += 1
        for (decay, group), (first, second) in zip(self._groups, self._state, strict=True):
            own, gradients = gradients[: len(group)], gradients[len(group) :]
            with torch.no_grad():
                torch._fused_adamw_(
                    group,
                    own,
                    first,
                    second,
                    [],
                    [torch.tensor(float(self._done)) for _ in group],
                    lr=rate,
                    beta1=BETA_1,
                    beta2=BETA_2,
                    weight_decay=decay,
                    eps=ADAM_EPSILON,
                    amsgrad=False,
                    maximize=False,
                )
