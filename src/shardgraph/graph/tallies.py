"""Which shards each node tallies: the presets ``none``, ``own``, ``all`` and ``all-but:G``.

A tally edge gives a node sums over a shard from which a sample can be taken back exactly; it is
not refitted when that sample goes. Every preset but ``none`` makes a node tally at least what it
reads: it has seen those samples anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from shardgraph.errors import GraphError
from shardgraph.graph.node import require_edges

PRESETS = "none, own, all or all-but:G"
"""The presets, as error messages and help texts list them."""


def preset_tallies(
    preset: str, shards: int, homes: Sequence[int | None], reads: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """The shards that each node tallies under a preset, sorted.

    Args:
        preset: ``none``; ``own``, what the node reads; ``all``, every shard; or ``all-but:G``,
            see `held_out_groups`, every shard outside the node's held-out group.
        shards: number of shards.
        homes: the home shard of each node, or None.
        reads: the shards that each node reads.

    Raises:
        GraphError: no such preset, G is below 2 or above the number of shards, or too many edges.
    """
    if preset == "none":
        return [() for _ in reads]
    if preset == "own":
        return list(reads)
    require_edges(len(reads) * shards)
    everything = tuple(range(shards))
    if preset == "all":
        return [everything for _ in reads]
    word, colon, number = preset.partition(":")
    if word != "all-but" or not colon or not (number.isascii() and number.isdigit()):
        raise GraphError(f"There are no tallies called {preset!r}.", advice=f"Use {PRESETS}.")
    groups = int(number)
    held_out = held_out_groups(groups, shards, homes, reads)
    return [
        tuple(sorted({shard for shard in everything if shard % groups != group}.union(read)))
        for group, read in zip(held_out, reads, strict=True)
    ]


def held_out_groups(
    groups: int, shards: int, homes: Sequence[int | None], reads: Sequence[tuple[int, ...]]
) -> list[int]:
    """The group of shards that each node does not tally under ``all-but:G``.

    Group g holds the shards s with ``s % groups == g``. Each group is held out by an equal share
    of the nodes, rounded down or up. Within these shares nodes choose in the order of their ids:
    the group of which they read the fewest shards; of those the one held out least so far; of
    those the first after their home (after their id, where they have none), upwards and around.

    So a node's group is disjoint from what it reads wherever such a group has room. Otherwise the
    node reads, and tallies, some shards of its group, and never saw the others. Not guaranteed:
    that the shares could not be dealt out with fewer such shards.

    Raises:
        GraphError: ``groups`` is below 2 or above the number of shards.
    """
    if not 2 <= groups <= shards:
        raise GraphError(
            f"all-but:{groups} does not fit {shards} shards.",
            advice=f"The number of groups goes from 2 to the number of shards, {shards}.",
        )
    share, larger_shares = divmod(len(reads), groups)
    taken = [0] * groups
    chosen = []
    for node, (home, read) in enumerate(zip(homes, reads, strict=True)):
        overlap = [0] * groups
        for shard in read:
            overlap[shard % groups] += 1
        start = node if home is None else home
        room = share + 1 if larger_shares else share
        free = [group for group in range(groups) if taken[group] < room]
        best = min(free, key=lambda g: (overlap[g], taken[g], (g - start - 1) % groups))
        larger_shares -= taken[best] == share
        taken[best] += 1
        chosen.append(best)
    return chosen
