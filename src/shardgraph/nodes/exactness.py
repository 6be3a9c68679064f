"""Are products of small integers exact on this machine? Tried, not assumed.

`projection` rests on float32 products whose partial sums stay below 2**24. IEEE 754 makes them
exact in any order, but a setting or a device may round the factors first (TF32, bfloat16).
`closed_form` rests on a float64 solve with one thread that repeats. Both take milliseconds to try,
on the shapes that a store will use.
"""

from __future__ import annotations

import numpy as np
import torch

from shardgraph.nodes.closed_form import HeadRule, solve_all
from shardgraph.nodes.projection import (
    POOLED_LIMIT,
    TOKEN_LIMIT,
    Projections,
    attention_limit,
    random_projection,
    value_limit,
    weight_limit,
)
from shardgraph.nodes.selftest import Finding
from shardgraph.nodes.tally import Tally

SAMPLES, NODES = 40, 3


def check_exactness(
    *, tokens: int, width: int, heads: int, value_width: int
) -> tuple[Finding, ...]:
    """Try the arithmetic of tallies for samples of T x D tokens.

    - ``products``: float32 products of the largest integers allowed, against int64.
    - ``features``: one sample alone, in a batch, with other nodes, and in float64.
    - ``solve``: heads one by one, together, and by several threads.

    Where ``products`` or ``features`` does not hold, compute features in float64; where ``solve``
    does not hold, tallies cannot be verified on this machine.
    """
    features = _features_hold(tokens, width, heads, value_width)
    return (
        Finding("products", _products_hold(tokens, width, heads, value_width), _PRODUCTS),
        Finding("features", features, _FEATURES),
        Finding("solve", _solve_holds(heads * value_width), _SOLVE),
    )


_PRODUCTS = "Float32 products of small integers against 64-bit integers."
_FEATURES = "Integer features alone, in a batch, beside other nodes, and in float64."
_SOLVE = "Closed-form heads alone, together, and by several threads."


def _products_hold(tokens: int, width: int, heads: int, value_width: int) -> bool:
    """The three products of a projection at their bounds, in shapes as it uses them."""
    values = value_limit(width, heads * value_width)
    bounds = (
        (heads, width, SAMPLES, attention_limit(width), TOKEN_LIMIT),
        (heads, tokens, width, weight_limit(tokens), TOKEN_LIMIT),
        (SAMPLES, width, value_width, POOLED_LIMIT, values),
    )
    return all(_product_holds(*bound) for bound in bounds)


def _product_holds(rows: int, inner: int, columns: int, left: int, right: int) -> bool:
    """Near the bound and odd, so that a lost bit shows."""
    generator = np.random.Generator(np.random.Philox(rows))
    first = left - generator.integers(0, min(2, left), (rows, inner))
    second = right - generator.integers(0, min(2, right), (inner, columns))
    floats = [torch.from_numpy(part).to(torch.float32) for part in (first, second)]
    plain = (floats[0] @ floats[1]).to(torch.int64).numpy()
    batched = torch.bmm(floats[0][None], floats[1][None])[0].to(torch.int64).numpy()
    exact = first @ second
    return bool((plain == exact).all() and (batched == exact).all())


def _features_hold(tokens: int, width: int, heads: int, value_width: int) -> bool:
    generator = np.random.Generator(np.random.Philox(1))
    samples = generator.standard_normal((SAMPLES, tokens, width), dtype=np.float32)
    nodes = [
        random_projection(i, width=width, heads=heads, value_width=value_width, sharpness=1.5)
        for i in range(NODES)
    ]
    together = Projections(nodes)(samples)
    alone = Projections(nodes[1:2])(samples[7:8])
    safe = Projections(nodes, torch.float64)(samples)
    return torch.equal(together, safe) and torch.equal(together[1:2, 7:8], alone)


def _solve_holds(features: int) -> bool:
    generator = np.random.Generator(np.random.Philox(2))
    tallies = []
    for _ in range(2 * NODES):
        drawn = generator.integers(-127, 128, (SAMPLES, features), dtype=np.int8)
        labels = [str(label) for label in generator.integers(0, 5, SAMPLES)]
        tallies.append(Tally.empty(features).add(drawn, labels))
    rule = HeadRule()
    several = solve_all(tallies, rule, workers=2)
    alone = [solve_all([tally], rule, workers=1)[0] for tally in reversed(tallies)]
    return all(
        a.weight.tobytes() == b.weight.tobytes() and a.bias.tobytes() == b.bias.tobytes()
        for a, b in zip(several, reversed(alone), strict=True)
    )
