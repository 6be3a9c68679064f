"""One generation after another: the transaction that moves the pointers."""

from __future__ import annotations

from dataclasses import replace

from shardgraph.errors import UsageError
from shardgraph.identity import NodeId, canonical_json
from shardgraph.store.blobs import Address, Blobs
from shardgraph.store.database import Database
from shardgraph.store.requests import Requests
from shardgraph.store.rows import Rows
from shardgraph.store.samples import Samples, label_counts, records_digest
from shardgraph.store.state import BlobKind, Change, NodesChanged, Request, StoreConfig


class Publisher:
    """Carries out changes, each in one transaction."""

    def __init__(
        self, database: Database, blobs: Blobs, rows: Rows, samples: Samples, requests: Requests
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._rows = rows
        self._samples = samples
        self._requests = requests

    def publish(self, change: Change) -> int:
        """Make the next generation current; see `Store.publish`."""
        self._blobs.sync()
        with self._database.transaction():
            requests = self._requests.get(change.requests)
            done = [request for request in requests if request.generation is not None]
            if done:
                return _repeated(requests, done)
            _require_fences_answered(change, requests)
            before = self._rows.view()
            touched = self._move_samples(change, requests)
            self._describe(touched)
            self._move_pointers(change, touched)
            self._configure(change, before.config)
            generation = before.generation + 1
            self._database.rows("UPDATE state SET generation = ?", (generation,))
            self._requests.published(change.requests, generation)
            for request in requests:
                self._requests.set_changed(request.id, _changed(change, request.fenced))
            self._requests.drop_openings()
            self._rows.seal()
        return generation

    def _configure(self, change: Change, config: StoreConfig) -> None:
        """Write the configuration anew where the change names an environment or settings."""
        if change.environment is None and not change.settings:
            return
        new = replace(
            config,
            environment=config.environment if change.environment is None else change.environment,
            settings={**config.settings, **change.settings},
        )
        text = canonical_json(new.to_json()).decode()
        self._database.rows("UPDATE meta SET value = ? WHERE name = 'config'", (text,))

    def _move_samples(self, change: Change, requests: tuple[Request, ...]) -> set[int]:
        touched: set[int] = {record.shard for record in change.added}
        for request in requests:
            touched.update(record.shard for record in self._samples.pending(request.id))
            self._samples.remove(request.id)
        self._samples.insert(change.added)
        return touched

    def _describe(self, shards: set[int]) -> None:
        """Write the digest and the label counts of shards anew."""
        for shard in sorted(shards):
            records = self._samples.unverified(shard)
            self._database.rows("DELETE FROM shards WHERE shard = ?", (shard,))
            if records:
                labels = canonical_json(label_counts(records)).decode()
                self._database.rows(
                    "INSERT INTO shards VALUES (?, ?, ?, ?)",
                    (shard, records_digest(records), len(records), labels),
                )

    def _move_pointers(self, change: Change, touched: set[int]) -> None:
        unnamed = touched - set(change.activations)
        if unnamed:
            raise UsageError(f"Shard {min(unnamed)} changes, but its activations are not given.")
        moves: dict[BlobKind, dict[int, str | None]] = {
            "activations": dict(change.activations),
            "nodes": dict(change.nodes),
            "tallies": dict(change.tallies),
        }
        old: list[Address] = []
        new: list[Address] = []
        for kind, targets in moves.items():
            current = self._rows.pointers(kind)
            for key, digest in sorted(targets.items()):
                if key in current:
                    old.append((kind, key, current[key]))
                if digest is not None:
                    new.append((kind, key, digest))
        pointer = "kind = ? AND key = ? AND digest = ?"
        self._database.many("INSERT OR IGNORE INTO erasures VALUES (?, ?, ?)", old)
        self._database.many(f"DELETE FROM pointers WHERE {pointer}", old)
        self._database.many("INSERT INTO pointers VALUES (?, ?, ?)", new)
        self._database.many(f"DELETE FROM erasures WHERE {pointer}", new)
        self._database.rows("DELETE FROM refits")
        self._blobs.require(new)
        filled = {row[0] for row in self._database.rows("SELECT shard FROM shards")}
        if filled != set(self._rows.pointers("activations")):
            shard = min(filled ^ set(self._rows.pointers("activations")))
            raise UsageError(
                f"Shard {shard} must have an activations blob if and only if it has samples."
            )


def _changed(change: Change, fenced: frozenset[NodeId]) -> NodesChanged:
    """What the change does to the nodes that one request fences."""
    fitted = [node for node in sorted(fenced) if change.nodes.get(node) is not None]
    dropped = [node for node in sorted(fenced) if change.nodes.get(node, "") is None]
    rest = fenced.difference(fitted, dropped)
    return NodesChanged(tuple(fitted), tuple(sorted(rest)), tuple(dropped))


def _repeated(requests: tuple[Request, ...], done: list[Request]) -> int:
    generations = {request.generation for request in requests}
    if len(done) < len(requests) or len(generations) != 1:
        raise UsageError(f"Request {done[0].id} has been carried out already, others have not.")
    return int(done[0].generation or 0)


def _require_fences_answered(change: Change, requests: tuple[Request, ...]) -> None:
    """No fence is lifted from a node that the change leaves as it was."""
    renewed = set(change.nodes) | set(change.tallies)
    for request in requests:
        forgotten = request.fenced - renewed
        if forgotten:
            raise UsageError(
                f"Node {min(forgotten)} is fenced by request {request.id}, "
                "but the change neither refits nor removes it."
            )
