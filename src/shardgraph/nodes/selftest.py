"""Does this machine treat every node of a stack alike? Found out by training, not assumed.

Training nodes together gives the bits of training each alone only if every kernel on the way
computes one node of a stack the same whatever surrounds it. No library promises that, so it is
tried when a store is created, on the shapes that the store will use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import NodeWeights, to_bytes

EPOCHS = 2
"""Enough for a difference in the first gradient to reach every weight."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the machine, whether it holds, and what follows.

    Attributes:
        name: ``repeat``, ``together`` or ``place``.
        holds: True if every compared node had the same bytes.
        detail: one sentence for the user.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """What `check_machine` found.

    Attributes:
        findings: one per property.
    """

    findings: tuple[Finding, ...]

    @property
    def stacked(self) -> bool:
        """Whether `train` may stack nodes here (its argument of that name)."""
        return all(finding.holds for finding in self.findings)

    @property
    def repeatable(self) -> bool:
        """Whether training twice gave the same bytes at all.

        Without that nothing on this machine can be verified; a store should not be created.
        """
        return all(finding.holds for finding in self.findings if finding.name == "repeat")


def check_machine(
    recipe: Recipe,
    *,
    tokens: int,
    width: int,
    samples: Sequence[int] = (1, 23, 70),
    classes: Sequence[int] = (1, 11, 17),
) -> MachineCheck:
    """Train small nodes of T x D tokens in several ways and compare their bytes.

    - ``repeat``: the same call twice.
    - ``together``: nodes in one stack against each alone.
    - ``place``: the same nodes in another order, so that each has another place in its stack.

    Each pair of a sample count and a class count is a shape of its own. Takes seconds; costs
    little beside fitting a store. What holds for these shapes is evidence for others, not proof:
    ``verify`` compares the bytes of every node that matters.
    """
    short = replace(recipe, epochs=min(recipe.epochs, EPOCHS))
    jobs = _jobs(tokens, width, samples, classes)
    stacked = _bytes(train(jobs, short, workers=1))
    repeated = _bytes(train(jobs, short, workers=1))
    alone = _bytes(train(jobs, short, stacked=False))
    turned = _bytes(train(jobs[::-1], short, workers=1))
    return MachineCheck(
        (
            _finding("repeat", stacked, repeated, "training again"),
            _finding("together", stacked, alone, "training each node alone"),
            _finding("place", stacked, turned, "training at another place of the stack"),
        )
    )


def _jobs(tokens: int, width: int, samples: Sequence[int], classes: Sequence[int]) -> list[Job]:
    """Three nodes of each shape, on random tokens."""
    generator = np.random.Generator(np.random.Philox(0))
    pool = generator.standard_normal((max(samples), tokens, width), dtype=np.float32)
    array = pool.astype(np.float16)
    jobs: list[Job] = []
    for count in samples:
        for known in classes:
            labels = tuple(f"{i % known:04d}" for i in range(count))
            for _ in range(3):
                rows = TokenRows.of([(array, generator.permutation(len(array))[:count])])
                jobs.append(Job(len(jobs), len(jobs), rows, labels))
    return jobs


def _bytes(weights: Sequence[NodeWeights]) -> dict[int, bytes]:
    return {node.node: to_bytes(node) for node in weights}


def _finding(name: str, expected: dict[int, bytes], found: dict[int, bytes], what: str) -> Finding:
    differing = sum(expected[node] != found[node] for node in expected)
    outcome = "gave the same bytes" if not differing else "gave other bytes"
    count = f"for all {len(expected)} nodes" if not differing else f"for {differing} nodes"
    return Finding(name, not differing, f"{what.capitalize()} {outcome} {count} tried.")
