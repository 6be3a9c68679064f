"""Nodes of both kinds in one classifier."""

from __future__ import annotations

import numpy as np
import pytest

from shardgraph.errors import UsageError
from shardgraph.nodes.closed_form import HeadRule, solve
from shardgraph.nodes.mixed import MixedEnsemble, TalliedNode
from shardgraph.nodes.projection import Projections, random_projection
from shardgraph.nodes.tally import Tally

CLASSES = ("a", "b", "c")


def tallied(node: int, labels: tuple[str, ...] = CLASSES) -> TalliedNode:
    """A node that has tallied 40 random samples of these classes."""
    generator = np.random.default_rng(node)
    projection = random_projection(node, width=16, heads=8, value_width=32, sharpness=1.0)
    features = Projections([projection])(tokens(40, seed=node))[0].numpy()
    drawn = [labels[i] for i in generator.integers(0, len(labels), 40)]
    return TalliedNode(node, projection, solve(Tally.empty(256).add(features, drawn), HeadRule()))


def tokens(count: int, seed: int = 99) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 5, 16)).astype(np.float16)


def test_a_node_left_out_has_no_influence() -> None:
    members = [tallied(0), tallied(1, CLASSES[:2]), tallied(2)]
    asked = tokens(9)
    without = MixedEnsemble([], members, CLASSES).predict_proba(asked, without=[1])
    never = MixedEnsemble([], [members[0], members[2]], CLASSES).predict_proba(asked)
    assert without.tobytes() == never.tobytes()


def test_a_class_that_a_node_never_tallied_gets_nothing_from_it() -> None:
    ensemble = MixedEnsemble([], [tallied(1, CLASSES[:2])], CLASSES)
    assert not ensemble.node_probabilities(tokens(4))[..., 2].any()


def test_somebody_must_be_left_to_answer() -> None:
    with pytest.raises(UsageError, match="No node can answer"):
        MixedEnsemble([], [tallied(0)], CLASSES).predict_proba(tokens(1), without=[0])
    with pytest.raises(UsageError, match="not listed"):
        MixedEnsemble([], [tallied(0)], CLASSES[:2])
