"""Watch a store at work: is everything durable before it is pointed to, zeroed before it goes?

These orders can only be seen while they happen: whoever looks at the end sees the same files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.directory import INFLUENCE, traces
from shardgraph.store.database import Database


class Watch:
    """What went wrong so far, in words.

    A file is durable if it was synced since it was last written, and its name if its folder was
    synced since it got it. What was there at the beginning is taken to be durable.
    """

    def __init__(self, store: Path, gone: Callable[[], Iterable[bytes]]) -> None:
        self.wrong: list[str] = []
        self._store = store
        self._gone = gone
        self._synced = dict(_written(path) for path in store.rglob("*") if path.is_file())
        self._unsynced_names: set[Path] = set()
        self._pointed: set[Path] = set()
        self._receipts: int | None = None

    def synced(self, descriptor: int) -> None:
        """What is behind a descriptor, a file or a folder, is durable."""
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            folder = found.st_ino
            self._unsynced_names = {
                path for path in self._unsynced_names if path.parent.stat().st_ino != folder
            }
        else:
            self._synced[found.st_ino] = found.st_mtime_ns

    def renamed(self, target: Path) -> None:
        """A file has a new name, which is not durable yet."""
        self._unsynced_names.add(target)

    def unlinking(self, path: Path) -> None:
        """A file is about to lose its name."""
        if self._store not in path.parents or not path.is_file():
            return
        if any(path.read_bytes()) or not self._is_synced(path):
            self.wrong.append(f"{path.name} is unlinked before zeros are durable in it")
        if path in self._pointed:
            self.wrong.append(f"{path.name} is unlinked while it is pointed to")

    def committed(self, database: Database) -> None:
        """A transaction has become durable."""
        if database.path.parent != self._store:
            return
        pointed = {
            self._store / kind / f"{key:05d}-{digest[:16]}.safetensors"
            for kind, key, digest in database.rows("SELECT kind, key, digest FROM pointers")
        }
        for path in sorted(pointed):
            durable = path.is_file() and self._is_synced(path)
            if not durable or path in self._unsynced_names:
                self.wrong.append(f"{path.name} is pointed to before it is durable")
        self._pointed = pointed
        receipts = database.rows("SELECT ledger_size FROM state")[0][0]
        if self._receipts is not None and receipts > self._receipts:
            there = {path for kind in INFLUENCE for path in (self._store / kind).iterdir()}
            self.wrong += [f"{path.name} outlives the receipt" for path in sorted(there - pointed)]
            self.wrong += [f"after the receipt: {found}" for found in self._traces()]
        self._receipts = receipts

    def _traces(self) -> list[str]:
        return traces(self._store, self._gone())

    def _is_synced(self, path: Path) -> bool:
        number, written = _written(path)
        return self._synced.get(number) == written


@contextmanager
def watching(store: Path, gone: Callable[[], Iterable[bytes]]) -> Iterator[Watch]:
    """Watch everything in the block; ``gone`` are the marks that no receipt may outlive."""
    watch = Watch(store, gone)
    with pytest.MonkeyPatch.context() as patch:
        _tell(patch, os, "fsync", lambda descriptor: watch.synced(descriptor), first=False)
        _tell(patch, os, "replace", lambda _, target: watch.renamed(Path(target)), first=False)
        _tell(patch, os, "unlink", lambda path: watch.unlinking(Path(path)), first=True)
        rows = Database.rows

        def committed(self: Database, statement: str, parameters: Any = ()) -> Any:
            found = rows(self, statement, parameters)
            if statement == "COMMIT":
                watch.committed(self)
            return found

        patch.setattr(Database, "rows", committed)
        yield watch


def _tell(
    patch: pytest.MonkeyPatch, module: Any, name: str, tell: Callable[..., None], *, first: bool
) -> None:
    """Tell of every call of a function of the operating system, before or after it."""
    real = getattr(module, name)

    def told(*arguments: Any) -> Any:
        if first:
            tell(*arguments)
        found = real(*arguments)
        if not first:
            tell(*arguments)
        return found

    patch.setattr(module, name, told)


def _written(path: Path) -> tuple[int, int]:
    """Which file it is, and when it was last written."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
