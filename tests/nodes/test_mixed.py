"""Nodes of both kinds in one ensemble, and nodes that answer through two heads."""

from __future__ import annotations

import numpy as np
import pytest

from shardgraph.errors import UsageError
from shardgraph.nodes.closed_form import HeadRule, solve
from shardgraph.nodes.discriminant import discriminant_projection
from shardgraph.nodes.ensemble import Ensemble, combine
from shardgraph.nodes.mixed import MixedEnsemble, TalliedNode, blend
from shardgraph.nodes.projection import Projection, random_projection, trained_projection
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tally import tally_all
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import NodeWeights

WIDTH, CLASSES = 32, ("a", "b", "c", "d")
RNG = np.random.default_rng(3)
NUMBERS = np.arange(80) % 4
CENTRES = RNG.standard_normal((4, 1, WIDTH)) * 2
TOKENS = (CENTRES[NUMBERS] + RNG.standard_normal((80, 5, WIDTH))).astype(np.float16)
LABELS = tuple(CLASSES[number] for number in NUMBERS)
ROWS = TokenRows.of([(TOKENS, np.arange(80))])
RECIPE = Recipe(heads=2, value_width=16, epochs=4, learning_rate=1e-2)
SHAPE = {"heads": 4, "value_width": 8, "sharpness": 1.0}


@pytest.fixture(scope="module")
def adapter() -> NodeWeights:
    """An adapter that has seen two classes of the four."""
    kept = np.flatnonzero(NUMBERS < 2)
    labels = tuple(LABELS[row] for row in kept)
    return train([Job(7, 1, TokenRows.of([(TOKENS, kept)]), labels)], RECIPE)[0]


def tallied(node: int, projection: Projection, adapter: NodeWeights | None = None) -> TalliedNode:
    tally = tally_all([projection], ROWS, LABELS)[0]
    return TalliedNode(node, projection, solve(tally, HeadRule()), adapter)


def both_heads(adapter: NodeWeights) -> TalliedNode:
    projection = trained_projection(adapter.arrays["attention"], adapter.arrays["values"])
    return tallied(7, projection, adapter)


def test_a_blend_moves_nothing_between_what_the_softmax_head_knows_and_the_rest() -> None:
    closed = np.array([[[0.4, 0.2, 0.3, 0.1]]], np.float32)
    softmax = np.array([[[0.9, 0.1, 0.0, 0.0]]], np.float32)
    known = np.array([[True, True, False, False]])
    found = blend(closed, softmax, known, 0.5)
    assert np.allclose(found, [[[0.47, 0.13, 0.3, 0.1]]])
    assert np.array_equal(blend(closed, softmax, known, 0.0), closed)
    assert np.allclose(blend(closed, softmax, known, 1.0), [[[0.54, 0.06, 0.3, 0.1]]])


def test_a_node_with_two_heads_says_the_blend_of_both(adapter: NodeWeights) -> None:
    node = both_heads(adapter)
    mixed = MixedEnsemble([], [node], CLASSES, softmax_weight=0.25)
    closed = MixedEnsemble([], [node], CLASSES).node_probabilities(TOKENS)
    alone = Ensemble([adapter], CLASSES)
    expected = blend(closed, alone.node_probabilities(TOKENS), alone.known, 0.25)
    assert mixed.nodes == (7,)
    assert mixed.node_probabilities(TOKENS).tobytes() == expected.tobytes()
    assert np.allclose(expected.sum(axis=2), 1, atol=1e-5)
    assert expected.tobytes() != closed.tobytes()


def test_all_kinds_answer_in_one_ensemble_and_alike_alone(adapter: NodeWeights) -> None:
    members = [
        tallied(1, random_projection(1, width=WIDTH, **SHAPE)),  # type: ignore[arg-type]
        tallied(2, discriminant_projection(2, ROWS, LABELS, **SHAPE)),  # type: ignore[arg-type]
        both_heads(adapter),
    ]
    plain = NodeWeights(9, adapter.kind, adapter.classes, dict(adapter.arrays))
    together = MixedEnsemble([plain], members, CLASSES, softmax_weight=0.5)
    said = dict(zip(together.nodes, together.node_probabilities(TOKENS), strict=True))
    assert set(said) == {1, 2, 7, 9}
    for member in members:
        alone = MixedEnsemble([], [member], CLASSES, softmax_weight=0.5)
        assert alone.node_probabilities(TOKENS)[0].tobytes() == said[member.node].tobytes()
    kept = [place for place, node in enumerate(together.nodes) if node not in (7, 9)]
    votes = together.node_probabilities(TOKENS)[kept]
    expected = combine(votes, together.known[kept])
    assert together.predict_proba(TOKENS, without=(7, 9)).tobytes() == expected.tobytes()


def test_an_earlier_ensemble_saves_work_and_changes_no_bit(adapter: NodeWeights) -> None:
    members = [
        tallied(node, random_projection(node, width=WIDTH, **SHAPE))  # type: ignore[arg-type]
        for node in range(3)
    ]
    first = MixedEnsemble([], members, CLASSES)
    for now in (members, members[1:]):
        again = MixedEnsemble([], now, CLASSES, like=first)
        fresh = MixedEnsemble([], now, CLASSES)
        assert again.predict_proba(TOKENS).tobytes() == fresh.predict_proba(TOKENS).tobytes()


def test_a_node_left_out_has_no_influence() -> None:
    members = [
        tallied(node, random_projection(node, width=WIDTH, **SHAPE))  # type: ignore[arg-type]
        for node in range(3)
    ]
    without = MixedEnsemble([], members, CLASSES).predict_proba(TOKENS, without=[1])
    never = MixedEnsemble([], [members[0], members[2]], CLASSES).predict_proba(TOKENS)
    assert without.tobytes() == never.tobytes()


def test_a_class_that_a_node_never_tallied_gets_nothing_from_it() -> None:
    projection = random_projection(1, width=WIDTH, **SHAPE)  # type: ignore[arg-type]
    kept = np.flatnonzero(NUMBERS < 2)
    rows, labels = TokenRows.of([(TOKENS, kept)]), [LABELS[row] for row in kept]
    head = solve(tally_all([projection], rows, labels)[0], HeadRule())
    ensemble = MixedEnsemble([], [TalliedNode(1, projection, head)], CLASSES)
    assert not ensemble.node_probabilities(TOKENS)[..., 2:].any()


def test_somebody_must_be_left_to_answer() -> None:
    node = tallied(0, random_projection(0, width=WIDTH, **SHAPE))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="No node can answer"):
        MixedEnsemble([], [node], CLASSES).predict_proba(TOKENS, without=[0])
    with pytest.raises(UsageError, match="not listed"):
        MixedEnsemble([], [node], CLASSES[:2])
