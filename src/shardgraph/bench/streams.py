"""In which order samples are asked for."""

from __future__ import annotations

import numpy as np

from shardgraph.bench.data import Part
from shardgraph.errors import UsageError
from shardgraph.identity import derived_seed


def request_rows(train: Part, seed: int, count: int) -> list[int]:
    """Different rows, each equally likely; the same for every method at one seed."""
    generator = _generator(seed, "bench requests")
    return [int(row) for row in generator.permutation(len(train))[:count]]


def deletion_order(train: Part, order: str, seed: int) -> np.ndarray:
    """All rows in the order in which they are asked for.

    ``uniform``: every live row is equally likely to be next. ``skewed``: a row of ``source-k`` is
    half as likely as one of ``source-(k - 1)``; the rows need sources (`Part.from_sources`).

    Raises:
        UsageError: there is no such order.
    """
    if order not in ("uniform", "skewed"):
        raise UsageError(f"There is no order {order!r}.", advice="Use uniform or skewed.")
    generator = _generator(seed, f"bench {order}")
    if order == "uniform":
        return generator.permutation(len(train))
    halvings = [int(str(sample.source).rpartition("-")[2]) for sample in train.samples]
    rates = np.exp2(-np.array(halvings, np.float64))
    # Exponential clocks: the order of their ringing is that of draws without replacement
    # (Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003).
    return np.argsort(generator.exponential(size=len(train)) / rates, kind="stable")


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derived_seed(seed, purpose)))
