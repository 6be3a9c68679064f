"""Where the nodes of a picture go. Geometry alone, without matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shardgraph.graph.shard_graph import ShardGraph

Point = tuple[float, float]

_MOST_IN_CLUSTERS = 256
_LARGEST_CLUSTER = 16
_MOST_IN_WHEEL = 64
_MOST_SPOKES = 1200


@dataclass(frozen=True, slots=True)
class Layout:
    """How a graph is shown.

    Attributes:
        view: ``clusters`` and ``wheel`` place every node; ``matrix`` places none.
        points: the centre of each node; x to the right, y upwards.
        radii: radius of the circle of each node, in the same unit; no two circles touch.
        clusters: centre and radius of each group that gets a background.
    """

    view: Literal["clusters", "wheel", "matrix"]
    points: tuple[Point, ...] = ()
    radii: tuple[float, ...] = ()
    clusters: tuple[tuple[Point, float], ...] = ()


def layout_of(graph: ShardGraph) -> Layout:
    """The view that keeps this graph readable, and where it puts the nodes."""
    if any(node.home != number for number, node in enumerate(graph.nodes)):
        return Layout("matrix")
    groups = connected_groups(graph)
    largest = max(len(group) for group in groups)
    if len(groups) > 1 and largest <= _LARGEST_CLUSTER and graph.shards <= _MOST_IN_CLUSTERS:
        return _clusters(groups, largest)
    spokes = sum(len(node.reads) - 1 for node in graph.nodes)
    if graph.shards <= _MOST_IN_WHEEL and spokes <= _MOST_SPOKES:
        return _wheel(graph)
    return Layout("matrix")


def connected_groups(graph: ShardGraph) -> list[list[int]]:
    """The shards in groups between which nobody reads, each ascending, by their first shard."""
    group = list(range(graph.shards))

    def root(shard: int) -> int:
        while group[shard] != shard:
            group[shard] = group[group[shard]]
            shard = group[shard]
        return shard

    for node in graph.nodes:
        for shard in node.reads[1:]:
            first, other = sorted((root(node.reads[0]), root(shard)))
            group[other] = first
    members: dict[int, list[int]] = {}
    for shard in range(graph.shards):
        members.setdefault(root(shard), []).append(shard)
    return list(members.values())


def _clusters(groups: Sequence[Sequence[int]], largest: int) -> Layout:
    """Groups on a grid, row by row, each a small circle of nodes."""
    columns = math.ceil(math.sqrt(len(groups)))
    reach = _ring_radius(largest, spacing=2.9)
    pitch = 2 * (reach + 1) + (0.9 if largest == 1 else 1.9)
    points: dict[int, Point] = {}
    centres = []
    for number, group in enumerate(groups):
        row, column = divmod(number, columns)
        centre = (column * pitch, -row * pitch)
        own = _ring_radius(len(group), spacing=2.9)
        for shard, (x, y) in zip(group, _circle(len(group), own), strict=True):
            points[shard] = (centre[0] + x, centre[1] + y)
        if len(group) > 1:
            centres.append((centre, own + 1.55))
    ordered = tuple(points[shard] for shard in range(len(points)))
    return Layout("clusters", ordered, (1.0,) * len(ordered), tuple(centres))


def _wheel(graph: ShardGraph) -> Layout:
    """All nodes on a circle, but those whose shard every node reads in the middle."""
    n = graph.shards
    middle = [shard for shard in range(n) if len(graph.readers_of(shard)) == n]
    if len(middle) > min(n // 4, 6):
        middle = []
    rim = [shard for shard in range(n) if shard not in middle]
    inner = _circle(len(middle), _ring_radius(len(middle), spacing=6.0))
    outer = _circle(len(rim), max(_ring_radius(len(rim), spacing=2.75), 9.0))
    points = dict(zip([*middle, *rim], [*inner, *outer], strict=True))
    radii = tuple(2.0 if shard in middle else 1.0 for shard in range(n))
    return Layout("wheel", tuple(points[shard] for shard in range(n)), radii)


def _ring_radius(count: int, spacing: float) -> float:
    """Radius of the circle on which ``count`` points lie ``spacing`` apart."""
    return 0.0 if count < 2 else spacing / (2 * math.sin(math.pi / count))


def _circle(count: int, radius: float) -> list[Point]:
    """Points on a circle, clockwise from the top; two or four lie upright, as on a grid."""
    turn = math.pi / 4 if count == 4 else math.pi / 2 if count == 2 else 0.0
    angles = [math.pi / 2 + turn - 2 * math.pi * place / count for place in range(count)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]
