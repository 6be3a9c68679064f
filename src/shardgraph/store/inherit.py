"""What a store made of a backup takes over from the store that the backup was made of."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shardgraph.errors import StoreDamagedError, UsageError
from shardgraph.identity import SampleId
from shardgraph.store.backups import Backups
from shardgraph.store.database import Database
from shardgraph.store.ledger import Ledger
from shardgraph.store.requests import COPIED_COLUMNS, Requests
from shardgraph.store.rows import Rows
from shardgraph.store.samples import Samples
from shardgraph.store.sealing import backup_id, tombstone, unseal
from shardgraph.store.state import Record, StoreConfig

Fence = Callable[[StoreConfig, Sequence[Record]], Iterable[int]]
"""The nodes of the store with this configuration that samples influence."""

RESTORE = "restore"
"""The kind of a request that a restore makes."""

_DAYS = 30.0
_FOREIGN = "Name the store that this backup was made of, or a file of its requests."


@dataclass(frozen=True, slots=True)
class Inherited:
    """What was taken over: requests made since the backup, and samples that must go again."""

    requests: int = 0
    samples: int = 0


class Heir:
    """A database made of a backup, which takes over what happened since."""

    def __init__(self, database: Database, key: X25519PrivateKey, fence: Fence) -> None:
        self._database = database
        self._key = key
        self._fence = fence
        self._rows = Rows(database)
        self._samples = Samples(database, self._rows.config()[0].seed)
        self._requests = Requests(database, self._samples)
        self._backups = Backups(database)
        self._ledger = Ledger(database)
        self._name = backup_id(key.public_key().public_bytes_raw())

    def inherit(self, source: Database, *, now: float) -> Inherited:
        """Take over requests, ledger, keys and notes, and accept what must be forgotten again.

        One transaction: afterwards every node that such a sample influenced is fenced.

        Raises:
            UsageError: the source is not the store that the backup was made of, or is older.
            StoreDamagedError: a request left no note for the backup, or one that is damaged.
        """
        self._require_kinship(source)
        notes = Backups(source).notes_for(self._name)
        with self._database.transaction():
            held = {request.id for request in self._requests.all()}
            self._copy_rows(source, held)
            self._extend_ledger(source)
            since = [request for request in self._requests.all() if request.id not in held]
            missing = sorted({request.id for request in since} - set(notes))
            if missing:
                raise StoreDamagedError(
                    f"Request {missing[0]} left no note for this backup.",
                    advice="Use another backup; this one cannot be brought up to date.",
                )
            wanted = self._wanted({request.id: notes[request.id] for request in since})
            again: set[SampleId] = set()
            for request in since:
                if request.finished:
                    again |= wanted[request.id]
                else:
                    self._take_up(request.id, wanted[request.id])
            again -= self._pending()
            self._forget(sorted(again), now)
            count = len(self._samples.pending())
            self._rows.seal()
        return Inherited(len(since), count)

    def _require_kinship(self, source: Database) -> None:
        salt = "SELECT value FROM meta WHERE name = 'salt'"
        if source.value(salt) != self._database.value(salt):
            raise UsageError("The requests are those of another store.", advice=_FOREIGN)
        if self._name not in [backup.id for backup in Backups(source).all()]:
            raise UsageError(
                "The requests were saved before this backup was made, or the backup was retired.",
                advice="Name the live store, or a newer file of its requests.",
            )
        keys = "SELECT id, key, receipt FROM requests ORDER BY id"
        mine, theirs = self._database.rows(keys), source.rows(keys)
        ours, others = self._ledger.entries(), Ledger(source).entries()
        if theirs[: len(mine)] != mine or others[: len(ours)] != ours:
            raise UsageError(
                "The store and the backup have parted: their requests differ.", advice=_FOREIGN
            )

    def _copy_rows(self, source: Database, held: Iterable[int]) -> None:
        known = set(held)
        requests = source.rows(f"SELECT {COPIED_COLUMNS} FROM requests ORDER BY id")
        places = ", ".join("?" * len(COPIED_COLUMNS.split(",")))
        self._database.many(
            f"INSERT INTO requests ({COPIED_COLUMNS}) VALUES ({places})",
            [row for row in requests if row[0] not in known],
        )
        for table, columns in (("signers", 2), ("backups", 3), ("tombstones", 4)):
            places = ", ".join("?" * columns)
            self._database.many(
                f"INSERT OR IGNORE INTO {table} VALUES ({places})",
                source.rows(f"SELECT * FROM {table}"),
            )
        generation = source.value("SELECT generation FROM state")
        self._database.rows("UPDATE state SET generation = max(generation, ?)", (generation,))

    def _extend_ledger(self, source: Database) -> None:
        ledger = Ledger(source)
        ledger.tree()  # compares the entries with the kept root
        for entry in ledger.entries()[len(self._ledger) :]:
            self._ledger.append(entry)
        head = ledger.head()
        if head is not None:
            self._ledger.set_head(head)

    def _wanted(self, notes: dict[int, bytes]) -> dict[int, set[SampleId]]:
        """The samples of this store that each request forgot."""
        ids = [SampleId(row[0]) for row in self._database.rows("SELECT id FROM samples")]
        by_stone = {tombstone(self._name, sample): sample for sample in ids} if notes else {}
        return {
            request: {
                by_stone[stone] for stone in unseal(self._key, request, box) if stone in by_stone
            }
            for request, box in notes.items()
        }

    def _take_up(self, request: int, samples: set[SampleId]) -> None:
        """Let a request that was not finished wait again for those of its samples that are here."""
        records = self._samples.lookup(sorted(samples))
        free = [record for record in records if record.id not in self._pending()]
        if free:
            self._requests.reopen(request, free, self._fenced(free))
        else:
            generation = int(self._database.value("SELECT generation FROM state"))
            self._requests.nothing_to_do(request, generation)

    def _fenced(self, records: Sequence[Record]) -> set[int]:
        """The nodes that there are and that the samples influenced."""
        influenced = self._fence(self._rows.config()[0], records)
        return set(influenced) & set(self._rows.pointers("nodes"))

    def _pending(self) -> set[SampleId]:
        return {record.id for record in self._samples.pending()}

    def _forget(self, samples: Sequence[SampleId], now: float) -> None:
        if not samples:
            return
        records = self._samples.find(samples)
        request, _ = self._requests.accept(
            secrets.token_hex(16), RESTORE, samples, self._fenced(records), now, _DAYS
        )
        self._backups.bury(request.id, samples)
