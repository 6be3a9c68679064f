"""A node's bytes depend on its recipe, seed, rows and labels, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from shardgraph.errors import UsageError
from shardgraph.nodes import train as training
from shardgraph.nodes.recipe import KINDS, Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import NodeWeights, to_bytes

FAST = Recipe(heads=2, value_width=16, epochs=2, batch_size=16)


def _job(node: int, samples: int, classes: int, *, tokens: int = 5, width: int = 24) -> Job:
    generator = np.random.default_rng(node)
    array = generator.standard_normal((samples + 2, tokens, width)).astype(np.float16)
    labels = tuple(f"class {i % classes}" for i in range(samples))
    rows = TokenRows.of([(array, generator.permutation(samples + 2)[:samples])])
    return Job(node, node + 100, rows, labels)


def _digests(weights: Sequence[NodeWeights]) -> list[str]:
    return [hashlib.sha256(to_bytes(node)).hexdigest() for node in weights]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (3, 13), (5, 24), (49, 40)])
def test_alone_and_together_give_the_same_bits(kind: str, tokens: int, width: int) -> None:
    recipe = Recipe(kind=kind, heads=3, value_width=16, epochs=2, batch_size=16)
    shapes = [(1, 1), (3, 2), (5, 5), (8, 7), (9, 3), (16, 9), (17, 15), (17, 17), (31, 19)]
    jobs = [
        _job(2 * i + copy, samples, classes, tokens=tokens, width=width)
        for i, (samples, classes) in enumerate(shapes)
        for copy in range(2)
    ]
    together = _digests(train(jobs, recipe, workers=1))
    assert together == [_digests(train([job], recipe, workers=1))[0] for job in jobs]
    assert len(set(together)) == len(jobs)


def test_the_default_recipe_gives_the_same_bits_alone_and_together() -> None:
    recipe = Recipe(epochs=2)
    jobs = [_job(i, 23, 11 + i, tokens=49, width=320) for i in range(5)]
    together = _digests(train(jobs, recipe, workers=1))
    assert _digests(train(jobs, recipe, stacked=False)) == together


def test_order_workers_and_threads_do_not_matter() -> None:
    jobs = [_job(i, 20 + i % 3, 4 + i % 5) for i in range(12)]
    expected = _digests(train(jobs, FAST, workers=1))
    assert _digests(train(jobs[::-1], FAST, workers=3))[::-1] == expected
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert _digests(train(jobs, FAST)) == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_where_a_stack_is_cut_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [_job(i, 16, 6) for i in range(7)]
    expected = _digests(train(jobs, FAST, workers=1))
    for most in (1, 2, 3, 5):
        monkeypatch.setattr(training, "STACK_BYTES", most * 16 * 5 * 32 * 4)
        assert _digests(train(jobs, FAST, workers=1)) == expected


def test_randomness_comes_from_the_seed_alone() -> None:
    job = _job(1, 20, 4)
    torch.manual_seed(1)
    first = _digests(train([job], FAST))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert _digests(train([job], FAST)) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert _digests(train([Job(1, 9, job.rows, job.labels)], FAST)) != first


def test_callers_gradient_mode_and_default_dtype_do_not_matter() -> None:
    job = _job(1, 20, 4)
    expected = _digests(train([job], FAST))
    with torch.inference_mode():
        assert _digests(train([job], FAST)) == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert _digests(train([job], FAST)) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_node_number_is_not_part_of_the_bytes() -> None:
    job = _job(1, 20, 4)
    assert _digests(train([Job(8, job.seed, job.rows, job.labels)], FAST)) == _digests(
        train([job], FAST)
    )


def test_every_sample_and_label_matters() -> None:
    job = _job(1, 20, 4)
    expected = _digests(train([job], FAST))[0]
    array = job.rows.gather(np.arange(20))
    for changed in (0, 7, 19):
        other = array.copy()
        other[changed] += 0.01
        rows = TokenRows.of([(other, np.arange(20))])
        assert _digests(train([Job(1, job.seed, rows, job.labels)], FAST))[0] != expected
    labels = (job.labels[1], *job.labels[1:])
    assert _digests(train([Job(1, job.seed, job.rows, labels)], FAST))[0] != expected


def test_samples_that_are_not_read_do_not_matter() -> None:
    job = _job(1, 20, 4)
    copied = TokenRows.of([(job.rows.gather(np.arange(20)), np.arange(20))])
    assert _digests(train([job], FAST)) == _digests(
        train([Job(1, job.seed, copied, job.labels)], FAST)
    )


def test_each_sample_is_seen_once_per_epoch() -> None:
    nodes = [training._prepare(_job(i, 37, 4), FAST) for i in range(2)]
    batches = training._Batches(nodes, FAST)
    orders = []
    for epoch in range(2):
        batches.shuffle(epoch)
        for dealt in batches._dealt:
            orders.append(np.concatenate(dealt).tolist())
            assert {len(step) for step in dealt} == {12, 13}
    assert all(sorted(order) == list(range(37)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 6
    centres = generator.standard_normal((6, 1, 32))
    array = (centres[labels] + 0.5 * generator.standard_normal((60, 4, 32))).astype(np.float32)
    job = Job(0, 1, TokenRows.of([(array, np.arange(60))]), tuple(str(i) for i in labels))
    from shardgraph.nodes.ensemble import Ensemble

    weights = train([job], Recipe(kind=kind, heads=2, value_width=16))
    found = Ensemble(weights, [str(i) for i in range(6)]).predict_proba(array)
    assert (found.argmax(1) == labels).all()


def test_one_class_is_certain() -> None:
    weights = train([_job(0, 5, 1)], FAST)[0]
    assert weights.classes == ("class 0",)
    assert all(np.isfinite(array).all() for array in weights.arrays.values())


def test_progress_counts_nodes() -> None:
    seen: list[tuple[int, int]] = []
    train([_job(i, 5, 2) for i in range(4)], FAST, progress=lambda *step: seen.append(step))
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)
    assert train([], FAST) == []


def test_an_exception_stops_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []
    shuffle = training._Batches.shuffle

    def counted(batches: training._Batches, epoch: int) -> None:
        epochs.append(epoch)
        shuffle(batches, epoch)

    def refuse(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training._Batches, "shuffle", counted)
    jobs = [_job(1, 5, 2), _job(2, 600, 2)]
    with pytest.raises(KeyboardInterrupt):
        train(jobs, replace(FAST, epochs=20), workers=2, progress=refuse)
    assert 20 < len(epochs) < 40


def test_empty_and_mismatched_jobs_are_refused() -> None:
    rows = _job(0, 3, 1).rows
    with pytest.raises(UsageError, match="reads no samples"):
        Job(0, 0, rows, ())
    with pytest.raises(UsageError, match="3 rows but 2 labels"):
        Job(0, 0, rows, ("a", "b"))
