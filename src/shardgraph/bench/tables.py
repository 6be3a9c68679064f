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

READ_AS = (
    "Seconds are processor seconds of all threads. Intervals are 95 % over seeds (Student's t)."
)


def page(records: Sequence[Record], runs: Sequence[Record]) -> str:
    """All tables of a run, data set by data set."""
    parts = ["# Results", "", " ".join(map(run_line, runs)), conditions(records), "", READ_AS]
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
            parts += ["", "### Settings", "", tuning_table(tuned)]
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
        f"Commits {', '.join(commits)}; processor {', '.join(machines)}; load average while cells "
        f"were measured {min(loads):.1f} to {max(loads):.1f}."
    )


def run_line(run: Record) -> str:
    """How long a run took, if it measured everything itself."""
    if run["cells_found"]:
        return f"{run['cells']} cells, measured in several runs."
    minutes = run["wall_seconds"] / 60
    return f"{run['cells']} cells in {minutes:.1f} minutes, {run['jobs']} at a time."


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


def across(records: Sequence[Record], named: Sequence[tuple[str, str]]) -> str:
    """Some methods on all data sets and encoders: (what the line is called, title of the method).

    Accuracy at each place, and between which figures what a deletion takes lies over them.
    """
    found = [
        (place, {row.title: row for row in rows(r for r in records if where(r) == place)})
        for place in places(records)
    ]
    head = [
        "method",
        *(f"{data}, {encoder.partition(':')[0]}: accuracy, %" for (data, encoder), _ in found),
        "one deletion: passes",
        "milliseconds",
    ]
    lines = []
    for name, title in named:
        members = [at.get(title) for _, at in found]
        known = [row for row in members if row is not None]
        lines.append(
            [
                name + (" †" if known and known[0].removes_only else ""),
                *("not measured" if row is None else row.accuracy.percent() for row in members),
                _between([row.cost["passes"] for row in known]),
                _between([1000 * row.cost["seconds"] for row in known]),
            ]
        )
    return table(head, lines)


def _between(values: Sequence[float]) -> str:
    """The least and the greatest value, as text."""
    ends = dict.fromkeys(number(value) for value in (min(values), max(values))) if values else {}
    return " to ".join(ends)


def gains(records: Sequence[Record], titles: Sequence[str]) -> str:
    """Points of accuracy that shard graphs gain over SISA: at equal n, and at equal cost."""
    shown = places(records)
    head = ["graph"]
    head += [f"{data}, {encoder.partition(':')[0]}: at equal n; cost" for data, encoder in shown]
    lines = []
    for title in titles:
        line = [title]
        for place in shown:
            found = {row.title: row for row in rows(r for r in records if where(r) == place)}
            row, sisa = found.get(title), _sisa(found.values())
            equal = [one for one in sisa if row is not None and one.spec.shards == row.spec.shards]
            if row is None or not equal:
                line.append("not measured")
            else:
                line.append(f"{_gain(row, equal[0])}; {_gain(row, _nearest_cost(row, sisa))}")
        lines.append(line)
    return table(head, lines)


def while_fenced(row: Row) -> str:
    """Accuracy while a request is carried out, as text."""
    if row.fenced is None:
        return "none can answer"
    silent = f" (none in {row.silent} of {row.seeds})" if row.silent else ""
    return row.fenced.percent() + silent


def equal_cost(found: Sequence[Row]) -> str:
    """Each shard graph beside the SISA of the nearest cost in passes that is no cheaper to beat."""
    sisa = _sisa(found)
    lines = []
    for row in found:
        if row.spec.family not in ("safe", "safe-tallies") or not sisa:
            continue
        rival = _nearest_cost(row, sisa)
        lines.append(
            [
                row.title,
                cost(row, "passes"),
                row.accuracy.percent(),
                rival.title,
                cost(rival, "passes"),
                rival.accuracy.percent(),
                _gain(row, rival),
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


def _sisa(found: Iterable[Row]) -> list[Row]:
    return [row for row in found if row.spec.family == "sisa" and row.spec.vote is None]


def _nearest_cost(row: Row, rivals: Sequence[Row]) -> Row:
    return min(rivals, key=lambda other: _apart(row.cost["passes"], other.cost["passes"]))


def _gain(row: Row, other: Row) -> str:
    return f"{100 * (row.accuracy.mean - other.accuracy.mean):+.1f}"


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


def tuning_table(records: Sequence[Record]) -> str:
    """What was chosen, from how many candidates; a later record has the last word."""
    chosen: dict[str, dict[str, Any]] = {}
    for record in records:
        tuned = record["results"]["tuned"]
        chosen |= {
            f"adapter, 1/{parts} of the data": tuned["adapter"][parts]
            for parts in sorted(tuned["adapter"], key=float)
        }
        chosen |= {
            f"vote of {parts} shards": {"vote": tuned["vote"][parts]}
            for parts in sorted(tuned["vote"], key=float)
        }
        chosen |= tuned["families"]
    tried = sum(len(record["results"]["trials"]) for record in records)
    lines = [[name, _settings(value)] for name, value in chosen.items()]
    return f"{tried} candidates fitted and scored on training data.\n\n" + table(
        ["for", "chosen"], lines
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
