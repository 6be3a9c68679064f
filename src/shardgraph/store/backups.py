"""The backups that a store knows of, and what its requests leave for them."""

from __future__ import annotations

from collections.abc import Iterable

from shardgraph.errors import UsageError
from shardgraph.identity import SampleId, digest_bytes
from shardgraph.store import sealing
from shardgraph.store.database import Database
from shardgraph.store.state import Backup


class Backups:
    """The tables of backups and tombstones. Writing happens in a transaction of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[Backup, ...]:
        """The backups that may be restored one day, oldest first."""
        rows = self._database.rows(
            "SELECT id, made, (SELECT count(*) FROM tombstones WHERE backup = id) "
            "FROM backups ORDER BY made, id"
        )
        return tuple(Backup(*row) for row in rows)

    def register(self, public: bytes, now: float) -> str:
        """Leave notes for a backup with this public key from now on; returns its id."""
        name = sealing.backup_id(public)
        self._database.rows("INSERT INTO backups VALUES (?, ?, ?)", (name, public, now))
        return name

    def retire(self, name: str) -> None:
        """Forget a backup that no longer exists, and the notes for it.

        Raises:
            UsageError: there is no such backup.
        """
        known = [backup.id for backup in self.all()]
        if name not in known:
            listed = ", ".join(item[:12] for item in known) or "none"
            raise UsageError(f"There is no backup {name!r}.", advice=f"Known are: {listed}.")
        self._database.rows("DELETE FROM backups WHERE id = ?", (name,))

    def bury(self, request: int, samples: Iterable[SampleId]) -> None:
        """Leave a note for every backup about the samples that a request forgets."""
        ids = list(samples)
        for name, public in self._database.rows("SELECT id, public FROM backups"):
            box = sealing.seal(public, request, ids)
            self._database.rows(
                "INSERT INTO tombstones VALUES (?, ?, ?, ?)",
                (name, request, box, digest_bytes(box)),
            )

    def notes_for(self, name: str) -> dict[int, bytes]:
        """The boxes for one backup, by request."""
        return dict(
            self._database.rows(
                "SELECT request, box FROM tombstones WHERE backup = ? ORDER BY request", (name,)
            )
        )

    def damaged(self) -> list[tuple[str, int]]:
        """Backup and request of every box that differs from its digest."""
        rows = self._database.rows("SELECT backup, request, box, digest FROM tombstones")
        return [(backup, number) for backup, number, box, digest in rows
                if digest_bytes(box) != digest]  # fmt: skip
