"""Planted faults of tallies, closed-form heads and what is kept in memory; see ``faults.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from faults import Patch, fault, wrap

from shardgraph import runtime
from shardgraph.forgetting import answer, carry_out, reading, refit, retally
from shardgraph.forgetting.plan import Plan
from shardgraph.graph.shard_graph import Node
from shardgraph.nodes import representation
from shardgraph.nodes.projection import Projections
from shardgraph.nodes.tally import Tally
from shardgraph.store import Store, publish
from shardgraph.store.requests import Requests
from shardgraph.store.state import View

KINDS = "kinds"

# -- sums --------------------------------------------------------------------------------------


@fault("a tally is not subtracted", KINDS)
def _(patch: Patch) -> None:
    patch.setattr(Tally, "subtract", lambda self, features, labels: self)


@fault("one sample of several is not subtracted", KINDS)
def _(patch: Patch) -> None:
    wrap(patch, Tally, "subtract", lambda real, self, f, y: real(self, f[:1], y[:1]))


@fault("what is added is not tallied by those who only tally", KINDS)
def _(patch: Patch) -> None:
    wrap(
        patch,
        carry_out,
        "_shard_change",
        lambda real, *given: (
            lambda change: replace(change, gained=[], gained_tokens=change.gained_tokens[:0])
        )(real(*given)),
    )


@fault("only the first of several shards is subtracted from a tally", KINDS)
def _(patch: Patch) -> None:
    wrap(
        patch,
        retally,
        "_retally_alike",
        lambda real, members, changes, *more: real(members, changes[:1], *more),
    )


@fault("a class that is gone stays in a tally", KINDS)
def _(patch: Patch) -> None:
    def kept(real: Any, self: Tally, other: Tally) -> Tally:
        left = real(self, other)
        moment, counts = left._aligned(self.classes)
        return Tally(self.classes, left.gram, moment, counts)

    wrap(patch, Tally, "without", kept)


@fault("a tally keeps the integer type of a larger one", KINDS)
def _(patch: Patch) -> None:
    def wide(real: Any, self: Tally, other: Tally) -> Tally:
        left = real(self, other)
        return replace(left, gram=left.gram.astype(np.int64), moment=left.moment.astype(np.int64))

    wrap(patch, Tally, "without", wide)


@fault("a feature depends on its batch", KINDS)
def _(patch: Patch) -> None:
    def centred(real: Any, self: Projections, tokens: np.ndarray) -> torch.Tensor:
        found = real(self, tokens).to(torch.float32)
        return (found - found.mean(dim=1, keepdim=True) / 4).round().to(torch.int8)

    wrap(patch, Projections, "__call__", centred)


@fault("sums are subtracted as floats that round", KINDS)
def _(patch: Patch) -> None:
    def rounded(real: Any, self: Tally, other: Tally) -> Tally:
        left = real(self, other)
        half = (left.gram / 4096).astype(np.float16).astype(np.float64)
        return replace(left, gram=np.rint(half * 4096).astype(np.int32))

    wrap(patch, Tally, "without", rounded)


@fault("a block of a tally is counted twice", KINDS)
def _(patch: Patch) -> None:
    seen: list[int] = []

    def twice(real: Any, self: Tally, other: Tally) -> Tally:
        seen.append(1)
        return real(real(self, other), other) if len(seen) == 12 else real(self, other)

    wrap(patch, Tally, "merge", twice)


# -- nodes that tally --------------------------------------------------------------------------


@fault("a node that learns anew keeps its tally", KINDS)
def _(patch: Patch) -> None:
    held: dict[int, bytes] = {}

    def stale(real: Any, nodes: Any, *more: Any) -> Any:
        fitted = real(nodes, *more)
        for node, data in fitted.items():
            if data.tally is not None:
                fitted[node] = replace(data, tally=held.setdefault(node, data.tally))
        return fitted

    wrap(patch, carry_out, "fit_nodes", stale)


@fault("a refit tallies only what the node reads", KINDS)
def _(patch: Patch) -> None:
    def narrow(real: Any, projections: Any, setting: Any, *more: Any) -> Any:
        nodes = tuple(replace(n, tallies=n.reads or n.tallies) for n in setting.graph.nodes)
        return real(projections, replace(setting, graph=replace(setting.graph, nodes=nodes)), *more)

    wrap(patch, refit, "tally_nodes", narrow)


@fault("a node without a home outlives the last that it tallies", KINDS)
def _(patch: Patch) -> None:
    wrap(patch, Node, "exists", lambda real, self, sizes: self.home is None or real(self, sizes))


@fault("nodes drawn from a seed are drawn anew each time", KINDS)
def _(patch: Patch) -> None:
    calls: list[int] = []

    def anew(real: Any, seed: int, *more: Any) -> Any:
        calls.append(seed)
        return real(seed + calls.count(seed) - 1, *more)

    wrap(patch, representation, "without_data", anew)


@fault("attention directions are kept from fit to fit", KINDS)
def _(patch: Patch) -> None:
    held: dict[int, Any] = {}
    wrap(
        patch,
        representation,
        "discriminant_projection",
        lambda real, seed, *more, **named: held.setdefault(seed, real(seed, *more, **named)),
    )


@fault("nodes that only tally are not fenced", KINDS)
def _(patch: Patch) -> None:
    patch.setattr(Plan, "fenced", property(lambda self: (*self.refit, *self.dropped)))


# -- answers, and what is in memory ------------------------------------------------------------


@fault("a head is solved once and kept", KINDS)
def _(patch: Patch) -> None:
    def kept(real: Any, reader: Any, nodes: Any) -> Any:
        found = real(reader, nodes)
        for node, member in found.items():
            if hasattr(member, "head"):
                found[node] = replace(member, head=heads.setdefault(node, member.head))
        return found

    heads: dict[int, Any] = {}
    wrap(patch, answer, "load_members", kept)


@fault("a projection in memory outlives its file", KINDS)
def _(patch: Patch) -> None:
    held: dict[int, Any] = {}
    wrap(
        patch,
        reading.StoreReader,
        "projection",
        lambda real, self, node: held.setdefault(node, real(self, node)),
    )


@fault("members of an ensemble are looked up by node alone", KINDS)
def _(patch: Patch) -> None:
    held: dict[int, Any] = {}

    def kept(real: Any, reader: Any, nodes: Any) -> Any:
        return {node: held.setdefault(node, member) for node, member in real(reader, nodes).items()}

    wrap(patch, answer, "load_members", kept)


@fault("the label list of answers is that of the first generation")
def _(patch: Patch) -> None:
    first: list[Any] = []

    def stale(real: Any, self: View) -> Any:
        first.append(real(self))
        return tuple(sorted({*first[0], *first[-1]}))

    wrap(patch, View, "labels", stale)


# -- receipts and environment ------------------------------------------------------------------


@fault("the receipt states the digest of before")
def _(patch: Patch) -> None:
    before = [""]

    def publish(real: Any, self: Store, change: Any) -> int:
        before[0] = self.digest()
        return int(real(self, change))

    wrap(patch, Store, "publish", publish)
    wrap(patch, carry_out, "receipt_entry", lambda real, *given: real(*given[:2], before[0]))


@fault("what opens a state of the past is kept")
def _(patch: Patch) -> None:
    patch.setattr(Requests, "drop_openings", lambda self: None)


@fault("what the process has set for its arithmetic is not noticed")
def _(patch: Patch) -> None:
    arithmetic = runtime._arithmetic(runtime._switches())
    patch.setattr(runtime, "_arithmetic", lambda switched: arithmetic)


@fault("the label counts of a shard are not renewed")
def _(patch: Patch) -> None:
    held: dict[int, dict[str, int]] = {}
    wrap(
        patch,
        publish,
        "label_counts",
        lambda real, records: held.setdefault(records[0].shard, real(records)),
    )
