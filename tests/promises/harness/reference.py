"""The influence state as the promises define it, written a second time and differently.

From the live samples alone: which files there must be, with which bytes, and the digest. It shares
with the package only the training of one node by itself (`train`, which has an oracle of its own
in ``tests/nodes``) and the byte form of weights; assignment, order, seeds, activation files, who
reads what and the digest are spelled out again here.
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

from harness.world import TOKENS, WIDTH, Being, Live, World, graph_of, settings_for
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import to_bytes

_KEPT = 4
"""States kept for the case that they are asked for again at once."""


@dataclass(frozen=True)
class Expected:
    """What a store of some live samples must hold."""

    files: dict[str, bytes]
    digest: str
    classes: tuple[str, ...]


class Reference:
    """The definition, for one world and one graph. Fitted nodes are kept: they are pure."""

    def __init__(self, world: World, topology: str) -> None:
        self._world = world
        graph = graph_of(topology).to_json()
        self.reads = [tuple(node["reads"]) for node in graph["nodes"]]
        self.homes = [node["home"] for node in graph["nodes"]]
        self._pools = graph["pools"]
        self._shards = graph["shards"]
        self._recipe = settings_for(topology, world.seed).build_recipe()
        self._config: tuple[Mapping[str, Any], str] = ({}, "")
        self._expected: dict[tuple[frozenset[tuple[str, int]], str], Expected] = {}
        self._fitted: dict[tuple[int, tuple[tuple[str, int], ...]], bytes] = {}

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

    def closure(self, live: Live, touched: set[int]) -> set[int]:
        """Nodes that must be refitted when these shards have changed to what is live."""
        full = {shard for shard, held in enumerate(self.contents(live)) if held}
        return {
            node
            for node, reads in enumerate(self.reads)
            if touched & set(reads) and self.homes[node] in full
        }

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
        terms, nodes = [], []
        for shard, held in enumerate(shards):
            if held:
                data = _activation_file(held)
                files[_name("activations", shard, data)] = data
                labels = rfc8785.dumps(dict(Counter(being.label for being in held)))
                terms.append([shard, _sha(data), _sha(_lines(held)), len(held), labels.decode()])
        for node, data in self._fit(self._read_by_nodes(shards), live).items():
            files[_name("nodes", node, data)] = data
            nodes.append([node, _sha(data)])
        blobs = [("nodes", *row) for row in nodes]
        blobs += [("activations", shard, data) for shard, data, *_ in terms]
        rows = [("config", self._digest_of(config)), *sorted(blobs)]
        rows += [("shard", shard, *rest) for shard, _, *rest in terms]
        classes = tuple(sorted({being.label for held in shards for being in held}))
        return Expected(files, _sha(_json_lines(rows)), classes)

    def _digest_of(self, config: Mapping[str, Any]) -> str:
        if self._config[0] is not config:
            self._config = config, _sha(rfc8785.dumps(dict(config)))
        return self._config[1]

    def _read_by_nodes(self, shards: Sequence[Sequence[Being]]) -> dict[int, list[Being]]:
        """What each node reads, in its order; nodes whose home is empty are not there."""
        return {
            node: self._ordered([being for shard in reads for being in shards[shard]])
            for node, (home, reads) in enumerate(zip(self.homes, self.reads, strict=True))
            if shards[home]
        }

    def _fit(self, read: Mapping[int, Sequence[Being]], live: Live) -> dict[int, bytes]:
        """The weights of nodes, each trained in a stack of its own."""
        keys = {node: (node, tuple((b.id, live[b.id]) for b in read[node])) for node in read}
        jobs = [self._job(node, read[node]) for node in read if keys[node] not in self._fitted]
        for weights in train(jobs, self._recipe, workers=1, stacked=False) if jobs else ():
            self._fitted[keys[weights.node]] = to_bytes(weights)
        return {node: self._fitted[keys[node]] for node in read}

    def _job(self, node: int, read: Sequence[Being]) -> Job:
        array = np.stack([being.tokens for being in read])
        seed = int.from_bytes(self._hash("node", str(node), 8), "big") >> 1
        rows = TokenRows.of([(array, range(len(array)))])
        return Job(node, seed, rows, tuple(being.label for being in read))

    def _ordered(self, beings: Sequence[Being]) -> list[Being]:
        return sorted(beings, key=lambda being: (self._hash("order", being.id), being.id))

    def _hash(self, purpose: str, name: str, size: int = 16) -> bytes:
        key = self._world.seed.to_bytes(16, "big")
        person = purpose.encode().ljust(16, b"\0")
        return hashlib.blake2b(name.encode(), digest_size=size, key=key, person=person).digest()


def _activation_file(held: Sequence[Being]) -> bytes:
    data = b"".join(being.tokens.astype("<f2").tobytes() for being in held)
    shape = [len(held), TOKENS, WIDTH]
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"tokens": entry}, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % 64)
    return len(header).to_bytes(8, "little") + header + data


def _lines(held: Sequence[Being]) -> bytes:
    return _json_lines([(being.id, being.label, being.owner, being.source) for being in held])


def _json_lines(rows: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def _name(folder: str, number: int, data: bytes) -> str:
    return f"{folder}/{number:05d}-{_sha(data)[:16]}.safetensors"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
