"""Promise 2: after `forget`, the state is byte-identical to a fit from scratch on what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness.actor import Actor
from harness.directory import influence_files
from harness.fresh import FreshFits
from harness.histories import run
from harness.world import LICENSED, TOPOLOGIES, World

from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

RULES = 17
HISTORIES = 23  # over each of nine graphs, some of them cut short; `scripts/stress` runs more
STEPS = 30


def test_random_histories_leave_what_a_fit_from_scratch_gives(
    figure: Callable[[str], None],
) -> None:
    ran = run(tuple(reversed(TOPOLOGIES)), HISTORIES, STEPS, "ci")
    figure(f"exactness: {ran}")
    assert not ran.mismatches
    assert ran.histories >= 200
    assert ran.steps >= STEPS * ran.histories
    assert ran.fresh >= ran.histories
    assert len(ran.rules) == RULES, "a rule was never taken"


def test_the_reference_is_the_package_in_another_process(fresh: FreshFits, directory: Path) -> None:
    for number, topology in enumerate(TOPOLOGIES):
        (directory / topology).mkdir()
        actor = Actor(World(number), topology, directory / topology)
        actor.fit(actor.world.ids[number : number + 20])
        actor.check()
        actor.check_fresh(fresh.state(actor.world, topology, actor.live))
        actor.close()


def test_one_request_many_an_owner_a_source(actor: Actor, fresh: FreshFits) -> None:
    owner = next(being.owner for being in actor.beings() if being.owner)
    others = [being.id for being in actor.beings() if being.owner != owner]
    for names in (
        {"samples": others[:1]},
        {"samples": others[3:8]},
        {"owners": [owner]},
        {"sources": [LICENSED]},
    ):
        actor.forget(**names)
        actor.check()
        actor.check_fresh(fresh.state(actor.world, actor.topology, actor.live))


def test_add_then_forget_and_forget_then_add_again(actor: Actor) -> None:
    before = actor.model.store.digest()
    actor.add(dict.fromkeys(actor.absent()[:3], 1))
    assert actor.model.store.digest() != before
    actor.forget(samples=[name for name, version in actor.live.items() if version == 1])
    assert actor.model.store.digest() == before
    gone = actor.world.ids[:4]
    actor.forget(samples=gone)
    actor.add(dict.fromkeys(gone, 0))
    assert actor.model.store.digest() == before
    actor.check()


def test_everything_can_be_forgotten_and_the_store_goes_on(actor: Actor, fresh: FreshFits) -> None:
    actor.forget(samples=list(actor.live))
    actor.check()
    assert not actor.model.store.view().nodes
    actor.add(dict.fromkeys(actor.world.ids[5:25], 0))
    actor.check()
    actor.check_fresh(fresh.state(actor.world, actor.topology, actor.live))


def test_the_order_of_requests_does_not_matter(directory: Path) -> None:
    digests = set()
    for order in ((0, 1, 2), (2, 0, 1)):
        folder = directory / str(order[0])
        folder.mkdir()
        actor = Actor(World(5), "ring:3", folder)
        actor.fit(actor.world.ids[:24])
        for number in order:
            actor.forget(samples=actor.world.ids[number * 3 : number * 3 + 3])
        digests.add(actor.model.store.digest())
        actor.close()
    assert len(digests) == 1


def test_what_is_asked_in_between_changes_nothing(actor: Actor) -> None:
    for _ in range(3):
        actor.model.answer(actor.world.probe())
        actor.model.plan(ForgetRequest.of(samples=[actor.world.ids[0]]))
        actor.model.status()
    actor.check()


def test_verify_agrees_and_finds_a_planted_difference(actor: Actor) -> None:
    actor.forget(samples=[actor.world.ids[2]])
    assert actor.model.verify().equal
    path = next((actor.path / "nodes").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [item.node for item in actor.model.verify().differences] == [int(path.name[:5])]


def test_status_gives_the_digest_that_two_stores_are_compared_by(actor: Actor) -> None:
    status = json.loads(json.dumps(actor.model.status()))
    assert status["digest"] == actor.model.store.digest()


def test_bits_do_not_depend_on_the_number_of_workers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for workers in (1, 2, 5):
        monkeypatch.setattr("shardgraph.runtime.worker_count", lambda workers=workers: workers)
        (directory / str(workers)).mkdir()
        actor = Actor(World(1), "complete", directory / str(workers))
        actor.fit(actor.world.ids[:20])
        actor.forget(samples=actor.world.ids[:2])
        digests.add(actor.model.store.digest())
        actor.close()
    assert len(digests) == 1


def test_a_copy_forgets_to_the_same_state(actor: Actor, directory: Path) -> None:
    actor.model.copy_to(directory / "copy")
    gone = actor.world.ids[:3]
    actor.forget(samples=gone)
    with SafeModel.open(directory / "copy", write=True) as copy:
        outcome = copy.forget(ForgetRequest.of(samples=gone))
        assert outcome.digest == actor.model.store.digest()
        answers = copy.answer(actor.world.probe()).probabilities
    assert np.array_equal(answers, actor.model.answer(actor.world.probe()).probabilities)
    assert influence_files(directory / "copy") == influence_files(actor.path)
