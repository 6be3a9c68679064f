"""From records to figures with intervals: what tables and plots are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shardgraph.bench.methods.catalogue import Spec

Record = dict[str, Any]

COSTS = {"samples": "samples", "passes": "passes", "seconds": "processor seconds"}
"""The three measures of what a deletion takes."""

GROUPS = {
    "unsharded": "no sharding",
    "sisa": "SISA",
    "sisa-sliced": "SISA with slices",
    "proto-sisa": "ProtoSISA",
    "s3t": "S3T policy",
    "safe": "SAFE graphs",
    "safe-tallies": "SAFE + tallies",
    "tallied": "random attention + tallies",
    "ridge": "pooled baselines",
    "means": "pooled baselines",
    "neighbours": "pooled baselines",
    "probe": "pooled baselines",
}
"""What plots call the families; those of one name share a colour."""

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % points of Student's t for 1 to 9 degrees of freedom; the last also serves for more."""

OURS = ("safe-tallies", "tallied")
"""Families with tallies."""


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and half the width of its 95 % interval (Student's t); 0 for one seed."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The mean of one value per seed."""
        if len(values) < 2:
            return cls(values[0], 0.0)
        reach = STUDENT[min(len(values) - 2, len(STUDENT) - 1)]
        spread = statistics.stdev(values) / math.sqrt(len(values))
        return cls(statistics.mean(values), reach * spread)

    def percent(self) -> str:
        """As a percentage, with its interval where there is one."""
        text = f"{100 * self.mean:.1f}"
        return f"{text} ± {100 * self.half:.1f}" if self.half else text


@dataclass(frozen=True)
class Row:
    """One method on one data set, over all seeds.

    Attributes:
        data, encoder: where.
        spec: the method.
        title: what tables call it.
        seeds: how many.
        accuracy: on the test part.
        fenced: accuracy while one request is carried out, over the seeds in which anything could
            answer; None where nothing ever could.
        silent: seeds in which nothing could answer.
        cost: what one deletion takes, by measure (`COSTS`), means over requests and seeds.
        predict: processor seconds for 1,000 predictions.
        removes_only: whether the model after a deletion differs from a fresh fit.
    """

    data: str
    encoder: str
    spec: Spec
    title: str
    seeds: int
    accuracy: Figure
    fenced: Figure | None
    silent: int
    cost: dict[str, float]
    predict: float
    removes_only: bool

    @property
    def group(self) -> str:
        """Its name in plots."""
        return GROUPS[self.spec.family]


def where(record: Record) -> tuple[str, str]:
    """Data set and encoder of a record."""
    return record["config"]["data"], record["config"]["encoder"]


def rows(records: Iterable[Record]) -> list[Row]:
    """One row per method, data set and encoder, in the order in which they were run."""
    grouped: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if record["config"]["kind"] == "compare":
            key = (*where(record), repr(record["config"]["method"]))
            grouped.setdefault(key, []).append(record)
    return [_row(members) for members in grouped.values()]


def _row(members: Sequence[Record]) -> Row:
    config, results = members[0]["config"], [member["results"] for member in members]
    answered = [r["accuracy_while_fenced"] for r in results]
    fenced = [value for value in answered if value is not None]
    cost = {name: statistics.mean(result["forget"][name] for result in results) for name in COSTS}
    return Row(
        data=config["data"],
        encoder=config["encoder"],
        spec=Spec.from_json(config["method"]),
        title=config["title"],
        seeds=len(members),
        accuracy=Figure.of([result["accuracy"] for result in results]),
        fenced=Figure.of(fenced) if fenced else None,
        silent=len(answered) - len(fenced),
        cost=cost,
        predict=statistics.mean(result["predict_seconds_per_1000"] for result in results),
        removes_only=results[0]["guarantee"] == "removed",
    )


def front(found: Sequence[Row], measure: str) -> list[Row]:
    """The rows that no other beats: none is both cheaper (or as cheap) and more accurate."""
    best = -math.inf
    kept = []
    for row in sorted(found, key=lambda row: (row.cost[measure], -row.accuracy.mean)):
        if row.accuracy.mean > best:
            kept.append(row)
            best = row.accuracy.mean
    return kept


def beaten_by(row: Row, found: Sequence[Row], measure: str) -> list[Row]:
    """Rows that are more accurate than ``row`` and take no more."""
    return [
        other
        for other in found
        if other.accuracy.mean > row.accuracy.mean and other.cost[measure] <= row.cost[measure]
    ]


def streams(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[str, list[Record]]]:
    """Records of streams by data set, encoder and order, then by title, seeds together."""
    found: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for record in records:
        if record["config"]["kind"] == "stream":
            of_order = found.setdefault((*where(record), record["config"]["order"]), {})
            of_order.setdefault(record["config"]["title"], []).append(record)
    return found


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of one kind of cell."""
    return [record for record in records if record["config"]["kind"] == kind]
