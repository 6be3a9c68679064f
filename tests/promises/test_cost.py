"""Promise 4: the refitted set is the closure on the graph, not one fewer and not one more."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from harness.actor import Actor, trained
from harness.world import SHARDS, TOPOLOGIES, World

from shardgraph.forgetting.request import ForgetRequest


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_plan_and_the_work_are_the_closure(topology: str, directory: Path) -> None:
    actor = Actor(World(6), topology, directory)
    actor.fit(actor.world.ids[:26])
    for _ in range(3):
        name = sorted(actor.live)[len(actor.live) // 2]
        plan = actor.model.plan(ForgetRequest.of(samples=[name]))
        with trained() as nodes:
            outcome = actor.forget(samples=[name])
        assert sorted(nodes) == list(plan.refit) == list(outcome.nodes_refit)
        contents = actor.reference.contents(actor.live)
        reads = actor.reference.reads
        assert plan.samples_refit == sum(len(contents[s]) for n in plan.refit for s in reads[n])
        assert outcome.samples_refit == plan.samples_refit
    actor.close()


def test_the_closure_of_every_set_of_shards_is_as_defined(actor: Actor) -> None:
    graph = actor.model.graph
    for size in (0, 1, 2, SHARDS):
        for shards in combinations(range(SHARDS), size):
            asked = {n for n, reads in enumerate(actor.reference.reads) if set(reads) & {*shards}}
            assert graph.influenced_by(shards) == asked


def test_requests_that_share_nodes_fit_them_once(actor: Actor) -> None:
    shards: dict[int, list[str]] = {}
    for being in actor.beings():
        shards.setdefault(actor.reference.shard_of(being), []).append(being.id)
    first, second = (shards[shard][0] for shard in sorted(shards)[:2])
    actor.accept([first])
    actor.accept([second])
    with trained() as nodes:
        actor.open()
    actor.become_without([first, second])
    assert len(nodes) == len(set(nodes))
    assert set(nodes) == actor.reference.closure(actor.live, set(sorted(shards)[:2]))
    actor.check()


def test_adding_fits_the_closure_too(actor: Actor) -> None:
    actor.add(dict.fromkeys(actor.absent()[:1], 0))  # the actor checks it
    actor.check()


def test_nothing_is_fitted_where_nothing_changes(actor: Actor) -> None:
    with trained() as nodes:
        actor.model.add(actor.world.dataset(actor.live))
        actor.open()
        actor.model.answer(actor.world.probe())
        actor.model.plan(ForgetRequest.of(samples=[next(iter(actor.live))]))
    assert nodes == []


def test_an_emptied_shard_drops_its_nodes_and_refits_the_other_readers(actor: Actor) -> None:
    held = actor.reference.contents(actor.live)[3]
    assert held
    outcome = actor.forget(samples=[being.id for being in held])
    homes = {node for node, home in enumerate(actor.reference.homes) if home == 3}
    assert set(outcome.nodes_dropped) == homes
    assert not homes & set(outcome.nodes_refit)
    actor.check()
