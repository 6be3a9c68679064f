"""Copies of a store: one that lives on by itself, and a backup to go back to.

A *copy* is a store of its own. It signs with a key of its own, since its ledger parts from the
original's.

A *backup* is not a store: it would answer with what was forgotten since. `shardgraph restore`
makes a store of it (see `restore`). It has a key pair of its own (see `sealing`), whose private
part lies in the backup alone.

    backup.sqlite      the database
    backup.pem         the private key that opens the notes left for this backup; mode 0600
    activations/ nodes/ tallies/

Where the live store is lost with its volume, its notes are lost too. So what a restore needs to
know of the requests can be saved as a small file of its own, which names nobody and holds no
sample: `save_requests`, after every request, to another place.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shardgraph import files
from shardgraph.errors import StoreExistsError, UsageError
from shardgraph.store.backups import Backups
from shardgraph.store.database import Database
from shardgraph.store.layout import BACKUP_DATABASE, BACKUP_KEY, DATABASE, Layout
from shardgraph.store.requests import Requests
from shardgraph.store.rows import Rows
from shardgraph.store.signers import OWN_KEY
from shardgraph.store.state import Backup

_PRIVATE = 0o600
_WITHOUT_KEY = (f"DELETE FROM meta WHERE name = '{OWN_KEY}'",)
_WITHOUT_INFLUENCE = (
    "DELETE FROM refits",
    "DELETE FROM erasures",
    "DELETE FROM pointers",
    "DELETE FROM shards",
    "DELETE FROM samples",
    "DELETE FROM meta WHERE name LIKE 'note:%'",
    "UPDATE requests SET labels = '{}', state_opening = NULL",
)


def copy_store(layout: Layout, database: Database, rows: Rows, path: Path) -> None:
    """Copy database and live blobs to a new directory, durably.

    The database is copied last: until then the directory is not a store.

    Not guaranteed: that the copy learns of requests made of the original later.

    Raises:
        StoreExistsError: something is at ``path``.
        StoreError: it cannot be written.
    """
    target = _new_directory(path)
    _copy(layout, database, rows, target, DATABASE)


def back_up(
    layout: Layout, database: Database, rows: Rows, requests: Requests, path: Path
) -> Backup:
    """Write a backup to a new directory and register it, durably.

    It is registered first: a backup that is not finished costs a few notes, one that is not
    registered could never be restored. Killed on the way, what is at ``path`` is no backup.

    Raises:
        UsageError: a request is unfinished; its samples would be in the backup.
        StoreExistsError: something is at ``path``.
        StoreError: it cannot be written.
    """
    if requests.unfinished():
        raise UsageError(
            "A request is unfinished, and its samples would be in the backup.",
            advice="Carry it out first: `shardgraph requests --resume`.",
        )
    backups = Backups(database)
    target = _new_directory(path)
    key = X25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.write_new(target.root / BACKUP_KEY, text, mode=_PRIVATE)
    with database.transaction():
        name = backups.register(key.public_key().public_bytes_raw(), time.time())
        rows.seal()
    _copy(layout, database, rows, target, BACKUP_DATABASE)
    return next(backup for backup in backups.all() if backup.id == name)


def save_requests(database: Database, path: Path) -> None:
    """Save requests, ledger and sealed notes to one small file, replacing an older one.

    It holds no record, no label, no activation and no private key.

    Raises:
        StoreError: it cannot be written.
    """
    partial = files.temporary_name(path.absolute())
    try:
        with database.snapshot():
            database.copy_to(partial)
        _rewrite(partial, (*_WITHOUT_INFLUENCE, *_WITHOUT_KEY))
        files.sync_file(partial)
        files.rename(partial, path)
    finally:
        files.erase_file(partial)
    files.sync_directory(path.absolute().parent)


def _new_directory(path: Path) -> Layout:
    target = Layout(path.absolute())
    if target.root.exists():
        raise StoreExistsError(f"There is something at {path} already.", advice="Name a new path.")
    files.make_directory(target.root)
    return target


def _copy(layout: Layout, database: Database, rows: Rows, target: Layout, name: str) -> None:
    with database.snapshot():
        written = []
        for kind, key, digest in rows.live_blobs():
            destination = target.blob(kind, key, digest)
            destination.parent.mkdir(exist_ok=True)
            with files.reported("copy to", destination):
                shutil.copyfile(layout.blob(kind, key, digest), destination)
            written.append(destination)
        files.sync_files(written)
        partial = files.temporary_name(target.root / name)
        database.copy_to(partial)
    _rewrite(partial, _WITHOUT_KEY)
    files.sync_file(partial)
    files.rename(partial, target.root / name)
    for folder in {target.root, *(item.parent for item in written)}:
        files.sync_directory(folder)


def _rewrite(path: Path, statements: Sequence[str]) -> None:
    """Change a database that nobody else knows of, seal it, and leave no trace of what went."""
    database = Database(path, write=True)
    try:
        with database.transaction():
            for statement in statements:
                database.rows(statement)
            Rows(database).seal()
        database.scrub()
    finally:
        database.close()
