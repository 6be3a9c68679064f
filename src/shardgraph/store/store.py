"""The store: the one object through which everything on disk is read and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from shardgraph.errors import StoreDamagedError, UsageError
from shardgraph.identity import SampleId
from shardgraph.store.backup import back_up, copy_store, save_requests
from shardgraph.store.backups import Backups
from shardgraph.store.blobs import Blobs
from shardgraph.store.care import Care
from shardgraph.store.check import HARMLESS, Examiner
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.ledger import Ledger, SignHead
from shardgraph.store.lock import WriterLock
from shardgraph.store.opening import Mode, begin, open_finished
from shardgraph.store.publish import Publisher
from shardgraph.store.refits import Refits
from shardgraph.store.requests import Requests
from shardgraph.store.rows import Rows
from shardgraph.store.samples import Samples
from shardgraph.store.signers import Signers
from shardgraph.store.state import (
    Backup,
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
        self._refits = Refits(database, self._blobs)
        self._backups = Backups(database)
        self.ledger = Ledger(database)
        self.signers = Signers(layout, database)
        self._care = Care(database, layout, self._blobs, self._rows, self._requests, self._backups)
        self._examiner = Examiner(
            database, layout, self._blobs, self._rows, self._samples, self.ledger
        )
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
        return cls._holding(layout, *begin(layout, config, wait))

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
        return cls._holding(layout, *open_finished(layout, mode, wait))

    @classmethod
    def _holding(cls, layout: Layout, database: Database, lock: WriterLock | None) -> Store:
        """The store over what was opened, which is let go where it cannot be read after all."""
        try:
            return cls(layout, database, lock)
        except BaseException:
            database.close()
            if lock is not None:
                lock.release()
            raise

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
        self.require_writing()
        return self._blobs.put(kind, key, data)

    def temporary(self, kind: BlobKind) -> Path:
        """A path in the staging directory for a blob that the caller writes (see `adopt`)."""
        self.require_writing()
        return self._blobs.temporary(kind)

    def adopt(self, kind: BlobKind, key: int, written: Path, digest: str) -> None:
        """Take over a file written at `temporary`. Durable and readable after `sync`.

        ``digest`` must be the SHA-256 of the file's bytes; it is not computed again here.
        """
        self.require_writing()
        self._blobs.adopt(kind, key, written, digest)

    def sync(self) -> None:
        """Make every blob put or adopted so far durable under its name, in one batch.

        Raises:
            StoreError: that failed; all of them must be put again.
        """
        self.require_writing()
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
        self._refits.keep(kind, key, basis, digest)

    def kept_refit(self, kind: BlobKind, key: int, basis: str) -> str | None:
        """The digest of a blob kept for this basis, None if there is none or it is damaged."""
        return self._refits.kept(kind, key, basis)

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
                self._backups.bury(request.id, request.samples)
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
        self.require_writing()
        with self._database.lock:
            count = self._blobs.erase(self._blobs.orphans(self._rows.live_blobs()))
            if self._care.pending_erasures():
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
        if self._care.pending_erasures():
            raise UsageError("Superseded blobs are still to be erased.")
        self.compact()
        with self._database.transaction():
            self._requests.move(ids, ["published"], "erased")
            self._rows.seal()

    def issue_receipt(self, request: int, entry: bytes, sign_head: SignHead | None = None) -> int:
        """Append ``entry`` to the ledger as the receipt of an erased request; returns its index.

        A request that has its receipt already keeps it, and its index is returned. What
        ``sign_head`` makes of the grown ledger is kept in the same transaction.

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
            if sign_head is not None:
                self.ledger.set_head(sign_head(index + 1, self.ledger.root()))
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
        return self._care.note(name)

    def set_note(self, name: str, value: str) -> None:
        """Keep a text that decides nothing, and is derived from no sample."""
        self._care.set_note(name, value)

    # -- care -----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Figures for people."""
        return self._care.status(time.time())

    def check(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Compare every file and record with its digest; with ``repair``, erase orphans.

        Nothing is erased where anything is damaged. What is returned was found before the repair.
        """
        if repair:
            self.require_writing()
        found = self._examiner.findings()
        if repair and found and all(finding.kind in HARMLESS for finding in found):
            self.erase_superseded()
        return found

    def copy_to(self, path: Path) -> None:
        """Copy the current generation to ``path``; see `shardgraph.store.backup`."""
        copy_store(self._layout, self._database, self._rows, Path(path))

    def back_up(self, path: Path) -> Backup:
        """Write a backup to ``path``, which must not exist; see `shardgraph.store.backup`.

        From now on every request leaves a note that only this backup can read.

        Raises:
            UsageError: a request is unfinished.
            StoreExistsError: something is at ``path``.
        """
        self.require_writing()
        return back_up(self._layout, self._database, self._rows, self._requests, Path(path))

    def save_requests(self, path: Path) -> None:
        """Save what a restore needs to know of the requests; see `shardgraph.store.backup`."""
        save_requests(self._database, Path(path))

    def backups(self) -> tuple[Backup, ...]:
        """The backups that may be restored one day, oldest first."""
        return self._backups.all()

    def retire_backup(self, name: str) -> None:
        """Forget a backup that was destroyed, and erase the notes for it.

        UsageError if there is no such backup.
        """
        with self._database.transaction():
            self._backups.retire(name)
            self._rows.seal()
        self.compact()

    def compact(self) -> None:
        """Rebuild the database file from its live rows and empty its log.

        StoreLockedError if a reader kept the log from being emptied: call it again.
        """
        self.require_writing()
        self._database.scrub()

    def require_writing(self) -> None:
        """Refuse a change before anything is done for it: StoreError where it is only read."""
        self._database.require_writing()
