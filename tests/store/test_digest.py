"""The influence digest: it moves with every part of the influence state, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardgraph.store import Change, Store


def grown(base: Change, **more: dict[int, str | None]) -> Change:
    """The change with other pointers in place of its own."""
    return replace(base, **{name: {**getattr(base, name), **new} for name, new in more.items()})


def with_record(toy: Any, store: Store, **other: Any) -> Change:
    """One record differs, the blobs do not."""
    records = list(toy.samples(range(12)))
    change = toy.change(store, added=records)
    records[3] = replace(records[3], **other)
    return replace(change, added=tuple(records))


def with_blob(kind: str) -> Callable[[Any, Store], Change]:
    """The bytes of one file differ."""

    def change(toy: Any, store: Store) -> Change:
        base = toy.change(store, added=toy.samples(range(12)))
        pointers = getattr(base, kind)
        key = min(key for key, digest in pointers.items() if digest)
        return grown(base, **{kind: {key: store.put(kind, key, b"other bytes")}})

    return change


def without_tally(toy: Any, store: Store) -> Change:
    base = toy.change(store, added=toy.samples(range(12)))
    return replace(base, tallies=dict.fromkeys(base.tallies))


def without_node(toy: Any, store: Store) -> Change:
    base = toy.change(store, added=toy.samples(range(12)))
    return grown(base, nodes={min(base.nodes): None})


def with_one_more(toy: Any, store: Store) -> Change:
    return toy.change(store, added=toy.samples(range(13)))


TERMS: dict[str, Callable[[Any, Store], Change]] = {
    "an id": lambda toy, store: with_record(toy, store, id="another.jpg"),
    "a label": lambda toy, store: with_record(toy, store, label="another"),
    "an owner": lambda toy, store: with_record(toy, store, owner="another"),
    "no owner": lambda toy, store: with_record(toy, store, owner=None),
    "a source": lambda toy, store: with_record(toy, store, source="another"),
    "an activation": with_blob("activations"),
    "a weight": with_blob("nodes"),
    "a tally": with_blob("tallies"),
    "no tallies": without_tally,
    "a node of the ensemble": without_node,
    "a sample": with_one_more,
}


@pytest.mark.parametrize("what", TERMS)
def test_every_part_of_the_state_moves_it(what: str, toy: Any, tmp_path: Path) -> None:
    with toy.fit(tmp_path / "base", toy.samples(range(12))) as base:
        expected = base.digest()
    with Store.create(tmp_path / "other", toy.config) as other:
        other.publish(TERMS[what](toy, other))
        assert other.digest() != expected


CONFIG: dict[str, dict[str, Any]] = {
    "the seed": {"seed": 8},
    "the recipe": {"recipe": {"kind": "another"}},
    "the graph": {"graph": {"shards": 4, "edges": "others"}},
    "the encoder": {"backbone": {"name": "another"}},
    "the environment": {"environment": {"machine": "another"}},
    "the kind of labels": {"label_type": "int"},
    "how the machine works": {"settings": {"stacked": False}},
}


@pytest.mark.parametrize("what", CONFIG)
def test_every_part_of_the_configuration_moves_it(what: str, toy: Any, tmp_path: Path) -> None:
    digests = []
    for name, config in (("base", toy.config), ("other", replace(toy.config, **CONFIG[what]))):
        with Store.create(tmp_path / name, config) as store:
            store.publish(Change())
            digests.append(store.digest())
    assert digests[0] != digests[1]


def test_what_only_happened_does_not_move_it(toy: Any, store: Store, tmp_path: Path) -> None:
    """A request that waits, a backup, a note, a new generation without changes, a check."""
    before = store.digest()
    store.back_up(tmp_path / "backup")
    toy.accept(store, "a key", toy.samples([2]))
    store.set_note("speed", "1")
    store.publish(Change())
    store.compact()
    assert store.digest() == before


def test_it_is_equal_for_equal_samples_whatever_happened(
    toy: Any, store: Store, tmp_path: Path
) -> None:
    toy.add(store, toy.samples([20, 21, 22]))
    toy.accept(store, "one", toy.samples([20, 3]))
    toy.accept(store, "two", toy.samples([21, 22]))
    toy.carry_on(store)
    toy.add(store, toy.samples([3]))
    with toy.fit(tmp_path / "fresh", toy.samples(range(11, -1, -1))) as fresh:
        assert store.digest() == fresh.digest()
        assert toy.files(store) == toy.files(fresh)


def test_it_names_the_bytes_and_a_check_compares_them(store: Store) -> None:
    """It is over what the files must hold; whether they do is for `check` to say."""
    before = store.digest()
    path = next((store.path / "tallies").iterdir())
    path.write_bytes(b"0" + path.read_bytes()[1:])
    assert store.digest() == before
    assert [finding.kind for finding in store.check()] == ["blob"]
