"""Promise 4: the refitted set is the closure on the graph, not one fewer and not one more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from harness.actor import Actor
from harness.world import SHARDS, TOPOLOGIES, World

from shardgraph.forgetting.request import ForgetRequest


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_plan_and_the_work_are_the_closure(topology: str, directory: Path) -> None:
    actor = Actor(World(6), topology, directory)
    actor.fit(actor.world.ids[:26])
    for _ in range(3):
        name = sorted(actor.live)[len(actor.live) // 2]
        plan = actor.model.plan(ForgetRequest.of(samples=[name]))
        outcome = actor.forget(samples=[name])  # the actor compares it with what was done
        assert plan.refit == outcome.nodes_refit
        assert plan.subtract == outcome.nodes_subtracted
        assert plan.dropped == outcome.nodes_dropped
        contents = actor.reference.contents(actor.live)
        reads = actor.reference.reads
        assert plan.samples_refit == sum(len(contents[s]) for n in plan.refit for s in reads[n])
        assert outcome.samples_refit == plan.samples_refit
    actor.close()


@pytest.mark.parametrize(("topology", "emptied"), [("kinds", (2, 5)), ("tallied:3", range(6))])
def test_a_node_without_a_home_goes_with_the_last_that_it_tallies(
    topology: str, emptied: Sequence[int], directory: Path
) -> None:
    actor = Actor(World(6), topology, directory)
    actor.fit(actor.world.ids[:26])
    contents = actor.reference.contents(actor.live)
    names = [being.id for shard in emptied for being in contents[shard]]
    plan = actor.model.plan(ForgetRequest.of(samples=names))
    outcome = actor.forget(samples=names)
    homeless = {n for n, home in enumerate(actor.reference.homes) if home is None}
    assert homeless & {*plan.dropped}
    assert (plan.dropped, plan.subtract) == (outcome.nodes_dropped, outcome.nodes_subtracted)
    actor.check()
    actor.close()


def test_the_closure_of_every_set_of_shards_is_as_defined(actor: Actor) -> None:
    graph = actor.model.graph
    for size in (0, 1, 2, SHARDS):
        for shards in combinations(range(SHARDS), size):
            assert graph.influenced_by(shards) == actor.reference.influenced(set(shards))


def test_requests_that_share_nodes_fit_them_once(actor: Actor) -> None:
    shards: dict[int, list[str]] = {}
    for being in actor.beings():
        shards.setdefault(actor.reference.shard_of(being), []).append(being.id)
    first, second = (shards[shard][0] for shard in sorted(shards)[:2])
    actor.accept([first])
    actor.accept([second])
    with actor.trained() as nodes:
        actor.open()
    before = actor.live
    actor.become_without([first, second])
    assert len(nodes) == len(set(nodes))
    closure = actor.reference.closure(before, actor.live, set(sorted(shards)[:2]))
    assert set(nodes) == closure.refit
    actor.check()


def test_adding_fits_the_closure_too(actor: Actor) -> None:
    actor.add(dict.fromkeys(actor.absent()[:1], 0))  # the actor checks it
    actor.check()


def test_nothing_is_fitted_where_nothing_changes(actor: Actor) -> None:
    with actor.trained() as nodes:
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
