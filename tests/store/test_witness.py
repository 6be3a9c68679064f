"""A store that has lost what it acknowledged says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardgraph.errors import StoreDamagedError
from shardgraph.store import Store, witness


@pytest.fixture
def killed(toy, store, memory_path) -> Path:
    """A store as a killed process leaves it: the newest acceptance is in the log alone."""
    shutil.copyfile(store.path / "store.sqlite", memory_path / "older.sqlite")
    toy.accept(store, "key", toy.samples([0]))
    path = memory_path / f"killed-{store.path.parent.name}"
    shutil.copytree(store.path, path)
    return path


def refused(path: Path) -> None:
    for mode in ("read", "write"):
        with pytest.raises(StoreDamagedError, match="older than what was last acknowledged"):
            Store.open(path, mode)


def test_a_log_that_is_gone_cut_or_damaged_is_noticed(killed) -> None:
    with Store.open(killed) as store:
        assert len(store.requests()) == 1
    log = killed / "store.sqlite-wal"
    data = log.read_bytes()
    for damaged in (data[: len(data) // 2], data[:40] + b"\xff" + data[41:], b""):
        log.write_bytes(damaged)
        refused(killed)
    log.unlink()
    refused(killed)
    log.write_bytes(data)
    with Store.open(killed, "write") as store:
        assert len(store.requests()) == 1


def test_a_database_of_yesterday_is_noticed(killed, memory_path) -> None:
    (killed / "store.sqlite-wal").unlink()
    shutil.copyfile(memory_path / "older.sqlite", killed / "store.sqlite")
    refused(killed)


@pytest.mark.parametrize("data", [None, b"", b"\xff" * 128, b"0" * 200])
def test_the_witness_alone_never_makes_a_store_refuse_itself(killed, data) -> None:
    newest = killed / "newest"
    newest.unlink()
    if data is not None:
        newest.write_bytes(data)
    with Store.open(killed) as store:
        found = {finding.kind for finding in store.check()}
    assert found == ({"newest"} if data else set())
    with Store.open(killed, "write") as store:
        store.set_note("a", "b")
        assert witness.read(newest) > 0
        assert store.check() == ()


def test_records_take_turns_and_the_newer_one_counts(tmp_path) -> None:
    path = tmp_path / "newest"
    assert witness.read(path) == 0
    witness.create(path)
    for count in range(1, 6):
        witness.write(path, count)
        assert witness.read(path) == count
    data = path.read_bytes()
    path.write_bytes(data[:64] + b"x" + data[65:])  # the record of 5 is torn
    assert witness.read(path) == 4
    assert witness.is_whole(path)
