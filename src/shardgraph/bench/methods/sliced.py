"""Shards cut into slices: SISA with slicing, and the sequences of S3T.

SISA with slicing (Bourtoule et al. 2021): a shard's model is trained on its first slice, then on
the first two, and so on, from checkpoint to checkpoint. A deletion goes back to the checkpoint
before the slice that held the sample and trains from there.

S3T (Chowdhury et al. 2024, *Towards Scalable Exact Machine Unlearning Using Parameter-Efficient
Fine-Tuning*), its policy on adapters: every slice trains parameters of its own on top of those of
the slices before it, which stay frozen; several sequences of the same slices, each a rotation of
the others, are trained; a deletion switches off the slice that held the sample and all that follow
it in each sequence, and trains nothing. The longest sequence that is left answers. Where S3T gives
a slice a layer, a slice here has a share of the attention heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardgraph.bench.data import Part
from shardgraph.bench.methods.incremental import Arrays, Stage, score, train_stage
from shardgraph.bench.methods.protocol import (
    BATCH,
    Guarantee,
    Work,
    class_list,
    class_numbers,
    combined,
)
from shardgraph.identity import (
    canonical_json,
    derived_seed,
    digest_bytes,
    node_seed,
    order_key,
    shard_position,
)
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.ensemble import Ensemble, combine
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.weights import NodeWeights

LEAST_WIDTH = 16
"""Value widths are multiples of this (`shardgraph.nodes.recipe.LANE`)."""


class Slices:
    """Live rows by shard and slice, both by keyed hash, in the order of their keyed hash."""

    def __init__(self, train: Part, live: np.ndarray, shards: int, slices: int, seed: int) -> None:
        self.train, self.seed = train, seed
        self.targets, self.classes = class_numbers(train), class_list(train)
        names = [sample.id for sample in train.samples]
        self.place = [
            (
                shard_position(seed, f"s:{name}") % shards,
                derived_seed(seed, f"bench slice {name}") % slices,
            )
            for name in names
        ]
        self.rows: list[list[list[int]]] = [[[] for _ in range(slices)] for _ in range(shards)]
        for row in sorted(live.tolist(), key=lambda row: (order_key(seed, names[row]), names[row])):
            shard, number = self.place[row]
            self.rows[shard][number].append(row)

    def remove(self, rows: Sequence[int]) -> dict[int, set[int]]:
        """Take rows out; the slices that lost some, by shard."""
        hit: dict[int, set[int]] = {}
        for row in rows:
            shard, number = self.place[row]
            self.rows[shard][number].remove(row)
            hit.setdefault(shard, set()).add(number)
        return hit

    def seen(self, rows: Sequence[int]) -> np.ndarray:
        """Which classes some rows have, bool [C]."""
        seen = np.zeros(len(self.classes), bool)
        seen[self.targets[rows]] = True
        return seen

    def tokens(self, rows: Sequence[int]) -> np.ndarray:
        """Activations of some rows."""
        taken: np.ndarray = np.take(self.train.tokens, np.asarray(rows, np.int64), axis=0)
        return taken


@dataclass(frozen=True)
class SlicedSisa:
    """SISA with slicing.

    ``recipe.epochs`` are the passes over the whole shard that training without slices would take;
    each of R stages gets 2 / (R + 1) of them, rounded up, so that the passes are about equal (as
    SISA's authors do).
    """

    shards: int
    slices: int
    recipe: Recipe
    seed: int

    @property
    def guarantee(self) -> Guarantee:
        """A deletion leaves the bytes of a fresh fit."""
        return "refit"

    @property
    def stage_recipe(self) -> Recipe:
        """The recipe of one stage."""
        return replace(self.recipe, epochs=-(-2 * self.recipe.epochs // (self.slices + 1)))

    def fit(self, train: Part, live: np.ndarray) -> SlicedSisaModel:
        """Train every shard from its first slice on."""
        return SlicedSisaModel(self, Slices(train, live, self.shards, self.slices, self.seed))


class SlicedSisaModel:
    """One list of checkpoints per shard."""

    def __init__(self, method: SlicedSisa, slices: Slices) -> None:
        self._method, self._slices = method, slices
        self._checkpoints: list[list[Arrays]] = [[] for _ in slices.rows]
        for shard in range(method.shards):
            self._train_from(shard, 0)

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """Shards combined as nodes are; behind a fence, those that did not hold the rows."""
        ensemble = Ensemble(self._nodes(), self._slices.classes)
        fenced = [{self._slices.place[row][0] for row in fence} for fence in fences]
        kept = [[i for i, n in enumerate(ensemble.nodes) if n not in out] for out in fenced]
        return combined(ensemble.node_probabilities, ensemble.known, tokens, kept)

    def forget(self, rows: Sequence[int]) -> Work:
        """Go back to the checkpoint before the first slice hit, and train from there."""
        work = Work()
        for shard, hit in sorted(self._slices.remove(rows).items()):
            work += self._train_from(shard, min(hit))
        return work

    def digest(self) -> str:
        """Over all checkpoints."""
        return _digest([arrays for shard in self._checkpoints for arrays in shard])

    def _train_from(self, shard: int, first: int) -> Work:
        """Train the stages from slice ``first`` on; what that took."""
        method, slices = self._method, self._slices
        held = self._checkpoints[shard][:first]
        work = Work()
        for stage in range(first, method.slices):
            rows = [row for slice_ in slices.rows[shard][: stage + 1] for row in slice_]
            start = held[-1] if held else self._start(shard)
            seed = derived_seed(node_seed(method.seed, shard), f"stage {stage}")
            wanted = Stage(slices.tokens(rows), slices.targets[rows], slices.seen(rows), None, seed)
            held.append(train_stage(start, wanted, method.stage_recipe))
            work += Work(0, len(rows) * method.stage_recipe.epochs)
        self._checkpoints[shard] = held
        return Work(sum(map(len, slices.rows[shard])), work.passes)

    def _start(self, shard: int) -> Arrays:
        width, classes = self._slices.train.tokens.shape[2], len(self._slices.classes)
        seed = node_seed(self._method.seed, shard)
        return adapters.initialise(self._method.recipe, seed, width, classes)

    def _nodes(self) -> list[NodeWeights]:
        """The last checkpoints, each with the classes that its shard holds."""
        found = []
        for shard, checkpoints in enumerate(self._checkpoints):
            rows = [row for slice_ in self._slices.rows[shard] for row in slice_]
            if rows:
                columns = np.flatnonzero(self._slices.seen(rows))
                arrays = dict(checkpoints[-1])
                for name in ("weight", "bias"):
                    arrays[name] = np.ascontiguousarray(arrays[name][:, columns])
                classes = tuple(self._slices.classes[column] for column in columns)
                found.append(NodeWeights(shard, self._method.recipe.kind, classes, arrays))
        return found


@dataclass(frozen=True)
class S3T:
    """The policy of S3T on adapters, see the module."""

    shards: int
    slices: int
    sequences: int
    recipe: Recipe
    seed: int

    @property
    def guarantee(self) -> Guarantee:
        """Nothing trained on the sample answers, but nothing is trained again either."""
        return "removed"

    @property
    def stage_recipe(self) -> Recipe:
        """The recipe of one slice's parameters: its share of the heads."""
        return replace(self.recipe, heads=max(1, self.recipe.heads // self.slices))

    def fit(self, train: Part, live: np.ndarray) -> S3TModel:
        """Train every sequence of every shard."""
        return S3TModel(self, Slices(train, live, self.shards, self.slices, self.seed))


class S3TModel:
    """Stages by shard and sequence, and how many of each still count."""

    def __init__(self, method: S3T, slices: Slices) -> None:
        self._method, self._slices = method, slices
        every = [(s, q) for s in range(method.shards) for q in range(method.sequences)]
        self._orders = {key: self._filled(*key) for key in every}
        self._stages: dict[tuple[int, int], list[Arrays]] = {}
        self._seen: dict[tuple[int, int], list[np.ndarray]] = {}
        for key in every:
            self._train(key)
        self._active = {key: len(stages) for key, stages in self._stages.items()}

    def answers(
        self, tokens: np.ndarray, fences: Sequence[Sequence[int]]
    ) -> list[np.ndarray | None]:
        """The longest sequences combined; switching off is all that forgetting takes."""
        return [self._predict(tokens, fence) for fence in fences]

    def _predict(self, tokens: np.ndarray, fence: Sequence[int]) -> np.ndarray | None:
        active = dict(self._active)
        self._switch_off(active, fence)
        chosen = [self._longest(shard, active) for shard in range(self._method.shards)]
        chosen = [key for key in chosen if active[key]]
        if not chosen:
            return None
        blocks = [tokens[start : start + BATCH] for start in range(0, len(tokens), BATCH)]
        return np.concatenate([self._answer(block, chosen, active) for block in blocks])

    def forget(self, rows: Sequence[int]) -> Work:
        """Switch off what the rows reached."""
        self._switch_off(self._active, rows)
        return Work(len(rows), 0)

    def digest(self) -> str:
        """Over the parameters that still count."""
        return _digest(
            [arrays for key, count in self._active.items() for arrays in self._stages[key][:count]]
        )

    def longest(self) -> list[int]:
        """Slices that still count in the best sequence of each shard."""
        return [
            self._active[self._longest(shard, self._active)] for shard in range(self._method.shards)
        ]

    def _switch_off(self, active: dict[tuple[int, int], int], rows: Sequence[int]) -> None:
        for row in rows:
            shard, hit = self._slices.place[row]
            for sequence in range(self._method.sequences):
                place = self._orders[shard, sequence].index(hit)
                active[shard, sequence] = min(active[shard, sequence], place)

    def _longest(self, shard: int, active: dict[tuple[int, int], int]) -> tuple[int, int]:
        keys = [(shard, sequence) for sequence in range(self._method.sequences)]
        return max(keys, key=lambda key: (active[key], -key[1]))

    def _answer(
        self,
        tokens: np.ndarray,
        chosen: Sequence[tuple[int, int]],
        active: dict[tuple[int, int], int],
    ) -> np.ndarray:
        classes = len(self._slices.classes)
        stages = [arrays for key in chosen for arrays in self._stages[key][: active[key]]]
        scores = score(adapters.stack(self._method.recipe.kind, stages), tokens, classes)
        ends = np.cumsum([active[key] for key in chosen])
        sums = [part.sum(axis=0) for part in np.split(scores, ends[:-1])]
        known = np.stack([self._seen[key][active[key] - 1] for key in chosen])
        hidden = np.where(known[:, None], np.stack(sums), -np.inf)
        said = np.exp(hidden - hidden.max(axis=2, keepdims=True))
        return combine(said / said.sum(axis=2, keepdims=True), known)

    def _filled(self, shard: int, sequence: int) -> list[int]:
        """The slices of a shard that hold something, in the order of a sequence."""
        count = self._method.slices
        order = [(sequence + place) % count for place in range(count)]
        return [number for number in order if self._slices.rows[shard][number]]

    def _train(self, key: tuple[int, int]) -> None:
        method, slices = self._method, self._slices
        width, classes = slices.train.tokens.shape[2], len(slices.classes)
        stages: list[Arrays] = []
        self._seen[key] = []
        rows_so_far: list[int] = []
        for place, number in enumerate(self._orders[key]):
            rows = slices.rows[key[0]][number]
            rows_so_far += rows
            seed = derived_seed(node_seed(method.seed, key[0]), f"sequence {key[1]} {place}")
            start = adapters.initialise(method.stage_recipe, seed, width, classes)
            tokens, seen = slices.tokens(rows), slices.seen(rows_so_far)
            before = None
            if stages:
                before = score(adapters.stack(method.recipe.kind, stages), tokens, classes).sum(0)
            wanted = Stage(tokens, slices.targets[rows], seen, before, seed)
            stages.append(train_stage(start, wanted, method.stage_recipe))
            self._seen[key].append(seen)
        self._stages[key] = stages


def _digest(stages: Sequence[Arrays]) -> str:
    parts = [
        canonical_json([name, list(arrays[name].shape)]) + arrays[name].tobytes()
        for arrays in stages
        for name in sorted(arrays)
    ]
    return digest_bytes(b"".join(parts))
