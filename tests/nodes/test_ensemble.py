"""Nodes with different classes answer together, and any of them can be left out."""

from __future__ import annotations

import numpy as np
import pytest

from shardgraph.errors import UsageError
from shardgraph.nodes import adapter, ensemble
from shardgraph.nodes.ensemble import Ensemble, combine
from shardgraph.nodes.recipe import KINDS, Recipe
from shardgraph.nodes.weights import NodeWeights

CLASSES = tuple(f"c{i:02d}" for i in range(20))
WIDTH = 13


def _node(number: int, classes: tuple[str, ...], kind: str = "inca") -> NodeWeights:
    recipe = Recipe(kind=kind, heads=2, value_width=16)
    arrays = adapter.initialise(recipe, number, WIDTH, len(classes))
    generator = np.random.default_rng(number)
    arrays["weight"] = generator.standard_normal(arrays["weight"].shape).astype(np.float32)
    return NodeWeights(number, kind, classes, arrays)


def _nodes(kind: str = "inca") -> list[NodeWeights]:
    lists = [CLASSES, CLASSES[3:9], CLASSES[:1], CLASSES[::2], CLASSES[1::3], CLASSES[:17]]
    return [_node(10 + i, classes, kind) for i, classes in enumerate(lists)]


def _tokens(rows: int = 9) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 4, WIDTH)).astype(np.float16)


@pytest.mark.parametrize("kind", KINDS)
def test_each_node_speaks_for_its_classes_only(kind: str) -> None:
    nodes = _nodes(kind)
    together = Ensemble(nodes, CLASSES)
    found = together.node_probabilities(_tokens())
    assert found.shape == (6, 9, 20)
    assert found.dtype == np.float32
    assert (found[~together.known[:, None].repeat(9, 1)] == 0).all()
    np.testing.assert_allclose(found.sum(2), 1, atol=1e-6)
    for i, node in enumerate(nodes):
        assert tuple(np.array(CLASSES)[together.known[i]]) == node.classes
        alone = Ensemble([node], node.classes).node_probabilities(_tokens())[0]
        np.testing.assert_allclose(found[i][:, together.known[i]], alone, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_whatever_is_left_out(kind: str) -> None:
    together = Ensemble(_nodes(kind), CLASSES)
    for without in [(), (10,), (10, 15), (10, 11, 13, 14, 15), (99,)]:
        found = together.predict_proba(_tokens(), without=without)
        assert found.dtype == np.float32
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_leaving_nodes_out_is_as_if_they_were_not_there() -> None:
    nodes = _nodes()
    together = Ensemble(nodes, CLASSES)
    for without in [{10}, {11, 15}, {10, 12, 13, 14}]:
        rest = Ensemble([node for node in nodes if node.node not in without], CLASSES)
        np.testing.assert_allclose(
            together.predict_proba(_tokens(), without=without),
            rest.predict_proba(_tokens()),
            atol=1e-6,
        )


def test_a_node_left_out_has_no_influence_at_all() -> None:
    nodes = _nodes()
    poisoned = {name: np.full_like(array, 7e7) for name, array in nodes[3].arrays.items()}
    other = [*nodes[:3], NodeWeights(13, "inca", nodes[3].classes, poisoned), *nodes[4:]]
    np.testing.assert_array_equal(
        Ensemble(nodes, CLASSES).predict_proba(_tokens(), without=[13]),
        Ensemble(other, CLASSES).predict_proba(_tokens(), without=[13]),
    )


def test_leaving_nodes_out_changes_no_bit_of_the_others() -> None:
    together = Ensemble(_nodes(), CLASSES)
    every = together.node_probabilities(_tokens())
    fenced = together._probabilities(_tokens(), frozenset({13}))
    np.testing.assert_array_equal(np.delete(fenced, 3, 0), np.delete(every, 3, 0))


def test_rows_cut_to_fit_memory_answer_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Ensemble(_nodes(), CLASSES)
    expected = together.predict_proba(_tokens())
    monkeypatch.setattr(ensemble, "POOLED_BYTES", 1)
    monkeypatch.setattr(ensemble, "VOTE_BYTES", 4 * 8 * 6 * 20)
    np.testing.assert_allclose(together.predict_proba(_tokens()), expected, atol=1e-6)


def test_no_rows_give_no_answers() -> None:
    assert Ensemble(_nodes(), CLASSES).predict_proba(_tokens(0)).shape == (0, 20)


def test_nobody_left_is_an_error_that_says_so() -> None:
    with pytest.raises(UsageError, match="No node can answer"):
        Ensemble(_nodes(), CLASSES).predict_proba(_tokens(), without=range(10, 16))
    with pytest.raises(UsageError, match="No node can answer"):
        Ensemble([], CLASSES).predict_proba(_tokens())


def test_what_does_not_fit_is_refused() -> None:
    nodes = _nodes()
    with pytest.raises(UsageError, match="sorted and unique"):
        Ensemble(nodes, CLASSES[::-1])
    with pytest.raises(UsageError, match="two weights of one node"):
        Ensemble([nodes[0], nodes[0]], CLASSES)
    with pytest.raises(UsageError, match="Node 10 knows classes"):
        Ensemble(nodes, CLASSES[:-1])
    with pytest.raises(UsageError, match=r"\[B, T, 13\]"):
        Ensemble(nodes, CLASSES).predict_proba(np.zeros((2, 4, 12), np.float16))


def _random_votes(known: np.ndarray, rows: int = 4) -> np.ndarray:
    votes = np.random.default_rng(0).random((len(known), rows, known.shape[1])) ** 4
    votes *= known[:, None]
    return votes / votes.sum(2, keepdims=True)


def _say(votes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Divergence of each vote from uniform, one node and row at a time."""
    uniform = 1 / known.sum(1)
    return np.array(
        [
            [sum(p * np.log(p / level) for p in row if p > 0) for row in node]
            for node, level in zip(votes, uniform, strict=True)
        ]
    )


def test_combining_full_knowledge_is_the_weighted_mean() -> None:
    known = np.ones((5, 7), bool)
    votes = _random_votes(known)
    say = _say(votes, known)[:, :, None]
    expected = (votes * say).sum(0) / say.sum(0)
    np.testing.assert_allclose(combine(votes, known), expected, atol=1e-6)


def test_combining_recovers_a_distribution_from_its_restrictions() -> None:
    truth = np.array([[0.5, 0.3, 0.1, 0.06, 0.04], [0.1, 0.1, 0.2, 0.2, 0.4]])
    known = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], bool)
    votes = truth[None] * known[:, None]
    votes /= votes.sum(2, keepdims=True)
    np.testing.assert_allclose(combine(votes, known), truth, atol=1e-2)


def _divergence(found: np.ndarray, votes: np.ndarray, known: np.ndarray) -> float:
    total = 0.0
    for own, say, classes in zip(votes, _say(votes, known), known, strict=True):
        restricted = found[:, classes] / found[:, classes].sum(1, keepdims=True)
        each = (own[:, classes] * np.log(own[:, classes] / restricted)).sum(1)
        total += float((say * each).sum())
    return total


def test_combining_minimises_the_divergence() -> None:
    generator = np.random.default_rng(2)
    known = generator.random((12, 6)) < 0.6
    known[:, 0] = True
    votes = _random_votes(known)
    found = combine(votes, known).astype(np.float64)
    least = _divergence(found, votes, known)
    for _ in range(50):
        other = found * np.exp(0.1 * generator.standard_normal(found.shape))
        assert _divergence(other, votes, known) > least - 1e-6


def test_undecided_nodes_have_little_say() -> None:
    known = np.ones((3, 4), bool)
    undecided = np.full((1, 4), 0.25)
    sure = np.array([[0.97, 0.01, 0.01, 0.01]])
    assert combine(np.stack([undecided, undecided, sure]), known)[0, 0] > 0.96
    everyone = combine(np.stack([undecided] * 3), known)
    np.testing.assert_allclose(everyone, undecided, atol=1e-6)


def test_nodes_that_know_one_class_leave_the_answer_to_the_others() -> None:
    known = np.array([[True, False, False], [True, True, True]])
    votes = np.array([[[1.0, 0, 0]], [[0.1, 0.2, 0.7]]])
    np.testing.assert_allclose(combine(votes, known)[0], votes[1, 0], atol=1e-4)


def test_one_row_does_not_depend_on_the_others() -> None:
    known = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1]], bool)
    votes = _random_votes(known, rows=6)
    alone = np.concatenate([combine(votes[:, i : i + 1], known) for i in range(6)])
    np.testing.assert_allclose(combine(votes, known), alone, atol=1e-6)


def test_classes_that_nobody_knows_get_nothing() -> None:
    known = np.array([[True, True, False], [True, False, False]])
    found = combine(_random_votes(known), known)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_what_an_earlier_ensemble_stacked_is_taken_over_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [_node(number, CLASSES) for number in range(3 * ensemble.NEIGHBOURS)]
    before = Ensemble(nodes, CLASSES)
    renewed = [*nodes[:5], _node(99, CLASSES[:17]), *nodes[6:]]
    renewed[5] = NodeWeights(5, "inca", renewed[5].classes, renewed[5].arrays)
    stacked: list[int] = []
    real = adapter.stack

    def counting(kind: str, arrays: list) -> adapter.Adapter:
        stacked.append(len(arrays))
        return real(kind, arrays)

    monkeypatch.setattr(adapter, "stack", counting)
    after = Ensemble(renewed, CLASSES, like=before)
    assert sum(stacked) == ensemble.NEIGHBOURS
    anew = Ensemble(renewed, CLASSES).node_probabilities(_tokens())
    assert after.node_probabilities(_tokens()).tobytes() == anew.tobytes()
    assert (
        after.node_probabilities(_tokens()).tobytes()
        != before.node_probabilities(_tokens()).tobytes()
    )
