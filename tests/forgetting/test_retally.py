"""Samples go out of tallies: many shards in one step, and the bytes of never having had them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shardgraph.forgetting import retally as module
from shardgraph.forgetting.retally import ShardChange, TallyNode, retally
from shardgraph.identity import SampleId, ShardId
from shardgraph.nodes.projection import Projections, random_projection
from shardgraph.nodes.tally import Tally, to_bytes
from shardgraph.store import Record

SHARDS, WIDTH = 6, 16
TOKENS = np.random.default_rng(0).standard_normal((48, 3, WIDTH)).astype(np.float16)
LABELS = [f"class {row % 5}" for row in range(48)]
PROJECTIONS = [
    random_projection(seed, width=WIDTH, heads=2, value_width=value_width, sharpness=1.0)
    for seed, value_width in enumerate((4, 4, 4, 4, 8))
]


def shard_of(row: int) -> int:
    return row % SHARDS


def records(rows: list[int]) -> list[Record]:
    return [
        Record(SampleId(str(row)), LABELS[row], None, None, ShardId(shard_of(row))) for row in rows
    ]


def tally_of(node: int, rows: list[int]) -> Tally:
    features = Projections([PROJECTIONS[node]])(TOKENS[rows])[0].numpy()
    return Tally.empty(PROJECTIONS[node].features).add(features, [LABELS[row] for row in rows])


def changes(lost: list[int], gained: list[int]) -> dict[int, ShardChange]:
    found = {}
    for shard in {shard_of(row) for row in [*lost, *gained]}:
        out = [row for row in lost if shard_of(row) == shard]
        back = [row for row in gained if shard_of(row) == shard]
        found[shard] = ShardChange(records(out), TOKENS[out], records(back), TOKENS[back])
    return found


def run(tallies: list[tuple[int, ...]], lost: list[int], gained: list[int]) -> dict[int, Tally]:
    before = [row for row in range(48) if row not in gained]
    nodes = [
        TallyNode(
            node,
            shards,
            PROJECTIONS[node],
            lambda node=node, shards=shards: tally_of(  # type: ignore[misc]
                node, [row for row in before if shard_of(row) in shards]
            ),
        )
        for node, shards in enumerate(tallies)
    ]
    return retally(nodes, changes(lost, gained), lambda _node, tally: tally)


@pytest.mark.parametrize(("block", "nodes_at_once"), [(4, 1), (1024, 16)])
def test_what_many_shards_lose_and_gain_leaves_the_bytes_of_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, block: int, nodes_at_once: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    monkeypatch.setattr(module, "NODES_AT_ONCE", nodes_at_once)
    lost, gained = list(range(0, 30, 2)), [31, 32, 33, 47]
    tallies: list[tuple[int, ...]] = [tuple(range(SHARDS)), (0, 1, 2), (5,), (0, 1, 2), (0, 1, 2)]
    found = run(tallies, lost, gained)
    for node, shards in enumerate(tallies):
        held = [row for row in range(48) if row not in lost and shard_of(row) in shards]
        assert to_bytes(found[node]) == to_bytes(tally_of(node, held))


def test_samples_of_many_shards_make_one_subtraction(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain = Tally.subtract

    def counted(self: Tally, features: np.ndarray, labels: Any) -> Tally:
        taken.append(len(labels))
        return plain(self, features, labels)

    monkeypatch.setattr(Tally, "subtract", counted)
    run([tuple(range(SHARDS))] * 3, list(range(20)), [])
    assert taken == [20] * 3
