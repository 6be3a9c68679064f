"""Results as pictures, SVG and PNG. The same records give the same bytes."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from shardgraph.bench.summary import (
    COSTS,
    GROUPS,
    Figure,
    Record,
    Row,
    front,
    of_kind,
    rows,
    streams,
    where,
)
from shardgraph.bench.tables import places
from shardgraph.files import make_directory, write_atomic

STYLES = {
    "no sharding": ("#000000", "s"),
    "SISA": ("#D55E00", "o"),
    "SISA with slices": ("#E69F00", "v"),
    "ProtoSISA": ("#CC79A7", "D"),
    "S3T policy": ("#8C6D1F", "X"),
    "SAFE graphs": ("#56B4E9", "^"),
    "SAFE + tallies": ("#0072B2", "P"),
    "random attention + tallies": ("#009E73", "*"),
    "pooled baselines": ("#7F7F7F", "h"),
}
"""Colour and marker of each group: the palette of Okabe and Ito, told apart by shape as well."""

INK, MUTED = "#243447", "#64748b"
CHEAPEST = {"samples": 0.5, "passes": 0.5, "seconds": 1e-4}
"""Where a cost of nothing, or of next to nothing, is drawn on a logarithmic axis."""

TITLED_COSTS = {
    "samples": "samples gone through",
    "passes": "passes of a light model over a sample",
    "seconds": "processor seconds",
}


def draw_all(records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw everything that the records hold, for each data set and encoder; the files written."""
    written: list[Path] = []
    for place in places(records):
        here = [record for record in records if where(record) == place]
        found = rows(here)
        title = f"{place[0]}, {place[1]}"
        stem = re.sub("[^A-Za-z0-9]+", "-", title)
        if found:
            written += save(by_shards(found, title), folder / f"{stem}-shards")
            written += save(by_cost(found, title), folder / f"{stem}-cost")
            written += save(while_fenced(found, title), folder / f"{stem}-fenced")
        if of_kind(here, "stream"):
            written += save(by_deletions(here, title), folder / f"{stem}-stream")
        if timed := of_kind(here, "latency"):
            written += save(by_latency(timed, title), folder / f"{stem}-latency")
    if any(_per_class(records)):
        written += save(by_shard_size(records), folder / "shard-size")
    return written


def save(canvas: Canvas, stem: Path) -> list[Path]:
    """Write a picture as SVG and PNG."""
    make_directory(stem.parent)
    paths = []
    for suffix in (".svg", ".png"):
        held = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "path"}):
            metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
            canvas.savefig(held, format=suffix[1:], dpi=130, metadata=metadata)
        paths.append(stem.with_name(stem.name + suffix))
        write_atomic(paths[-1], held.getvalue())
    return paths


def by_shards(found: Sequence[Row], title: str) -> Canvas:
    """Accuracy by number of shards; methods without shards are level lines.

    Of graphs with tallies the best preset at each number of shards is drawn.
    """
    canvas, (axes,) = _canvas(f"Accuracy by number of shards: {title}", 1)
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if row.spec.family in ("sisa", "sisa-sliced", "proto-sisa", "s3t", "safe", "safe-tallies"):
            lines.setdefault((row.group, _line_name(row)), []).append(row)
    for (group, name), line in lines.items():
        line = _best_by_shards(line)
        colour, marker = STYLES[group]
        closed_form = line[0].spec.representation == "discriminant"
        hollow = group == "SAFE + tallies" and closed_form
        axes.errorbar(
            [row.spec.shards for row in line],
            [100 * row.accuracy.mean for row in line],
            yerr=[100 * row.accuracy.half for row in line],
            color=colour,
            marker=marker,
            fillstyle="none" if hollow else "full",
            linestyle="--" if hollow else "-",
            markersize=7,
            capsize=2,
            linewidth=1.6 if len(line) > 1 else 0,
            label=name,
        )
    for row in found:
        if row.spec.family in ("unsharded", "tallied", "ridge"):
            colour, _ = STYLES[row.group]
            axes.axhline(
                100 * row.accuracy.mean,
                color=colour,
                linestyle=_DASHES[row.spec.family],
                linewidth=1.3,
                label=row.title,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("shards")
    axes.set_ylabel("test accuracy, %")
    _legend(axes)
    return canvas


def by_cost(found: Sequence[Row], title: str) -> Canvas:
    """Accuracy against what one deletion takes, a panel per measure, with the front."""
    canvas, panels = _canvas(f"Accuracy against the cost of forgetting one sample: {title}", 3)
    for axes, measure in zip(panels, COSTS, strict=True):
        _against_cost(axes, found, measure)
    panels[0].set_ylabel("test accuracy, %")
    _legend(panels[-1])
    return canvas


def overview(records: Sequence[Record]) -> Canvas:
    """Accuracy against passes, a panel per data set and encoder."""
    shown = places(records)
    columns = min(2, len(shown))
    canvas, panels = _canvas(
        "Accuracy against the cost of forgetting one sample",
        columns,
        rows=-(-len(shown) // columns),
    )
    for axes, place in zip(panels, shown, strict=False):
        _against_cost(axes, rows([r for r in records if where(r) == place]), "passes")
        axes.set_title(f"{place[0]}, {place[1].partition(':')[0]}", fontsize=10, color=INK)
        axes.set_ylabel("test accuracy, %")
    fullest = max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    _legend(panels[columns - 1], fullest)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    return canvas


def _against_cost(axes: Axes, found: Sequence[Row], measure: str) -> None:
    """Every method, and the front. Points far below the others are left out."""
    least, low = CHEAPEST[measure], _low(found)
    for group, (colour, marker) in STYLES.items():
        members = [r for r in found if r.group == group and 100 * r.accuracy.mean > low]
        if members:
            axes.errorbar(
                [max(row.cost[measure], least) for row in members],
                [100 * row.accuracy.mean for row in members],
                yerr=[100 * row.accuracy.half for row in members],
                color=colour,
                marker=marker,
                markersize=10 if marker == "*" else 7,
                elinewidth=0.8,
                linewidth=0,
                label=group,
            )
        for row in members:
            if row.spec.shards > 1:
                place = (max(row.cost[measure], least), 100 * row.accuracy.mean)
                _note(axes, str(row.spec.shards), place)
    best = front(found, measure)
    axes.step(
        [max(row.cost[measure], least) for row in best],
        [100 * row.accuracy.mean for row in best],
        where="post",
        color=INK,
        linewidth=1,
        linestyle=":",
        zorder=0,
        label="front",
    )
    axes.set_xscale("log")
    axes.set_xlabel(TITLED_COSTS[measure])
    axes.set_ylim(bottom=low)


def while_fenced(found: Sequence[Row], title: str) -> Canvas:
    """Accuracy while a request is carried out beside that at rest."""
    shown = sorted(found, key=lambda row: row.accuracy.mean)
    canvas, (axes,) = _canvas(
        f"While a request is carried out: {title}", 1, height=1 + 0.27 * len(shown)
    )
    for place, row in enumerate(shown):
        colour, marker = STYLES[row.group]
        rest = 100 * row.accuracy.mean
        axes.plot(rest, place, marker=marker, color=colour, markersize=8)
        if row.silent:
            often = "" if row.fenced is None else f" in {row.silent} of {row.seeds}"
            _note(axes, f"none can answer{often}", (rest, place))
        if row.fenced is not None:
            axes.plot([rest, 100 * row.fenced.mean], [place, place], color=colour, linewidth=1.2)
            axes.plot(
                100 * row.fenced.mean,
                place,
                marker=marker,
                color=colour,
                markersize=8,
                fillstyle="none",
            )
    axes.set_yticks(range(len(shown)), [row.title for row in shown], fontsize=8)
    axes.set_xlabel("test accuracy, %; filled: at rest, open: nodes that never saw the sample")
    axes.margins(x=0.25)
    return canvas


def by_deletions(records: Sequence[Record], title: str) -> Canvas:
    """Accuracy over a stream of deletions, and what they took in all, a row per order."""
    found = streams(records)
    canvas, panels = _canvas(f"A stream of deletions: {title}", 2, rows=len(found))
    for row, ((_, _, order), titles) in enumerate(found.items()):
        left, right = panels[2 * row], panels[2 * row + 1]
        drawn: list[str] = []
        for name, members in titles.items():
            group = GROUPS[members[0]["config"]["family"]]
            colour, marker = STYLES[group]
            dash = _BY_PLACE[drawn.count(group)]
            drawn.append(group)
            points = list(zip(*(member["results"]["points"] for member in members), strict=True))
            deletions = [at[0]["deletions"] for at in points]
            accuracies = [Figure.of([point["accuracy"] for point in at]) for at in points]
            left.errorbar(
                deletions,
                [100 * figure.mean for figure in accuracies],
                yerr=[100 * figure.half for figure in accuracies],
                color=colour,
                linestyle=dash,
                marker=marker,
                capsize=2,
                label=name,
            )
            each = [statistics.mean(p["forget"]["passes"] for p in at) for at in points]
            totals = [
                float(np.trapezoid(each[: i + 1], deletions[: i + 1])) for i in range(len(each))
            ]
            right.plot(
                deletions[1:],
                [max(total, CHEAPEST["passes"]) for total in totals[1:]],
                color=colour,
                linestyle=dash,
                marker=marker,
            )
        left.set_ylabel(f"{order}: test accuracy, %")
        right.set_ylabel("passes in all")
        right.set_yscale("log")
        for axes in (left, right):
            axes.set_xlabel("samples deleted, one by one")
    _legend(panels[1], panels[0])
    return canvas


def by_latency(records: Sequence[Record], title: str) -> Canvas:
    """Milliseconds to fence, to publish and to the receipt."""
    canvas, (axes,) = _canvas(
        f"One request through a store: {title}", 1, height=1.6 + 0.5 * len(records)
    )
    names = {
        "fence_seconds": "fenced",
        "publish_seconds": "new answers",
        "receipt_seconds": "receipt",
    }
    for number, (name, label) in enumerate(names.items()):
        colour, marker = _LINE_STYLES[number]
        axes.plot(
            [1000 * record["results"][name] for record in records],
            range(len(records)),
            color=colour,
            marker=marker,
            markersize=9,
            linewidth=0,
            label=label,
        )
    axes.set_yticks(range(len(records)), [record["config"]["title"] for record in records])
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds after the request (median)")
    axes.margins(y=0.3)
    _legend(axes)
    return canvas


def by_shard_size(records: Sequence[Record]) -> Canvas:
    """Accuracy lost against no sharding, by samples of one class in one shard."""
    canvas, (axes,) = _canvas("What small shards cost", 1)
    for number, (place, lines) in enumerate(_per_class(records)):
        for family, points in lines.items():
            colour, marker = STYLES[family]
            axes.plot(
                [size for size, _ in points],
                [lost for _, lost in points],
                color=colour,
                marker=marker,
                linestyle=_BY_PLACE[number % len(_BY_PLACE)],
                label=f"{family}, {place}",
            )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("samples of one class in one shard")
    axes.set_ylabel("points of accuracy against one unsharded adapter")
    _legend(axes)
    return canvas


_DASHES = {"unsharded": "--", "tallied": "-.", "ridge": ":"}
_BY_PLACE = ("-", "--", ":", "-.")
_LINE_STYLES = [
    ("#D55E00", "o"),
    ("#0072B2", "P"),
    ("#009E73", "*"),
    ("#CC79A7", "D"),
    ("#000000", "s"),
    ("#56B4E9", "^"),
    ("#E69F00", "v"),
    ("#7F7F7F", "h"),
]


def _per_class(records: Sequence[Record]) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """For each place, (samples per class and shard, points lost) by group, largest first."""
    result = []
    for place in places(records):
        here = [record for record in records if where(record) == place]
        found = rows(here)
        whole = [row for row in found if row.spec.family == "unsharded" and not row.spec.nodes]
        sizes = [r["results"]["samples_per_class"] for r in of_kind(here, "compare")]
        if not whole:
            continue
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in found:
            if row.spec.family in ("sisa", "proto-sisa", "safe-tallies") and not row.spec.vote:
                lost = 100 * (row.accuracy.mean - whole[0].accuracy.mean)
                lines.setdefault(row.group, []).append((sizes[0] / row.spec.shards, lost))
        best = {group: _best_of_each(points) for group, points in lines.items()}
        result.append((", ".join(place), best))
    return result


def _best_of_each(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    best: dict[float, float] = {}
    for size, lost in points:
        best[size] = max(lost, best.get(size, lost))
    return sorted(best.items(), reverse=True)


def _line_name(row: Row) -> str:
    """What a line of `by_shards` is called: the title without the number of shards."""
    spec = row.spec
    if spec.family == "safe-tallies":
        return f"SAFE {spec.graph} + tallies, {spec.representation}"
    if spec.family == "safe":
        return f"SAFE {spec.graph}"
    return row.group + (f", {spec.vote} vote" if spec.vote else "")


def _best_by_shards(line: Sequence[Row]) -> list[Row]:
    best: dict[int, Row] = {}
    for row in line:
        held = best.get(row.spec.shards)
        if held is None or row.accuracy.mean > held.accuracy.mean:
            best[row.spec.shards] = row
    return [best[shards] for shards in sorted(best)]


def _low(found: Sequence[Row]) -> float:
    """Where the accuracy axis begins: far outliers are cut off."""
    ordered = sorted(100 * row.accuracy.mean for row in found)
    return max(ordered[0] - 2, ordered[len(ordered) // 2] - 25)


def _canvas(
    title: str, columns: int, *, rows: int = 1, height: float = 4.6
) -> tuple[Canvas, list[Axes]]:
    canvas = Canvas(figsize=(3.6 * columns + 5.2, height * rows), layout="constrained")
    canvas.suptitle(title, color=INK, fontsize=12, x=0.01, ha="left")
    found = [canvas.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for axes in found:
        axes.grid(color="#e5e9f0", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
    return canvas, found


def _note(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """A small remark beside a point."""
    axes.annotate(
        text,
        place,
        xytext=(7, 0),
        textcoords="offset points",
        color=MUTED,
        fontsize=7,
        va="center",
    )


def _legend(axes: Axes, source: Axes | None = None) -> None:
    """A legend beside the last panel."""
    handles, labels = (source or axes).get_legend_handles_labels()
    axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False
    )
