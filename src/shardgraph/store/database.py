"""The SQLite file: opened with settings that are read back, written in whole transactions.

Durability rests on write-ahead logging with ``synchronous=FULL``. Erasure rests on rebuilding
the file: ``secure_delete`` zeroes the cell of a deleted row, but when SQLite splits or merges the
pages of an index it can leave copies of cells in the gaps between them, which no later delete
reaches. `Database.scrub` therefore rebuilds every page from live rows and empties the log.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shardgraph.errors import (
    StoreDamagedError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
)
from shardgraph.store import schema, witness

_BUSY_SECONDS = 20.0
_COUNT = "changes"
_COMMON = {"foreign_keys": 1, "cell_size_check": 1, "trusted_schema": 0, "temp_store": 2}
_WRITER = {**_COMMON, "synchronous": 2, "secure_delete": 1, "fullfsync": 1, "query_only": 0}
_READER = {**_COMMON, "query_only": 1}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Database:
    """One connection, shared by the threads of a process under a lock."""

    def __init__(
        self, path: Path, *, write: bool, immutable: bool = False, newest: Path | None = None
    ) -> None:
        """Open an existing database.

        ``immutable`` promises that nobody writes while it is open; it is for directories in
        which SQLite may not create its companions. ``newest`` is the file that says how new the
        database must be; whoever writes keeps it so.

        Raises:
            StoreDamagedError: it cannot be read, or is older than it must be.
            StoreError: a setting that durability or erasure rests on is not in force.
        """
        self.path = path
        self.write = write
        self.lock = threading.RLock()
        self.writes = 0
        self._process = os.getpid()
        self._broken = False
        self._newest = newest
        least = 0 if newest is None else witness.read(newest)  # before the database is looked at
        mode = "rw" if write else "ro"
        uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
        with translated(self.path):
            self._connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._apply(_WRITER if write else _READER)
            if not immutable:  # without its companions SQLite does not say how it would journal
                self._require("journal_mode", "wal")
            self._require_newest(least)
            if write and newest is not None:
                witness.create(newest)
        except BaseException:
            self._connection.close()
            raise

    def _apply(self, settings: dict[str, int]) -> None:
        for name, value in settings.items():
            self.rows(f"PRAGMA {name} = {value}")
            self._require(name, value)

    def _require(self, name: str, value: int | str) -> None:
        found = self.rows(f"PRAGMA {name}")[0][0]
        if found != value:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} keeps {name} at {found!r} instead of {value!r}.",
                advice="Without it nothing is safe; use a Python with a standard SQLite build.",
            )

    def _require_newest(self, least: int) -> None:
        if self._count() < least:
            raise StoreDamagedError(
                f"The database {self.path} is older than what was last acknowledged: it or its "
                "log was replaced, cut off or damaged.",
                advice="Put the newest files back, or restore the store from a backup; requests "
                "made last may have to be made again.",
            )

    def _count(self) -> int:
        """How many transactions there have been, as far as they were counted."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", (_COUNT,))
        return int(found[0][0]) if found else 0

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self.lock:
            self._require_usable()
            with translated(self.path):
                return self._connection.execute(statement, parameters).fetchall()

    def value(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only value of a statement that must find one row.

        Raises:
            StoreDamagedError: it finds none.
        """
        rows = self.rows(statement, parameters)
        if not rows:
            raise StoreDamagedError(
                f"The database {self.path} lacks a row that every store has.",
                advice="Restore the store from a backup, or fit it again.",
            )
        return rows[0][0]

    def many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each tuple of parameters, inside a `transaction`."""
        with self.lock:
            self._require_usable()
            with translated(self.path):
                self._connection.executemany(statement, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block happens durably, or nothing does.

        After a commit that failed, the outcome is known only to the next start: this object
        then refuses everything but `close`.
        """
        self.require_writing()
        with self.lock:
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
                count = self._count() + 1
                if self._newest is not None:
                    self.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_COUNT, str(count)))
            except BaseException:
                self._roll_back()
                raise
            try:
                self.rows("COMMIT")
                if self._newest is not None:
                    witness.write(self._newest, count)
            except BaseException:
                self._roll_back()
                self._broken = True
                raise
            self.writes += 1

    def require_writing(self) -> None:
        """Refuse a change before anything is done for it.

        Raises:
            StoreError: the store is open for reading only.
        """
        if not self.write:
            raise StoreError("The store is open for reading only.", advice="Open it for writing.")

    def _in_transaction(self) -> bool:
        with translated(self.path):
            return self._connection.in_transaction

    def _roll_back(self) -> None:
        if self._in_transaction():
            with translated(self.path):
                self._connection.rollback()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Every read in the block sees one state, whatever others commit meanwhile."""
        with self.lock:
            if self._in_transaction():
                yield
                return
            self.rows("BEGIN")
            try:
                yield
            finally:
                self._roll_back()

    def revision(self) -> tuple[int, int]:
        """A value that differs whenever anyone has committed since it was last equal."""
        with self.lock:
            return self.rows("PRAGMA data_version")[0][0], self.writes

    def copy_to(self, path: Path) -> None:
        """Write the state that this connection sees to a new database file, not yet durable."""
        with self.lock, translated(path), closing(sqlite3.connect(path)) as target:
            self._connection.backup(target)

    def scrub(self) -> None:
        """Rebuild the file from its live rows alone and empty the write-ahead log.

        Raises:
            StoreLockedError: a reader held its snapshot for so long that the log could not be
                emptied; nothing is lost, and the call can be made again.
        """
        with self.lock:
            self.rows("VACUUM")
            self.writes += 1
            self.empty_log()

    def empty_log(self) -> None:
        """Move the write-ahead log into the database and truncate it, verified.

        Raises:
            StoreLockedError: as for `scrub`.
        """
        busy, frames, _ = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        log = self.path.with_name(self.path.name + "-wal")
        if busy or frames or (log.exists() and log.stat().st_size):
            raise StoreLockedError(
                f"A reader keeps the log of {self.path} from being emptied.",
                advice="Close programs that read the store and run the command again.",
            )

    def close(self) -> None:
        """Close the connection; a writer's log is moved into the database if nobody reads."""
        with self.lock, translated(self.path):
            self._connection.close()

    def _require_usable(self) -> None:
        if self._broken:
            raise StoreError(
                "A commit to the store failed, so its outcome is not known here.",
                advice="Open the store again: it goes on from what is durable.",
            )
        if os.getpid() != self._process:
            raise StoreError(
                "The store was opened before this process was forked.",
                advice="Open it again in the new process.",
            )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises inside the block into one of our errors that names ``path``."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise StoreError(
            f"Text that is not valid Unicode cannot be stored: {error.object!r}.",
            advice="Rename the file or the field.",
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    except sqlite3.ProgrammingError as error:
        raise StoreError("The store is closed.", advice="Open it again.") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE:
            raise _damaged(path, error) from error
        if code in _BUSY:
            raise StoreLockedError(
                f"The database {path} is in use: {error}.",
                advice="Close other programs that use the store and try again.",
            ) from error
        raise StoreError(
            f"The database {path} could not be used: {error}.",
            advice="Check the free space and the state of the volume.",
        ) from error


def _damaged(path: Path, error: Exception) -> StoreDamagedError:
    return StoreDamagedError(
        f"The database {path} is damaged: {error}.",
        advice="Restore the store from a backup, or fit it again.",
    )


def recognise(path: Path) -> None:
    """Check from the first bytes, without SQLite, that a file is a database of ours.

    Raises:
        StoreFormatError: it is not, or it was written by another version.
    """
    with path.open("rb") as file:
        header = file.read(schema.HEADER_BYTES)
    ours = (
        header.startswith(schema.SQLITE_MAGIC)
        and len(header) == schema.HEADER_BYTES
        and int.from_bytes(header[68:72], "big") == schema.APPLICATION_ID
    )
    if not ours:
        raise StoreFormatError(
            f"{path} is not the database of a shardgraph store.",
            advice="Name the directory of a store; restore it from a backup if it was one.",
        )
    version = int.from_bytes(header[60:64], "big")
    if version > schema.FORMAT:
        raise StoreFormatError(
            f"The store at {path.parent} has format {version}; this version reads {schema.FORMAT}.",
            advice="Upgrade shardgraph.",
        )
    if 1 <= version < schema.FORMAT:
        raise StoreFormatError(
            f"The store at {path.parent} has format {version}; this version reads {schema.FORMAT}.",
            advice="Fit it again.",
        )
    if version < 1:
        raise StoreFormatError(
            f"The store at {path.parent} has the impossible format {version}.",
            advice="Restore the store from a backup, or fit it again.",
        )


def build(path: Path, meta: dict[str, str], state: tuple[int, str, int, str, str]) -> None:
    """Write a complete new database file, not yet durable, that no one else knows of.

    ``state`` is the first row of the table of that name.
    """
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.executescript(f"BEGIN; {schema.TABLES}")
            connection.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
            connection.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?, ?)", state)
            connection.execute("COMMIT")
        finally:
            connection.close()
