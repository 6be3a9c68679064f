"""Fit nodes from what their shards hold: the one path that fit, add, forget and verify share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.identity import node_seed, order_key
from shardgraph.nodes import representation as representations
from shardgraph.nodes.projection import Projection
from shardgraph.nodes.representation import Representation, Settings, projection_of, represent
from shardgraph.nodes.tally import Tally, tally_all
from shardgraph.nodes.tally import to_bytes as tally_bytes
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job
from shardgraph.store import Record

NodeProgress = Callable[[int, int], None]
"""Called with (nodes fitted, nodes in all)."""


@dataclass(frozen=True)
class ShardContent:
    """What one shard holds: records in shard order, and their activations [n, T, D], float16."""

    records: Sequence[Record]
    tokens: np.ndarray


Contents = Callable[[int], ShardContent]
"""What a shard holds, by its number."""


@dataclass(frozen=True)
class FitSetting:
    """All that, beside the samples, decides the bytes of nodes."""

    graph: ShardGraph
    nodes: Settings
    seed: int

    @property
    def epochs(self) -> int:
        """Passes of a refit over what a node reads; closed forms take one."""
        kinds = {self.kind_of(node) for node in range(len(self.graph.nodes))}
        return self.nodes.recipe.epochs if "trained" in kinds else 1

    def kind_of(self, node: int) -> str:
        """How a node gets its representation: as the graph says, or else as the recipe does.

        A node that tallies nothing answers through its softmax head, so it is trained.
        """
        spec = self.graph.nodes[node]
        if spec.kind != "default":
            return spec.kind
        return self.nodes.tally.representation if spec.tallies else "trained"


@dataclass(frozen=True, slots=True)
class Fitted:
    """The bytes of one node: what it learnt, and its tally if it has one."""

    weights: bytes
    tally: bytes | None


def job_for(node: int, setting: FitSetting, content_of: Contents) -> Job:
    """The job of one node: the samples that it reads, in the node's own order."""
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
    content_of: Contents,
    progress: NodeProgress | None = None,
) -> dict[int, Fitted]:
    """Fit nodes on what ``content_of(shard)`` says their shards hold; their bytes by node."""
    wanted = sorted(nodes)
    kinds = {node: setting.kind_of(node) for node in wanted}
    jobs = [job_for(node, setting, content_of) for node in wanted if kinds[node] != "random"]
    learnt: dict[int, Representation] = represent(jobs, kinds, setting.nodes, progress)
    for node in wanted:
        if kinds[node] == "random":
            width = _width(setting, node, content_of)
            seed = node_seed(setting.seed, node)
            learnt[node] = representations.without_data(seed, width, setting.nodes.tally)
    tallies = tally_nodes(
        {node: projection_of(learnt[node]) for node in wanted if setting.graph.nodes[node].tallies},
        setting,
        content_of,
    )
    return {
        node: Fitted(
            representations.to_bytes(learnt[node]),
            tally_bytes(tallies[node]) if node in tallies else None,
        )
        for node in wanted
    }


def tally_nodes(
    projections: Mapping[int, Projection], setting: FitSetting, content_of: Contents
) -> dict[int, Tally]:
    """Tally, for each node, everything that it tallies. Nodes with equal edges share a pass."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for node, projection in projections.items():
        key = (setting.graph.nodes[node].tallies, projection.shape)
        groups.setdefault(key, []).append(node)
    found: dict[int, Tally] = {}
    for members in groups.values():
        stack = [projections[node] for node in members]
        totals = [Tally.empty(projection.features) for projection in stack]
        for rows, labels in _blocks(setting.graph.nodes[members[0]].tallies, content_of):
            parts = tally_all(stack, rows, labels, dtype=setting.nodes.features)
            totals = [total.merge(part) for total, part in zip(totals, parts, strict=True)]
        found.update(zip(members, totals, strict=True))
    return found


_SHARDS_AT_ONCE = 64


def _blocks(
    shards: Sequence[int], content_of: Contents
) -> Iterator[tuple[TokenRows, tuple[str, ...]]]:
    """What shards hold, many shards at a time, so that few files are open at once."""
    for start in range(0, len(shards), _SHARDS_AT_ONCE):
        held = [content_of(shard) for shard in shards[start : start + _SHARDS_AT_ONCE]]
        filled = [content for content in held if content.records]
        if filled:
            pieces = [(content.tokens, np.arange(len(content.records))) for content in filled]
            labels = tuple(record.label for content in filled for record in content.records)
            yield TokenRows.of(pieces), labels


def _width(setting: FitSetting, node: int, content_of: Contents) -> int:
    spec = setting.graph.nodes[node]
    return int(content_of((*spec.reads, *spec.tallies)[0]).tokens.shape[2])
