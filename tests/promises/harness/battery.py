"""A compact run through all promises, to be run under every planted fault.

It is one history of a dozen steps with a check after each. The first check that fails names the
promise that the fault breaks. Without a fault none fails.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.actor import Actor
from harness.directory import confirmed
from harness.fresh import FreshFits
from harness.watch import watching
from harness.world import LICENSED, World
from shardgraph import runtime
from shardgraph.errors import (
    DataError,
    EnvironmentChangedError,
    ShardgraphError,
    StoreError,
    StoreLockedError,
    UnknownIdError,
)
from shardgraph.forgetting.receipt import seal_state
from shardgraph.model import SafeModel
from shardgraph.store import Store

Check = Callable[["Battery"], None]
_CHECKS: list[tuple[str, Check]] = []


@dataclass(frozen=True)
class Caught:
    """Which check a fault failed, and how."""

    check: str
    why: str


def check(promise: str) -> Callable[[Check], Check]:
    """Add a check; they run in the order in which they are written."""

    def add(act: Check) -> Check:
        _CHECKS.append((f"{promise}: {act.__name__.replace('_', ' ')}", act))
        return act

    return add


class Battery:
    """The history under way."""

    def __init__(self, fresh: FreshFits, folder: Path, graph: str) -> None:
        self.fresh = fresh
        self.actor = Actor(World(0), graph, folder)
        self.ids = self.actor.world.ids

    def one(self) -> tuple[int, str]:
        """The fullest of the shards that all sources share, and a sample of it."""
        contents = self.actor.reference.contents(self.actor.live)[:5]
        shard = max(range(len(contents)), key=lambda shard: len(contents[shard]))
        return shard, contents[shard][0].id

    def exact(self) -> None:
        """The state is what a process without the fault fits from scratch."""
        state = self.fresh.state(self.actor.world, self.actor.topology, self.actor.live)
        self.actor.check_fresh(state)
        assert not self.actor.remains(), "something of the forgotten remains"


def run_battery(fresh: FreshFits, folder: Path, graph: str) -> Caught | None:
    """Run every check until one fails; None if none does."""
    battery = Battery(fresh, folder, graph)
    try:
        for name, act in _CHECKS:
            try:
                act(battery)
            except (AssertionError, ShardgraphError, LookupError, ValueError, TypeError) as error:
                return Caught(name, f"{type(error).__name__}: {str(error).splitlines()[:1]}")
            except pytest.fail.Exception as error:
                return Caught(name, str(error))
        return None
    finally:
        battery.actor.close()


@check("isolation")
def a_fit_equals_a_fit_elsewhere(battery: Battery) -> None:
    battery.actor.fit(reversed(battery.ids[:26]))
    battery.exact()


@check("durability")
def settings_that_durability_rests_on_are_in_force(battery: Battery) -> None:
    rows = battery.actor.model.store._database.rows
    assert rows("PRAGMA journal_mode")[0][0] == "wal"
    assert rows("PRAGMA synchronous")[0][0] == 2
    assert rows("PRAGMA secure_delete")[0][0] == 1


@check("cost")
def forgetting_one_sample_refits_the_closure(battery: Battery) -> None:
    actor = battery.actor
    name = next(being.id for being in actor.beings() if being.source is None)
    shard = actor.reference.shard_of(actor.world.being(name, 0))
    (held,) = (actor.path / "activations").glob(f"{shard:05d}-*")
    os.link(held, actor.path.parent / "hard-link")
    actor.forget(samples=[name])
    assert not any((actor.path.parent / "hard-link").read_bytes()), "unlinked, not overwritten"
    battery.exact()


@check("durability")
def every_step_is_durable_before_the_next(battery: Battery) -> None:
    actor = battery.actor
    owner = next(being.owner for being in actor.beings() if being.owner)
    marks = [mark for b in actor.beings() if b.owner == owner for mark in b.marks]
    with watching(actor.path, lambda: marks) as watch:
        actor.forget(owners=[owner])
    assert not watch.wrong, watch.wrong[0]
    battery.exact()


@check("durability")
def a_sync_that_failed_is_an_error(battery: Battery) -> None:
    actor = battery.actor
    name = sorted(actor.live)[0]
    real = os.fsync

    def fail_once(descriptor: int) -> None:
        patch.setattr(os, "fsync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail_once)
        with pytest.raises(StoreError):
            actor.model.forget(actor.request(samples=[name]))
    actor.open()
    actor.become_without([name])
    battery.exact()


@check("exactness")
def added_again_with_other_content(battery: Battery) -> None:
    actor = battery.actor
    gone = [*actor.absent()[:2], battery.ids[30]]
    with watching(actor.path, list) as watch:
        actor.add(dict.fromkeys(gone, 1))
    assert not watch.wrong, watch.wrong[0]
    battery.exact()


@check("cost")
def a_source_goes_with_its_shard_and_its_nodes(battery: Battery) -> None:
    battery.actor.forget(sources=[LICENSED])
    battery.exact()


@check("exactness")
def an_emptied_shard_takes_the_last_of_a_class(battery: Battery) -> None:
    actor = battery.actor
    held = next(held for held in actor.reference.contents(actor.live) if held)
    label = held[0].label
    last = [being.id for being in actor.beings() if being.label == label]
    actor.forget(samples={*last, *(being.id for being in held)})
    battery.exact()


@check("no surprise")
def one_key_forgets_once(battery: Battery) -> None:
    actor = battery.actor
    request = actor.request(samples=list(actor.live)[:1])
    actor.forget(samples=request.samples, key=request.key)
    with actor.unchanged():
        assert actor.model.forget(request).nodes_refit == ()
    store = actor.model.store
    told = json.loads(store.ledger.entries()[-1])["statement"]
    state = seal_state(str(store.requests()[-1].state_opening), store.digest())
    assert told["state_after"] == state, "the receipt is of another state"
    assert told["environment"] == runtime.environment()


@check("erasure")
def no_state_of_the_past_can_be_confirmed(battery: Battery) -> None:
    actor = battery.actor
    past = actor.model.store.digest()
    actor.forget(samples=list(actor.live)[:1])
    assert not confirmed(actor.path, [past]), "the store confirms a state of before"
    battery.exact()


@check("fence")
def from_acceptance_on_no_influenced_node_answers(battery: Battery) -> None:
    actor = battery.actor
    shard, name = battery.one()
    actor.model.answer(actor.world.probe())
    actor.accept([name])
    actor.require_silent(actor.model, {shard})
    with SafeModel.open(actor.path) as reader:
        actor.require_silent(reader, {shard})
    left = {n: v for n, v in actor.live.items() if n != name}
    assert actor.model.classes == actor.reference.expected(left, {}).classes
    with SafeModel.open(actor.path) as reader:
        answers = [model.answer(actor.world.probe()) for model in (actor.model, reader)]
    assert np.array_equal(*(answer.probabilities for answer in answers)), "a stale part answers"


@check("exactness")
def several_requests_are_carried_out_by_the_next_start(battery: Battery) -> None:
    actor = battery.actor
    (pending,) = actor.model.store.pending()
    label = next(being.label for being in actor.beings() if being.id != pending)
    more = [b.id for b in actor.beings() if b.label == label and b.id != pending]
    actor.accept(more)
    assert label not in actor.model.classes, "a label that only pending samples have"
    actor.open()
    actor.become_without([pending, *more])
    assert not actor.model.store.unfinished()
    battery.exact()


@check("fence")
def the_fence_stands_until_the_new_generation_does(battery: Battery) -> None:
    actor = battery.actor
    real = Store.publish

    def die(self: Store, change: object) -> int:
        raise RuntimeError("before publishing")

    shard, name = battery.one()
    request = actor.request(samples=[name])
    Store.publish = die  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(RuntimeError):
            actor.model.forget(request)
    finally:
        Store.publish = real  # type: ignore[method-assign]
    actor.require_silent(actor.model, {shard})
    actor.open()
    actor.become_without([name])
    battery.exact()


@check("durability")
def a_crash_half_way_through_an_add_leaves_nothing(battery: Battery) -> None:
    actor = battery.actor
    actor.add_dying(12, dict.fromkeys(actor.absent()[:2], 1))
    actor.forget(samples=list(actor.live)[:1])
    battery.exact()


@check("exactness")
def nothing_is_left_of_all_and_the_store_goes_on(battery: Battery) -> None:
    actor = battery.actor
    actor.forget(samples=list(actor.live))
    assert not actor.hashes(), "files without samples"
    assert not actor.model.store.view().nodes, "nodes without samples"
    assert not actor.remains()
    actor.add(dict.fromkeys(battery.ids[5:20], 1))
    battery.exact()


@check("no surprise")
def what_cannot_be_done_is_refused_and_changes_nothing(battery: Battery) -> None:
    actor = battery.actor
    name = next(iter(actor.live))
    with actor.unchanged():
        with pytest.raises(UnknownIdError):
            actor.model.forget(actor.request(samples=[name, "nobody"]))
        with pytest.raises(UnknownIdError):
            actor.model.forget(actor.request(owners=["nobody"]))
        other = actor.world.dataset({name: 1 - actor.live[name]})
        with pytest.raises(DataError):
            actor.model.add(other)
        with pytest.raises(StoreLockedError):
            SafeModel.open(actor.path, write=True)


@check("no surprise")
def another_environment_is_refused(battery: Battery) -> None:
    battery.actor.close()
    elsewhere = {**runtime.environment(), "torch": "another"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "environment", lambda *_: elsewhere)
        with pytest.raises(EnvironmentChangedError):
            SafeModel.open(battery.actor.path, write=True)


@check("no surprise")
def a_lowered_precision_is_refused(battery: Battery) -> None:
    actor = battery.actor
    actor.open()
    request = actor.request(samples=list(actor.live)[:1])
    with actor.unchanged(), torch.autocast("cpu"), pytest.raises(EnvironmentChangedError):
        actor.model.forget(request)
