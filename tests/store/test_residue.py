"""Patterns planted in everything that is kept of a sample are nowhere after the receipt."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from shardgraph.store import Record, Store
from shardgraph.store.database import Database


def contents(path: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def marked(toy, number: int) -> Record:
    plain = toy.sample(number)
    return Record(
        f"ID{number:06d}X" + "i" * (number % 60),
        f"LABEL{number // 5:06d}X",
        f"OWNER{number // 2:06d}X",
        f"SOURCE{number // 3:06d}X",
        plain.shard,
    )


def marks(record: Record) -> tuple[bytes, ...]:
    return tuple(str(text).rstrip("i").encode() for text in
                 (record.id, record.label, record.owner, record.source))  # fmt: skip


def forget_many(toy, store: Store, live: dict[int, Record], rounds: int, seed: int) -> list[bytes]:
    """Forget and add at random; returns the marks that only forgotten samples had."""
    chance = random.Random(seed)
    gone: set[bytes] = set()
    for round_ in range(rounds):
        chosen = chance.sample(sorted(live), chance.choice([1, 1, 1, 2, 5]))
        records = [live.pop(number) for number in chosen]
        gone.update(mark for record in records for mark in marks(record))
        toy.accept(store, f"KEY of {records[0].id}", records)
        toy.carry_on(store)
        if round_ % 3 == 0:
            new = [marked(toy, 10_000 + round_ * 10 + number) for number in range(5)]
            live.update({10_000 + round_ * 10 + n: record for n, record in enumerate(new)})
            toy.add(store, new)
    return sorted(gone - {mark for record in live.values() for mark in marks(record)})


def test_nothing_of_a_forgotten_sample_is_left_in_any_file(toy, memory_path) -> None:
    live = {number: marked(toy, number) for number in range(200)}
    path = memory_path / "residue"
    with toy.fit(path, list(live.values())) as store:
        gone = forget_many(toy, store, live, rounds=36, seed=1)
        everything = contents(path)
        assert len(gone) > 60
        assert [mark for mark in gone if mark in everything] == []
        assert b"KEY of" not in everything
        assert all(record.id.encode() in everything for record in live.values())
    assert not any(mark in contents(path) for mark in gone)


def test_only_the_rebuild_removes_the_copies_in_the_pages_of_an_index(store) -> None:
    """The reason for `Database.scrub`: ``secure_delete`` and an empty log do not suffice."""
    database = store._database
    stale = 0
    for seed in range(12):
        chance = random.Random(seed)
        ids = [f"{chance.random():.12f}" + "i" * (number % 60) for number in range(1500)]
        database.rows("DELETE FROM samples")
        database.scrub()
        with database.transaction():
            insert = "INSERT INTO samples (id, label, shard) VALUES (?, 'label', 0)"
            database.many(insert, [(sample,) for sample in ids])
        gone = chance.sample(ids, 300)
        with database.transaction():
            database.many("DELETE FROM samples WHERE id = ?", [(sample,) for sample in gone])
        database.empty_log()
        everything = contents(store.path)
        stale += sum(sample[:14].encode() in everything for sample in gone)
        database.scrub()
        everything = contents(store.path)
        assert not any(sample[:14].encode() in everything for sample in gone)
    if not stale:
        pytest.skip(f"SQLite {sqlite3.sqlite_version} left no copies before the rebuild either")


@pytest.mark.parametrize("missing", ["erase", "scrub"])
def test_the_search_sees_what_is_left_out(toy, store, monkeypatch, missing) -> None:
    if missing == "erase":
        monkeypatch.setattr("shardgraph.files.erase_files", lambda paths: None)
    else:
        monkeypatch.setattr(Database, "scrub", lambda database: None)
    record = toy.sample(0)
    toy.accept(store, "key", [record])
    toy.carry_on(store)
    assert record.id.encode() in contents(store.path)
