"""A plan says who is refitted, dropped and subtracted from, and what that takes; nothing runs."""

from __future__ import annotations

from shardgraph.forgetting.plan import Speed, plan_change
from shardgraph.graph.shard_graph import Node, ShardGraph

GRAPH = ShardGraph(
    3,
    (
        Node(0, (0, 1), (0, 1, 2)),
        Node(1, (1,), (1,)),
        Node(2, (2,)),
        Node(None, (), (1, 2)),
        Node(None, (), (1,)),
    ),
)
BEFORE = (4, 1, 5)


def test_readers_are_refitted_and_those_who_only_tally_subtract() -> None:
    plan = plan_change(GRAPH, BEFORE, {2: 2}, epochs=3)
    assert (plan.samples, plan.shards, plan.emptied) == (2, (2,), ())
    assert (plan.refit, plan.dropped, plan.subtract) == ((2,), (), (0, 3))
    assert plan.fenced == (0, 2, 3)
    assert (plan.samples_refit, plan.distinct_samples, plan.passes) == (3, 3, 9)
    assert plan.predicted_seconds is None


def test_an_emptied_shard_takes_its_nodes_and_those_who_tally_nothing_else() -> None:
    plan = plan_change(GRAPH, BEFORE, {1: 1}, epochs=1)
    assert plan.emptied == (1,)
    assert (plan.refit, plan.dropped, plan.subtract) == ((0,), (1, 4), (3,))
    assert plan.samples_refit == plan.distinct_samples == 4
    assert plan.to_json()["fenced"] == [0, 1, 3, 4]


def test_a_sample_that_two_nodes_read_is_counted_twice_and_distinct_once() -> None:
    both = ShardGraph(2, (Node(0, (0, 1)), Node(1, (0, 1))))
    plan = plan_change(both, (3, 3), {0: 1}, epochs=1)
    assert (plan.samples_refit, plan.distinct_samples) == (10, 5)


def test_a_node_that_does_not_exist_is_not_concerned() -> None:
    plan = plan_change(GRAPH, (4, 0, 5), {2: 1}, epochs=1)
    assert (plan.refit, plan.dropped, plan.subtract) == ((2,), (), (0, 3))


def test_the_forecast_is_the_speed_of_the_last_fit() -> None:
    plan = plan_change(GRAPH, BEFORE, {2: 2}, epochs=3, speed=Speed(0.5, 2.0))
    assert plan.predicted_seconds == 9 * 0.5 + 1 * 2.0


def test_nothing_removed_concerns_nobody() -> None:
    plan = plan_change(GRAPH, BEFORE, {2: 0}, epochs=3)
    assert (plan.shards, plan.fenced, plan.passes) == ((), (), 0)
