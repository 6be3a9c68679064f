"""A picture of a shard graph, with what a request touches marked: SVG or PNG, by matplotlib.

A graph with one node per shard is drawn as circles, with an arrow from each node to every shard
that it reads: in *clusters*, where it falls into small groups that share nothing, or else as a
*wheel*, with the shards that all nodes read in the middle. Graphs too dense or too large for
that, and those with other nodes, are a *matrix*: a row per node, a column per shard. Tallies are
cells of the matrix; circles carry only their number in the caption.

The same arguments give the same bytes with the same version of matplotlib.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator

from shardgraph.errors import GraphError
from shardgraph.files import write_atomic
from shardgraph.graph.cost import Cost
from shardgraph.graph.layout import Layout, Point, layout_of
from shardgraph.graph.shard_graph import ShardGraph

_INK = "#243447"
_MUTED_INK = "#64748b"
_EDGE, _EDGE_TOUCHED = "#a3b8d2", "#e8741a"
_CLUSTER = "#f4f7fb"
_SIDE = 6.6  # inches, of the square that holds the graph
_MARGIN, _HEAD, _FOOT = 0.35, 1.25, 0.8  # inches around it
_POINTS = 72.0  # per inch


@dataclass(frozen=True, slots=True)
class _Style:
    """How one kind of node, or of matrix cell, looks."""

    label: str
    fill: str
    line: str
    text: str


_UNTOUCHED = _Style("node", "#dde8f5", "#6d92bf", "#3d5878")
_SUBTRACTS = _Style("subtracts", "#fff0c9", "#e0a81c", "#7a5a00")
_REFIT = _Style("refitted", "#f7a04b", "#b85608", "#4a2300")
_LOST = _Style("its shard loses samples", "#c4262e", "#7d1217", "#ffffff")

_CELLS = (
    _Style("", "#ffffff", "", ""),
    _Style("tallies", "#dbe6f3", "", ""),
    _Style("reads", "#4878ab", "", ""),
    _Style("tallies, to be redone", "#fde7cf", "", ""),
    _Style("reads, node refitted", "#f39a45", "", ""),
    _Style("tallies what is lost: subtracts", "#e2b93b", "", ""),
    _Style("reads what is lost", "#c4262e", "", ""),
)


@dataclass(frozen=True, slots=True)
class _Touched:
    """What a request touches; all empty for a graph at rest."""

    shards: frozenset[int]
    refit: frozenset[int]
    subtracting: frozenset[int]


def draw(
    graph: ShardGraph,
    path: str | Path,
    touched_shards: Iterable[int] = (),
    touched_nodes: Iterable[int] | None = None,
    *,
    cost: Cost | None = None,
) -> None:
    """Draw ``graph`` into ``path``, replacing what is there.

    Args:
        graph: the graph; readable up to about 256 nodes.
        path: ends in ``.svg`` or ``.png``.
        touched_shards: shards that lose samples. Nodes that tally one of them and are not refitted
            are marked as subtracting.
        touched_nodes: nodes that are refitted; None for those that read a touched shard.
        cost: what a request costs, for the caption.

    Raises:
        GraphError: another suffix, or no such shard or node.
        StoreError: the file cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise GraphError(
            f"Cannot draw a graph as {target.name!r}.", advice="Use a name ending in .svg or .png."
        )
    touched = _touched(graph, frozenset(touched_shards), touched_nodes)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "shardgraph"
        figure = _figure(graph, touched, cost)
        buffer = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    write_atomic(target, buffer.getvalue())


def _touched(graph: ShardGraph, shards: frozenset[int], nodes: Iterable[int] | None) -> _Touched:
    influenced = graph.influenced_by(shards)
    if nodes is None:
        refit = frozenset(node for shard in shards for node in graph.readers_of(shard))
    else:
        refit = frozenset(nodes)
    for node in refit:
        if not 0 <= node < len(graph.nodes):
            raise GraphError(
                f"There is no node {node}.", advice=f"Nodes go from 0 to {len(graph.nodes) - 1}."
            )
    return _Touched(shards, refit, influenced - refit)


def _figure(graph: ShardGraph, touched: _Touched, cost: Cost | None) -> Figure:
    width, height = _SIDE + 2 * _MARGIN, _SIDE + _HEAD + _FOOT
    figure = Figure(figsize=(width, height), facecolor="white")
    left, bottom = _MARGIN / width, _FOOT / height
    layout = layout_of(graph)
    inset = 0.3 if layout.view == "matrix" else 0.0  # room for the names of the axes
    axes = figure.add_axes(
        (
            left + inset / width,
            bottom + inset / height,
            (_SIDE - inset) / width,
            (_SIDE - inset) / height,
        )
    )
    _write_caption(figure, graph, touched, cost)
    if layout.view == "matrix":
        handles = _draw_matrix(axes, graph, touched)
    else:
        handles = _draw_circles(axes, graph, layout, touched)
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=3 if len(handles) != 4 else 2,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handletextpad=0.5,
        columnspacing=1.6,
        bbox_to_anchor=(0.5, 0.1 / height),
    )
    return figure


def _write_caption(figure: Figure, graph: ShardGraph, touched: _Touched, cost: Cost | None) -> None:
    width, height = figure.get_size_inches()
    lines = [_counts(graph)]
    if cost is not None:
        lines.append(_cost_line(cost))
    if touched.shards or touched.refit:
        lines.append(_touched_line(graph, touched))
    left = _MARGIN / width
    figure.text(
        left, 1 - 0.28 / height, graph.name, fontsize=17, weight="bold", color=_INK, va="center"
    )
    for number, line in enumerate(lines):
        y = 1 - (0.55 + 0.19 * number) / height
        figure.text(left, y, line, fontsize=9.5, color=_MUTED_INK, va="center")


def _counts(graph: ShardGraph) -> str:
    reads = _average([len(node.reads) for node in graph.nodes])
    text = f"{_of(graph.shards, 'shard')}, {_of(len(graph.nodes), 'node')}; a node reads {reads}"
    tallies = [len(node.tallies) for node in graph.nodes]
    return f"{text} and tallies {_average(tallies)}" if any(tallies) else text


def _average(counts: Sequence[int]) -> str:
    if min(counts) == max(counts):
        return _of(counts[0], "shard")
    return f"{math.fsum(counts) / len(counts):.3g} shards on average"


def _of(count: float, noun: str) -> str:
    number = f"{count:,}" if isinstance(count, int) else f"{count:.3g}"
    return f"{number} {noun}{'' if count == 1 else 's'}"


def _cost_line(cost: Cost) -> str:
    mean = cost.expected
    text = (
        f"One request, expected: {_of(mean.nodes_refit, 'node')} refitted on "
        f"{mean.adapter_samples:,.0f} samples ({mean.distinct_samples:,.0f} distinct)"
    )
    return f"{text}, {mean.nodes_subtracting:.3g} subtract" if mean.nodes_subtracting else text


def _touched_line(graph: ShardGraph, touched: _Touched) -> str:
    untouched = len(graph.nodes) - len(touched.refit | touched.subtracting)
    parts = [f"{_of(len(touched.shards), 'shard')} touched"]
    parts.append(f"{_of(len(touched.refit), 'node')} refitted")
    if touched.subtracting:
        parts.append(f"{len(touched.subtracting)} subtract")
    return f"This request: {', '.join(parts)}, {untouched} untouched"


def _draw_circles(axes: Axes, graph: ShardGraph, layout: Layout, touched: _Touched) -> list[Line2D]:
    scale = _fit(axes, layout)
    for centre, radius in layout.clusters:
        axes.add_patch(Circle(centre, radius, facecolor=_CLUSTER, edgecolor="#dbe3ee", lw=0.8))
    _draw_edges(axes, graph, layout, touched, scale)
    for node, ((x, y), radius) in enumerate(zip(layout.points, layout.radii, strict=True)):
        style = _node_style(node, touched)
        disc = Circle((x, y), radius, fc=style.fill, ec=style.line, zorder=3)
        strong = style in (_LOST, _REFIT)
        disc.set_linewidth(min(2.0 if strong else 1.0, 0.12 * radius * scale))
        axes.add_patch(disc)
        size = min(1.05 * radius * scale, 11.0)
        if size >= 4:
            axes.text(
                x,
                y,
                str(node),
                fontsize=size * 0.85,
                color=style.text,
                zorder=4,
                ha="center",
                va="center_baseline",
            )
    return _circle_legend(graph, touched)


def _fit(axes: Axes, layout: Layout) -> float:
    """Fit the axes around the layout; the printed points per unit of the layout."""
    reach = [*zip(layout.points, layout.radii, strict=True), *layout.clusters]
    left = min(x - r for (x, _), r in reach)
    right = max(x + r for (x, _), r in reach)
    low = min(y - r for (_, y), r in reach)
    high = max(y + r for (_, y), r in reach)
    side = max(right - left, high - low, 16.0) * 1.02
    middle_x, middle_y = (left + right) / 2, (low + high) / 2
    axes.set_xlim(middle_x - side / 2, middle_x + side / 2)
    axes.set_ylim(middle_y - side / 2, middle_y + side / 2)
    axes.set_axis_off()
    return _SIDE * _POINTS / side


def _node_style(node: int, touched: _Touched) -> _Style:
    if node in touched.shards:
        return _LOST
    if node in touched.refit:
        return _REFIT
    return _SUBTRACTS if node in touched.subtracting else _UNTOUCHED


def _draw_edges(
    axes: Axes, graph: ShardGraph, layout: Layout, touched: _Touched, scale: float
) -> None:
    """An arrow per read, or a plain line where two nodes read each other."""
    crowded = sum(len(node.reads) - 1 for node in graph.nodes) > 100
    for number, node in enumerate(graph.nodes):
        for shard in node.reads:
            mutual = number in graph.nodes[shard].reads
            if shard == number or (mutual and shard < number):
                continue
            hot = shard in touched.shards or (mutual and number in touched.shards)
            curve = _curve(layout, number, shard)
            axes.add_patch(
                FancyArrowPatch(
                    path=curve,
                    arrowstyle="-" if mutual else "-|>",
                    mutation_scale=min(11.0, 0.7 * scale),
                    color=_EDGE_TOUCHED if hot else _EDGE,
                    lw=1.7 if hot else 0.6 if crowded else 0.9,
                    zorder=2.5 if hot else 2,
                )
            )


def _curve(layout: Layout, node: int, shard: int) -> Curve:
    """From the rim of one circle to that of another, bent towards the middle of a wheel."""
    start, end = layout.points[node], layout.points[shard]
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    pull = 0.3 * math.dist(start, end) if layout.view == "wheel" else 0.0
    control = _towards(middle, (0.0, 0.0), min(pull, math.hypot(*middle)))
    first = _towards(start, end if control == start else control, layout.radii[node])
    last = _towards(end, start if control == end else control, 1.12 * layout.radii[shard])
    return Curve([first, control, last], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.dist(start, end)
    if length == 0:
        return start
    share = distance / length
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


def _circle_legend(graph: ShardGraph, touched: _Touched) -> list[Line2D]:
    used = {_node_style(node, touched) for node in range(len(graph.nodes))}
    handles = [
        Line2D([], [], ls="", marker="o", ms=9, mfc=s.fill, mec=s.line, label=_legend_name(s, used))
        for s in (_LOST, _REFIT, _SUBTRACTS, _UNTOUCHED)
        if s in used
    ]
    pairs = {(node, shard) for node, n in enumerate(graph.nodes) for shard in n.reads}
    mutual = {(shard, node) in pairs for node, shard in pairs if node != shard}
    if False in mutual:
        label = "arrow: node to shard it reads"
        handles.append(Line2D([], [], color=_EDGE, lw=1.2, marker=">", ms=5, label=label))
    if True in mutual:
        handles.append(Line2D([], [], color=_EDGE, lw=1.2, label="line: read each other"))
    return handles


def _legend_name(style: _Style, used: set[_Style]) -> str:
    return "untouched" if style == _UNTOUCHED and len(used) > 1 else style.label


def _draw_matrix(axes: Axes, graph: ShardGraph, touched: _Touched) -> list[Line2D]:
    cells = [[0] * graph.shards for _ in graph.nodes]
    for number, node in enumerate(graph.nodes):
        refit = number in touched.refit
        for shard in node.tallies:
            cells[number][shard] = 3 if refit else 5 if shard in touched.shards else 1
        for shard in node.reads:
            lost = shard in touched.shards
            cells[number][shard] = 6 if lost else 4 if refit else 2
    colours = ListedColormap([style.fill for style in _CELLS])
    axes.imshow(
        cells, cmap=colours, vmin=-0.5, vmax=len(_CELLS) - 0.5, interpolation="none", aspect="auto"
    )
    axes.set_xlabel("shard", color=_MUTED_INK, fontsize=9.5)
    axes.set_ylabel("node", color=_MUTED_INK, fontsize=9.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=_MUTED_INK, labelsize=8.5, length=2.5)
    for spine in axes.spines.values():
        spine.set_color("#c3cedd")
    _mark_touched(axes, graph, touched)
    used = sorted({cell for row in cells for cell in row} - {0}, reverse=True)
    return [
        Line2D([], [], ls="", marker="s", ms=9, color=_CELLS[cell].fill, label=_CELLS[cell].label)
        for cell in used
    ]


def _mark_touched(axes: Axes, graph: ShardGraph, touched: _Touched) -> None:
    """Small triangles: above the columns that lose samples, beside the rows that are refitted."""
    for shard in sorted(touched.shards):
        axes.plot(
            [shard],
            [1.008],
            marker="v",
            ms=6,
            color=_LOST.fill,
            ls="",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    if len(touched.refit) < len(graph.nodes):
        for node in sorted(touched.refit):
            axes.plot(
                [1.008],
                [node],
                marker="<",
                ms=5,
                color=_REFIT.line,
                ls="",
                transform=axes.get_yaxis_transform(),
                clip_on=False,
            )
