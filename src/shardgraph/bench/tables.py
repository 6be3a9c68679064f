"""Results as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from shardgraph.bench.summary import (
    COSTS,
    OURS,
    Figure,
    Record,
    Row,
    beaten_by,
    front,
    of_kind,
    rows,
    streams,
    where,
)


def page(records: Sequence[Record], runs: Sequence[Record]) -> str:
    """All tables of a run, data set by data set."""
    parts = ["# Results", "", conditions(records), "", *map(run_line, runs)]
    for place in places(records):
        here = [record for record in records if where(record) == place]
        found = rows(here)
        parts += ["", f"## {place[0]}, {place[1]}", "", comparison(found)]
        parts += ["", "### At equal cost of forgetting", "", equal_cost(found)]
        parts += ["", "### Points of rivals that tallies do not beat", "", unbeaten(found)]
        for (data, encoder, order), titles in streams(here).items():
            if (data, encoder) == place:
                parts += ["", f"### A stream of {order} deletions", "", stream_table(titles)]
        if timed := of_kind(here, "latency"):
            parts += ["", "### One request through a store", "", latency_table(timed)]
        if tuned := of_kind(here, "tuning"):
            parts += ["", "### Settings", "", tuning_table(tuned[-1])]
    return "\n".join(parts) + "\n"


def places(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Data sets and encoders, in the order in which they were run."""
    return list(dict.fromkeys(where(record) for record in records))


def conditions(records: Sequence[Record]) -> str:
    """When and on what the records were made, in a line."""
    commits = sorted({record["commit"] for record in records})
    machines = sorted({record["machine"]["cpu"] for record in records})
    loads = [record["machine"]["load_average"][0] for record in records]
    return (
        f"{len(records)} cells; commits {', '.join(commits)}; processor {', '.join(machines)}; "
        f"load average while they were measured {min(loads):.1f} to {max(loads):.1f}. Seconds are "
        "processor seconds of all threads. Intervals are 95 % over seeds (Student's t)."
    )


def run_line(run: Record) -> str:
    """How long a run took, and whether it measured everything itself."""
    earlier = f"; {run['cells_found']} of them were there already" if run["cells_found"] else ""
    return (
        f"{run['cells']} cells in {run['wall_seconds'] / 60:.1f} minutes, "
        f"{run['jobs']} at a time{earlier}."
    )


def comparison(found: Sequence[Row]) -> str:
    """Every method: accuracy, accuracy while fenced, cost of one deletion, cost of answers."""
    fronts = {measure: front(found, measure) for measure in COSTS}
    lines = [
        [
            _marked(row),
            str(row.seeds),
            row.accuracy.percent(),
            while_fenced(row),
            *(cost(row, measure) + (" *" if row in fronts[measure] else "") for measure in COSTS),
            f"{row.predict:.2f}",
        ]
        for row in sorted(found, key=lambda row: -row.accuracy.mean)
    ]
    head = [
        "method",
        "seeds",
        "accuracy, %",
        "while a request is carried out, %",
        "one deletion: samples",
        "passes",
        "seconds",
        "1,000 answers: seconds",
    ]
    note = (
        "\n\\* on the front of accuracy against this cost. "
        "† removes the sample but is not what a fresh fit would be."
    )
    return table(head, lines) + note


def short(records: Sequence[Record], titles: Sequence[str]) -> str:
    """Some methods on all data sets: accuracy, and the passes and milliseconds of a deletion."""
    found = {place: {row.title: row for row in at} for place, at in _by_place(records).items()}
    head = ["method"]
    for data, encoder in found:
        head += [f"{data}, {encoder.partition(':')[0]}: accuracy, %", "passes", "ms"]
    lines = []
    for title in titles:
        known = [row for at in found.values() if (row := at.get(title)) is not None]
        line = [_marked(known[0]) if known else title]
        for of_title in found.values():
            row = of_title.get(title)
            if row is None:
                line += ["", "", ""]
            else:
                line += [row.accuracy.percent(), cost(row, "passes")]
                line.append(number(1000 * row.cost["seconds"]))
        lines.append(line)
    return table(head, lines)


def _by_place(records: Sequence[Record]) -> dict[tuple[str, str], list[Row]]:
    return {
        place: rows([record for record in records if where(record) == place])
        for place in places(records)
    }


def while_fenced(row: Row) -> str:
    """Accuracy while a request is carried out, as text."""
    if row.fenced is None:
        return "none can answer"
    silent = f" (none in {row.silent} of {row.seeds})" if row.silent else ""
    return row.fenced.percent() + silent


def equal_cost(found: Sequence[Row]) -> str:
    """Each shard graph beside the SISA of the nearest cost in passes that is no cheaper to beat."""
    sisa = [row for row in found if row.spec.family == "sisa" and row.spec.vote is None]
    lines = []
    for row in found:
        if row.spec.family not in ("safe", "safe-tallies") or not sisa:
            continue
        rival = min(sisa, key=lambda other: _apart(row.cost["passes"], other.cost["passes"]))
        difference = 100 * (row.accuracy.mean - rival.accuracy.mean)
        lines.append(
            [
                row.title,
                cost(row, "passes"),
                row.accuracy.percent(),
                rival.title,
                cost(rival, "passes"),
                rival.accuracy.percent(),
                f"{difference:+.1f}",
            ]
        )
    head = [
        "graph",
        "passes",
        "accuracy, %",
        "SISA of nearest cost",
        "passes",
        "accuracy, %",
        "gain",
    ]
    return table(head, lines)


def unbeaten(found: Sequence[Row]) -> str:
    """Rivals for which no method with tallies is as cheap and more accurate, by measure."""
    ours = [row for row in found if row.spec.family in OURS]
    lines = []
    for row in found:
        if row.spec.family in OURS:
            continue
        open_in = [COSTS[m] for m in COSTS if not beaten_by(row, ours, m)]
        if open_in:
            costs = ", ".join(f"{cost(row, measure)} {measure}" for measure in COSTS)
            lines.append([_marked(row), row.accuracy.percent(), costs, ", ".join(open_in)])
    if not lines:
        return "None: at every cost some method with tallies is more accurate."
    return table(["rival", "accuracy, %", "one deletion", "not beaten in"], lines)


def stream_table(titles: dict[str, list[Record]]) -> str:
    """Accuracy at each checkpoint, and what all deletions up to the last took together."""
    first = next(iter(titles.values()))[0]["results"]["points"]
    head = [
        "method",
        "seeds",
        *(f"after {point['deletions']:,}" for point in first),
        *(f"total {name}" for name in COSTS.values()),
    ]
    lines = []
    for title, records in titles.items():
        points = zip(*(record["results"]["points"] for record in records), strict=True)
        accuracies = [Figure.of([p["accuracy"] for p in at]).percent() for at in points]
        totals = [
            number(statistics.mean(record["results"]["totals"][name] for record in records))
            for name in COSTS
        ]
        lines.append([title, str(len(records)), *accuracies, *totals])
    return table(head, lines) + (
        "\nTotals are interpolated between the requests that were measured at the checkpoints."
    )


def latency_table(records: Sequence[Record]) -> str:
    """Milliseconds of one request, medians."""
    names = {
        "fence_seconds": "fenced after",
        "publish_seconds": "new answers after",
        "receipt_seconds": "receipt after",
        "processor_seconds": "processor time",
        "first_answer_seconds": "first answer takes",
    }
    lines = [
        [
            record["config"]["title"],
            *(f"{1000 * record['results'][name]:,.0f}" for name in names),
            f"{record['results']['store_bytes'] / 1e6:,.0f}",
        ]
        for record in records
    ]
    return table(["store", *(f"{name}, ms" for name in names.values()), "MB on disk"], lines)


def tuning_table(record: Record) -> str:
    """What was chosen, from how many candidates."""
    tuned = record["results"]["tuned"]
    chosen = [
        (f"adapter, 1/{parts} of the data", value) for parts, value in tuned["adapter"].items()
    ]
    chosen += [(f"vote of {parts} shards", {"vote": vote}) for parts, vote in tuned["vote"].items()]
    chosen += list(tuned["families"].items())
    lines = [[name, _settings(value)] for name, value in chosen]
    return (
        f"{len(record['results']['trials'])} candidates fitted and scored on training data.\n\n"
        + table(["for", "chosen"], lines)
    )


def cost(row: Row, measure: str) -> str:
    """One deletion's cost as text."""
    return number(row.cost[measure])


def number(value: float) -> str:
    """Three figures that matter; thousands with commas."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    ruled = ["|" + "---|" * len(head)]
    return "\n".join(["| " + " | ".join(head) + " |", *ruled, *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _marked(row: Row) -> str:
    return row.title + (" †" if row.removes_only else "")


def _apart(one: float, other: float) -> float:
    """How far two costs are apart, as a ratio."""
    low, high = sorted((max(one, 1.0), max(other, 1.0)))
    return high / low


def _settings(value: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(item)}" for name, item in value.items()) or "defaults"
