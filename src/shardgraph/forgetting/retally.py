"""Bring the tallies of nodes that do not read a shard up to date with its samples.

Such a node keeps its representation; the features of what goes are subtracted from its sums and
those of what comes are added. Features are integers that do not depend on how they are computed,
so the result has the bytes of a tally that never held the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shardgraph import runtime
from shardgraph.nodes.projection import Projection, Projections
from shardgraph.nodes.tally import BLOCK_ROWS, Tally
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
    """A node that only tallies: its projection, and its sums before the change."""

    node: int
    tallies: tuple[int, ...]
    projection: Projection
    tally: Tally


def retally(nodes: Iterable[TallyNode], changes: Mapping[int, ShardChange]) -> dict[int, Tally]:
    """The tally of each node after the changes, by node. Many samples make one subtraction.

    Raises:
        StoreDamagedError: a tally does not hold what it should lose.
    """
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[TallyNode]] = {}
    for node in nodes:
        touched = tuple(shard for shard in node.tallies if shard in changes)
        groups.setdefault((touched, node.projection.values.shape), []).append(node)
    parts = [
        (members[start : start + NODES_AT_ONCE], [changes[shard] for shard in touched])
        for (touched, _), members in groups.items()
        for start in range(0, len(members), NODES_AT_ONCE)
    ]
    with runtime.pinned_threads(), ThreadPoolExecutor(runtime.worker_count()) as pool:
        found = pool.map(lambda part: _retally_alike(*part), parts)
        return {node: tally for part in found for node, tally in part.items()}


def _retally_alike(
    members: Sequence[TallyNode], changes: Sequence[ShardChange]
) -> dict[int, Tally]:
    """The same for nodes of one shape that tally the same changed shards."""
    stack = Projections([member.projection for member in members])
    tallies = [member.tally for member in members]
    for change in changes:
        for records, tokens, apply in (
            (change.lost, change.lost_tokens, Tally.subtract),
            (change.gained, change.gained_tokens, Tally.add),
        ):
            tallies = _apply(tallies, stack, records, tokens, apply)
    return {member.node: tally for member, tally in zip(members, tallies, strict=True)}


def _apply(
    tallies: list[Tally],
    stack: Projections,
    records: Sequence[Record],
    tokens: np.ndarray,
    apply: Callable[[Tally, np.ndarray, Sequence[str]], Tally],
) -> list[Tally]:
    for start in range(0, len(records), BLOCK_ROWS):
        labels = [record.label for record in records[start : start + BLOCK_ROWS]]
        features = stack(tokens[start : start + BLOCK_ROWS]).numpy()
        tallies = [apply(tally, own, labels) for tally, own in zip(tallies, features, strict=True)]
    return tallies
