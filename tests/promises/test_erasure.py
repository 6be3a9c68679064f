"""Promise 7: after the receipt nothing derived from the sample is left under the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.actor import Actor
from harness.directory import confirmed, influence_files, traces
from harness.world import TOPOLOGIES, World

from shardgraph.forgetting.receipt import ledger_file, receipt_file
from shardgraph.model import SafeModel


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_name_and_no_number_of_the_forgotten_is_found(topology: str, directory: Path) -> None:
    actor = Actor(World(12), topology, directory)
    actor.fit(actor.world.ids[:26])
    names = [being.id for being in actor.beings() if being.label == actor.beings()[0].label]
    assert actor.remains() == []
    marks = [mark for name in names for mark in actor.world.being(name, 0).marks]
    assert len(traces(actor.path, marks)) == len(marks), "the search finds what is there"
    actor.forget(samples=names)
    assert actor.remains() == []
    actor.open()
    assert actor.remains() == []
    actor.close()


def test_superseded_files_are_overwritten_and_not_only_unlinked(
    actor: Actor, directory: Path
) -> None:
    before = influence_files(actor.path)
    for name in before:
        os.link(actor.path / name, directory / name.replace("/", "-"))
    actor.forget(samples=sorted(actor.live)[:2])
    gone = before.keys() - influence_files(actor.path).keys()
    assert gone
    for name in gone:
        assert not any((directory / name.replace("/", "-")).read_bytes())


def test_an_old_weight_is_found_nowhere(actor: Actor) -> None:
    before = influence_files(actor.path)
    actor.forget(samples=sorted(actor.live)[:2])
    gone = before.keys() - influence_files(actor.path).keys()
    bodies = [before[name][-200:] for name in sorted(gone) if name.startswith("nodes/")]
    assert bodies
    assert traces(actor.path, bodies) == []


def test_a_forgotten_sample_is_gone_while_readers_are_there(actor: Actor) -> None:
    with SafeModel.open(actor.path) as reader:
        reader.answer(actor.world.probe())
        actor.forget(samples=sorted(actor.live)[:2])
        assert actor.remains() == []
        assert reader.store.digest() == actor.model.store.digest()


def test_what_a_crash_left_in_staging_is_erased(actor: Actor) -> None:
    actor.add_dying(18, dict.fromkeys(actor.absent()[:4], 1))
    actor.forget(samples=sorted(actor.live)[:1])
    actor.check()


def test_a_receipt_names_nobody(actor: Actor) -> None:
    being = actor.beings()[0]
    actor.forget(samples=[being.id])
    entry = actor.model.store.ledger.entries()[-1]
    for mark in (*being.marks, being.label.encode(), (being.owner or "nobody").encode()):
        assert mark not in entry


def test_no_state_of_the_past_can_be_confirmed(actor: Actor) -> None:
    store, past, issued = actor.model.store, set(), []
    for _ in range(3):
        past.add(store.digest())
        actor.add(dict.fromkeys(actor.absent()[:1], 1))
        past.add(store.digest())
        actor.forget(samples=sorted(actor.live)[:2])
        now = store.digest()
        assert confirmed(actor.path, past) == []
        assert confirmed(actor.path, [now]) == [f"{now} in plain", f"{now} sealed"]
        issued += [ledger_file(store), receipt_file(store, store.requests()[-1])]
    assert len(past) == 6
    assert not [digest for digest in past for file in issued if digest.encode() in file]


def test_many_rounds_leave_no_bytes_in_the_pages_of_the_database(actor: Actor) -> None:
    for _ in range(12):
        actor.forget(samples=sorted(actor.live)[::2])
        actor.add(dict.fromkeys(actor.absent()[::2], 0))
        assert actor.remains() == []
