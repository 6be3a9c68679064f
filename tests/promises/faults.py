"""Named faults, planted one at a time: each breaks one small function of the package.

These distort what is fitted; those of tallies and answers are in ``tally_faults.py``, those of
requests, fences and files in ``store_faults.py``.

A fault is a function that patches; nothing in the package knows of it. To add one::

    @fault("what goes wrong, in one line")
    def _(patch):
        patch.setattr(module, "name", broken)

`test_faults.py` then runs the battery under it and fails if no check notices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.staging import Staged
from shardgraph.forgetting import carry_out, ingest, refit
from shardgraph.graph.assignment import Assignment, unit_of
from shardgraph.graph.shard_graph import Node, ShardGraph
from shardgraph.nodes import adapter, representation, train
from shardgraph.store import samples

Patch = pytest.MonkeyPatch
Planting = Callable[[Patch], None]


@dataclass(frozen=True)
class Fault:
    """One fault: its name, how to plant it, and the graph on which it can show."""

    name: str
    plant: Planting
    graph: str


FAULTS: list[Fault] = []


def fault(name: str, graph: str = "custom") -> Callable[[Planting], Planting]:
    """Register a fault under a name that says what goes wrong."""

    def register(plant: Planting) -> Planting:
        FAULTS.append(Fault(name, plant, graph))
        return plant

    return register


@contextmanager
def planted(one: Fault) -> Iterator[None]:
    """The block runs with the fault in place."""
    with pytest.MonkeyPatch.context() as patch:
        one.plant(patch)
        yield


def wrap(patch: Patch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by ``around(real, *arguments)``."""
    real = getattr(owner, name)
    patch.setattr(owner, name, lambda *given, **named: around(real, *given, **named))


def _arrival() -> Callable[[Any], int]:
    """A function that numbers what it is asked about in the order of arrival."""
    seen: dict[Any, int] = {}
    return lambda name: seen.setdefault(name, len(seen))


# -- where samples go, and in which order ------------------------------------------------------


@fault("shards are dealt out by arrival")
def _(patch: Patch) -> None:
    number = _arrival()
    patch.setattr(
        Assignment,
        "shard_of",
        lambda self, s: self._pool_of(s).shards[number(unit_of(s)) % len(self._pool_of(s).shards)],
    )


@fault("shards are dealt out by Python's own hash")
def _(patch: Patch) -> None:
    patch.setattr(
        Assignment,
        "shard_of",
        lambda self, s: self._pool_of(s).shards[hash(unit_of(s)) % len(self._pool_of(s).shards)],
    )


@fault("owners are ignored when samples are assigned")
def _(patch: Patch) -> None:
    wrap(patch, Assignment, "shard_of", lambda real, self, s: real(self, replace(s, owner=None)))


@fault("a sample's order is its arrival")
def _(patch: Patch) -> None:
    number = _arrival()
    for module in (carry_out, ingest, refit, samples):
        patch.setattr(module, "order_key", lambda seed, name: number(name).to_bytes(16, "big"))


@fault("the order in a node is not keyed")
def _(patch: Patch) -> None:
    patch.setattr(refit, "order_key", lambda seed, name: bytes(16))


@fault("new rows are appended to a shard, not sorted in")
def _(patch: Patch) -> None:
    patch.setattr(carry_out, "order_key", lambda seed, name: bytes(16))


# -- activations -------------------------------------------------------------------------------


@fault("an activation depends on its batch")
def _(patch: Patch) -> None:
    wrap(patch, Precomputed, "encode", lambda real, self, b: real(self, b - b.mean(axis=0) / 8))


@fault("activations are centred by a running mean")
def _(patch: Patch) -> None:
    seen: list[np.ndarray] = []

    def centred(real: Any, self: Any, raw: np.ndarray) -> Any:
        seen.append(raw)
        return real(self, raw - np.mean(seen, axis=0) / 8)

    wrap(patch, Precomputed, "prepare", centred)


@fault("the activation row of a forgotten sample stays in its shard")
def _(patch: Patch) -> None:
    last: list[np.ndarray] = []

    def kept(real: Any, path: Any, rows: Any, count: int, *shape: int) -> Any:
        found = [np.array(row) for row in rows]
        extra = last[-1:]
        last[:] = found
        return real(path, [*found, *extra], count + len(extra), *shape)

    wrap(patch, carry_out, "write_blob", kept)


@fault("a sample added again gets its old activation")
def _(patch: Patch) -> None:
    first: dict[str, np.ndarray] = {}
    wrap(patch, Staged, "row", lambda real, self, name: first.setdefault(name, real(self, name)))


@fault("a sample added again gets its old label")
def _(patch: Patch) -> None:
    first: dict[str, str] = {}
    wrap(
        patch,
        ingest,
        "Record",
        lambda real, name, label, *more: real(name, first.setdefault(name, label), *more),
    )


# -- which nodes are fitted --------------------------------------------------------------------


@fault("one reader is missed in the closure")
def _(patch: Patch) -> None:
    wrap(patch, ShardGraph, "readers_of", lambda real, *given: real(*given)[:-1] or real(*given))


@fault("one node too many is refitted")
def _(patch: Patch) -> None:
    wrap(
        patch,
        ShardGraph,
        "readers_of",
        lambda real, self, shard: tuple(sorted({*real(self, shard), (shard + 1) % 5})),
    )


@fault("a reader keeps the weights it had")
def _(patch: Patch) -> None:
    held: dict[int, bytes] = {}

    def stale(real: Any, nodes: Any, *more: Any) -> Any:
        fitted = real(nodes, *more)
        last = max(fitted, default=None)
        if last is not None:
            fitted[last] = held.get(last, fitted[last])
        held.update(fitted)
        return fitted

    wrap(patch, carry_out, "fit_nodes", stale)


@fault("a node without a home lives on")
def _(patch: Patch) -> None:
    patch.setattr(Node, "exists", lambda self, sizes: any(sizes[shard] for shard in self.reads))


@fault("only the first of several requests is carried out")
def _(patch: Patch) -> None:
    wrap(
        patch,
        carry_out,
        "_publish_without",
        lambda real, held, waiting, *more: real(held, waiting[:1], *more),
    )


# -- how nodes are fitted ----------------------------------------------------------------------


@fault("a node's seed is its place among those fitted now")
def _(patch: Patch) -> None:
    def placed(real: Any, nodes: Any, setting: Any, *more: Any) -> Any:
        order = sorted(nodes)
        patch.setattr(refit, "node_seed", lambda seed, node: order.index(node))
        return real(order, setting, *more)

    wrap(patch, carry_out, "fit_nodes", placed)


@fault("a random stream continues from node to node")
def _(patch: Patch) -> None:
    stream = itertools.count()
    patch.setattr(refit, "node_seed", lambda seed, node: next(stream))


@fault("nodes start from the weights they had")
def _(patch: Patch) -> None:
    held: dict[int, Any] = {}

    def kept(real: Any, nodes: Any, *more: Any) -> Any:
        found = real(nodes, *more)
        held.update((node.job.seed, w.arrays) for node, w in zip(nodes, found, strict=True))
        return found

    def warm(real: Any, recipe: Any, seed: int, *sizes: int) -> Any:
        cold = real(recipe, seed, *sizes)
        old = held.get(seed, cold)
        return {k: old[k] if old[k].shape == cold[k].shape else cold[k] for k in cold}

    wrap(patch, train, "_train_stack", kept)
    wrap(patch, adapter, "initialise", warm)


@fault("the optimiser keeps its moments from fit to fit")
def _(patch: Patch) -> None:
    held: dict[Any, Any] = {}

    def kept(real: Any, self: Any, stacked: Any, *more: Any, **named: Any) -> None:
        real(self, stacked, *more, **named)
        shapes = tuple(tuple(p.shape) for p in stacked.tensors().values())
        self._state = held.setdefault(shapes, self._state)

    wrap(patch, train._AdamW, "__init__", kept)


@fault("a refit runs one epoch more than a fit")
def _(patch: Patch) -> None:
    def cut(real: Any, held: Any, waiting: Any, *more: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            wrap(
                inner,
                representation,
                "train",
                lambda real, jobs, recipe, **named: real(
                    jobs, replace(recipe, epochs=recipe.epochs + 1), **named
                ),
            )
            return real(held, waiting, *more)

    wrap(patch, carry_out, "_publish_without", cut)


def _more_classes(patch: Patch, known: Callable[[Any], set[str]]) -> None:
    """Let a node's head have columns for ``known(job)`` beside what it reads."""

    def widened(real: Any, job: Any, recipe: Any) -> Any:
        found = real(job, recipe)
        classes = tuple(sorted(known(job) | set(job.labels)))
        targets = np.array([classes.index(label) for label in job.labels], np.int64)
        shape = replace(found.shape, classes=adapter.padded(len(classes)))
        return replace(found, classes=classes, targets=targets, shape=shape)

    wrap(patch, train, "_prepare", widened)


@fault("a node's label list keeps labels that are gone")
def _(patch: Patch) -> None:
    seen: dict[int, set[str]] = {}

    def remembered(job: Any) -> set[str]:
        seen.setdefault(job.node, set()).update(job.labels)
        return seen[job.node]

    _more_classes(patch, remembered)


@fault("a node's label list is that of all nodes fitted with it")
def _(patch: Patch) -> None:
    together: set[str] = set()

    def noted(real: Any, jobs: Any, *more: Any, **named: Any) -> Any:
        together.clear()
        together.update(label for job in jobs for label in job.labels)
        return real(jobs, *more, **named)

    wrap(patch, representation, "train", noted)
    _more_classes(patch, lambda job: together)


@fault("nodes of one stack share the order of the first")
def _(patch: Patch) -> None:
    def shared(real: Any, self: Any, epoch: int) -> None:
        own, first = self._nodes, self._nodes[0].job
        self._nodes = [replace(node, job=replace(node.job, seed=first.seed)) for node in own]
        real(self, epoch)
        self._nodes = own

    wrap(patch, train._Batches, "shuffle", shared)
