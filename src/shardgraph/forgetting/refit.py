"""Fit nodes from what their shards hold: the one path that fit, add, forget and verify share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.identity import node_seed, order_key
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import to_bytes
from shardgraph.store import Record


@dataclass(frozen=True)
class ShardContent:
    """What one shard holds: records in shard order, and their activations [n, T, D], float16."""

    records: Sequence[Record]
    tokens: np.ndarray


@dataclass(frozen=True)
class FitSetting:
    """All that, beside the samples, decides the bytes of nodes.

    ``stacked`` says whether nodes may be trained together; it is False only on a machine where
    the self-test found that this changes bits.
    """

    graph: ShardGraph
    recipe: Recipe
    seed: int
    stacked: bool = True


def job_for(node: int, setting: FitSetting, content_of: Callable[[int], ShardContent]) -> Job:
    """The training job of one node: the samples that it reads, in the node's own order."""
    contents = [content_of(shard) for shard in setting.graph.nodes[node].reads]
    keys = [
        (order_key(setting.seed, record.id), record.id, array, row)
        for array, content in enumerate(contents)
        for row, record in enumerate(content.records)
    ]
    keys.sort(key=lambda key: key[:2])
    rows = TokenRows(
        [content.tokens for content in contents],
        array_of=[array for _, _, array, _ in keys],
        row_of=[row for _, _, _, row in keys],
    )
    labels = tuple(contents[array].records[row].label for _, _, array, row in keys)
    return Job(node=node, seed=node_seed(setting.seed, node), rows=rows, labels=labels)


def fit_nodes(
    nodes: Iterable[int],
    setting: FitSetting,
    content_of: Callable[[int], ShardContent],
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, bytes]:
    """Fit nodes on what ``content_of(shard)`` says their shards hold; their bytes by node."""
    jobs = [job_for(node, setting, content_of) for node in sorted(nodes)]
    fitted = train(jobs, setting.recipe, stacked=setting.stacked, progress=progress)
    return {weights.node: to_bytes(weights) for weights in fitted}
