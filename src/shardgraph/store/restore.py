"""Make a store of a backup, which forgets at once what was forgotten since.

What the restored store needs to know of the requests comes from the live store, or from a file
that `Store.save_requests` wrote. Everything happens in a hidden directory beside the new store,
which gets its name last, when each request made since has been accepted in it again: from its
first answer on, no node answers that such a sample influenced. A request that the live store had
not finished keeps its number, key, deadline and commitment; those that had their receipts are
carried out again as one request of the kind ``restore``. The ledger goes on where the live one
ended, so receipts in hand stay valid.

Not restored: samples that were added after the backup. Not guaranteed: that a saved file knows of
requests made after it was saved.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shardgraph import files
from shardgraph.errors import StoreDamagedError, StoreExistsError, StoreMissingError
from shardgraph.store import database as sqlite
from shardgraph.store.check import HARMLESS
from shardgraph.store.database import Database
from shardgraph.store.inherit import Fence, Heir, Inherited
from shardgraph.store.layout import BACKUP_DATABASE, BACKUP_KEY, Layout
from shardgraph.store.lock import WriterLock
from shardgraph.store.opening import open_database
from shardgraph.store.rows import Rows
from shardgraph.store.signers import OWN_KEY
from shardgraph.store.state import BLOB_KINDS
from shardgraph.store.store import Store

_PRIVATE = 0o600


def restore_store(backup: Path, target: Path, since: Path | None, fence: Fence) -> Inherited:
    """Make a store of a backup at ``target``, which must not exist.

    ``since`` is the live store, which nobody may be writing to, or a file of its requests. With
    None nothing is known of requests made since the backup and **their samples come back**.

    Raises:
        StoreExistsError: something is at ``target``.
        StoreMissingError: there is no backup, or nothing at ``since``.
        StoreDamagedError: the backup is damaged, or a request left no note for it.
        UsageError: ``since`` does not belong to the backup.
        StoreLockedError: another process is writing to the live store or restoring to ``target``.
    """
    if target.exists():
        raise StoreExistsError(
            f"There is something at {target} already.",
            advice="Move it aside and name it with --since, or name a new directory.",
        )
    key = _read_key(backup)
    hidden = Layout(target.absolute().with_name(f".{target.name}.restoring{files.PARTIAL_SUFFIX}"))
    files.make_directory(hidden.root)
    lock = WriterLock(hidden.lock)
    try:
        _empty(hidden)
        _unpack(backup, hidden)
        _require_whole(hidden)
        inherited = Inherited() if since is None else _inherit(hidden, since, key, fence)
        files.rename(hidden.root, target)
        files.sync_directory(target.absolute().parent)
    finally:
        lock.release()
    return inherited


def _inherit(hidden: Layout, since: Path, key: X25519PrivateKey, fence: Fence) -> Inherited:
    database = open_database(hidden)
    try:
        with _source(since) as (source, signing_key):
            inherited = Heir(database, key, fence).inherit(source, now=time.time())
            _take_key(source, signing_key, database, hidden)
    finally:
        database.close()
    return inherited


def _read_key(backup: Path) -> X25519PrivateKey:
    if not (backup / BACKUP_DATABASE).is_file():
        raise StoreMissingError(
            f"There is no backup at {backup}.", advice="Make one: `shardgraph backup`."
        )
    sqlite.recognise(backup / BACKUP_DATABASE)
    path = backup / BACKUP_KEY
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreDamagedError(
            f"The key {path} of the backup cannot be read.",
            advice="Without it the backup cannot learn what was forgotten since.",
        ) from error
    if not isinstance(key, X25519PrivateKey):
        raise StoreDamagedError(f"{path} is not the key of a backup.", advice="Put its key back.")
    return key


def _empty(hidden: Layout) -> None:
    """Erase what a restore that was killed left, all but the lock that is held."""
    for path in sorted(hidden.root.iterdir()):
        if path != hidden.lock:
            files.erase_tree(path)


def _unpack(backup: Path, hidden: Layout) -> None:
    for kind in BLOB_KINDS:
        files.make_directory(hidden.folder(kind))
    written = []
    sources = [path for path in Layout(backup).blob_files() if path.is_file()]
    pairs = [(path, hidden.root / path.relative_to(backup)) for path in sources]
    for source, destination in [*pairs, (backup / BACKUP_DATABASE, hidden.database)]:
        with files.reported("copy", source):
            shutil.copyfile(source, destination)
        written.append(destination)
    files.sync_files(written)
    for folder in {path.parent for path in written}:
        files.sync_directory(folder)


def _require_whole(hidden: Layout) -> None:
    with Store.open(hidden.root) as store:
        harmful = [finding for finding in store.check() if finding.kind not in HARMLESS]
    if harmful:
        raise StoreDamagedError(
            f"The backup is damaged: {harmful[0].what}", advice="Use another backup."
        )


@contextmanager
def _source(since: Path) -> Iterator[tuple[Database, Path]]:
    """The database that knows of the requests, and where a signing key would lie beside it.

    No process can write to it meanwhile.
    """
    layout = Layout(since.absolute())
    path = layout.database if since.is_dir() else since
    if not path.is_file():
        raise StoreMissingError(
            f"There is neither a store nor a file of requests at {since}.",
            advice="Name the store that was backed up, or a file of its requests.",
        )
    sqlite.recognise(path)
    with ExitStack() as stack:
        alone = not since.is_dir()  # such a file has no companions and is never written to
        if since.is_dir():
            stack.callback(WriterLock(layout.lock, shared=True).release)
            alone = not (os.access(since, os.W_OK) or layout.log.exists())
        newest = layout.newest if since.is_dir() else None
        database = Database(path, write=False, immutable=alone, newest=newest)
        stack.callback(database.close)
        Rows(database).view()
        yield database, layout.signing_key


def _take_key(source: Database, signing_key: Path, database: Database, hidden: Layout) -> None:
    """Go on signing with the key of the live store, where it is there."""
    found = source.rows("SELECT name, value FROM meta WHERE name = ?", (OWN_KEY,))
    if not found or not signing_key.exists():
        return
    files.make_directory(hidden.signing_key.parent)
    files.write_new(hidden.signing_key, signing_key.read_bytes(), mode=_PRIVATE)
    files.sync_directory(hidden.signing_key.parent)
    with database.transaction():
        database.rows("INSERT INTO meta VALUES (?, ?)", found[0])
