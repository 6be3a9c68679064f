"""Creating, opening, refusing: the directory as a whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shardgraph.errors import (
    StoreDamagedError,
    StoreError,
    StoreExistsError,
    StoreFormatError,
    StoreLockedError,
    StoreMissingError,
)
from shardgraph.store import Store
from shardgraph.store.database import Database
from shardgraph.store.lock import WriterLock
from shardgraph.store.rows import Rows


def closed(store: Store) -> Path:
    store.close()
    return store.path


def test_a_new_store_has_its_configuration_and_no_samples(toy, tmp_path) -> None:
    with Store.create(tmp_path / "deep" / "store", toy.config) as store:
        view = store.view()
        assert (view.generation, view.samples, view.labels()) == (0, 0, ())
        assert store.config == toy.config
        assert store.config.digest == toy.config.digest


def test_a_finished_store_is_not_created_again(toy, store) -> None:
    path = closed(store)
    with pytest.raises(StoreExistsError, match=r"already.*another directory"):
        Store.create(path, toy.config)


def test_an_unfinished_store_goes_on_with_equal_settings_only(toy, tmp_path) -> None:
    path = tmp_path / "store"
    Store.create(path, toy.config).close()
    with pytest.raises(StoreMissingError, match=r"never finished.*again"):
        Store.open(path)
    with pytest.raises(StoreExistsError, match="other settings"):
        Store.create(path, replace(toy.config, seed=8))
    with Store.create(path, toy.config) as store:
        store.publish(toy.change(store, added=toy.samples(range(3))))
    with Store.open(path) as store:
        assert store.view().generation == 1


def test_a_directory_with_other_files_is_left_alone(toy, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreExistsError, match=r"thesis\.tex.*new directory"):
        Store.create(tmp_path, toy.config)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("mode", ["read", "write"])
def test_opening_what_is_not_a_store_creates_nothing(tmp_path, mode) -> None:
    with pytest.raises(StoreMissingError, match=r"no store.*shardgraph fit"):
        Store.open(tmp_path / "nowhere", mode)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(StoreMissingError):
        Store.open(tmp_path, mode)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\x00" + bytes(84)])
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_file_that_is_not_our_database_is_refused(tmp_path, content, mode) -> None:
    (tmp_path / "store.sqlite").write_bytes(content)
    with pytest.raises(StoreFormatError, match="not the database of a shardgraph store"):
        Store.open(tmp_path, mode)
    assert os.listdir(tmp_path) == ["store.sqlite"]


def test_another_programs_database_is_refused(tmp_path) -> None:
    other = sqlite3.connect(tmp_path / "store.sqlite")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(StoreFormatError):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("version", "advice"), [(3, "Upgrade"), (1, "Fit it again"), (0, "Restore")]
)
def test_another_format_is_refused_with_advice(store, version, advice) -> None:
    path = closed(store)
    with (path / "store.sqlite").open("r+b") as file:
        file.seek(60)
        file.write(version.to_bytes(4, "big"))
    for mode in ("read", "write"):
        with pytest.raises(StoreFormatError, match=advice):
            Store.open(path, mode)


def test_a_damaged_database_is_refused(store) -> None:
    path = closed(store)
    with (path / "store.sqlite").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8000)
    with pytest.raises(StoreDamagedError, match="backup"):
        Store.open(path)


def test_a_truncated_database_is_refused(store) -> None:
    path = closed(store)
    os.truncate(path / "store.sqlite", 4096)
    with pytest.raises(StoreDamagedError):
        Store.open(path).view()


def test_the_settings_that_safety_rests_on_are_in_force(store) -> None:
    found = {
        name: store._database.rows(f"PRAGMA {name}")[0][0]
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
    }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
    }


@pytest.mark.parametrize("name", ["synchronous", "secure_delete", "foreign_keys"])
def test_a_setting_that_is_not_in_force_is_refused(store, monkeypatch, name) -> None:
    path = closed(store)
    rows = Database.rows

    def deaf(database, statement, parameters=()):
        if statement.startswith(f"PRAGMA {name} ="):
            return []
        return [(0,)] if statement == f"PRAGMA {name}" else rows(database, statement, parameters)

    monkeypatch.setattr(Database, "rows", deaf)
    with pytest.raises(StoreError, match=name):
        Store.open(path, "write")


def test_a_database_without_a_log_is_refused(store) -> None:
    path = closed(store)
    connection = sqlite3.connect(path / "store.sqlite")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    with pytest.raises(StoreError, match="journal_mode"):
        Store.open(path, "write")


def test_a_second_writer_is_told_who_writes(toy, store) -> None:
    with pytest.raises(StoreLockedError, match=rf"in use by process {os.getpid()}\."):
        Store.open(store.path, "write")
    with Store.open(store.path) as reader:
        assert reader.digest() == store.digest()


HOLD = """
import sys
from pathlib import Path
from shardgraph.store import Store
store = Store.open(Path(sys.argv[1]), "write")
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_write_and_a_crash_leaves_no_lock(store) -> None:
    path = closed(store)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=rf"process {holder.pid}\."):
            Store.open(path, "write")
        with Store.open(path) as reader:
            assert reader.view().generation == 1
        holder.kill()
        holder.communicate()
    with Store.open(path, "write", wait=5) as writer:
        assert writer.view().generation == 1


def test_a_writer_can_wait_for_its_turn(store) -> None:
    timer = threading.Timer(0.2, store.close)
    timer.start()
    with Store.open(store.path, "write", wait=10) as writer:
        assert writer.mode == "write"
    timer.join()


def test_a_reader_may_not_write(toy, store) -> None:
    with Store.open(store.path) as reader:
        for call in (
            lambda: reader.put("nodes", 0, b""),
            lambda: reader.temporary("nodes"),
            lambda: reader.sync(),
            lambda: reader.erase_superseded(),
            lambda: reader.compact(),
            lambda: reader.check(repair=True),
            lambda: toy.accept(reader, "key", toy.samples([0])),
        ):
            with pytest.raises(StoreError, match="reading only"):
                call()


def test_a_closed_store_says_so(store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.view()


def test_a_forked_process_must_open_the_store_itself(store) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.view()
        except StoreError as error:
            os._exit(7 if "fork" in error.message else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_reader_sees_changes_and_only_changes(toy, store) -> None:
    with Store.open(store.path) as reader:
        view = reader.view()
        assert not reader.changed(view)
        assert not store.changed(store.view())
        request = toy.accept(store, "key", toy.samples([0]))
        assert reader.changed(view)
        assert reader.view().fenced == request.fenced != frozenset()
        assert not reader.changed(reader.view())


def test_a_reader_loads_again_what_was_replaced_under_it(toy, store) -> None:
    with Store.open(store.path) as reader:
        loads = []

        def load(view):
            loads.append(view.generation)
            if len(loads) == 1:
                toy.accept(store, "key", toy.samples([0]))
                toy.carry_on(store)
            return [reader.read("nodes", node, digest) for node, digest in view.nodes.items()]

        view, _ = reader.consistent(load)
        assert loads == [1, 2]
        assert view.generation == 2


def test_a_blob_that_is_really_damaged_is_not_loaded_forever(store) -> None:
    view = store.view()
    node, digest = next(iter(view.nodes.items()))
    store.path_of("nodes", node, digest).write_bytes(b"")
    with pytest.raises(StoreDamagedError):
        store.consistent(lambda view: store.read("nodes", node, digest))


def unprivileged(work) -> int:
    """Run ``work`` in a child that owns nothing; its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def read_only(store):
    """A copy of the store in a place that others may read and nobody may write."""
    source = closed(store)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "store")
        shutil.copytree(source, path)
        os.chmod(place, 0o755)
        for entry in [path, *path.rglob("*")]:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        yield path
        for entry in [path, *path.rglob("*")]:
            entry.chmod(0o755)


def test_a_store_is_read_without_permission_to_write(read_only) -> None:
    def work() -> int:
        with Store.open(read_only) as store:
            view = store.view()
            node, digest = next(iter(view.nodes.items()))
            store.read("nodes", node, digest)
            return 0 if view.generation == 1 and not store.changed(view) else 2

    assert unprivileged(work) == 0
    assert sorted(os.listdir(read_only)) == sorted(
        ["activations", "lock", "newest", "nodes", "staging", "store.sqlite", "tallies"]
    )


def test_a_reader_without_permission_keeps_writers_out_while_it_reads(read_only) -> None:
    def work() -> int:
        with Store.open(read_only):
            descriptor = os.open(read_only / "lock", os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
        return 2

    assert unprivileged(work) == 0


def test_a_store_that_cannot_be_understood_is_let_go(store) -> None:
    store.close()
    with closing(sqlite3.connect(store.path / "store.sqlite")) as database:
        database.execute("UPDATE meta SET value = '{}' WHERE name = 'config'")
        database.commit()
    with pytest.raises(StoreDamagedError) as caught:
        Store.open(store.path, "write")
    WriterLock(store.path / "lock").release()  # free, although the error is still being held
    assert caught.value.advice


def test_a_new_database_is_whole_without_its_log(toy, tmp_path, monkeypatch) -> None:
    """SQLite tells nobody when the checkpoint of a close fails, as on a full volume."""
    close = Database.close
    held: list[sqlite3.Connection] = []

    def without_checkpoint(database: Database) -> None:
        held.append(sqlite3.connect(database.path))
        held[-1].execute("SELECT count(*) FROM meta").fetchall()  # a second one: no checkpoint
        close(database)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "close", without_checkpoint)
        Store.create(tmp_path / "store", toy.config).close()
    shutil.copyfile(tmp_path / "store" / "store.sqlite", tmp_path / "alone.sqlite")
    Rows(Database(tmp_path / "alone.sqlite", write=False)).view()
    for connection in held:
        connection.close()
