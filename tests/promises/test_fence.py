"""Promise 5: once a request is accepted, no node that its samples influenced answers."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from harness.actor import Actor
from harness.world import TOPOLOGIES, World

from shardgraph.errors import UsageError
from shardgraph.model import SafeModel
from shardgraph.nodes.ensemble import Ensemble
from shardgraph.nodes.weights import from_bytes


def shards_of(actor: Actor, names: list[str]) -> set[int]:
    """The shards of these samples."""
    beings = actor.world.beings({name: actor.live[name] for name in names})
    return {actor.reference.shard_of(being) for being in beings}


def influenced_by(actor: Actor, names: list[str]) -> set[int]:
    """Every node that reads or tallies a shard of one of these samples."""
    return actor.reference.influenced(shards_of(actor, names))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_influenced_node_answers_from_acceptance_on(topology: str, directory: Path) -> None:
    actor = Actor(World(7), topology, directory)
    actor.fit(actor.world.ids[:24])
    name = sorted(actor.live)[3]
    with SafeModel.open(actor.path) as elsewhere:
        elsewhere.answer(actor.world.probe())
        actor.model.answer(actor.world.probe())
        actor.accept([name])
        for model in (actor.model, elsewhere):
            actor.require_silent(model, shards_of(actor, [name]))
    with SafeModel.open(actor.path) as later:
        actor.require_silent(later, shards_of(actor, [name]))
    actor.close()


def test_a_fenced_answer_is_that_of_the_other_nodes_alone(actor: Actor) -> None:
    name = next(b.id for b in actor.beings() if actor.reference.shard_of(b) == 5)
    expected = actor.reference.expected(actor.live, actor.model.store.config.to_json())
    fenced = influenced_by(actor, [name])
    kept = [
        from_bytes(int(path.split("/")[1][:5]), data)
        for path, data in sorted(expected.files.items())
        if path.startswith("nodes/") and int(path.split("/")[1][:5]) not in fenced
    ]
    actor.accept([name])
    answer = actor.model.answer(actor.world.probe())
    alone = Ensemble(kept, answer.classes).predict_proba(actor.world.probe())
    assert answer.without == fenced
    assert np.array_equal(answer.probabilities, alone)


def test_where_all_are_fenced_nobody_answers(directory: Path) -> None:
    actor = Actor(World(8), "complete", directory)
    actor.fit(actor.world.ids[:20])
    actor.accept([sorted(actor.live)[0]])
    with pytest.raises(UsageError, match="No node can answer"):
        actor.model.answer(actor.world.probe())
    actor.open()
    assert len(actor.model.answer(actor.world.probe()).labels) == 3
    actor.close()


def test_nobody_answers_from_what_comes_into_being_while_a_request_waits(actor: Actor) -> None:
    """A new sample can call a node into being that reads what waits to be forgotten."""
    actor.forget(samples=[being.id for being in actor.reference.contents(actor.live)[3]])
    name = actor.reference.contents(actor.live)[4][0].id
    actor.accept([name])
    born = next(n for n in actor.absent() if actor.reference.shard_of(actor.world.being(n, 0)) == 3)
    actor.model.add(actor.world.dataset({born: 0}))
    actor.live = {**{n: v for n, v in actor.live.items() if n != name}, born: 0}
    assert not actor.model.store.unfinished()
    actor.check()


def test_the_fence_holds_through_an_error_and_the_same_request_finishes(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = sorted(actor.live)[0]
    influenced = influenced_by(actor, [name])
    request = actor.request(samples=[name])

    def full(*_: object, **__: object) -> None:
        raise OSError("the volume is full")

    with monkeypatch.context() as patch:
        patch.setattr("shardgraph.forgetting.carry_out.fit_nodes", full)
        with pytest.raises(OSError, match="full"):
            actor.model.forget(request)
    actor.require_silent(actor.model, shards_of(actor, [name]))
    outcome = actor.model.forget(request)
    actor.become_without([name])
    assert set(outcome.nodes_refit) <= influenced
    assert not actor.model.store.unfinished()
    actor.check()


def test_answers_during_a_refit_are_of_one_state_each(directory: Path) -> None:
    actor = Actor(World(9), "ring:3", directory)
    actor.fit(actor.world.ids[:24])
    known = {actor.model.answer(actor.world.probe()).generation: [frozenset[int]()]}
    seen: list[tuple[int, frozenset[int], bytes]] = []
    stop = threading.Event()

    def ask() -> None:
        with SafeModel.open(actor.path) as reader:
            while not stop.is_set():
                try:
                    answer = reader.answer(actor.world.probe())
                except UsageError:  # every node is fenced
                    continue
                fenced = frozenset(map(int, answer.without))
                seen.append((answer.generation, fenced, answer.probabilities.tobytes()))

    thread = threading.Thread(target=ask)
    thread.start()
    for name in sorted(actor.live)[:4]:
        before = max(known)
        fenced = frozenset(influenced_by(actor, [name]))
        actor.forget(samples=[name])
        known[before].append(fenced)
        known[before + 1] = [frozenset()]
    stop.set()
    thread.join()
    by_state: dict[tuple[int, frozenset[int]], set[bytes]] = {}
    for generation, fence, answer in seen:
        existing = set(fence)
        assert any(existing <= allowed for allowed in known[generation])
        by_state.setdefault((generation, fence), set()).add(answer)
    assert all(len(answers) == 1 for answers in by_state.values())
    actor.close()


def test_two_threads_that_forget_at_once_wait_for_each_other(directory: Path) -> None:
    actor = Actor(World(10), "ring:3", directory)
    actor.fit(actor.world.ids[:24])
    names = sorted(actor.live)[:6]
    errors: list[BaseException] = []

    def forget(name: str) -> None:
        try:
            actor.model.forget(actor.request(samples=[name]))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=forget, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    actor.become_without(names)
    actor.check()
    actor.close()
