"""Refitted blobs that a crash must not cost: kept for the generation to come."""

from __future__ import annotations

from shardgraph.errors import StoreDamagedError
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.state import BlobKind


class Refits:
    """The table of kept refits. Every publication empties it."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def keep(self, kind: BlobKind, key: int, basis: str, digest: str) -> None:
        """Durably remember a blob; its bytes must be durable already."""
        with self._database.transaction():
            self._database.rows(
                "INSERT OR REPLACE INTO refits VALUES (?, ?, ?, ?)", (kind, key, basis, digest)
            )

    def kept(self, kind: BlobKind, key: int, basis: str) -> str | None:
        """The digest of a blob kept for this basis, None if there is none or it is damaged."""
        found = self._database.rows(
            "SELECT digest FROM refits WHERE kind = ? AND key = ? AND basis = ?",
            (kind, key, basis),
        )
        if not found:
            return None
        try:
            self._blobs.verify(kind, key, found[0][0])
        except StoreDamagedError:
            return None
        return str(found[0][0])
