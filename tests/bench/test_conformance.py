"""What every method of the catalogue must hold, whatever it does inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardgraph.bench.data import BenchData, Part, accuracy
from shardgraph.bench.methods.catalogue import FAMILIES, Spec, Tuned, build
from shardgraph.bench.methods.protocol import Method, Work, predict
from shardgraph.bench.methods.sharded import Memory, ShardedModel
from shardgraph.bench.methods.sliced import S3TModel, SlicedSisa, Slices

RECIPE = {"heads": 4, "value_width": 16, "epochs": 3, "batch_size": 8, "learning_rate": 0.003}
TUNED = Tuned(adapter={"1": RECIPE})
SPECS = [
    Spec("unsharded"),
    Spec("unsharded", nodes=2),
    Spec("sisa", shards=4),
    Spec("sisa", shards=4, vote="mean"),
    Spec("sisa-sliced", shards=2, slices=3),
    Spec("proto-sisa", shards=4),
    Spec("s3t", shards=2, slices=3, sequences=2),
    Spec("safe", shards=4, graph="cliques:2"),
    Spec("safe", shards=4, graph="ring:2"),
    Spec("safe", shards=4, graph="hub:1"),
    Spec("safe", shards=4, graph="random:2"),
    Spec("safe-tallies", shards=4, tallies="own"),
    Spec("safe-tallies", shards=4, tallies="all", representation="trained"),
    Spec("safe-tallies", shards=8, nodes=4, tallies="all-but:4"),
    Spec("tallied", shards=8, nodes=8),
    Spec("ridge"),
    Spec("means"),
    Spec("neighbours"),
    Spec("probe"),
]
GONE, TOGETHER = [5, 77], [3, 12, 40, 41, 58, 63]


def method_of(spec: Spec, seed: int = 0) -> Method:
    return build(spec, TUNED, seed)


def every(data: BenchData) -> np.ndarray:
    return np.arange(len(data.train))


def with_other_tokens(train: Part) -> Part:
    """The same samples, with other activations of those that go."""
    tokens = train.tokens.copy()
    tokens[GONE] = -tokens[GONE]
    return Part(train.samples, tokens)


def test_every_family_is_here() -> None:
    assert {spec.family for spec in SPECS} == set(FAMILIES)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.title)
def test_it_learns_and_predicts_over_all_classes(spec: Spec, data: BenchData) -> None:
    model = method_of(spec).fit(data.train, every(data))
    found = predict(model, data.test.tokens)
    assert found is not None
    assert found.shape == (len(data.test), len(data.classes))
    assert np.isfinite(found).all()
    assert accuracy(data.test, data.classes, found) > 0.5


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.title)
def test_an_exact_method_is_a_fresh_fit_after_forgetting(spec: Spec, data: BenchData) -> None:
    method = method_of(spec)
    model = method.fit(data.train, every(data))
    before = model.digest()
    for row in GONE:
        model.forget([row])
    model.forget(TOGETHER)
    fresh = method.fit(data.train, np.setdiff1d(every(data), GONE + TOGETHER))
    assert model.digest() != before
    if method.guarantee == "refit":
        assert model.digest() == fresh.digest()
        ours, theirs = predict(model, data.test.tokens), predict(fresh, data.test.tokens)
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert spec.family == "s3t", "a method that is not exact must be known to be so"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.title)
def test_the_answer_while_forgetting_does_not_depend_on_what_goes(
    spec: Spec, data: BenchData
) -> None:
    """The rows are replaced by others of their ids: what can answer already must not care."""
    method = method_of(spec)
    changed = with_other_tokens(data.train)
    ours = predict(method.fit(data.train, every(data)), data.test.tokens, GONE)
    theirs = predict(method.fit(changed, every(data)), data.test.tokens, GONE)
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.title)
def test_a_deletion_says_what_it_took(spec: Spec, data: BenchData) -> None:
    method = method_of(spec)
    work = method.fit(data.train, every(data)).forget([GONE[0]])
    left = len(data.train) - 1
    match spec.family:
        case "ridge" | "means":
            assert work == Work(1, 1)
        case "neighbours" | "s3t":
            assert work == Work(1, 0)
        case "probe":
            assert work.samples == left
            assert work.passes > left
            assert work.passes % left == 0
        case "unsharded":
            assert work.samples == (spec.nodes or 1) * left
            assert work.passes == work.samples * TUNED.recipe(1).epochs
        case "sisa" | "safe":
            assert work.samples > 0
            assert work.passes == work.samples * TUNED.recipe(spec.shards).epochs
        case "sisa-sliced":
            assert isinstance(method, SlicedSisa)
            live = np.setdiff1d(every(data), GONE[0])
            slices = Slices(data.train, live, spec.shards, spec.slices, 0)
            shard, hit = slices.place[GONE[0]]
            sizes = np.cumsum([len(rows) for rows in slices.rows[shard]])
            assert work == Work(sizes[-1], sum(sizes[hit:]) * method.stage_recipe.epochs)
        case _:
            assert 0 < work.samples <= work.passes


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.title)
def test_shards_and_slices_may_run_empty(spec: Spec, data: BenchData) -> None:
    method = method_of(spec)
    few = every(data)[:6]
    model = method.fit(data.train, few)
    for row in few[:4]:
        model.forget([int(row)])
    fresh = method.fit(data.train, few[4:])
    for found in (predict(model, data.test.tokens), predict(fresh, data.test.tokens)):
        assert found is not None or method.guarantee == "removed"
        assert found is None or np.isfinite(found).all()
    if method.guarantee == "refit":
        assert model.digest() == fresh.digest()


def test_a_last_sample_takes_its_class_along(data: BenchData) -> None:
    labels = np.array(data.train.labels)
    last = np.flatnonzero(labels == data.classes[0])
    live = np.setdiff1d(every(data), last[1:])
    for spec in SPECS:
        method = method_of(spec)
        model = method.fit(data.train, live)
        model.forget([int(last[0])])
        found = predict(model, data.test.tokens)
        assert found is not None, spec.title
        assert (found.argmax(axis=1) != 0).all(), spec.title
        if spec.family not in ("ridge", "means", "proto-sisa"):
            assert not found[:, 0].any(), spec.title
        if method.guarantee == "refit":
            fresh = method.fit(data.train, np.setdiff1d(live, last))
            assert model.digest() == fresh.digest(), spec.title


def test_shards_answer_as_the_package_does(data: BenchData) -> None:
    """Where some of them do not know every class."""
    rare = np.flatnonzero(np.array(data.train.labels) == data.classes[0])
    live = np.setdiff1d(every(data), rare[1:])
    for spec in (Spec("sisa", shards=4), Spec("safe-tallies", shards=4, tallies="own")):
        model = method_of(spec).fit(data.train, live)
        assert isinstance(model, ShardedModel)
        found, said = predict(model, data.test.tokens), model._answering()
        assert found is not None
        np.testing.assert_allclose(found, said.predict_proba(data.test.tokens), atol=1e-6)


def test_memory_changes_no_bit(data: BenchData, tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    sisa, cliques = Spec("sisa", shards=4), Spec("safe", shards=4, graph="cliques:2")
    labels = data.train.labels
    shifted = zip(data.train.samples, (*labels[1:], labels[0]), strict=True)
    renamed = Part(tuple(replace(one, label=label) for one, label in shifted), data.train.tokens)
    longer = Tuned(adapter={"1": {**RECIPE, "epochs": 4}})
    cases = [
        (sisa, TUNED, data.train),
        (sisa, TUNED, data.train),
        (cliques, TUNED, data.train),
        (cliques, TUNED, data.train),
        (Spec("safe-tallies", shards=4, tallies="all"), TUNED, data.train),
        (sisa, TUNED, with_other_tokens(data.train)),
        (sisa, TUNED, renamed),
        (sisa, longer, data.train),
    ]
    for spec, tuned, train in cases:
        shared = build(spec, tuned, 0, memory).fit(train, every(data))
        assert shared.digest() == build(spec, tuned, 0).fit(train, every(data)).digest()


def test_seeds_matter(data: BenchData) -> None:
    for spec in SPECS:
        digests = {method_of(spec, seed).fit(data.train, every(data)).digest() for seed in (0, 1)}
        assert len(digests) == (2 if spec.seeded else 1), spec.title


def test_a_slice_that_holds_nothing_ends_no_sequence(data: BenchData) -> None:
    method = method_of(Spec("s3t", shards=1, slices=3, sequences=3))
    places = Slices(data.train, every(data), 1, 3, 0).place
    live = np.array([row for row, (_, number) in enumerate(places) if number != 1])
    model = method.fit(data.train, live)
    assert isinstance(model, S3TModel)
    assert model.longest() == [2]
    row = next(row for row in live if places[row][1] == 0)
    model.forget([int(row)])
    assert model.longest() == [1]
    found = predict(model, data.test.tokens)
    assert found is not None
    assert accuracy(data.test, data.classes, found) > 0.5
