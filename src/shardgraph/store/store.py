"""The store: the one object through which everything on disk is read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from shardgraph.identity import SampleId
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
    """

    config: StoreConfig
    path: Path
    mode: Mode

    @classmethod
    def create(cls, path: Path, config: StoreConfig, *, wait: float = 0.0) -> Store:
        """Create a store, or go on with an unfinished one that has an equal configuration.

        The result is open for writing, at generation 0 until the first `publish`.

        Raises:
            StoreExistsError: a finished store, an unfinished one with another configuration, or
                foreign files are there.
            StoreLockedError: another process is writing there.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, path: Path, mode: Mode = "read", *, wait: float = 0.0) -> Store:
        """Open a finished store; in write mode, wait up to ``wait`` seconds for the lock.

        Raises:
            StoreMissingError: there is no store, or its creation was never finished.
            StoreFormatError: not a store, or written by a newer version.
            StoreDamagedError: the database is damaged.
            StoreLockedError: write mode, and another process holds the lock.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release the lock and the database. Blobs put but not published stay orphans."""
        raise NotImplementedError

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

    def view(self) -> View:
        """The current state, read in one transaction.

        Raises:
            StoreDamagedError: the rows do not agree with their seal.
        """
        raise NotImplementedError

    def changed(self, view: View) -> bool:
        """Whether anyone has committed anything since ``view`` was read (microseconds)."""
        raise NotImplementedError

    def consistent(self, load: Callable[[View], T]) -> tuple[View, T]:
        """Load blobs for one view, again with a newer view if they were replaced meanwhile."""
        raise NotImplementedError

    def digest(self) -> str:
        """The influence digest: equal for equal configuration and live samples."""
        raise NotImplementedError

    def records(self, shard: int) -> tuple[Record, ...]:
        """All samples of a shard, pending ones too, in the row order of its activations blob."""
        raise NotImplementedError

    def find(self, ids: Iterable[SampleId]) -> tuple[Record, ...]:
        """The records of live samples that no request is pending for, in the order asked.

        Raises:
            UnknownIdError: names the first few ids that are unknown.
        """
        raise NotImplementedError

    def owned_by(self, owner: str) -> tuple[Record, ...]:
        """Live samples of an owner, none pending, by id. UnknownIdError if there are none."""
        raise NotImplementedError

    def from_source(self, source: str) -> tuple[Record, ...]:
        """Live samples of a source, none pending, by id. UnknownIdError if there are none."""
        raise NotImplementedError

    def pending(self) -> frozenset[SampleId]:
        """Ids of accepted requests that are not yet published."""
        raise NotImplementedError

    # -- blobs ----------------------------------------------------------------------------------

    def put(self, kind: BlobKind, key: int, data: bytes) -> str:
        """Write a blob and return its digest. Durable and readable after `sync` or `publish`."""
        raise NotImplementedError

    def temporary(self, kind: BlobKind) -> Path:
        """A path in the staging directory for a blob that the caller writes (see `adopt`)."""
        raise NotImplementedError

    def adopt(self, kind: BlobKind, key: int, written: Path, digest: str) -> None:
        """Take over a file written at `temporary`. Durable and readable after `sync`."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make every blob put or adopted so far durable under its name, in one batch."""
        raise NotImplementedError

    def path_of(self, kind: BlobKind, key: int, digest: str) -> Path:
        """Where a blob lies once it is synced."""
        raise NotImplementedError

    def read(self, kind: BlobKind, key: int, digest: str) -> bytes:
        """The bytes of a blob, verified. StoreDamagedError if missing or different."""
        raise NotImplementedError

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

        With a ``key`` that was used before, the earlier request is returned as it is now.
        """
        raise NotImplementedError

    def mark_refitted(self, requests: Iterable[int]) -> None:
        """Record that every blob that the requests need is durable (calls `sync` first)."""
        raise NotImplementedError

    def publish(self, change: Change) -> int:
        """Make the next generation current, in one transaction; returns its number."""
        raise NotImplementedError

    def erase_superseded(self) -> int:
        """Erase superseded and orphan blobs and all staging; returns how many files went."""
        raise NotImplementedError

    def finish(self, requests: Iterable[int]) -> None:
        """Remove every trace of the samples of published requests; their state is then erased."""
        raise NotImplementedError

    def issue_receipt(self, request: int, entry: bytes) -> int:
        """Append ``entry`` to the ledger as the receipt of an erased request; returns its index.

        A request that has its receipt already keeps it, and its index is returned.
        """
        raise NotImplementedError

    def requests(self) -> tuple[Request, ...]:
        """All requests, oldest first."""
        raise NotImplementedError

    def unfinished(self) -> tuple[Request, ...]:
        """Requests without a receipt, oldest first: what a start has to carry on with."""
        raise NotImplementedError

    # -- care -----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Figures for people."""
        raise NotImplementedError

    def check(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Compare every file and record with its digest; with ``repair``, erase orphans."""
        raise NotImplementedError

    def compact(self) -> None:
        """Rebuild the database file from its live rows and empty its log."""
        raise NotImplementedError
