"""A copy of a store that is a store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from shardgraph import files
from shardgraph.errors import StoreExistsError
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.rows import Rows


def copy_store(layout: Layout, database: Database, rows: Rows, path: Path) -> None:
    """Copy database and live blobs to a new directory, durably.

    The database is copied last: until then the directory is not a store.

    Not guaranteed: that the copy learns of requests made of the original later.

    Raises:
        StoreExistsError: something is at ``path``.
        StoreError: it cannot be written.
    """
    target = Layout(path.absolute())
    if target.root.exists():
        raise StoreExistsError(f"There is something at {path} already.", advice="Name a new path.")
    with database.snapshot():
        files.make_directory(target.root)
        written = []
        for kind, key, digest in rows.live_blobs():
            destination = target.blob(kind, key, digest)
            destination.parent.mkdir(exist_ok=True)
            shutil.copyfile(layout.blob(kind, key, digest), destination)
            written.append(destination)
        files.sync_files(written)
        partial = files.temporary_name(target.database)
        database.copy_to(partial)
    files.sync_file(partial)
    files.rename(partial, target.database)
    for folder in {item.parent for item in (*written, target.database)}:
        files.sync_directory(folder)
