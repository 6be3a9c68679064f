"""How a directory becomes a store, and how a store is opened for reading."""

from __future__ import annotations

import os
import secrets

from shardgraph import files
from shardgraph.errors import StoreExistsError, StoreLockedError
from shardgraph.identity import canonical_json
from shardgraph.store import database as sqlite
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.lock import WriterLock
from shardgraph.store.rows import Rows
from shardgraph.store.state import StoreConfig


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


def build_database(layout: Layout, config: StoreConfig) -> None:
    """Write the database under a temporary name, seal it, and give it its name durably."""
    partial = files.temporary_name(layout.database)
    meta = {"config": canonical_json(config.to_json()).decode(), "salt": secrets.token_hex(32)}
    sqlite.build(partial, meta, (0, "", 0, "", ""))
    database = Database(partial, write=True)
    try:
        with database.transaction():
            Rows(database).seal()
    finally:
        database.close()
    files.sync_file(partial)
    files.rename(partial, layout.database)
    files.sync_directory(layout.root)


def open_for_reading(layout: Layout) -> tuple[Database, WriterLock | None]:
    """Open for reading, also where SQLite may not create its companions."""
    if os.access(layout.root, os.W_OK):
        return Database(layout.database, write=False), None
    try:
        lock = WriterLock(layout.lock, shared=True)
    except StoreLockedError:  # a writer is there, and so are its log and its index
        return Database(layout.database, write=False), None
    if layout.log.exists():
        lock.release()
        return Database(layout.database, write=False), None
    try:
        return Database(layout.database, write=False, immutable=True), lock
    except BaseException:
        lock.release()
        raise
