"""Ready-made shard graphs, and the text form in which the command line takes them.

Every graph here has one node per shard: node i has the home i, reads shard i and perhaps others.
Tallies are added afterwards with `ShardGraph.with_tallies`, pools with `ShardGraph.with_pools`.

Isolated shards are SISA (Bourtoule et al. 2021). Disjoint groups, here *cliques*, and a safe shard
that every node reads, here a *hub*, are example graphs of SAFE (Dukler et al. 2023). Ring, random
regular graphs and the two-level construction are this project's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

from shardgraph.errors import GraphError
from shardgraph.graph.node import Node, Pool, nodes_from_edges, require_edges
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.identity import derived_seed

FORMS = (
    "tallied, tallied:NODES, isolated, cliques:K, ring:K, hub:K, complete, random:K, "
    "two-level:F, two-level:F/TOPOLOGY, or the path of a .json file"
)
"""The text forms that `parse` takes, as error messages and help texts list them."""

TALLIED_NODES = 64
"""Nodes of the graph ``tallied``; more cost memory and no longer raise accuracy."""

TALLIED_GROUPS = 8
"""Groups of shards that the nodes of ``tallied`` take turns in leaving out."""

_MAX_SWITCHES = 100_000


def tallied(n: int, nodes: int = TALLIED_NODES) -> ShardGraph:
    """Nodes that read nothing and tally: no request ever refits one.

    Each node's attention is random, a function of its seed, and its head is solved from the sums
    of what it tallies. With `TALLIED_GROUPS` shards or more each node leaves out one group of
    shards (``all-but``), so that for any shard some nodes never saw it and can answer while the
    others are brought up to date; with fewer shards every node tallies all.

    Raises:
        GraphError: ``n`` or ``nodes`` is below 1.
    """
    _require_shards(n, edges=n)
    if nodes < 1:
        raise GraphError(f"tallied:{nodes} has no nodes.", advice="Use 1 node or more.")
    every = tuple(Node(None, (), tuple(range(n)), kind="random") for _ in range(nodes))
    graph = ShardGraph(n, every, name=f"tallied:{nodes}")
    if n < TALLIED_GROUPS:
        return graph
    return graph.with_tallies(f"all-but:{TALLIED_GROUPS}")


def isolated(n: int) -> ShardGraph:
    """Every node reads its own shard alone.

    Raises:
        GraphError: ``n`` is below 1.
    """
    _require_shards(n, edges=n)
    return _from_reads("isolated", [(shard,) for shard in range(n)])


def cliques(n: int, k: int) -> ShardGraph:
    """Groups of ``k`` consecutive shards; every node reads its whole group.

    Raises:
        GraphError: ``k`` is not in 1 .. ``n``, or does not divide ``n``.
    """
    _require_shards(n, edges=n * k)
    _require_between("cliques", k, n)
    if n % k:
        below = n - n % k
        raise GraphError(
            f"{n} shards do not divide into cliques of {k}.",
            advice=f"Use {below} or {below + k} shards.",
        )
    groups = [tuple(range(first, first + k)) for first in range(0, n, k)]
    return _from_reads(f"cliques:{k}", [groups[shard // k] for shard in range(n)])


def ring(n: int, k: int) -> ShardGraph:
    """Node i reads its own shard and the next ``k - 1``, around the circle.

    Raises:
        GraphError: ``k`` is not in 1 .. ``n``.
    """
    _require_shards(n, edges=n * k)
    _require_between("ring", k, n)
    reads = [tuple(sorted((shard + step) % n for step in range(k))) for shard in range(n)]
    return _from_reads(f"ring:{k}", reads)


def hub(n: int, k: int, safe_sources: Iterable[str] = ()) -> ShardGraph:
    """Shards 0 .. ``k - 1`` are the safe shards: every node reads them beside its own.

    A request in a safe shard reaches all nodes, so fill the safe shards with data that will
    hardly ever be asked for.

    Args:
        n: number of shards, the safe ones among them.
        k: number of safe shards.
        safe_sources: sources whose samples go into the safe shards; then nothing else does. Without
            any, the safe shards get samples like every other shard.

    Raises:
        GraphError: ``k`` is not in 1 .. ``n``, or with safe sources not in 1 .. ``n - 1``.
    """
    _require_shards(n, edges=n * (k + 1))
    _require_between("hub", k, n)
    safe = tuple(range(k))
    reads = [safe if shard < k else (*safe, shard) for shard in range(n)]
    graph = _from_reads(f"hub:{k}", reads)
    sources = tuple(sorted(set(safe_sources)))
    if not sources:
        return graph
    if k == n:
        raise GraphError(
            f"A hub of all {n} shards leaves none for other sources.",
            advice=f"Use at most {n - 1} safe shards, or no safe sources.",
        )
    return graph.with_pools((Pool(safe, sources), Pool(tuple(range(k, n)))))


def complete(n: int) -> ShardGraph:
    """Every node reads every shard: no sharding, with ``n`` models.

    Raises:
        GraphError: ``n`` is below 1.
    """
    _require_shards(n, edges=n * n)
    everything = tuple(range(n))
    return _from_reads("complete", [everything for _ in range(n)])


def random_regular(n: int, degree: int, seed: int) -> ShardGraph:
    """Each node reads its own shard and ``degree - 1`` others; ``degree`` nodes read each shard.

    A circulant graph on the shards in a keyed order, followed by switches of edge pairs
    (a reads b, c reads d) -> (a reads d, c reads b) at keyed positions, up to ten per edge and
    `_MAX_SWITCHES` in all; a switch keeps every degree, and one that would repeat an edge is left
    out. Keyed hashes alone decide, so a seed means the same graph on every machine and release.
    Not guaranteed: that all such graphs are equally likely.

    Raises:
        GraphError: ``degree`` is not in 1 .. ``n``.
    """
    _require_shards(n, edges=n * degree)
    _require_between("random", degree, n)
    purpose = f"random-regular/{n}/{degree}"
    order = sorted(range(n), key=lambda shard: derived_seed(seed, f"{purpose}/order/{shard}"))
    edges = [
        (order[place], order[(place + step) % n]) for place in range(n) for step in range(1, degree)
    ]
    present = set(edges)
    for step in range(min(10 * len(edges), _MAX_SWITCHES)):
        high, low = divmod(derived_seed(seed, f"{purpose}/switch/{step}"), 1 << 31)
        one, two = high % len(edges), low % len(edges)
        (a, b), (c, d) = edges[one], edges[two]
        if a == d or c == b or (a, d) in present or (c, b) in present:
            continue
        present -= {(a, b), (c, d)}
        present |= {(a, d), (c, b)}
        edges[one], edges[two] = (a, d), (c, b)
    return _named(f"random:{degree}", nodes_from_edges(n, edges))


def from_edges(n: int, edges: Iterable[tuple[int, int]], name: str = "custom") -> ShardGraph:
    """A graph of one's own: node i reads its own shard, and k for every edge (i, k).

    Args:
        n: number of shards, and of nodes.
        edges: pairs (node, shard it reads), in any order; (i, i) is implied.
        name: what to call it.

    Raises:
        GraphError: ``n`` is below 1, or an edge leaves the graph.
    """
    _require_shards(n, edges=n)
    return _named(name, nodes_from_edges(n, edges))


def two_level(
    coarse: ShardGraph,
    fine: int,
    *,
    across: Literal["matched", "all"] = "matched",
    within: Literal["own", "all"] = "own",
) -> ShardGraph:
    """Split every shard of ``coarse`` into ``fine`` shards, with one node each.

    Fine shard f of coarse shard c has the id ``c * fine + f``. For every coarse node with home c,
    the node of (c, f) reads

    - within c: its own fine shard (``within="own"``) or all of c (``"all"``);
    - in every other coarse shard that the coarse node reads: the fine shard with the same number f
      (``across="matched"``) or all of them (``"all"``).

    Pools stretch with the shards: what went to coarse shard c goes to its fine shards.

    Raises:
        GraphError: ``fine`` is below 1; ``coarse`` has tallies (add them to the result), or nodes
            without a home.
    """
    own, others = 1 if within == "own" else fine, 1 if across == "matched" else fine
    edges = sum(own + others * (len(node.reads) - 1) for node in coarse.nodes) * fine
    _require_shards(fine, edges=edges)
    if any(node.tallies or node.home is None for node in coarse.nodes):
        raise GraphError(
            "A coarse graph cannot have tallies.",
            advice="Add tallies to the two-level graph instead.",
        )

    nodes = []
    for node in coarse.nodes:
        for number in range(fine):
            reads: list[int] = []
            for shard in node.reads:
                one = within == "own" if shard == node.home else across == "matched"
                reads += _split(shard, fine)[number : number + 1] if one else _split(shard, fine)
            nodes.append(Node((node.home or 0) * fine + number, tuple(reads), kind=node.kind))
    pools = tuple(
        Pool(tuple(f for shard in pool.shards for f in _split(shard, fine)), pool.sources)
        for pool in coarse.pools
    )
    return ShardGraph(coarse.shards * fine, tuple(nodes), pools, f"two-level:{fine}/{coarse.name}")


def source_pools(sources: Mapping[str, int], default: int = 0) -> tuple[Pool, ...]:
    """Pools of consecutive shards: one per source, by name, then one for all other sources.

    Args:
        sources: number of shards of each source.
        default: number of shards for samples of other sources or of none; 0 for no such pool.

    Raises:
        GraphError: a number is below 1 (``default``: below 0), or there is no pool at all.
    """
    for source, count in sources.items():
        if count < 1:
            raise GraphError(
                f"Source {source!r} cannot have {count} shards.", advice="Use 1 shard or more."
            )
    if default < 0 or not (sources or default):
        raise GraphError("There are no shards for any source.", advice="Use 1 shard or more.")
    names = sorted(sources)
    counts = [sources[name] for name in names] + [default]
    ends = list(accumulate(counts))
    ranges = [tuple(range(end - count, end)) for end, count in zip(ends, counts, strict=True)]
    named = [Pool(shards, (name,)) for shards, name in zip(ranges, names, strict=False)]
    return (*named, Pool(ranges[-1])) if default else tuple(named)


def by_source(
    sources: Mapping[str, int | ShardGraph], default: int | ShardGraph | None = None
) -> ShardGraph:
    """One graph per source, side by side: no edge crosses from one source to another.

    Forgetting a whole source then drops its nodes and touches no other. For edges that do cross
    sources, use any graph with ``with_pools(source_pools(...))``.

    Args:
        sources: for each source its graph, or a number of isolated shards. Shards are numbered by
            source name, ascending. A graph's own pools are replaced.
        default: the same for samples of other sources or of none; None for no such shards.

    Raises:
        GraphError: a number is below 1, or there is no source at all.

    Example:
        >>> graph = by_source({"shop": cliques(4, 2), "web": 2}, default=1)
        >>> graph.readers_of(1), graph.readers_of(4)
        ((0, 1), (4,))
    """
    parts = [sources[name] for name in sorted(sources)] + ([] if default is None else [default])
    graphs = [isolated(part) if isinstance(part, int) else part for part in parts]
    nodes: list[Node] = []
    first = 0
    for graph in graphs:
        nodes += [_shifted(node, first) for node in graph.nodes]
        first += graph.shards
    counts = dict(zip(sorted(sources), (graph.shards for graph in graphs), strict=False))
    rest = 0 if default is None else graphs[-1].shards
    pools = source_pools(counts, rest)
    return ShardGraph(first, tuple(nodes), pools, "by source")


def parse(
    spec: str,
    shards: int | None = None,
    *,
    default_shards: int = 64,
    seed: int = 0,
    safe_sources: Collection[str] = (),
    tallies: str | None = None,
) -> ShardGraph:
    """The graph that a text names: one of `FORMS`.

    ``two-level:F/TOPOLOGY`` splits the shards into coarse ones of F fine shards each, with the
    topology between the coarse ones and matched reading; ``two-level:F`` takes ``ring:2``.

    Args:
        spec: the text. A file holds the JSON form of a graph, see `shardgraph.graph.json_form`.
        shards: number of shards; None takes it from the file, or ``default_shards``.
        default_shards: number of shards where neither says.
        seed: of ``random:K``; not used otherwise.
        safe_sources: sources for the safe shards of ``hub:K``.
        tallies: a preset of tallies; None leaves none, or those of the file.

    Raises:
        GraphError: unknown or impossible, or the file cannot be read.
    """
    if safe_sources and "hub:" not in spec:
        raise GraphError(
            f"Safe sources need a hub, and the graph is {spec!r}.", advice="Use hub:K."
        )
    if spec.endswith(".json"):
        graph = _read_file(Path(spec), shards)
    else:
        count = default_shards if shards is None else shards
        graph = _parse_preset(spec, count, seed, safe_sources)
    return graph if tallies is None else graph.with_tallies(tallies)


def _parse_preset(spec: str, shards: int, seed: int, safe_sources: Collection[str]) -> ShardGraph:
    word, colon, argument = spec.partition(":")
    plain: dict[str, Callable[[int], ShardGraph]] = {
        "complete": complete,
        "isolated": isolated,
        "tallied": tallied,
    }
    counted: dict[str, Callable[[int, int], ShardGraph]] = {
        "cliques": cliques,
        "ring": ring,
        "tallied": tallied,
        "hub": lambda n, k: hub(n, k, safe_sources),
        "random": lambda n, degree: random_regular(n, degree, seed),
    }
    if word in plain and not colon:
        return plain[word](shards)
    if word in counted:
        return counted[word](shards, _number(spec, argument))
    if word == "two-level":
        count, slash, topology = argument.partition("/")
        fine = _number(spec, count)
        coarse = _coarse_count(shards, fine)
        between = topology if slash else "ring:2"
        return two_level(_parse_preset(between, coarse, seed, safe_sources), fine)
    raise _unknown(spec)


def _coarse_count(shards: int, fine: int) -> int:
    _require_shards(shards, edges=shards)
    _require_between("two-level", fine, shards)
    if shards % fine:
        below = shards - shards % fine
        raise GraphError(
            f"{shards} shards do not divide into coarse shards of {fine}.",
            advice=f"Use {below} or {below + fine} shards.",
        )
    return shards // fine


def _read_file(path: Path, shards: int | None) -> ShardGraph:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise GraphError(
            f"Cannot read the graph {path}: {error.strerror or error}.", advice="Check the path."
        ) from error
    except ValueError as error:
        raise GraphError(
            f"{path} is not valid JSON: {error}.", advice="Correct the file and try again."
        ) from error
    try:
        graph = ShardGraph.from_json(value)
    except GraphError as error:
        raise GraphError(f"{path}: {error.message}", advice=error.advice) from error
    if shards is not None and shards != graph.shards:
        raise GraphError(
            f"{path} describes {graph.shards} shards, not {shards}.",
            advice="Leave out the number of shards; the file decides it.",
        )
    return graph


def _number(spec: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _unknown(spec)
    return int(text)


def _unknown(spec: str) -> GraphError:
    return GraphError(f"There is no graph called {spec!r}.", advice=f"Use {FORMS}.")


def _from_reads(name: str, reads: Sequence[tuple[int, ...]]) -> ShardGraph:
    return _named(name, tuple(Node(home, read) for home, read in enumerate(reads)))


def _named(name: str, nodes: tuple[Node, ...]) -> ShardGraph:
    return ShardGraph(len(nodes), nodes, name=name)


def _split(shard: int, fine: int) -> range:
    return range(shard * fine, (shard + 1) * fine)


def _shifted(node: Node, by: int) -> Node:
    return Node(
        home=None if node.home is None else node.home + by,
        reads=tuple(shard + by for shard in node.reads),
        tallies=tuple(shard + by for shard in node.tallies),
        kind=node.kind,
    )


def _require_shards(n: int, *, edges: int) -> None:
    if n < 1:
        raise GraphError(f"A shard graph cannot have {n} shards.", advice="Use 1 shard or more.")
    require_edges(edges)


def _require_between(what: str, number: int, most: int) -> None:
    if not 1 <= number <= most:
        raise GraphError(
            f"{what}:{number} does not fit {most} shards.",
            advice=f"The number goes from 1 to {most}.",
        )
