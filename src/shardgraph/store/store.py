"""The store: the one object through which everything on disk is read and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from shardgraph import files
from shardgraph.errors import (
    StoreDamagedError,
    StoreExistsError,
    StoreMissingError,
    UsageError,
)
from shardgraph.identity import SampleId
from shardgraph.store import database as sqlite
from shardgraph.store.backup import copy_store
from shardgraph.store.blobs import Blobs
from shardgraph.store.check import HARMLESS, Examiner
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.ledger import Ledger
from shardgraph.store.lock import WriterLock
from shardgraph.store.opening import build_database, open_for_reading, require_room
from shardgraph.store.publish import Publisher
from shardgraph.store.requests import Requests
from shardgraph.store.rows import Rows
from shardgraph.store.samples import Samples
from shardgraph.store.state import (
    BlobKind,
    Change,
    Finding,
    Record,
    Request,
    Status,
    StoreConfig,
    View,
)

T = TypeVar("T")
Mode = Literal["read", "write"]


class Store:
    """A store directory, open for reading (any number) or writing (one, across processes).

    All methods may be called from several threads. After ``fork`` it must be opened again.

    A request is carried out by `accept`, refitting (the caller's), `mark_refitted`, `publish`,
    `erase_superseded`, `finish`, `issue_receipt`, in this order; after a crash, `unfinished` says
    where to go on, and every step may be taken again. Files of the store must be read whole, not
    memory-mapped, by processes that do not write: the writer overwrites what it supersedes.
    """

    def __init__(self, layout: Layout, database: Database, lock: WriterLock | None) -> None:
        """Use `create` or `open`."""
        self.path = layout.root
        self.mode: Mode = "write" if database.write else "read"
        self._layout = layout
        self._database = database
        self._lock = lock
        self._blobs = Blobs(layout)
        self._rows = Rows(database)
        self._samples = Samples(database, self.config.seed)
        self._requests = Requests(database, self._samples)
        self.ledger = Ledger(database)
        self._publisher = Publisher(
            database, self._blobs, self._rows, self._samples, self._requests
        )

    @classmethod
    def create(cls, path: Path, config: StoreConfig, *, wait: float = 0.0) -> Store:
        """Create a store, or go on with an unfinished one that has an equal configuration.

        The result is open for writing, at generation 0 until the first `publish`.

        Raises:
            StoreExistsError: a finished store, an unfinished one with another configuration, or
                foreign files are there.
            StoreLockedError: another process is writing there.
        """
        layout = Layout(Path(path).absolute())
        require_room(layout)
        files.make_directory(layout.root)
        lock = WriterLock(layout.lock, wait=wait)
        try:
            if not layout.database.exists():
                build_database(layout, config)
            store = cls._writing(layout, lock)
            try:
                _require_unfinished(store, config)
                files.erase_files(layout.unfinished_databases())
            except BaseException:
                store._database.close()
                raise
        except BaseException:
            lock.release()
            raise
        return store

    @classmethod
    def open(cls, path: Path, mode: Mode = "read", *, wait: float = 0.0) -> Store:
        """Open a finished store; in write mode, wait up to ``wait`` seconds for the lock.

        A reader takes no lock, except in a directory in which it may create no files and nobody
        writes: there it keeps writers out until it is closed.

        Raises:
            StoreMissingError: there is no store, or its creation was never finished.
            StoreFormatError: not a store, or written by a newer version.
            StoreDamagedError: the database is damaged.
            StoreLockedError: write mode, and another process holds the lock.
        """
        layout = Layout(Path(path).absolute())
        if not layout.database.is_file():
            raise StoreMissingError(
                f"There is no store at {path}.", advice="Create one: `shardgraph fit DATA --store`."
            )
        sqlite.recognise(layout.database)
        if mode == "write":
            lock = WriterLock(layout.lock, wait=wait)
            try:
                store = cls._writing(layout, lock)
            except BaseException:
                lock.release()
                raise
        else:
            store = cls(layout, *open_for_reading(layout))
        try:
            if store._generation() == 0:
                raise StoreMissingError(
                    f"The store at {path} was never finished.",
                    advice="Run the same `shardgraph fit` again: it goes on where it stopped.",
                )
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _writing(cls, layout: Layout, lock: WriterLock) -> Store:
        sqlite.recognise(layout.database)
        database = Database(layout.database, write=True)
        try:
            store = cls(layout, database, lock)
            store._blobs.make_folders()
        except BaseException:
            database.close()
            raise
        return store

    def close(self) -> None:
        """Release the lock and the database. Blobs put but not published stay orphans."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- reading --------------------------------------------------------------------------------

    @property
    def config(self) -> StoreConfig:
        """The configuration of the current generation."""
        return self._rows.config()[0]

    def view(self) -> View:
        """The current state, read in one transaction.

        Raises:
            StoreDamagedError: the rows do not agree with their seal.
        """
        return self._rows.view()

    def changed(self, view: View) -> bool:
        """Whether anyone has committed anything since ``view`` was read (microseconds)."""
        return self._database.revision() != view.revision

    def consistent(self, load: Callable[[View], T]) -> tuple[View, T]:
        """Load blobs for one view, again with a newer view if they were replaced meanwhile.

        Raises:
            StoreDamagedError: a blob is missing or damaged, and nobody has replaced it.
        """
        while True:
            view = self.view()
            try:
                return view, load(view)
            except StoreDamagedError:
                if not self.changed(view):
                    raise

    def digest(self) -> str:
        """The influence digest: equal for equal configuration and live samples."""
        return self.view().digest

    def records(self, shard: int) -> tuple[Record, ...]:
        """All samples of a shard, pending ones too, in the row order of its activations blob.

        Raises:
            StoreDamagedError: they differ from the digest kept for the shard.
        """
        return self._samples.of_shard(shard)

    def find(self, ids: Iterable[SampleId]) -> tuple[Record, ...]:
        """The records of live samples that no request is pending for, in the order asked.

        Raises:
            UnknownIdError: names the first few ids that are unknown.
        """
        return self._samples.find(list(ids))

    def owned_by(self, owner: str) -> tuple[Record, ...]:
        """Live samples of an owner, none pending, by id. UnknownIdError if there are none."""
        return self._samples.of("owner", owner)

    def from_source(self, source: str) -> tuple[Record, ...]:
        """Live samples of a source, none pending, by id. UnknownIdError if there are none."""
        return self._samples.of("source", source)

    def pending(self) -> frozenset[SampleId]:
        """Ids of accepted requests that are not yet published."""
        return frozenset(record.id for record in self._samples.pending())

    def pending_records(self) -> tuple[Record, ...]:
        """The records of samples that accepted requests wait to remove, by id."""
        return self._samples.pending()

    def lookup(self, ids: Iterable[SampleId]) -> tuple[Record, ...]:
        """The records, pending ones too, of those ids that are in the store; by id."""
        return self._samples.lookup(list(ids))

    # -- blobs ----------------------------------------------------------------------------------

    def put(self, kind: BlobKind, key: int, data: bytes) -> str:
        """Write a blob and return its digest. Durable and readable after `sync` or `publish`."""
        self._require_writing()
        return self._blobs.put(kind, key, data)

    def temporary(self, kind: BlobKind) -> Path:
        """A path in the staging directory for a blob that the caller writes (see `adopt`)."""
        self._require_writing()
        return self._blobs.temporary(kind)

    def adopt(self, kind: BlobKind, key: int, written: Path, digest: str) -> None:
        """Take over a file written at `temporary`. Durable and readable after `sync`.

        ``digest`` must be the SHA-256 of the file's bytes; it is not computed again here.
        """
        self._require_writing()
        self._blobs.adopt(kind, key, written, digest)

    def sync(self) -> None:
        """Make every blob put or adopted so far durable under its name, in one batch.

        Raises:
            StoreError: that failed; all of them must be put again.
        """
        self._require_writing()
        self._blobs.sync()

    def path_of(self, kind: BlobKind, key: int, digest: str) -> Path:
        """Where a blob lies once it is synced."""
        return self._layout.blob(kind, key, digest)

    @property
    def staging(self) -> Path:
        """The folder for partial work. It exists while the store is open for writing."""
        return self._layout.staging

    def read(self, kind: BlobKind, key: int, digest: str) -> bytes:
        """The bytes of a blob, verified. StoreDamagedError if missing or different."""
        return self._blobs.read(kind, key, digest)

    def verify(self, kind: BlobKind, key: int, digest: str) -> None:
        """Compare a blob of any size with its digest. StoreDamagedError as for `read`."""
        self._blobs.verify(kind, key, digest)

    def keep_refit(self, kind: BlobKind, key: int, basis: str, digest: str) -> None:
        """Durably remember a blob refitted for a generation to come, so that a crash loses none.

        ``basis`` is a digest of all that the blob was computed from. Calls `sync` first. All
        that is kept is dropped by the next `publish`.
        """
        self.sync()
        with self._database.transaction():
            self._database.rows(
                "INSERT OR REPLACE INTO refits VALUES (?, ?, ?, ?)", (kind, key, basis, digest)
            )

    def kept_refit(self, kind: BlobKind, key: int, basis: str) -> str | None:
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

    # -- requests -------------------------------------------------------------------------------

    def accept(
        self,
        key: str,
        kind: str,
        samples: Sequence[SampleId],
        fenced: Iterable[int],
        *,
        now: float | None = None,
        days: float = 30.0,
    ) -> Request:
        """Durably accept a request and fence its nodes, in one transaction.

        With a ``key`` that was used before, the earlier request is returned as it is now. The
        key itself is not kept, only a salted digest. ``fenced`` are all nodes that any of the
        samples influenced.

        Raises:
            UnknownIdError: a sample is not live, or another request is pending for it.
            UsageError: no samples, no time to carry it out, or a key in use for other samples.
        """
        with self._database.transaction():
            accepted = time.time() if now is None else now
            request, new = self._requests.accept(key, kind, samples, fenced, accepted, days)
            if new:
                self._rows.seal()
        return request

    def mark_refitted(self, requests: Iterable[int]) -> None:
        """Record that every blob that the requests need is durable (calls `sync` first)."""
        self.sync()
        with self._database.transaction():
            self._requests.move(requests, ["accepted"], "refitted")
            self._rows.seal()

    def publish(self, change: Change) -> int:
        """Make the next generation current, in one transaction; returns its number.

        Calls `sync` first. The samples of ``change.requests`` are deleted and their fences
        lifted. Requests that were published before are not carried out again: the number of
        their generation is returned.

        Raises:
            UsageError: the change is not whole: a shard whose samples change without new
                activations, a fenced node without a new pointer, an id that is there already.
            StoreError: a blob that it points to is not there.
        """
        return self._publisher.publish(change)

    def erase_superseded(self) -> int:
        """Erase superseded and orphan blobs and all staging; returns how many files went.

        Blobs put but neither published nor kept (`keep_refit`) are orphans: call it only when
        there are none that are wanted.
        """
        self._require_writing()
        with self._database.lock:
            count = self._blobs.erase(self._blobs.orphans(self._rows.live_blobs()))
            with self._database.transaction():
                self._database.rows("DELETE FROM erasures")
                self._rows.seal()
        return count

    def finish(self, requests: Iterable[int]) -> None:
        """Remove every trace of the samples of published requests; their state is then erased.

        Rebuilds the database file from its live rows and empties its log (`compact`).

        Raises:
            UsageError: a request is not published, or `erase_superseded` is still to do.
            StoreLockedError: a reader kept the log from being emptied; call it again.
        """
        found = self._requests.get(requests)
        ids = [request.id for request in found if request.state not in ("erased", "receipted")]
        if not ids:
            return
        if any(request.generation is None for request in found):
            raise UsageError("Only published requests can be finished.")
        if self._pending_erasures():
            raise UsageError("Superseded blobs are still to be erased.")
        self.compact()
        with self._database.transaction():
            self._requests.move(ids, ["published"], "erased")
            self._rows.seal()

    def issue_receipt(self, request: int, entry: bytes) -> int:
        """Append ``entry`` to the ledger as the receipt of an erased request; returns its index.

        A request that has its receipt already keeps it, and its index is returned.

        Raises:
            UsageError: the request is not erased yet.
        """
        with self._database.transaction():
            known = self._requests.get([request])[0]
            if known.receipt is not None:
                return known.receipt
            if known.state != "erased":
                raise UsageError(f"Request {request} is {known.state}, not erased.")
            index = self.ledger.append(entry)
            self._requests.receipted(request, index)
            self._rows.seal()
        return index

    def request_of(self, key: str) -> Request | None:
        """The request that was accepted under this key, if there was one."""
        return self._requests.of_key(key)

    def requests(self) -> tuple[Request, ...]:
        """All requests, oldest first."""
        return self._requests.all()

    def unfinished(self) -> tuple[Request, ...]:
        """Requests without a receipt, oldest first: what a start has to carry on with."""
        return self._requests.unfinished()

    # -- notes ----------------------------------------------------------------------------------

    def note(self, name: str) -> str | None:
        """A text kept beside the state, such as a measured speed; it decides nothing."""
        found = self._database.rows("SELECT value FROM meta WHERE name = ?", (f"note:{name}",))
        return str(found[0][0]) if found else None

    def set_note(self, name: str, value: str) -> None:
        """Keep a text that decides nothing, and is derived from no sample."""
        with self._database.transaction():
            self._database.rows(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"note:{name}", value)
            )

    # -- care -----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Figures for people."""
        with self._database.snapshot():
            view = self.view()
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
                pending_erasures=self._pending_erasures(),
                bytes={**self._blobs.sizes(), "database": self._layout.database_bytes()},
            )

    def check(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Compare every file and record with its digest; with ``repair``, erase orphans.

        Nothing is erased where anything is damaged. What is returned was found before the repair.
        """
        if repair:
            self._require_writing()
        examiner = Examiner(
            self._database, self._layout, self._blobs, self._rows, self._samples, self.ledger
        )
        found = examiner.findings()
        if repair and found and all(finding.kind in HARMLESS for finding in found):
            self.erase_superseded()
        return found

    def copy_to(self, path: Path) -> None:
        """Copy the current generation to ``path``; see `shardgraph.store.backup`."""
        copy_store(self._layout, self._database, self._rows, Path(path))

    def compact(self) -> None:
        """Rebuild the database file from its live rows and empty its log.

        Raises:
            StoreLockedError: a reader kept the log from being emptied; call it again.
        """
        self._require_writing()
        self._database.scrub()

    def _generation(self) -> int:
        return int(self._database.value("SELECT generation FROM state"))

    def _pending_erasures(self) -> int:
        return int(self._database.value("SELECT count(*) FROM erasures"))

    def _require_writing(self) -> None:
        if self.mode != "write":
            raise UsageError("The store is open for reading only.", advice="Open it for writing.")


def _require_unfinished(store: Store, config: StoreConfig) -> None:
    if store._generation() > 0:
        raise StoreExistsError(
            f"There is a store at {store.path} already.",
            advice="Add to it with `shardgraph add`, or name another directory.",
        )
    if store.config.digest != config.digest:
        raise StoreExistsError(
            f"An unfinished store with other settings is at {store.path}.",
            advice="Run with the settings it was begun with, or remove the directory.",
        )
