"""The current state as rows, as a `View`, as a digest and as a seal.

The *influence digest* covers all that decides an answer and nothing else, so it is equal for
equal configuration and live samples whatever the history. The *seal* covers, beside it, what
decides who may answer: the generation, the unfinished requests with their fences, the ledger's
frontier, the backups that requests leave sealed notes for. It is rewritten in every transaction
and compared at every view, so rows that were changed by anything but this package are never acted
upon.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from shardgraph.errors import StoreDamagedError
from shardgraph.identity import NodeId, ShardId, digest_rows
from shardgraph.store.blobs import Address
from shardgraph.store.database import Database
from shardgraph.store.state import RequestState, ShardState, StoreConfig, View

FENCING: tuple[RequestState, ...] = ("accepted", "refitted")
"""States of a request in which its nodes must not answer."""

_FENCING_SQL = "state IN ('accepted', 'refitted')"


class Rows:
    """Reads the current state, and seals it after a change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._config: tuple[str, StoreConfig, str] | None = None

    def config(self) -> tuple[StoreConfig, str]:
        """The configuration and its digest, parsed again only when its text has changed.

        Raises:
            StoreDamagedError: it cannot be understood.
        """
        text = self._database.value("SELECT value FROM meta WHERE name = 'config'")
        cached = self._config
        if cached is None or cached[0] != text:
            try:
                config = StoreConfig.from_json(json.loads(text))
            except (ValueError, TypeError, KeyError) as error:
                raise _damaged(self._database) from error
            cached = self._config = (text, config, config.digest)
        return cached[1], cached[2]

    def view(self) -> View:
        """The current state, compared with its seal.

        Raises:
            StoreDamagedError: they differ, or a row cannot be understood.
        """
        with self._database.snapshot():
            try:
                *_, digest, seal = self._state()
                intact = self._digest() == digest and self._seal(digest) == seal
                view = self._unsealed(digest)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise _damaged(self._database) from error
        if not intact:
            raise _damaged(self._database)
        return view

    def seal(self) -> str:
        """Write the digest and the seal of what the current transaction has made; the digest."""
        digest = self._digest()
        self._database.rows("UPDATE state SET digest = ?", (digest,))
        self._database.rows("UPDATE state SET seal = ?", (self._seal(digest),))
        return digest

    def pointers(self, kind: str) -> dict[int, str]:
        """Key to digest of all current blobs of a kind, by key."""
        statement = "SELECT key, digest FROM pointers WHERE kind = ? ORDER BY key"
        return dict(self._database.rows(statement, (kind,)))

    def live_blobs(self) -> tuple[Address, ...]:
        """Every blob that the current generation, or a refit kept for the next, points to."""
        return tuple(
            self._database.rows(
                "SELECT kind, key, digest FROM pointers "
                "UNION SELECT kind, key, digest FROM refits ORDER BY 1, 2, 3"
            )
        )

    def _state(self) -> tuple[Any, ...]:
        statement = "SELECT generation, ledger_size, ledger_peaks, digest, seal FROM state"
        return self._database.rows(statement)[0]

    def _shards(self) -> list[tuple[int, str, int, str]]:
        """Shard, records, samples and labels of all shards, by number."""
        return self._database.rows(
            "SELECT shard, records, samples, labels FROM shards ORDER BY shard"
        )

    def _digest(self) -> str:
        """The influence digest of the rows as they are."""
        blobs = self._database.rows("SELECT kind, key, digest FROM pointers ORDER BY kind, key")
        shards = (("shard", *row) for row in self._shards())
        return digest_rows([("config", self.config()[1]), *blobs, *shards])

    def _seal(self, digest: str) -> str:
        generation, size, peaks, *_ = self._state()
        requests = self._database.rows(
            "SELECT 'request', id, key, kind, state, accepted, deadline, commitment, fenced, "
            "labels, generation, state_opening, changed FROM requests "
            "WHERE state != 'receipted' ORDER BY id"
        )
        erasures = self._database.rows(
            "SELECT 'erasure', kind, key, digest FROM erasures ORDER BY 2, 3, 4"
        )
        backups = self._database.rows("SELECT 'backup', id, hex(public) FROM backups ORDER BY id")
        state = ("state", generation, digest, size, peaks)
        return digest_rows([state, *requests, *erasures, *backups])

    def _unsealed(self, digest: str) -> View:
        activations = self.pointers("activations")
        shards = {
            ShardId(shard): ShardState(activations[shard], records, samples, json.loads(labels))
            for shard, records, samples, labels in self._shards()
        }
        fenced: set[NodeId] = set()
        pending: Counter[str] = Counter()
        fences = f"SELECT fenced, labels FROM requests WHERE {_FENCING_SQL}"
        for nodes_text, labels_text in self._database.rows(fences):
            fenced.update(json.loads(nodes_text))
            pending.update(json.loads(labels_text))
        return View(
            generation=self._state()[0],
            config=self.config()[0],
            shards=shards,
            nodes={NodeId(key): value for key, value in self.pointers("nodes").items()},
            tallies={NodeId(key): value for key, value in self.pointers("tallies").items()},
            fenced=frozenset(fenced),
            pending_labels=dict(sorted(pending.items())),
            digest=digest,
            revision=self._database.revision(),
        )


def _damaged(database: Database) -> StoreDamagedError:
    return StoreDamagedError(
        f"The rows of {database.path} do not agree with their seal.",
        advice="Restore the store from a backup, or fit it again.",
    )
