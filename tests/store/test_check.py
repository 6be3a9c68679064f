"""Whatever is changed behind the store's back is found and named, or does no harm."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3

import pytest

from shardgraph.errors import StoreDamagedError, StoreError, VerificationError
from shardgraph.store import Store
from shardgraph.store.merkle import leaf_hash, verify_consistency, verify_inclusion


def kinds(store: Store) -> list[str]:
    return [finding.kind for finding in store.check()]


def some_blob(store: Store, kind: str = "nodes", last: bool = False):
    view = store.view()
    pointers = {"nodes": view.nodes, "tallies": view.tallies}.get(
        kind, {shard: state.activations for shard, state in view.shards.items()}
    )
    key, digest = list(pointers.items())[-1 if last else 0]
    return store.path_of(kind, key, digest)


def test_a_sound_store_has_no_findings(toy, store) -> None:
    assert store.check() == ()
    toy.accept(store, "key", toy.samples([0]))
    toy.carry_on(store)
    assert store.check(repair=True) == ()


@pytest.mark.parametrize("kind", ["activations", "nodes", "tallies"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "swap", "grow"])
def test_a_damaged_blob_is_named(store, kind, damage) -> None:
    path = some_blob(store, kind)
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    elif damage == "truncate":
        os.truncate(path, len(data) // 2)
    elif damage == "remove":
        path.unlink()
    elif damage == "swap":
        shutil.copy(some_blob(store, kind, last=True), path)
    else:
        path.write_bytes(data + b"\0")
    found = store.check(repair=True)
    assert [(f.kind, str(path) in f.what) for f in found] == [("blob", True)]
    assert "backup" in found[0].advice


def test_leftovers_are_named_and_erased_by_the_repair(toy, store) -> None:
    store.put("nodes", 1, b"nobody points here")
    store.sync()
    store.temporary("nodes").write_bytes(b"half")
    (store.staging / "work").mkdir()
    (store.staging / "work" / "rows").write_bytes(b"half")
    request = toy.accept(store, "key", toy.samples([0, 1]))
    store.publish(toy.change(store, [request]))
    found = {finding.kind for finding in store.check(repair=True)}
    assert found == {"orphan", "staged", "erasure"}
    assert store.check() == ()
    assert list(store.staging.iterdir()) == []


def test_foreign_files_are_named_and_left_alone(store) -> None:
    for path in (store.path / "notes.txt", store.path / "nodes" / "notes.txt"):
        path.write_text("mine")
    found = store.check(repair=True)
    assert [finding.kind for finding in found] == ["foreign", "foreign"]
    assert (store.path / "nodes" / "notes.txt").read_text() == "mine"


def test_nothing_is_repaired_where_rows_are_damaged(store) -> None:
    store.put("nodes", 1, b"nobody points here")
    store.sync()
    edit(store, "UPDATE shards SET samples = samples + 1")
    assert store.check(repair=True)[0].kind == "state"
    assert len(list((store.path / "nodes").iterdir())) > len(store._rows.pointers("nodes"))


def edit(store: Store, statement: str) -> None:
    connection = sqlite3.connect(store.path / "store.sqlite")
    with contextlib.closing(connection), connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET generation = generation + 1",
        "UPDATE shards SET labels = '{\"label0\":1}'",
        "DELETE FROM shards WHERE shard = (SELECT min(shard) FROM shards)",
        "UPDATE pointers SET digest = 'x' WHERE kind = 'nodes' AND key = 0",
        "DELETE FROM pointers WHERE kind = 'activations'",
        "UPDATE requests SET fenced = '[]'",
        "UPDATE requests SET state = 'published'",
        "UPDATE requests SET state = 'receipted'",
        "UPDATE requests SET labels = '{}'",
        "UPDATE requests SET deadline = deadline + 1",
        "DELETE FROM state",
        "UPDATE meta SET value = replace(value, 'toy', 'boy') WHERE name = 'config'",
        "UPDATE shards SET labels = 'nonsense'",
        "UPDATE meta SET value = '{' WHERE name = 'config'",
    ],
)
def test_rows_that_decide_answers_are_sealed(toy, store, statement) -> None:
    toy.accept(store, "key", toy.samples([0]))
    edit(store, statement)
    with pytest.raises(StoreDamagedError, match="seal"):
        store.view()
    with pytest.raises(StoreDamagedError), Store.open(store.path) as reader:
        reader.view()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE samples SET label = 'label2' WHERE id LIKE '%image-0.jpg'",
        "UPDATE samples SET owner = NULL WHERE id LIKE '%image-0.jpg'",
        "UPDATE samples SET shard = (shard + 1) % 4 WHERE id LIKE '%image-0.jpg'",
        "UPDATE samples SET shard = 3000 WHERE id LIKE '%image-0.jpg'",
        "DELETE FROM samples WHERE id LIKE '%image-0.jpg'",
    ],
)
def test_records_are_compared_with_their_digest(toy, store, statement) -> None:
    edit(store, statement)
    assert set(kinds(store)) == {"records"}
    with pytest.raises(StoreError, match="differ from their digest"):
        store.records(toy.sample(0).shard)


def test_the_ledger_cannot_be_changed_by_the_usual_means(toy, store) -> None:
    toy.accept(store, "key", toy.samples([0]))
    toy.carry_on(store)
    for statement in ("DELETE FROM ledger", "UPDATE ledger SET entry = x'00'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            edit(store, statement)


def test_a_ledger_changed_by_force_is_found(toy, store) -> None:
    toy.accept(store, "key", toy.samples([0]))
    toy.carry_on(store)
    edit(store, "DROP TRIGGER ledger_fixes_entries")
    edit(store, "UPDATE ledger SET entry = x'00'")
    assert kinds(store) == ["ledger"]


def test_ledger_proofs_hold_across_growth(toy, store) -> None:
    roots = []
    for number in range(5):
        toy.accept(store, f"key{number}", toy.samples([number]))
        toy.carry_on(store)
        roots.append(store.ledger.root())
    tree = store.ledger.tree()
    assert tree.root() == roots[-1]
    assert len(store.ledger) == 5
    for index, entry in enumerate(store.ledger.entries()):
        assert store.ledger.entry(index) == entry
        verify_inclusion(leaf_hash(entry), index, 5, tree.inclusion_proof(index), roots[-1])
        verify_consistency(index + 1, 5, roots[index], roots[-1], tree.consistency_proof(index + 1))
    with pytest.raises(VerificationError):
        verify_inclusion(leaf_hash(b""), 0, 5, tree.inclusion_proof(0), roots[-1])


def test_bits_flipped_anywhere_in_the_database_are_found_or_harmless(toy, store, copied) -> None:
    toy.accept(store, "one", toy.samples([0]))
    toy.carry_on(store)
    toy.accept(store, "two", toy.samples([4]))
    truth = (store.view(), [store.records(s) for s in range(4)], store.unfinished())
    store.compact()
    store.close()
    size = (store.path / "store.sqlite").stat().st_size
    chance = random.Random(3)
    found = 0
    for _ in range(60):
        path = copied(store.path)
        with (path / "store.sqlite").open("r+b") as file:
            at = chance.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))
        try:
            with Store.open(path) as reader:
                answers = (reader.view(), [reader.records(s) for s in range(4)],
                           reader.unfinished())  # fmt: skip
                found += bool(reader.check())
        except StoreError:
            found += 1
        else:
            assert answers == truth
        shutil.rmtree(path)
    assert found > 0
