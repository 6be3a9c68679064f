"""What a store tells of itself to those who look after it, and texts that decide nothing."""

from __future__ import annotations

from shardgraph.store.backups import Backups
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.requests import Requests
from shardgraph.store.rows import Rows
from shardgraph.store.state import Status


class Care:
    """Figures and notes of one store."""

    def __init__(
        self,
        database: Database,
        layout: Layout,
        blobs: Blobs,
        rows: Rows,
        requests: Requests,
        backups: Backups,
    ) -> None:
        self._database = database
        self._layout = layout
        self._blobs = blobs
        self._rows = rows
        self._requests = requests
        self._backups = backups

    def status(self, now: float) -> Status:
        """Figures at the time ``now``, in seconds since the epoch."""
        with self._database.snapshot():
            view = self._rows.view()
            unfinished = self._requests.unfinished()
            return Status(
                generation=view.generation,
                digest=view.digest,
                samples=view.samples,
                pending_samples=sum(view.pending_labels.values()),
                shards=len(view.shards),
                nodes=len(view.nodes),
                tallies=len(view.tallies),
                fenced=len(view.fenced),
                requests=self._requests.by_state(),
                late_requests=sum(request.late(now) for request in unfinished),
                overdue_requests=sum(request.overdue(now) for request in unfinished),
                pending_erasures=self.pending_erasures(),
                backups=len(self._backups.all()),
                bytes={**self._blobs.sizes(), "database": self._layout.database_bytes()},
            )

    def pending_erasures(self) -> int:
        """How many superseded blobs are not yet erased."""
        return int(self._database.value("SELECT count(*) FROM erasures"))

    def note(self, name: str) -> str | None:
        """A text kept under a name, None if there is none."""
        found = self._database.rows("SELECT value FROM meta WHERE name = ?", (f"note:{name}",))
        return str(found[0][0]) if found else None

    def set_note(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        with self._database.transaction():
            self._database.rows(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"note:{name}", value)
            )
