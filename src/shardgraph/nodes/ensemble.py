"""Many nodes as one classifier: one pass over the tokens, any nodes left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shardgraph import runtime
from shardgraph.errors import UsageError
from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.adapter import Adapter
from shardgraph.nodes.weights import NodeWeights

POOLED_BYTES = 64 << 20
"""Most bytes of attention scores and pooled tokens at one time; batches are cut to fit."""

VOTE_BYTES = 16 << 20
"""Most bytes of float64 node probabilities in one call of `combine` by `predict_proba`."""

ROUNDS = 10
"""Rounds of the fixed point in `combine`."""

SAY_FLOOR = 1e-6
"""Least weight of a node in `combine`, so that undecided nodes still answer where all are."""

NEIGHBOURS = 16
"""Nodes with numbers in one range of so many are stacked together: little is stacked anew when one
of them changes."""

COVERED_FLOOR = 1e-9
"""Least probability that a node's classes are taken to have together."""


@dataclass(frozen=True, slots=True)
class _Stack:
    adapter: Adapter
    weights: tuple[NodeWeights, ...]
    members: tuple[int, ...]  # their positions in the ensemble
    columns: torch.Tensor  # [g, padded classes]: global class number, or C for padding


class Ensemble:
    """The nodes' classifiers over one list of classes. Immutable and safe to share by threads.

    A class that a node does not know has probability zero in that node, and the node has no say
    in it (`combine`). Leaving nodes out changes no bit of what the other nodes say.
    """

    def __init__(
        self,
        weights: Sequence[NodeWeights],
        classes: Sequence[str],
        like: Ensemble | None = None,
    ) -> None:
        """Nodes with their weights, and the sorted labels that probabilities are over.

        What an earlier ensemble ``like`` has stacked of the same weights is not stacked again.

        Raises:
            UsageError: the classes are not sorted and unique, a node knows a class that is not
                among them, two weights are of one node, or widths of tokens differ.
        """
        self.classes = tuple(classes)
        self.nodes = tuple(node.node for node in weights)
        self._check(weights)
        self._known = _known(weights, self.classes)
        stacked: Sequence[_Stack] = [] if like is None else like._stacks
        self._stacks: Sequence[_Stack] = _stack_all(weights, self.classes, stacked)
        self._width = weights[0].arrays["attention"].shape[-1] if weights else 0

    def _check(self, weights: Sequence[NodeWeights]) -> None:
        if list(self.classes) != sorted(set(self.classes)):
            raise UsageError("The classes of an ensemble must be sorted and unique.")
        if len(set(self.nodes)) != len(self.nodes):
            raise UsageError("An ensemble was given two weights of one node.")
        known = set(self.classes)
        for node in weights:
            if not known.issuperset(node.classes):
                raise UsageError(
                    f"Node {node.node} knows classes that the ensemble does not list.",
                    advice="Give the sorted labels of all live samples.",
                )
        if len({node.arrays["attention"].shape[-1] for node in weights}) > 1:
            raise UsageError("The nodes of an ensemble must read tokens of one width.")

    @property
    def known(self) -> np.ndarray:
        """Which classes each node knows, bool [nodes, C], in the order of `nodes`."""
        return self._known.copy()

    def node_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """What every node says by itself: float32 [nodes, B, C] for tokens [B, T, D].

        Each row sums to one over the classes that the node knows; the others are exactly zero.
        """
        return self._probabilities(tokens, frozenset())

    def predict_proba(self, tokens: np.ndarray, without: Collection[int] = ()) -> np.ndarray:
        """Class probabilities, float32 [B, C] with rows that sum to one.

        Args:
            tokens: activations [B, T, D], float16 or float32.
            without: numbers of nodes that must have no influence on the answer. Numbers of
                nodes that are not in the ensemble are allowed.

        Raises:
            UsageError: no node is left to answer, or the tokens do not fit the nodes.
        """
        left_out = frozenset(without)
        kept = [i for i, node in enumerate(self.nodes) if node not in left_out]
        if not kept:
            raise UsageError(
                "No node can answer.", advice="Wait until the refits have ended, or add samples."
            )
        out = np.zeros((len(tokens), len(self.classes)), np.float32)
        rows = max(1, VOTE_BYTES // (8 * len(self.nodes) * len(self.classes)))
        for begin in range(0, len(tokens), rows):
            votes = self._probabilities(tokens[begin : begin + rows], left_out)
            out[begin : begin + rows] = combine(votes[kept], self._known[kept])
        return out

    def _probabilities(self, tokens: np.ndarray, left_out: frozenset[int]) -> np.ndarray:
        if tokens.ndim != 3 or (self.nodes and tokens.shape[2] != self._width):
            raise UsageError(
                f"Tokens of shape {tokens.shape} do not fit the nodes.",
                advice=f"Give an array of shape [B, T, {self._width}].",
            )
        out = np.zeros((len(self.nodes), len(tokens), len(self.classes)), np.float32)
        stacks = [
            stack
            for stack in self._stacks
            if any(self.nodes[i] not in left_out for i in stack.members)
        ]
        runtime.keep_freed_memory()
        with torch.inference_mode():
            for stack in stacks:
                rows = _rows_at_once(stack, tokens.shape[1])
                for begin in range(0, len(tokens), rows):
                    _fill(out[:, begin : begin + rows], stack, tokens[begin : begin + rows])
        return out


def combine(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One distribution from many that are over different classes.

    Finds the p whose restrictions to what each node knows are closest to what the nodes say: it
    minimises the sum over nodes j of w_j KL(p_j || p restricted to the classes of j), by the
    fixed point of Huang, Weng and Lin, *Generalized Bradley-Terry models and multi-class
    probability estimates* (JMLR 7, 2006)::

        p(c)  <-  sum_j w_j p_j(c)  /  sum over j that know c of w_j / p(classes of j)

    So a node that does not know the true class shares out what the others leave to its classes,
    in place of handing wrong classes a full vote. The weight w_j is how much the node says about
    this sample: the divergence in nats of p_j from uniform over the node's classes. A node that
    is undecided has little say, and one that knows a single class has none.

    Where nodes all know the same classes this is the mean of their probabilities, weighted by
    w_j. There is no fitted state: each row of the answer depends on the same row of the
    arguments alone.

    Args:
        probabilities: [nodes, B, C]; zero where a node does not know the class.
        known: bool [nodes, C]; every node knows a class.

    Returns:
        float32 [B, C]; rows sum to one, and classes that no node knows are exactly zero.
    """
    votes = probabilities.astype(np.float64)
    member = known.astype(np.float64)
    say = _information(votes, member)  # [nodes, B]
    votes = np.einsum("nbc,nb->bc", votes, say)
    found = votes / votes.sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        covered = np.maximum(found @ member.T, COVERED_FLOOR)  # [B, nodes]: p(classes of j)
        weight = (say.T / covered) @ member
        found = np.divide(votes, weight, out=np.zeros_like(votes), where=weight > 0)
        found /= found.sum(axis=1, keepdims=True)
    result: np.ndarray = found.astype(np.float32)
    return result


def _information(votes: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Divergence from uniform over the node's classes, in nats: [nodes, B], at least the floor."""
    logs = np.log(votes, out=np.zeros_like(votes), where=votes > 0)
    negative_entropy = np.einsum("nbc,nbc->nb", votes, logs)
    most = np.log(member.sum(axis=1))[:, None]
    divergence: np.ndarray = np.maximum(most + negative_entropy, SAY_FLOOR)
    return divergence


def _known(weights: Sequence[NodeWeights], classes: tuple[str, ...]) -> np.ndarray:
    number = {label: i for i, label in enumerate(classes)}
    known = np.zeros((len(weights), len(classes)), bool)
    for i, node in enumerate(weights):
        known[i, [number[label] for label in node.classes]] = True
    return known


def _stack_all(
    weights: Sequence[NodeWeights], classes: tuple[str, ...], stacked: Sequence[_Stack]
) -> list[_Stack]:
    """Neighbours of equal padded shape together, in the order they were given."""
    number = {label: i for i, label in enumerate(classes)}
    held = {tuple(map(id, stack.weights)): stack.adapter for stack in stacked}
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, node in enumerate(weights):
        count = adapters.padded(len(node.classes))
        shape = (node.kind, node.arrays["values"].shape, node.arrays["gain"].shape, count)
        groups.setdefault((node.node // NEIGHBOURS, *shape), []).append(i)
    stacks = []
    for members in groups.values():
        nodes = tuple(weights[i] for i in members)
        adapter = held.get(tuple(map(id, nodes)))
        if adapter is None:
            adapter = adapters.stack(nodes[0].kind, [node.arrays for node in nodes])
        columns = torch.full(adapter.head.bias.shape[::2], len(classes))
        for row, node in zip(columns, nodes, strict=True):
            row[: len(node.classes)] = torch.tensor([number[label] for label in node.classes])
        stacks.append(_Stack(adapter, nodes, tuple(members), columns))
    return stacks


def _rows_at_once(stack: _Stack, count: int) -> int:
    nodes, heads, queries, width = stack.adapter.projection.attention.shape
    per_row = 4 * nodes * heads * queries * (2 * count + 2 * width)
    return max(1, POOLED_BYTES // per_row)


def _fill(out: np.ndarray, stack: _Stack, tokens: np.ndarray) -> None:
    """Write the stack's probabilities for tokens [b, T, D] into ``out`` [nodes, b, C]."""
    width = stack.adapter.projection.attention.shape[-1]
    batch = torch.zeros((*tokens.shape[:2], width))
    batch[..., : tokens.shape[2]] = torch.from_numpy(np.array(tokens))
    normalised = adapters.normalise_tokens(batch, tokens.shape[2])
    local = torch.softmax(adapters.logits(stack.adapter, normalised), dim=-1)
    wide = torch.zeros((*local.shape[:2], out.shape[2] + 1))
    wide.scatter_(2, stack.columns[:, None].expand_as(local), local)
    out[list(stack.members)] = wide[..., :-1].numpy()
