"""Promise 6: an accepted request survives a crash at any step; the next start reaches the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.actor import Actor
from harness.crash import CrashError, dying
from harness.fresh import FreshFits
from harness.watch import watching
from harness.world import World, fit


def copies(actor: Actor, directory: Path) -> Callable[[int], Actor]:
    """A function that gives a store of its own, equal to the actor's, for each number."""

    def copy(number: int) -> Actor:
        folder = directory / f"copy-{number}"
        folder.mkdir()
        other = Actor(actor.world, actor.topology, folder)
        actor.model.copy_to(other.path)
        other.take_over(actor)
        return other

    return copy


def test_a_crash_at_every_step_of_forgetting(
    actor: Actor, directory: Path, figure: Callable[[str], None]
) -> None:
    copy = copies(actor, directory)
    shard = max(actor.reference.contents(actor.live), key=len)
    names = [being.id for being in shard]
    steps = 0
    while True:
        other = copy(steps)
        died = other.forget_dying(steps, names)
        other.check()
        other.close()
        if not died:
            break
        steps += 1
    figure(f"durability: forgetting died at each of {steps} durable steps")
    assert steps > 20


def test_a_crash_at_every_step_of_adding(
    actor: Actor, directory: Path, figure: Callable[[str], None]
) -> None:
    copy = copies(actor, directory)
    new = dict.fromkeys(actor.absent()[:2], 1)
    steps = 0
    while True:
        other = copy(steps)
        died = other.add_dying(steps, new)
        other.forget(samples=sorted(other.live)[:1])
        other.check()
        other.close()
        if not died:
            break
        steps += 1
    figure(f"durability: adding died at each of {steps} durable steps")
    assert steps > 20


def test_a_fit_that_died_goes_on_and_ends_the_same(directory: Path, fresh: FreshFits) -> None:
    world = World(11)
    live = dict.fromkeys(world.ids[:16], 0)
    path = directory / "store"
    for steps in (1, 5, 9, 14, 20, 30):
        with pytest.raises(CrashError), dying(steps):
            fit(world, "ring:3", live, path)
    model = fit(world, "ring:3", live, path)
    assert model.store.digest() == fresh.state(world, "ring:3", live)["digest"]
    model.close()


def test_dying_again_and_again_on_the_way_back(actor: Actor) -> None:
    names = sorted(actor.live)[:3]
    actor.accept(names)
    actor.close()
    deaths = 0
    for steps in range(0, 60, 4):
        try:
            with dying(steps):
                actor.open()
            break
        except CrashError:
            deaths += 1
    actor.open()
    actor.become_without(names)
    assert deaths > 3
    actor.check()


def test_every_step_is_durable_before_the_next_is_taken(actor: Actor) -> None:
    names = sorted(actor.live)[:4]
    marks = [mark for name in names for mark in actor.world.being(name, 0).marks]
    with watching(actor.path, lambda: marks) as watch:
        actor.forget(samples=names)
        actor.add(dict.fromkeys(actor.absent()[:3], 1))
    assert watch.wrong == []


def test_every_request_ends_in_one_receipt(actor: Actor) -> None:
    for count, name in enumerate(sorted(actor.live)[:3], start=1):
        actor.forget(samples=[name])
        assert len(actor.model.store.ledger) == count
    actor.open()
    assert len(actor.model.store.ledger) == 3
    assert all(request.finished for request in actor.model.store.requests())
