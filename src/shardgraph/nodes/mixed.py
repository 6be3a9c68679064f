"""Nodes of both kinds as one classifier: softmax heads and heads solved from tallies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.errors import UsageError
from shardgraph.nodes.closed_form import ClosedFormHead
from shardgraph.nodes.ensemble import Ensemble, combine
from shardgraph.nodes.projection import Projection, Projections
from shardgraph.nodes.weights import NodeWeights

NODES_AT_ONCE = 64
"""Nodes whose scores are computed together; bounds the memory, changes no bit of a node."""


@dataclass(frozen=True, eq=False)
class TalliedNode:
    """A node that answers through the head solved from its tally.

    A trained one may bring its adapter, whose softmax head then has a part in what it says.
    """

    node: int
    projection: Projection
    head: ClosedFormHead
    adapter: NodeWeights | None = None


class MixedEnsemble:
    """Trained softmax nodes and tallied nodes over one list of classes. Immutable.

    Every node gives a distribution over the classes that it knows; they are combined by
    `shardgraph.nodes.ensemble.combine`. Leaving nodes out changes no bit of what others say.
    """

    def __init__(
        self,
        trained: Sequence[NodeWeights],
        tallied: Sequence[TalliedNode],
        classes: Sequence[str],
        features: torch.dtype = torch.float32,
        *,
        softmax_weight: float = 0.0,
        like: MixedEnsemble | None = None,
    ) -> None:
        """Nodes of both kinds, and the sorted labels that probabilities are over.

        Args:
            trained: nodes that do not tally.
            tallied: nodes that do.
            classes: the sorted labels of all live samples.
            features: the type in which integer features are computed, see `tally_all`.
            softmax_weight: the part of an adapter in what a tallied node says, see `blend`.
            like: an earlier ensemble: what both hold is not laid out again.

        Raises:
            UsageError: the classes are not sorted and unique, or a node knows another class.
        """
        before = None if like is None else like._trained
        self._trained: Ensemble = Ensemble(trained, classes, before)
        self.classes = self._trained.classes
        laid_out = {} if like is None else like._laid_out
        groups = _of_equal_shape(tallied)
        self._stacks = [_Stack(group, self.classes, laid_out, features) for group in groups]
        self._laid_out: Mapping[tuple[Projection, ...], Projections] = {
            key: stack for part in self._stacks for key, stack in part.parts.items()
        }
        self.nodes = (
            *self._trained.nodes,
            *(member.node for stack in self._stacks for member in stack.members),
        )
        self._softmax_weight = softmax_weight
        own = {member.node: member.adapter for member in tallied if member.adapter is not None}
        self._softmax = Ensemble([*own.values()] if softmax_weight else [], classes)
        self._blended = [self.nodes.index(node) for node in self._softmax.nodes]
        parts = [self._trained.known, *(stack.known for stack in self._stacks)]
        self._known = np.concatenate(parts)
        self._known[self._blended] |= self._softmax.known

    @property
    def known(self) -> np.ndarray:
        """Which classes each node knows, bool [nodes, C], in the order of `nodes`."""
        return self._known.copy()

    def node_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """What every node says by itself: [nodes, B, C] for tokens [B, T, D].

        In float64, so that the last bits, in which a batch can make a difference, are lost when
        the combined answer is rounded to float32. What adapters say is float32 all the same.
        """
        parts = [self._trained.node_probabilities(tokens)] if self._trained.nodes else []
        parts += [stack.probabilities(tokens) for stack in self._stacks]
        if not parts:
            return np.zeros((0, len(tokens), len(self.classes)))
        said = np.concatenate(parts, dtype=np.float64)
        if self._blended:
            softmax, known = self._softmax.node_probabilities(tokens), self._softmax.known
            said[self._blended] = blend(said[self._blended], softmax, known, self._softmax_weight)
        return said

    def predict_proba(self, tokens: np.ndarray, without: Collection[int] = ()) -> np.ndarray:
        """Class probabilities, float32 [B, C] with rows that sum to one.

        Args:
            tokens: activations [B, T, D], float16 or float32.
            without: numbers of nodes that must have no influence on the answer.

        Raises:
            UsageError: no node is left to answer.
        """
        left_out = frozenset(without)
        kept = [i for i, node in enumerate(self.nodes) if node not in left_out]
        if not kept:
            raise UsageError(
                "No node can answer.", advice="Wait until the refits have ended, or add samples."
            )
        return combine(self.node_probabilities(tokens)[kept], self._known[kept])


def blend(
    closed_form: np.ndarray, softmax: np.ndarray, known: np.ndarray, weight: float
) -> np.ndarray:
    """What nodes say through two heads, of which the softmax head may know fewer classes.

    Among the classes that the softmax head knows, it decides with ``weight`` how what the
    closed-form head leaves to them together is shared out; other classes are left as they are.

    Args:
        closed_form: distributions [nodes, B, C].
        softmax: the same, zero where ``known`` is False.
        known: bool [nodes, C], the classes of the softmax heads.
        weight: from 0, the closed-form head alone, to 1.
    """
    member = known[:, None]
    together = (closed_form * member).sum(axis=2, keepdims=True)
    mixed = (1 - weight) * closed_form + weight * together * softmax
    result: np.ndarray = np.where(member, mixed, closed_form)
    return result


class _Stack:
    """Tallied nodes whose projections have one shape."""

    def __init__(
        self,
        members: Sequence[TalliedNode],
        classes: Sequence[str],
        laid_out: Mapping[tuple[Projection, ...], Projections],
        features: torch.dtype,
    ) -> None:
        self.members = tuple(members)
        number = {label: column for column, label in enumerate(classes)}
        first = members[0].projection
        shape = (len(members), first.features, len(classes))
        self._weight = torch.empty(shape, dtype=torch.float64)
        self._bias = torch.empty((len(members), 1, len(classes)), dtype=torch.float64)
        with ThreadPoolExecutor(runtime.worker_count()) as pool:
            for _ in pool.map(
                lambda row: self._place(row, members[row], number), range(len(members))
            ):
                pass
        self.known = torch.isfinite(self._bias[:, 0]).numpy()
        cuts = range(0, len(members), NODES_AT_ONCE)
        groups = [members[start : start + NODES_AT_ONCE] for start in cuts]
        keys = [tuple(member.projection for member in group) for group in groups]
        self.parts = {key: laid_out.get(key) or Projections(key, features) for key in keys}

    def _place(self, row: int, member: TalliedNode, number: Mapping[str, int]) -> None:
        """Put a node's head into the columns of its classes."""
        head = member.head
        unknown = set(head.classes) - set(number)
        if unknown:
            raise UsageError(f"Node {member.node} knows classes that are not listed.")
        weight, bias = self._weight[row].numpy(), self._bias[row].numpy()
        if len(head.classes) == len(number):  # both sorted, so the columns are the same
            weight[:], bias[:] = head.weight, head.bias
            return
        weight.fill(0)
        bias.fill(-np.inf)
        columns = [number[label] for label in head.classes]
        weight[:, columns], bias[:, columns] = head.weight, head.bias

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """What each node says by itself: float64 [nodes, B, C]."""
        out = np.empty((len(self.members), len(tokens), self._weight.shape[2]))
        for part, project in enumerate(self.parts.values()):
            nodes = slice(part * NODES_AT_ONCE, (part + 1) * NODES_AT_ONCE)
            features = project(tokens).to(torch.float64)
            scores = torch.baddbmm(self._bias[nodes], features, self._weight[nodes])
            out[nodes] = torch.softmax(scores, dim=2).numpy()
        return out


def _of_equal_shape(members: Sequence[TalliedNode]) -> list[list[TalliedNode]]:
    groups: dict[tuple[object, ...], list[TalliedNode]] = {}
    for member in members:
        groups.setdefault(member.projection.shape, []).append(member)
    return list(groups.values())
