"""What forgetting costs on a shard graph, before anything is run. In samples, not seconds.

Two cost models, from the design of the method:

- *adapter work*, E_A: samples that the refitted nodes read, counted once per node. Uniform
  requests: ``E_A = (1/N) sum_j |T_j|^2``, T_j being all that node j reads.
- *distinct samples*, E_B: different samples among them, which is what must be fetched:
  ``E_B = E_x |union of T_j over the nodes j that read x|``.

Tallies are counted apart: a refitted node takes its tallies anew (*tally work*, one light pass
over what it tallies), and a node that only tallies the shard subtracts. Sizes are those before
the request. A node whose home is empty does not exist and costs nothing; that a request may empty
a shard, and so save a refit, is not taken into account.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from shardgraph.errors import GraphError
from shardgraph.graph.shard_graph import ShardGraph


@dataclass(frozen=True, slots=True)
class Work:
    """The work that one request makes.

    Attributes:
        adapter_samples: samples that the refitted nodes read, once per node.
        distinct_samples: different samples among those.
        nodes_refit: nodes that read the shard.
        nodes_subtracting: nodes that tally the shard but do not read it.
        tally_samples: samples that the refitted nodes tally anew, once per node.
    """

    adapter_samples: float
    distinct_samples: float
    nodes_refit: float
    nodes_subtracting: float
    tally_samples: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request costs.

    Attributes:
        expected: the mean over the requests; ``adapter_samples`` is E_A, ``distinct_samples`` E_B.
        worst: the largest of each figure over the shards that hold samples, however rarely a
            request falls there; the figures need not belong to one shard.
    """

    expected: Work
    worst: Work

    def to_json(self) -> dict[str, Any]:
        """``{"expected": {...}, "worst": {...}}`` with the fields of `Work`."""
        return asdict(self)


def request_cost(
    graph: ShardGraph, sizes: Sequence[int], rates: Sequence[float] | None = None
) -> Cost:
    """The cost of forgetting one sample.

    Args:
        graph: the shard graph.
        sizes: live samples per shard.
        rates: how often requests fall into each shard, in any unit; a shard without samples gets
            none. By default all samples are equally likely. `shard_rates` makes rates from those
            of sources; for requests by owner pass the number of owners in each shard.

    Returns:
        All zero where no shard holds a sample, since no request is possible.

    Raises:
        GraphError: not one size and one rate per shard; a negative size; a rate that is negative
            or not finite; or none above zero where there are samples.
    """
    _check_sizes(graph, sizes)
    weights = _weights(graph, sizes, sizes if rates is None else rates)
    total = math.fsum(weights.values()) or 1.0
    works = shard_work(graph, sizes)
    expected, worst = {}, {}
    for name in (field.name for field in fields(Work)):
        values = {shard: getattr(works[shard], name) for shard in weights}
        expected[name] = math.fsum(rate * values[s] for s, rate in weights.items()) / total
        worst[name] = max(values.values(), default=0)
    return Cost(Work(**expected), Work(**worst))


def shard_work(graph: ShardGraph, sizes: Sequence[int]) -> tuple[Work, ...]:
    """The work of a request in each shard, in whole numbers.

    Raises:
        GraphError: not one size per shard, or a negative size.
    """
    _check_sizes(graph, sizes)
    alive = [node.exists(sizes) for node in graph.nodes]
    read = [sum(sizes[shard] for shard in node.reads) for node in graph.nodes]
    tallied = [sum(sizes[shard] for shard in node.tallies) for node in graph.nodes]
    works = []
    for shard in range(graph.shards):
        refit = [node for node in graph.readers_of(shard) if alive[node]]
        subtracting = {node for node in graph.tallied_by(shard) if alive[node]}.difference(refit)
        touched = set[int]().union(*{graph.nodes[node].reads for node in refit})
        works.append(
            Work(
                adapter_samples=sum(read[node] for node in refit),
                distinct_samples=sum(sizes[other] for other in touched),
                nodes_refit=len(refit),
                nodes_subtracting=len(subtracting),
                tally_samples=sum(tallied[node] for node in refit),
            )
        )
    return tuple(works)


def expected_cost_of(graph: ShardGraph, sizes: Sequence[int], k: int) -> float:
    """Expected adapter work, in samples, of forgetting ``k`` uniformly chosen samples at once.

    ``sum_j |T_j| (1 - C(N - |T_j|, k) / C(N, k))``: node j is refitted unless all k samples, drawn
    without replacement from N, miss the T_j that it reads. For k = 1 this is E_A.

    Raises:
        GraphError: not one size per shard, a negative size, or ``k`` is not in 0 .. N.
    """
    _check_sizes(graph, sizes)
    total = sum(sizes)
    if not 0 <= k <= total:
        raise GraphError(
            f"Cannot forget {k} of {total} samples.", advice=f"The number goes from 0 to {total}."
        )
    read = Counter(
        sum(sizes[shard] for shard in node.reads) for node in graph.nodes if node.exists(sizes)
    )
    return math.fsum(nodes * size * _touched(total, size, k) for size, nodes in read.items())


def shard_rates(
    counts: Sequence[Mapping[str | None, int]],
    source_rates: Mapping[str | None, float],
    default: float = 1.0,
) -> tuple[float, ...]:
    """Request rates per shard from request rates per source, for `request_cost`.

    Args:
        counts: for each shard, its live samples by source; None counts those without a source.
        source_rates: how often one sample of a source is asked for, in any unit.
        default: the rate of every source that is not named.

    Raises:
        GraphError: a rate is negative or not finite.
    """
    for rate in (*source_rates.values(), default):
        _check_rate(rate)
    return tuple(
        math.fsum(source_rates.get(source, default) * count for source, count in shard.items())
        for shard in counts
    )


def _touched(total: int, part: int, drawn: int) -> float:
    """1 - C(total - part, drawn) / C(total, drawn), to full precision.

    The ratio is the product of (total - more - i) / (total - i) over i < fewer, where fewer and
    more are the smaller and the larger of part and drawn (it is symmetric in them). Its logarithm
    is summed term by term: a difference of log-gamma values would lose most digits where the
    probability is small, that is where forgetting is cheap.
    """
    fewer, more = sorted((part, drawn))
    if fewer + more > total:
        return 1.0
    return -math.expm1(math.fsum(math.log1p(-more / (total - i)) for i in range(fewer)))


def _weights(graph: ShardGraph, sizes: Sequence[int], rates: Sequence[float]) -> dict[int, float]:
    """The request rate of every shard that holds samples."""
    if len(rates) != graph.shards:
        raise _one_per_shard("rates", len(rates), graph.shards)
    for rate in rates:
        _check_rate(rate)
    held = {shard: rates[shard] for shard in range(graph.shards) if sizes[shard]}
    if held and not any(held.values()):
        raise GraphError(
            "No shard that holds samples has a request rate above zero.",
            advice="Give at least one a rate, or leave the rates out.",
        )
    return held


def _check_rate(rate: float) -> None:
    if not (math.isfinite(rate) and rate >= 0):
        raise GraphError(f"A request rate cannot be {rate}.", advice="Use 0 or more.")


def _check_sizes(graph: ShardGraph, sizes: Sequence[int]) -> None:
    if len(sizes) != graph.shards:
        raise _one_per_shard("sizes", len(sizes), graph.shards)
    if min(sizes) < 0:
        raise GraphError(
            f"A shard cannot hold {min(sizes)} samples.", advice="Use 0 or more for each shard."
        )


def _one_per_shard(what: str, given: int, shards: int) -> GraphError:
    return GraphError(
        f"There are {given} {what} for {shards} shards.", advice=f"Give {shards} {what}."
    )
