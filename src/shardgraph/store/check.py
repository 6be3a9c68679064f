"""The store examines itself: every file and every row against its digest."""

from __future__ import annotations

import os
from collections.abc import Iterator

from shardgraph.errors import ShardgraphError, StoreDamagedError
from shardgraph.store import witness
from shardgraph.store.backups import Backups
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.ledger import Ledger
from shardgraph.store.rows import Rows
from shardgraph.store.samples import Samples, label_counts
from shardgraph.store.signers import Signers
from shardgraph.store.state import Finding

_RESTORE = "Restore the store from a backup, or fit it again."
_ERASE = "Run `shardgraph check --repair` to erase it."

HARMLESS = frozenset({"orphan", "staged", "erasure", "foreign", "tombstone", "key", "newest"})
"""Kinds of findings with which every answer is still right."""


class Examiner:
    """Looks at everything, changes nothing, and goes on after what it finds."""

    def __init__(
        self,
        database: Database,
        layout: Layout,
        blobs: Blobs,
        rows: Rows,
        samples: Samples,
        ledger: Ledger,
    ) -> None:
        self._database = database
        self._layout = layout
        self._blobs = blobs
        self._rows = rows
        self._samples = samples
        self._ledger = ledger

    def findings(self) -> tuple[Finding, ...]:
        """All findings. Kinds: database, state, blob, records, ledger, and the `HARMLESS` ones
        (a damaged tombstone harms no answer, but the restore of one backup).

        Where the database itself is damaged nothing else is looked at.
        """
        with self._database.snapshot():
            broken = tuple(self._database_findings())
            if broken:
                return broken
            return (
                *self._blob_findings(),
                *self._record_findings(),
                *self._ledger_findings(),
                *self._leftovers(),
            )

    def _database_findings(self) -> Iterator[Finding]:
        try:
            for (message,) in self._database.rows("PRAGMA integrity_check"):
                if message != "ok":
                    yield Finding("database", str(message), _RESTORE)
            for row in self._database.rows("PRAGMA foreign_key_check"):
                yield Finding("database", f"a row of {row[0]} names a missing row", _RESTORE)
            self._rows.view()
        except StoreDamagedError as error:
            yield Finding("state", error.message, _RESTORE)

    def _blob_findings(self) -> Iterator[Finding]:
        for address in self._rows.live_blobs():
            try:
                self._blobs.verify(*address)
            except StoreDamagedError as error:
                yield Finding("blob", error.message, _RESTORE)

    def _record_findings(self) -> Iterator[Finding]:
        shards = self._rows.view().shards
        used = {row[0] for row in self._database.rows("SELECT DISTINCT shard FROM samples")}
        for shard in sorted(used - set(shards)):
            yield Finding("records", f"Shard {shard} has samples but no state.", _RESTORE)
        for shard, state in shards.items():
            try:
                records = self._samples.of_shard(shard)
            except StoreDamagedError as error:
                yield Finding("records", error.message, _RESTORE)
                continue
            if (len(records), label_counts(records)) != (state.samples, dict(state.labels)):
                yield Finding("records", f"Shard {shard} counts its samples wrongly.", _RESTORE)

    def _ledger_findings(self) -> Iterator[Finding]:
        try:
            self._ledger.tree()
        except ShardgraphError as error:
            yield Finding("ledger", error.message, error.advice or _RESTORE)
        for backup, request in Backups(self._database).damaged():
            yield Finding(
                "tombstone",
                f"What request {request} left for backup {backup[:12]} is damaged.",
                f"Make a new backup, then retire this one: `shardgraph backup --retire {backup}`.",
            )

    def _leftovers(self) -> Iterator[Finding]:
        doomed = {
            self._layout.blob(kind, key, digest)
            for kind, key, digest in self._database.rows("SELECT kind, key, digest FROM erasures")
        }
        for path in self._blobs.orphans(self._rows.live_blobs()):
            if path not in doomed:
                yield Finding("orphan", f"{path} belongs to no generation.", _ERASE)
        for path in sorted(doomed):
            yield Finding("erasure", f"{path} is superseded but not yet erased.", _ERASE)
        for path in self._layout.staged_files():
            yield Finding("staged", f"{path} was left by work that was stopped.", _ERASE)
        for path in self._layout.foreign_files():
            yield Finding("foreign", f"{path} is not a file of the store.", "Move it elsewhere.")
        if not witness.is_whole(self._layout.newest):
            yield Finding(
                "newest",
                f"{self._layout.newest} cannot be read.",
                "Remove it: the next change writes it anew.",
            )
        yield from self._key_findings()

    def _key_findings(self) -> Iterator[Finding]:
        key = self._layout.signing_key
        if key.exists() and key.stat().st_mode & 0o077:
            yield Finding("key", f"Others may use the signing key {key}.", f"chmod 600 {key}")
        signers = Signers(self._layout, self._database)
        unreadable = key.exists() and not os.access(key, os.R_OK)
        if signers.own_fingerprint() is None or unreadable:
            return
        try:
            signers.own()
        except StoreDamagedError as error:
            yield Finding("key", error.message, error.advice)
