"""Promise 1: a node's bytes depend on its recipe, the samples it reads and the encoder, alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.actor import Actor
from harness.directory import influence_files
from harness.world import TOPOLOGIES, World


def nodes_of(actor: Actor) -> dict[int, bytes]:
    """The bytes of every node."""
    return {
        int(name.split("/")[1][:5]): data
        for name, data in influence_files(actor.path).items()
        if name.startswith("nodes/")
    }


@pytest.mark.parametrize("topology", [name for name in TOPOLOGIES if name != "complete"])
def test_nodes_that_do_not_read_a_shard_keep_every_byte(topology: str, directory: Path) -> None:
    actor = Actor(World(2), topology, directory)
    actor.fit(actor.world.ids[:24])
    before = nodes_of(actor)
    shards = {being.id: actor.reference.shard_of(being) for being in actor.beings()}
    name = max(shards, key=lambda name: (shards[name], name))
    actor.forget(samples=[name])
    readers = {n for n, reads in enumerate(actor.reference.reads) if shards[name] in reads}
    readers -= actor.reference.drawn
    after = nodes_of(actor)
    untouched = set(before) - readers
    assert untouched
    assert {node: after[node] for node in untouched} == {node: before[node] for node in untouched}
    assert all(after.get(node) != before[node] for node in readers & set(before))
    actor.close()


def test_a_node_is_the_same_in_graphs_that_differ_elsewhere(directory: Path) -> None:
    """Node 0 of ``custom`` and of ``ring:3`` read other shards; node 5 of both is its own."""
    bytes_of = []
    for topology in ("isolated", "complete"):
        (directory / topology).mkdir()
        actor = Actor(World(3), topology, directory / topology)
        only = actor.reference.contents(dict.fromkeys(actor.world.ids, 0))[2]
        actor.fit([being.id for being in only])
        bytes_of.append(nodes_of(actor))
        actor.close()
    isolated, complete = bytes_of
    assert set(isolated) == set(complete) == {2}
    assert isolated == complete


def test_a_class_that_goes_elsewhere_leaves_a_node_alone(directory: Path) -> None:
    actor = Actor(World(4), "isolated", directory)
    actor.fit(actor.world.ids[:24])
    contents = actor.reference.contents(actor.live)
    labels = [{being.label for being in held} for held in contents]
    found = next(
        (shard, label)
        for shard, known in enumerate(labels)
        for label in sorted(set().union(*labels))
        if contents[shard] and label not in known
    )
    before = nodes_of(actor)[found[0]]
    actor.forget(samples=[being.id for being in actor.beings() if being.label == found[1]])
    assert found[1] not in actor.model.classes
    assert nodes_of(actor)[found[0]] == before
    actor.close()


def test_what_a_node_reads_does_not_depend_on_what_is_fitted_with_it(actor: Actor) -> None:
    """A refit of few nodes gives the bytes that a fit of all gave."""
    before = nodes_of(actor)
    extra = dict.fromkeys(actor.absent()[:1], 0)
    actor.add(extra)
    actor.forget(samples=extra)
    assert nodes_of(actor) == before
