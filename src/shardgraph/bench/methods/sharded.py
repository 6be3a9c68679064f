"""Shard graphs: SISA, the graphs of SAFE, no sharding, and all of them with tallies.

Everything here is the package's own code: assignment, training, tallies, heads, ensemble and the
plan of a deletion; only the store is left out, so that a comparison is not one of disks.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardgraph.bench.data import Part
from shardgraph.bench.methods.protocol import Guarantee, Work, class_list, combined
from shardgraph.files import make_directory, rename, temporary_name
from shardgraph.forgetting.plan import plan_change
from shardgraph.forgetting.refit import FitSetting, ShardContent, job_for, tally_nodes
from shardgraph.forgetting.retally import ShardChange, TallyNode, retally
from shardgraph.graph.assignment import Assignment
from shardgraph.identity import digest_bytes, digest_json, node_seed, order_key
from shardgraph.nodes import representation as representations
from shardgraph.nodes.closed_form import ClosedFormHead, solve_all
from shardgraph.nodes.mixed import MixedEnsemble, TalliedNode
from shardgraph.nodes.representation import Representation, Settings, projection_of, represent
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.tally import to_bytes as tally_bytes
from shardgraph.nodes.train import Job
from shardgraph.nodes.weights import NodeWeights
from shardgraph.store import Record

Learn = Callable[[Sequence[Job], dict[int, str], Settings], dict[int, Representation]]
"""From what nodes read to what they learn; `represent`, or a memory of it."""


class Memory:
    """What nodes learnt from their shards, on disk, for methods that share such nodes.

    A node's bytes are a function of its recipe, seed and samples, so SISA, its form with
    prototypes and the same graph with tallies may share them. Only a first fit comes from here;
    what a deletion takes is always run.
    """

    def __init__(self, directory: Path) -> None:
        """Keep fits in ``directory``; what other code fitted must not be there."""
        self._directory = directory

    def learn(
        self, jobs: Sequence[Job], kinds: dict[int, str], settings: Settings
    ) -> dict[int, Representation]:
        """The same as `represent`."""
        files = {job.node: self._file(job, kinds[job.node], settings) for job in jobs}
        missing = [job for job in jobs if not files[job.node].exists()]
        make_directory(self._directory)
        learnt = represent(missing, kinds, settings)
        for node, made in learnt.items():
            half = temporary_name(files[node])
            half.write_bytes(representations.to_bytes(made))
            rename(half, files[node])
        for job in jobs:
            if job.node not in learnt:
                stored = files[job.node].read_bytes()
                learnt[job.node] = representations.from_bytes(job.node, stored)
        return learnt

    def _file(self, job: Job, kind: str, settings: Settings) -> Path:
        rows = digest_bytes(job.rows.gather(np.arange(len(job.rows))).tobytes())
        recipes = [settings.recipe.to_json(), settings.tally.to_json(), settings.stacked]
        key = digest_json([job.node, str(job.seed), kind, rows, list(job.labels), recipes])
        return self._directory / f"{key[:32]}.node"


@dataclass(frozen=True)
class Sharded:
    """A shard graph on adapters.

    Attributes:
        setting: graph, recipes and seed.
        vote: how nodes become one answer: ``combine``, the package's rule, or ``mean`` of their
            probabilities.
        memory: where first fits may come from.
    """

    setting: FitSetting
    vote: str = "combine"
    memory: Memory | None = None

    @property
    def guarantee(self) -> Guarantee:
        """A deletion leaves the bytes of a fresh fit."""
        return "refit"

    def fit(self, train: Part, live: np.ndarray) -> ShardedModel:
        """Fit every node whose home is not empty."""
        return ShardedModel(self, train, live)


class ShardedModel:
    """The nodes of a graph in memory."""

    def __init__(self, method: Sharded, train: Part, live: np.ndarray) -> None:
        self._method, self._setting, self._train = method, method.setting, train
        self._classes = class_list(train)
        assignment = Assignment(self._setting.graph, self._setting.seed)
        self._shard_of = [assignment.shard_of(sample) for sample in train.samples]
        self._rows: list[list[int]] = [[] for _ in range(self._setting.graph.shards)]
        for row in live:
            self._rows[self._shard_of[row]].append(int(row))
        for rows in self._rows:
            rows.sort(key=lambda row: self._order(row))
        self._contents = [self._content(rows) for rows in self._rows]
        self._learnt: dict[int, Representation] = {}
        self._tallies: dict[int, Tally] = {}
        self._heads: dict[int, ClosedFormHead] = {}
        self._ensemble: MixedEnsemble | None = None
        alive = [n for n, node in enumerate(self._setting.graph.nodes) if node.exists(self.sizes)]
        self._learn(alive, represent if method.memory is None else method.memory.learn)

    @property
    def sizes(self) -> list[int]:
        """Live samples per shard."""
        return [len(rows) for rows in self._rows]

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """The ensemble's answer; behind a fence, that of the nodes that never saw the rows."""
        ensemble = self._answering()
        shards = [{self._shard_of[row] for row in fence} for fence in fences]
        without = [self._setting.graph.influenced_by(hit) for hit in shards]
        kept = [[i for i, node in enumerate(ensemble.nodes) if node not in out] for out in without]
        known = np.array([self._knows(node) for node in ensemble.nodes])
        return combined(ensemble.node_probabilities, known, tokens, kept, self._method.vote)

    def forget(self, rows: Sequence[int]) -> Work:
        """Refit the nodes that read the rows' shards; nodes that only tally them subtract."""
        setting = self._setting
        lost: dict[int, list[int]] = {}
        for row in rows:
            lost.setdefault(self._shard_of[row], []).append(row)
        removed = Counter({shard: len(gone) for shard, gone in lost.items()})
        plan = plan_change(setting.graph, self.sizes, removed, epochs=setting.epochs)
        for shard, gone in lost.items():
            self._rows[shard] = [row for row in self._rows[shard] if row not in set(gone)]
            self._contents[shard] = self._content(self._rows[shard])
        for node in plan.dropped:
            for held in (self._learnt, self._tallies, self._heads):
                held.pop(node, None)
        self._subtract(plan.subtract, lost)
        self._learn(plan.refit, represent)
        light = len(rows) * len(plan.subtract) + sum(
            self.sizes[shard] for node in plan.refit for shard in setting.graph.nodes[node].tallies
        )
        return Work(plan.samples_refit + light, plan.passes + light)

    def digest(self) -> str:
        """Over the bytes that a store would keep for every node."""
        nodes = {
            str(node): [
                digest_bytes(representations.to_bytes(learnt)),
                digest_bytes(tally_bytes(self._tallies[node])) if node in self._tallies else None,
            ]
            for node, learnt in sorted(self._learnt.items())
        }
        return digest_json(nodes)

    def _learn(self, nodes: Sequence[int], learn: Learn) -> None:
        setting, graph = self._setting, self._setting.graph
        self._ensemble = None
        kinds = {node: setting.kind_of(node) for node in nodes}
        jobs = [
            job_for(node, setting, self._contents.__getitem__)
            for node in nodes
            if kinds[node] != "random"
        ]
        self._learnt.update(learn(jobs, kinds, setting.nodes))
        width = self._train.tokens.shape[2]
        for node in nodes:
            if kinds[node] == "random":
                seed = node_seed(setting.seed, node)
                self._learnt[node] = representations.without_data(seed, width, setting.nodes.tally)
        projections = {
            node: projection_of(self._learnt[node]) for node in nodes if graph.nodes[node].tallies
        }
        self._solve(tally_nodes(projections, setting, self._contents.__getitem__))

    def _subtract(self, nodes: Sequence[int], lost: dict[int, list[int]]) -> None:
        changes = {
            shard: ShardChange([self._record(row) for row in rows], self._tokens(rows), (), _NONE)
            for shard, rows in lost.items()
        }
        edges = self._setting.graph.nodes
        self._solve(
            retally(
                [
                    TallyNode(
                        node,
                        edges[node].tallies,
                        projection_of(self._learnt[node]),
                        functools.partial(self._tallies.__getitem__, node),
                    )
                    for node in nodes
                ],
                changes,
                lambda _node, tally: tally,
            )
        )

    def _solve(self, tallies: dict[int, Tally]) -> None:
        """Keep tallies, with the heads that follow from them; empty ones have none."""
        self._ensemble = None
        self._tallies.update(tallies)
        filled = {node: tally for node, tally in tallies.items() if tally.samples}
        for node in set(tallies) - set(filled):
            self._heads.pop(node, None)
        rule = self._setting.nodes.tally.head_rule()
        self._heads.update(zip(filled, solve_all(list(filled.values()), rule), strict=True))

    def _answering(self) -> MixedEnsemble:
        if self._ensemble is None:
            trained = [
                learnt
                for node, learnt in sorted(self._learnt.items())
                if node not in self._tallies and isinstance(learnt, NodeWeights)
            ]
            tallied = [
                TalliedNode(node, projection_of(learnt), head, _adapter(learnt))
                for node, head in sorted(self._heads.items())
                for learnt in [self._learnt[node]]
            ]
            self._ensemble = MixedEnsemble(
                trained,
                tallied,
                self._classes,
                softmax_weight=self._setting.nodes.tally.softmax_weight,
            )
        return self._ensemble

    def _knows(self, node: int) -> list[bool]:
        """Which classes a node that answers knows."""
        learnt = self._heads.get(node, self._learnt[node])
        assert isinstance(learnt, ClosedFormHead | NodeWeights)
        return [label in set(learnt.classes) for label in self._classes]

    def _order(self, row: int) -> tuple[bytes, str]:
        name = self._train.samples[row].id
        return order_key(self._setting.seed, name), name

    def _content(self, rows: Sequence[int]) -> ShardContent:
        return ShardContent([self._record(row) for row in rows], self._tokens(rows))

    def _tokens(self, rows: Sequence[int]) -> np.ndarray:
        taken: np.ndarray = np.take(self._train.tokens, np.asarray(rows, np.int64), axis=0)
        return taken

    def _record(self, row: int) -> Record:
        sample = self._train.samples[row]
        return Record(sample.id, sample.label, sample.owner, sample.source, self._shard_of[row])


def _adapter(learnt: Representation) -> NodeWeights | None:
    return learnt if isinstance(learnt, NodeWeights) else None


_NONE = np.zeros((0, 1, 1), np.float16)
