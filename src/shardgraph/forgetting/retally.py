"""Bring the tallies of nodes that do not read a shard up to date with its samples.

Such a node keeps its representation; the features of what goes are subtracted from its sums and
those of what comes are added. Features are integers that do not depend on how they are computed,
so the result has the bytes of a tally that never held the samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.nodes.projection import Projection, Projections
from shardgraph.nodes.tally import BLOCK_ROWS, Tally
from shardgraph.nodes.tokens import TokenRows
from shardgraph.store import Record

NODES_AT_ONCE = 16
"""Nodes that share one product over the tokens; decides the speed, and no bit."""


@dataclass(frozen=True)
class ShardChange:
    """What a shard loses and gains: records with their activations [n, T, D]."""

    lost: Sequence[Record]
    lost_tokens: np.ndarray
    gained: Sequence[Record]
    gained_tokens: np.ndarray


@dataclass(frozen=True)
class TallyNode:
    """A node that only tallies: its projection, and what loads its sums before the change."""

    node: int
    tallies: tuple[int, ...]
    projection: Projection
    load: Callable[[], Tally]


Kept = TypeVar("Kept")


def retally(
    nodes: Iterable[TallyNode],
    changes: Mapping[int, ShardChange],
    keep: Callable[[int, Tally], Kept],
    features: torch.dtype = torch.float32,
) -> dict[int, Kept]:
    """What ``keep`` makes of each node and its tally after the changes, by node.

    All samples that a node loses make one subtraction, from however many shards they go.

    Args:
        nodes: the nodes.
        changes: by shard.
        keep: called once per node, from several threads.
        features: the type in which features are computed, see `tally_all`.

    Raises:
        StoreDamagedError: a tally does not hold what it should lose.
    """

    @functools.cache
    def touched(tallies: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shard for shard in tallies if shard in changes)

    groups: dict[tuple[tuple[int, ...], object], list[TallyNode]] = {}
    for node in nodes:
        key = touched(node.tallies), node.projection.shape
        groups.setdefault(key, []).append(node)
    parts = [
        (members[start : start + NODES_AT_ONCE], [changes[shard] for shard in shards])
        for (shards, _), members in groups.items()
        for start in range(0, len(members), NODES_AT_ONCE)
    ]
    with runtime.pinned_threads(), ThreadPoolExecutor(runtime.worker_count()) as pool:
        done = pool.map(lambda part: _retally_alike(part[0], part[1], keep, features), parts)
        return {node: kept for part in done for node, kept in part.items()}


def _retally_alike(
    members: Sequence[TallyNode],
    changes: Sequence[ShardChange],
    keep: Callable[[int, Tally], Kept],
    dtype: torch.dtype,
) -> dict[int, Kept]:
    """The same for nodes of one shape that tally the same changed shards."""
    stack = Projections([member.projection for member in members], dtype)
    tallies = [member.load() for member in members]
    lost = [(change.lost, change.lost_tokens) for change in changes]
    gained = [(change.gained, change.gained_tokens) for change in changes]
    for features, labels in _blocks(stack, lost):
        tallies = [t.subtract(own, labels) for t, own in zip(tallies, features, strict=True)]
    for features, labels in _blocks(stack, gained):
        tallies = [t.add(own, labels) for t, own in zip(tallies, features, strict=True)]
    return {
        member.node: keep(member.node, tally)
        for member, tally in zip(members, tallies, strict=True)
    }


def _blocks(
    stack: Projections, pieces: Sequence[tuple[Sequence[Record], np.ndarray]]
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Features [nodes, B, F] and labels of all samples of the pieces, a block at a time."""
    filled = [(records, tokens) for records, tokens in pieces if records]
    if not filled:
        return
    rows = TokenRows.of([(tokens, np.arange(len(records))) for records, tokens in filled])
    labels = [record.label for records, _ in filled for record in records]
    for start in range(0, len(labels), BLOCK_ROWS):
        block = labels[start : start + BLOCK_ROWS]
        yield stack(rows.gather(np.arange(start, start + len(block)))).numpy(), block
