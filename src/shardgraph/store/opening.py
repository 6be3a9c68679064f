"""How a directory becomes a store, and how a store is opened."""

from __future__ import annotations

import os
import secrets
from typing import Literal

from shardgraph import files
from shardgraph.errors import StoreExistsError, StoreLockedError, StoreMissingError
from shardgraph.identity import canonical_json
from shardgraph.store import database as sqlite
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.layout import BACKUP_DATABASE, Layout
from shardgraph.store.lock import WriterLock
from shardgraph.store.rows import Rows
from shardgraph.store.state import StoreConfig

Mode = Literal["read", "write"]


def begin(layout: Layout, config: StoreConfig, wait: float) -> tuple[Database, WriterLock]:
    """Create a store, or take up an unfinished one; see `Store.create`."""
    require_room(layout)
    files.make_directory(layout.root)
    lock = WriterLock(layout.lock, wait=wait)
    try:
        if not layout.database.exists():
            _build_database(layout, config)
        database = open_database(layout)
        try:
            _require_unfinished(layout, database, config)
            files.erase_files(layout.unfinished_databases())
        except BaseException:
            database.close()
            raise
    except BaseException:
        lock.release()
        raise
    return database, lock


def open_finished(layout: Layout, mode: Mode, wait: float) -> tuple[Database, WriterLock | None]:
    """Open the database of a finished store; see `Store.open`."""
    if not layout.database.is_file():
        raise StoreMissingError(f"There is no store at {layout.root}.", advice=_way_on(layout))
    sqlite.recognise(layout.database)
    database, lock = _locked(layout, wait) if mode == "write" else _open_for_reading(layout)
    try:
        if generation_of(database) == 0:
            raise StoreMissingError(
                f"The store at {layout.root} was never finished.",
                advice="Run the same `shardgraph fit` again: it goes on where it stopped.",
            )
    except BaseException:
        database.close()
        if lock is not None:
            lock.release()
        raise
    return database, lock


def open_database(layout: Layout) -> Database:
    """Open the database for writing, under the lock that the caller holds."""
    sqlite.recognise(layout.database)
    _reader(layout).close()  # refuse damage before the close of a writer could tidy up its log
    database = Database(layout.database, write=True, newest=layout.newest)
    try:
        files.sync_directory(layout.root)  # SQLite syncs the name of its log, but ignores failure
        Blobs(layout).make_folders()
    except BaseException:
        database.close()
        raise
    return database


def generation_of(database: Database) -> int:
    """The number of the current generation, 0 while a store is unfinished."""
    return int(database.value("SELECT generation FROM state"))


def _way_on(layout: Layout) -> str:
    if (layout.root / BACKUP_DATABASE).exists():
        return "It is a backup: `shardgraph restore` makes a store of it."
    return f"Create one: `shardgraph fit DATA --store {layout.root.name}`."


def _locked(layout: Layout, wait: float) -> tuple[Database, WriterLock]:
    lock = WriterLock(layout.lock, wait=wait)
    try:
        return open_database(layout), lock
    except BaseException:
        lock.release()
        raise


def require_room(layout: Layout) -> None:
    """Refuse to create a store in a directory that holds anything else."""
    if layout.database.exists() or not layout.root.is_dir():
        return
    strangers = set(layout.foreign_files()) - set(layout.unfinished_databases())
    if strangers:
        raise StoreExistsError(
            f"{layout.root} is neither empty nor a store: it holds {min(strangers).name!r}.",
            advice="Name a new directory.",
        )


def _require_unfinished(layout: Layout, database: Database, config: StoreConfig) -> None:
    if generation_of(database) > 0:
        raise StoreExistsError(
            f"There is a store at {layout.root} already.",
            advice="Add to it with `shardgraph add`, or name another directory.",
        )
    if Rows(database).config()[1] != config.digest:
        raise StoreExistsError(
            f"An unfinished store with other settings is at {layout.root}.",
            advice="Run with the settings it was begun with, or remove the directory.",
        )


def _build_database(layout: Layout, config: StoreConfig) -> None:
    """Write the database under a temporary name, seal it, and give it its name durably."""
    partial = files.temporary_name(layout.database)
    meta = {"config": canonical_json(config.to_json()).decode(), "salt": secrets.token_hex(32)}
    sqlite.build(partial, meta, (0, "", 0, "", ""))
    database = Database(partial, write=True)
    try:
        with database.transaction():
            Rows(database).seal()
        database.empty_log()  # the close would do so too, but would not say if it failed
    finally:
        database.close()
    files.sync_file(partial)
    files.rename(partial, layout.database)
    files.sync_directory(layout.root)


def _open_for_reading(layout: Layout) -> tuple[Database, WriterLock | None]:
    """Open for reading, also where SQLite may not create its companions."""
    if os.access(layout.root, os.W_OK):
        return _reader(layout), None
    try:
        lock = WriterLock(layout.lock, shared=True)
    except StoreLockedError:  # a writer is there, and so are its log and its index
        return _reader(layout), None
    if layout.log.exists():
        lock.release()
        return _reader(layout), None
    try:
        return _reader(layout, immutable=True), lock
    except BaseException:
        lock.release()
        raise


def _reader(layout: Layout, *, immutable: bool = False) -> Database:
    return Database(layout.database, write=False, immutable=immutable, newest=layout.newest)
