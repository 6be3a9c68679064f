"""Promise 3: removing a sample moves no other sample."""

from __future__ import annotations

from harness.actor import Actor
from harness.world import LICENSED

from shardgraph.data.sample import Sample
from shardgraph.graph.assignment import Assignment
from shardgraph.graph.topologies import isolated
from shardgraph.identity import OwnerId, SampleId, ShardId


def places(actor: Actor) -> dict[str, int]:
    """The shard of every live sample, as the store has it."""
    return {
        record.id: record.shard
        for shard in range(actor.model.graph.shards)
        for record in actor.model.store.records(ShardId(shard))
    }


def test_forgetting_and_adding_move_nobody_else(actor: Actor) -> None:
    before = places(actor)
    assert before == {being.id: actor.reference.shard_of(being) for being in actor.beings()}
    gone = actor.world.ids[:7]
    actor.forget(samples=gone)
    left = {name: shard for name, shard in before.items() if name not in gone}
    assert places(actor) == left
    actor.add(dict.fromkeys(actor.world.ids[25:30], 0))
    assert left.items() <= places(actor).items()
    actor.add(dict.fromkeys(gone, 0))
    assert before.items() <= places(actor).items()


def test_rows_keep_their_order_when_one_goes(actor: Actor) -> None:
    shard = max(range(6), key=lambda shard: len(actor.model.store.records(ShardId(shard))))
    before = [record.id for record in actor.model.store.records(ShardId(shard))]
    actor.forget(samples=[before[1]])
    after = [record.id for record in actor.model.store.records(ShardId(shard))]
    assert after == [name for name in before if name != before[1]]


def test_an_owner_is_in_one_shard_of_each_pool(actor: Actor) -> None:
    for owner in {being.owner for being in actor.beings() if being.owner}:
        mine = [being for being in actor.beings() if being.owner == owner]
        for licensed in (True, False):
            pool = [being for being in mine if (being.source == LICENSED) == licensed]
            assert len({places(actor)[being.id] for being in pool}) <= 1


def test_a_sample_lies_where_it_does_whoever_else_is_there() -> None:
    assignment = Assignment(isolated(64), seed=3)
    alone = [assignment.shard_of(Sample(SampleId(f"s{n}"), "label")) for n in range(500)]
    again = [assignment.shard_of(Sample(SampleId(f"s{n}"), "other")) for n in range(499, -1, -1)]
    assert alone == again[::-1]
    assert len(set(alone)) == 64


def test_an_owner_and_a_sample_of_one_name_are_two() -> None:
    assignment = Assignment(isolated(1009), seed=0)
    pairs = [
        (
            assignment.shard_of(Sample(SampleId(f"n{n}"), "label")),
            assignment.shard_of(Sample(SampleId("x"), "label", OwnerId(f"n{n}"))),
        )
        for n in range(50)
    ]
    assert sum(first == second for first, second in pairs) < 5
