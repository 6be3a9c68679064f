"""Immutable files named after their content: activations, weights and tallies.

A blob is written under a temporary name in the staging directory, and its bytes begin to be synced
while others are still computed. `Blobs.sync` then makes all blobs written so far durable in one
batch: wait until the bytes of all are synced, rename all, sync the folders. Nothing may point to a
blob before that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from shardgraph import files
from shardgraph.errors import StoreDamagedError, StoreError
from shardgraph.identity import digest_bytes, digest_chunks
from shardgraph.store.layout import Layout
from shardgraph.store.state import BLOB_KINDS, BlobKind

_CHUNK = 1 << 20
Address = tuple[BlobKind, int, str]


class Blobs:
    """The blob files of one store. Methods may be called from several threads."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.RLock()
        self._queued: dict[Path, Path | None] = {}  # final name -> staged name, None if in place
        self._ahead = files.SyncAhead()

    def make_folders(self) -> None:
        """Create the staging and blob folders, durably."""
        files.make_directory(self._layout.staging)
        for kind in BLOB_KINDS:
            files.make_directory(self._layout.folder(kind))

    def put(self, kind: BlobKind, key: int, data: bytes) -> str:
        """Stage the bytes of a blob, unless an equal one is there and verifies."""
        digest = digest_bytes(data)
        if not self._is_there(kind, key, digest):
            staged = self.temporary(kind)
            files.write_new(staged, data, sync=False)
            self._queue(self._layout.blob(kind, key, digest), staged)
        return digest

    def temporary(self, kind: BlobKind) -> Path:
        """A fresh path in the staging folder, which is created if it is missing."""
        files.make_directory(self._layout.staging)
        return self._layout.staged(kind)

    def adopt(self, kind: BlobKind, key: int, written: Path, digest: str) -> None:
        """Queue a file written at `temporary`; it is erased if an equal blob is there."""
        if self._is_there(kind, key, digest):
            files.erase_file(written)
        else:
            self._queue(self._layout.blob(kind, key, digest), written)

    def sync(self) -> None:
        """Make all queued blobs durable under their names.

        Raises:
            StoreError: some could not be made durable. All queued blobs are then forgotten and
                must be put again; none is taken to be there because it was tried before.
        """
        with self._lock:
            queued, self._queued = self._queued, {}
            self._ahead.wait()
            files.sync_files(final for final, staged in queued.items() if staged is None)
            staged_ones = {final: staged for final, staged in queued.items() if staged}
            files.erase_files(final for final in staged_ones if final.exists())
            for final, staged in staged_ones.items():
                files.rename(staged, final)
            for folder in dict.fromkeys(final.parent for final in queued):
                files.sync_directory(folder)

    def read(self, kind: BlobKind, key: int, digest: str) -> bytes:
        """The verified bytes of a blob.

        Raises:
            StoreDamagedError: it is missing or its bytes differ from its digest.
        """
        path = self._layout.blob(kind, key, digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _damaged(path, "is missing") from None
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        if digest_bytes(data) != digest:
            raise _damaged(path, "differs from its digest")
        return data

    def verify(self, kind: BlobKind, key: int, digest: str) -> None:
        """Check a blob of any size against its digest, a megabyte at a time.

        Raises:
            StoreDamagedError: as for `read`.
        """
        path = self._layout.blob(kind, key, digest)
        try:
            with path.open("rb") as file:
                found = digest_chunks(iter(lambda: file.read(_CHUNK), b""))
        except FileNotFoundError:
            raise _damaged(path, "is missing") from None
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        if found != digest:
            raise _damaged(path, "differs from its digest")

    def require(self, addresses: Iterable[Address]) -> None:
        """Check that blobs have their files, by name only.

        Raises:
            StoreError: one has none; it was never put, or its sync failed.
        """
        for kind, key, digest in addresses:
            path = self._layout.blob(kind, key, digest)
            if not path.is_file():
                raise StoreError(
                    f"{path} was to be published but is not there.", advice="Put it again."
                )

    def orphans(self, live: Iterable[Address]) -> tuple[Path, ...]:
        """Blob files that none of the ``live`` addresses names."""
        kept = {self._layout.blob(*address) for address in live}
        return tuple(path for path in self._layout.blob_files() if path not in kept)

    def erase(self, paths: Iterable[Path]) -> int:
        """Erase blob files and everything staged; returns how many files that were.

        What is queued is dropped with the staging folder.
        """
        with self._lock:
            self._queued = {}
            with suppress(StoreError):  # of bytes that nobody wants any more
                self._ahead.wait()
            doomed = [*paths, *self._layout.staged_files()]
            files.erase_files(doomed)
            for folder in self._layout.staged_folders():
                files.erase_tree(folder)
            return len(doomed)

    def sizes(self) -> dict[str, int]:
        """Bytes on disk per kind, and of the staging folder."""
        sizes: dict[str, int] = {
            kind: sum(path.stat().st_size for path in self._layout.folder(kind).glob("*"))
            for kind in BLOB_KINDS
        }
        sizes["staging"] = sum(path.lstat().st_size for path in self._layout.staged_files())
        return sizes

    def _is_there(self, kind: BlobKind, key: int, digest: str) -> bool:
        """Whether the blob is queued, or in place and intact; then it is queued to be synced.

        One in place may come from a process that died before it could sync its name.
        """
        final = self._layout.blob(kind, key, digest)
        with self._lock:
            if final in self._queued:
                return True
            if not final.exists():
                return False
            try:
                self.verify(kind, key, digest)
            except StoreDamagedError:
                return False
            self._queued[final] = None
            return True

    def _queue(self, final: Path, staged: Path) -> None:
        with self._lock:
            self._queued[final] = staged
            self._ahead.begin(staged)


def _damaged(path: Path, what: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"{path} {what}.", advice="Run `shardgraph check` to see what else is wrong."
    )
