"""The influence state as the promises define it, written a second time and differently.

From the live samples alone: which files there must be, with which bytes, and the digest. It shares
with the package only what has an oracle of its own in ``tests/nodes``: the training of one node by
itself, closed-form and random projections, the features of one sample by itself, and the byte form
of weights. Assignment, order, seeds, activation files, who reads and who tallies what, the sums of
tallies and the digest are spelled out again here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rfc8785
import torch

from harness.world import TALLY, TOKENS, WIDTH, Being, Live, World, graph_of, settings_for
from shardgraph.nodes import representation
from shardgraph.nodes.discriminant import discriminant_projection
from shardgraph.nodes.projection import Projection, Projections, random_projection
from shardgraph.nodes.representation import Representation, projection_of
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.tally import to_bytes as tally_bytes
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train

_TERMS = ("config", "activations", "nodes", "tallies", "shard")
"""What the digest is over, in this order."""

_KEPT = 4
"""States kept for the case that they are asked for again at once."""


@dataclass(frozen=True)
class Expected:
    """What a store of some live samples must hold."""

    files: dict[str, bytes]
    digest: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Closure:
    """The nodes that a change concerns, by what becomes of them."""

    refit: set[int]
    subtract: set[int]
    dropped: set[int]


@dataclass(frozen=True)
class _Learnt:
    """A node as it is when it knows what it reads."""

    key: tuple[object, ...]
    projection: Projection
    data: bytes


class Reference:
    """The definition, for one world and one graph. Fitted nodes are kept: they are pure."""

    def __init__(self, world: World, topology: str) -> None:
        self._world = world
        graph = graph_of(topology).to_json()
        self.reads = [tuple(node["reads"]) for node in graph["nodes"]]
        self.tallies = [tuple(node["tallies"]) for node in graph["nodes"]]
        self.homes = [node["home"] for node in graph["nodes"]]
        self._kinds = [_kind(node) for node in graph["nodes"]]
        self._pools = graph["pools"]
        self._shards = graph["shards"]
        self._recipe = settings_for(topology, world.seed).build_recipe()
        self._config: tuple[Mapping[str, Any], str] = ({}, "")
        self._expected: dict[tuple[frozenset[tuple[str, int]], str], Expected] = {}
        self._learnt: dict[tuple[object, ...], _Learnt] = {}
        self._features: dict[tuple[object, ...], np.ndarray] = {}

    def shard_of(self, being: Being) -> int:
        """Keyed hash of the owner, or of the id where there is none, in the pool of the source."""
        named = [pool for pool in self._pools if being.source in (pool["sources"] or ())]
        pool = (named or [pool for pool in self._pools if pool["sources"] is None])[0]
        unit = f"s:{being.id}" if being.owner is None else f"o:{being.owner}"
        number = int.from_bytes(self._hash("shard", unit), "big")
        return int(pool["shards"][number % len(pool["shards"])])

    def contents(self, live: Live) -> list[list[Being]]:
        """The samples of each shard, in shard order."""
        shards: list[list[Being]] = [[] for _ in range(self._shards)]
        for being in self._ordered(self._world.beings(live)):
            shards[self.shard_of(being)].append(being)
        return shards

    def influenced(self, touched: set[int]) -> set[int]:
        """Nodes that read or tally one of these shards."""
        edges = enumerate(zip(self.reads, self.tallies, strict=True))
        return {node for node, (reads, tallies) in edges if touched & {*reads, *tallies}}

    def alive(self, live: Live) -> set[int]:
        """Nodes that exist: their home holds a sample or, without one, something they tally."""
        full = {shard for shard, held in enumerate(self.contents(live)) if held}
        places = enumerate(zip(self.homes, self.tallies, strict=True))
        return {
            node
            for node, (home, tallies) in places
            if (home in full if home is not None else full & set(tallies))
        }

    def closure(self, before: Live, after: Live, touched: set[int]) -> Closure:
        """What must happen to whom when these shards change."""
        influenced, alive, was = self.influenced(touched), self.alive(after), self.alive(before)
        readers = {node for node, reads in enumerate(self.reads) if touched & set(reads)}
        refit = influenced & alive & (readers | (alive - was))
        return Closure(refit, (influenced & alive) - refit, (influenced & was) - alive)

    @property
    def drawn(self) -> set[int]:
        """Nodes that are drawn from their seed, whatever they read."""
        return {node for node, kind in enumerate(self._kinds) if kind == "random"}

    def node_of(self, seed: int) -> int:
        """The node with this seed."""
        return next(node for node in range(len(self.reads)) if self._seed(node) == seed)

    def expected(self, live: Live, config: Mapping[str, Any]) -> Expected:
        """The whole state; ``config`` is the store's configuration as JSON."""
        key = frozenset(live.items()), self._digest_of(config)
        if key not in self._expected:
            while len(self._expected) >= _KEPT:
                del self._expected[next(iter(self._expected))]
            self._expected[key] = self._derive(live, config)
        return self._expected[key]

    def _derive(self, live: Live, config: Mapping[str, Any]) -> Expected:
        shards = self.contents(live)
        files: dict[str, bytes] = {}
        terms: dict[str, list[list[object]]] = {kind: [] for kind in _TERMS}

        def put(kind: str, number: int, data: bytes) -> None:
            files[_name(kind, number, data)] = data
            terms[kind].append([kind, number, _sha(data)])

        for shard, held in enumerate(shards):
            if held:
                put("activations", shard, _activation_file(held))
                labels = rfc8785.dumps(dict(Counter(being.label for being in held))).decode()
                rows = [[being.id, being.label, being.owner, being.source] for being in held]
                terms["shard"].append(["shard", shard, _sha_rows(rows), len(held), labels])
        for node, learnt in self._learn(shards, live).items():
            put("nodes", node, learnt.data)
            if self.tallies[node]:
                held = [being for shard in self.tallies[node] for being in shards[shard]]
                put("tallies", node, self._tally(learnt, held, live))
        terms["config"].append(["config", self._digest_of(config)])
        classes = tuple(sorted({being.label for held in shards for being in held}))
        whole = [row for kind in _TERMS for row in terms[kind]]
        return Expected(files, _sha_rows(whole), classes)

    def _digest_of(self, config: Mapping[str, Any]) -> str:
        if self._config[0] is not config:
            self._config = config, _sha(rfc8785.dumps(dict(config)))
        return self._config[1]

    def _learn(self, shards: Sequence[Sequence[Being]], live: Live) -> dict[int, _Learnt]:
        """What each node learns from what it reads, by itself, in the order of nodes."""
        keys = {}
        new: dict[int, list[Being]] = {}
        for node in sorted(self.alive(live)):
            read = [being for shard in self.reads[node] for being in shards[shard]]
            read = [] if self._kinds[node] == "random" else self._ordered(read)
            keys[node] = (node, tuple((being.id, live[being.id]) for being in read))
            if keys[node] not in self._learnt:
                new[node] = read
        for node, learnt in self._represent(new).items():
            projection = projection_of(learnt) if self.tallies[node] else None
            self._learnt[keys[node]] = _Learnt(
                keys[node], projection, representation.to_bytes(learnt)
            )
        return {node: self._learnt[key] for node, key in keys.items()}

    def _represent(self, new: Mapping[int, Sequence[Being]]) -> dict[int, Representation]:
        """Fit nodes on what they read, each in a stack of its own."""
        sizes = {name: TALLY[name] for name in ("heads", "value_width", "sharpness")}
        found: dict[int, Representation] = {}
        jobs = []
        for node, read in new.items():
            kind, seed = self._kinds[node], self._seed(node)
            if kind == "random":
                found[node] = random_projection(seed, width=WIDTH, **sizes)
                continue
            array = np.stack([being.tokens for being in read])
            rows = TokenRows.of([(array, range(len(array)))])
            labels = tuple(being.label for being in read)
            if kind == "discriminant":
                found[node] = discriminant_projection(seed, rows, labels, **sizes)
            else:
                jobs.append(Job(node, seed, rows, labels))
        trained = train(jobs, self._recipe, workers=1, stacked=False) if jobs else []
        found.update(zip((job.node for job in jobs), trained, strict=True))
        return found

    def _tally(self, learnt: _Learnt, held: Sequence[Being], live: Live) -> bytes:
        """The sums of a node over what it tallies, from scratch, sample by sample."""
        own = [(being.label, self._features_of(learnt, being, live[being.id])) for being in held]
        width = learnt.projection.features
        gram, moment = np.zeros((width, width), np.int64), {}
        for label, features in own:
            gram += np.outer(features, features)
            moment[label] = moment.get(label, np.zeros(width, np.int64)) + features
        classes = tuple(sorted(moment))
        counts = Counter(label for label, _ in own)
        return tally_bytes(
            Tally(
                classes=classes,
                gram=gram[np.triu_indices(width)].astype(np.int32),
                moment=np.array([moment[c] for c in classes], np.int32).reshape(-1, width),
                counts=np.array([counts[c] for c in classes], np.int64),
            )
        )

    def _features_of(self, learnt: _Learnt, being: Being, version: int) -> np.ndarray:
        key = (learnt.key, being.id, version)
        if key not in self._features:
            stack = Projections([learnt.projection], torch.float64)
            self._features[key] = stack(being.tokens[None])[0, 0].numpy().astype(np.int64)
        return self._features[key]

    def _seed(self, node: int) -> int:
        return int.from_bytes(self._hash("node", str(node), 8), "big") >> 1

    def _ordered(self, beings: Sequence[Being]) -> list[Being]:
        return sorted(beings, key=lambda being: (self._hash("order", being.id), being.id))

    def _hash(self, purpose: str, name: str, size: int = 16) -> bytes:
        key = self._world.seed.to_bytes(16, "big")
        person = purpose.encode().ljust(16, b"\0")
        return hashlib.blake2b(name.encode(), digest_size=size, key=key, person=person).digest()


def _kind(node: Mapping[str, Any]) -> str:
    """How a node learns: as the graph says; else trained, unless it tallies."""
    if node["kind"] != "default":
        return str(node["kind"])
    return "discriminant" if node["tallies"] else "trained"


def _activation_file(held: Sequence[Being]) -> bytes:
    data = b"".join(being.tokens.astype("<f2").tobytes() for being in held)
    shape = [len(held), TOKENS, WIDTH]
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"tokens": entry}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % 64)
    return len(header).to_bytes(8, "little") + header + data


def _name(folder: str, number: int, data: bytes) -> str:
    return f"{folder}/{number:05d}-{_sha(data)[:16]}.safetensors"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha_rows(rows: Sequence[Sequence[object]]) -> str:
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    return _sha("".join(lines).encode())
