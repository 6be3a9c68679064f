"""What a power cut could show, read from the order of system calls and transactions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from shardgraph import files
from shardgraph.store import Store
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.publish import Publisher


class Journal:
    """Records every sync, rename, unlink and transaction, and holds them to the rules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync, replace, unlink, rows = os.fsync, os.replace, os.unlink, Database.rows

        def on_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))

        def on_replace(source: Path, target: Path) -> None:
            self.events.append(("rename", f"{source} {target}"))
            replace(source, target)

        def on_unlink(path: Path) -> None:
            self.events.append(("unlink", str(path)))
            unlink(path)

        def on_rows(database: Database, statement: str, parameters=()):
            found = rows(database, statement, parameters)
            if statement.startswith(("COMMIT", "VACUUM", "PRAGMA wal_checkpoint(")):
                self.events.append(("sql", statement))
            elif statement.startswith(("INSERT INTO ledger", "UPDATE state SET generation")):
                self.events.append(("row", statement[:20]))
            return found

        monkeypatch.setattr(os, "fsync", on_fsync)
        monkeypatch.setattr(os, "replace", on_replace)
        monkeypatch.setattr(os, "unlink", on_unlink)
        monkeypatch.setattr(Database, "rows", on_rows)

    def require_order(self) -> None:
        """Raise AssertionError where a rule of the store is broken."""
        synced: set[str] = set()
        renamed: list[str] = []
        published = rebuilt = emptied = False
        for kind, what in self.events:
            if kind == "sync":
                synced.add(what)
                renamed = [name for name in renamed if os.path.dirname(name) != what]
            elif kind == "rename":
                source, target = what.split(" ")
                assert not published, f"{target} was pointed to before it had its name"
                assert source in synced, f"{target} got its name before its bytes were durable"
                renamed.append(target)
            elif kind == "unlink":
                assert published, f"{what} was erased before the pointer moved"
                assert what in synced, f"{what} was unlinked before its zeros were durable"
            elif what.startswith("UPDATE state"):
                assert not renamed, f"{renamed} were pointed to before their names were durable"
                published = True
            elif what == "VACUUM":
                rebuilt = True
            elif what.startswith("PRAGMA"):
                emptied = True
            elif what.startswith("INSERT INTO ledger"):
                assert rebuilt, "the receipt came before the database was rebuilt"
                assert emptied, "the receipt came before the log was emptied"
        assert published
        assert rebuilt


def forget(toy, store: Store) -> None:
    toy.accept(store, "key", toy.samples([0, 1]))
    toy.carry_on(store)


def test_nothing_is_pointed_to_before_or_erased_after_its_time(toy, store, monkeypatch) -> None:
    journal = Journal(monkeypatch)
    forget(toy, store)
    journal.require_order()
    kinds = [kind for kind, _ in journal.events]
    assert kinds.count("rename") >= 4
    assert kinds.count("unlink") >= 4


def test_blobs_are_synced_while_others_are_still_to_be_put(store, monkeypatch) -> None:
    synced = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), synced.set()))
    store.put("tallies", 0, b"first")
    assert synced.wait(60)
    digest = store.put("tallies", 1, b"second")
    assert not store.path_of("tallies", 1, digest).exists()
    store.sync()
    assert store.read("tallies", 1, digest) == b"second"


def no_sync_of_blobs(monkeypatch) -> None:
    monkeypatch.setattr(files, "sync_file", lambda path: None)


def no_sync_of_folders(monkeypatch) -> None:
    monkeypatch.setattr(files, "sync_directory", lambda path: None)


def pointer_before_blob(monkeypatch) -> None:
    sync = Blobs.sync
    publish = Publisher.publish

    def late(publisher: Publisher, change):
        with monkeypatch.context() as patch:
            patch.setattr(Blobs, "sync", lambda blobs: None)
            patch.setattr(Blobs, "require", lambda blobs, addresses: None)
            generation = publish(publisher, change)
        sync(publisher._blobs)
        return generation

    monkeypatch.setattr(Publisher, "publish", late)
    monkeypatch.setattr(Store, "mark_refitted", lambda store, requests: None)


def erase_before_pointer(monkeypatch) -> None:
    publish = Publisher.publish

    def early(publisher: Publisher, change):
        blobs = publisher._blobs
        blobs.sync()
        named = {("nodes", key, digest) for key, digest in change.nodes.items() if digest}
        doomed = [p for p in blobs.orphans(named) if p.parent.name == "nodes"]
        files.erase_files(doomed)
        return publish(publisher, change)

    monkeypatch.setattr(Publisher, "publish", early)


def receipt_before_rebuild(monkeypatch) -> None:
    monkeypatch.setattr(Database, "scrub", lambda database: None)


def log_not_emptied(monkeypatch) -> None:
    monkeypatch.setattr(Database, "empty_log", lambda database: None)


FAULTS = [
    no_sync_of_blobs,
    no_sync_of_folders,
    pointer_before_blob,
    erase_before_pointer,
    receipt_before_rebuild,
    log_not_emptied,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(toy, store, monkeypatch, fault) -> None:
    journal = Journal(monkeypatch)
    fault(monkeypatch)
    with pytest.raises(AssertionError):  # noqa: PT012
        forget(toy, store)
        journal.require_order()
