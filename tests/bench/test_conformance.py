"""What every method of the catalogue must hold, whatever it does inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardgraph.bench.data import BenchData, Part, accuracy
from shardgraph.bench.methods.catalogue import FAMILIES, Spec, Tuned, build
from shardgraph.bench.methods.protocol import Method, predict
from shardgraph.bench.methods.sharded import Memory

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
GONE = [5, 40, 41, 77]


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
    for row in GONE[:2]:
        model.forget([row])
    model.forget(GONE[2:])
    fresh = method.fit(data.train, np.setdiff1d(every(data), GONE))
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
    work = method_of(spec).fit(data.train, every(data)).forget([GONE[0]])
    assert work.samples > 0
    assert work.passes >= 0
    if spec.family == "unsharded":
        assert work.samples == (spec.nodes or 1) * (len(data.train) - 1)
        assert work.passes == work.samples * TUNED.recipe(1).epochs


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
        if method.guarantee == "refit":
            fresh = method.fit(data.train, np.setdiff1d(live, last))
            assert model.digest() == fresh.digest(), spec.title


def test_memory_changes_no_bit(data: BenchData, tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    for spec in (Spec("sisa", shards=4), Spec("safe-tallies", shards=4, tallies="all")):
        for train in (data.train, data.train, with_other_tokens(data.train)):
            shared = build(spec, TUNED, 0, memory).fit(train, every(data))
            assert shared.digest() == method_of(spec).fit(train, every(data)).digest()


def test_seeds_matter(data: BenchData) -> None:
    for spec in SPECS:
        digests = {method_of(spec, seed).fit(data.train, every(data)).digest() for seed in (0, 1)}
        assert len(digests) == (2 if spec.seeded else 1), spec.title
