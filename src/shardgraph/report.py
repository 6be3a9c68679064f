"""What people read and what programs read: the same facts as text and as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from shardgraph.forgetting.answer import Answer
    from shardgraph.forgetting.outcome import ChangeOutcome, Evaluation, Verification
    from shardgraph.forgetting.plan import Plan
    from shardgraph.forgetting.progress import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each stage on standard error: units per second and time left."""
    current: tuple[str, tqdm[Any]] | None = None

    def show(stage: str, done: int, total: int, unit: str) -> None:
        nonlocal current
        if current is None or current[0] != stage:
            if current is not None:
                current[1].close()
            current = stage, _bar(stage, total, unit)
        bar = current[1]
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            current = None

    try:
        yield show
    finally:
        if current is not None:
            current[1].close()


def _bar(stage: str, total: int, unit: str) -> tqdm[Any]:
    """A bar on a terminal; a line every ten seconds where standard error is a file."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, desc=stage, unit=f" {unit}", mininterval=interval, file=sys.stderr)


def some(names: Sequence[object], most: int = 12) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


def duration(seconds: float | None) -> str:
    """Seconds as people read them."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Report:
    """One result, as an object and as text."""

    data: dict[str, Any]
    text: str

    def print(self, *, as_json: bool) -> None:
        """Write the object (one line of JSON) or the text to standard output."""
        click.echo(json.dumps(self.data, sort_keys=True) if as_json else self.text)

    @classmethod
    def of_fit(cls, outcome: ChangeOutcome, store: Path) -> Report:
        """After a fit."""
        lines = [
            f"Fitted {len(outcome.nodes_refit)} nodes on {outcome.samples} samples "
            f"in {duration(outcome.seconds)}.",
            f"Store {store}, generation {outcome.generation}, digest {outcome.digest[:16]}.",
            *_bad_file_lines(outcome.bad_files),
        ]
        return cls(_change_data(outcome), "\n".join(lines))

    @classmethod
    def of_change(cls, outcome: ChangeOutcome) -> Report:
        """After an add or a forget."""
        verb = "Forgot" if outcome.action == "forget" else "Added"
        lines = [
            f"{verb} {outcome.samples} samples in {duration(outcome.seconds)}: "
            f"{len(outcome.nodes_refit)} nodes refitted on {outcome.samples_refit} samples, "
            f"{len(outcome.nodes_subtracted)} updated by subtraction, "
            f"{len(outcome.nodes_dropped)} dropped.",
            f"Refitted nodes: {some(outcome.nodes_refit)}.",
            f"Generation {outcome.generation}, digest {outcome.digest[:16]}.",
        ]
        if outcome.passed_over:
            lines.append(f"{outcome.passed_over} samples were in the store already.")
        lines += _bad_file_lines(outcome.bad_files)
        return cls(_change_data(outcome), "\n".join(lines))

    @classmethod
    def of_plan(cls, plan: Plan) -> Report:
        """Before a forget."""
        data = plan.to_json()
        data["nodes"] = {name: data.pop(name) for name in ("refit", "dropped", "subtract")}
        data["nodes_refit"] = len(plan.refit)
        data["nodes_dropped"] = len(plan.dropped)
        data["nodes_subtracted"] = len(plan.subtract)
        lines = [
            f"To forget: {plan.samples} samples in {len(plan.shards)} shards "
            f"({len(plan.emptied)} emptied).",
            f"Nodes to refit: {len(plan.refit)} ({some(plan.refit)}), "
            f"to drop: {len(plan.dropped)}, to subtract: {len(plan.subtract)}.",
            f"Work: {plan.samples_refit} samples refitted ({plan.distinct_samples} distinct), "
            f"{plan.passes} passes, about {duration(plan.predicted_seconds)}.",
        ]
        return cls(data, "\n".join(lines))

    @classmethod
    def of_evaluation(cls, evaluation: Evaluation) -> Report:
        """After an evaluation."""
        data = asdict(evaluation) | {"fenced": list(evaluation.fenced)}
        lines = [
            f"Accuracy {evaluation.accuracy:.2%} on {evaluation.samples} samples, "
            f"{evaluation.classes} classes, {evaluation.nodes} nodes, "
            f"generation {evaluation.generation}.",
        ]
        if evaluation.fenced:
            lines.append(f"Fenced, and left out: nodes {some(evaluation.fenced)}.")
        if evaluation.unknown_labels:
            lines.append(
                "Labels that no live sample has, counted as wrong: "
                f"{some(evaluation.unknown_labels)}."
            )
        lines += _bad_file_lines(evaluation.bad_files)
        return cls(data, "\n".join(lines))

    @classmethod
    def of_answer(cls, names: Sequence[str], answer: Answer, top: int) -> Report:
        """After a prediction: the ``top`` most probable labels of each input."""
        predictions = []
        lines = []
        for name, row in zip(names, answer.probabilities, strict=True):
            best = sorted(range(len(row)), key=lambda column: (-row[column], column))[:top]
            labels = [
                {"label": answer.classes[column], "probability": round(float(row[column]), 6)}
                for column in best
            ]
            predictions.append({"image": name, "label": labels[0]["label"], "top": labels})
            shown = ", ".join(f"{item['label']} {item['probability']:.3f}" for item in labels)
            lines.append(f"{name}: {shown}")
        data = {
            "predictions": predictions,
            "generation": answer.generation,
            "fenced": sorted(answer.without),
        }
        return cls(data, "\n".join(lines))

    @classmethod
    def of_verification(cls, verification: Verification) -> Report:
        """After a verification."""
        data = {
            "equal": verification.equal,
            "nodes": len(verification.nodes),
            "differences": [asdict(difference) for difference in verification.differences],
            "bytes_compared": verification.bytes_compared,
            "seconds": verification.seconds,
        }
        if verification.equal:
            text = (
                f"Equal: {len(verification.nodes)} nodes fitted from scratch in a fresh process, "
                f"{verification.bytes_compared} bytes compared, {duration(verification.seconds)}."
            )
        else:
            found = [f"node {item.node}: {item.what}" for item in verification.differences]
            text = "DIFFERENT: " + "\n".join(found)
        return cls(data, text)

    @classmethod
    def of_status(cls, status: dict[str, Any]) -> Report:
        """What the store holds: one line a fact."""
        lines = [
            f"{name.replace('_', ' ')}: {_plain(value)}"
            for name, value in status.items()
            if not isinstance(value, dict) or value
        ]
        return cls(status, "\n".join(lines))

    @classmethod
    def of_graph(cls, summary: dict[str, Any], saved: Path | None) -> Report:
        """The shard graph in figures."""
        report = cls.of_status(summary)
        if saved is None:
            return report
        return cls({**summary, "saved": str(saved)}, f"{report.text}\nSaved {saved}.")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return some(value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _bad_file_lines(bad_files: Sequence[str]) -> list[str]:
    if not bad_files:
        return []
    return [f"Left out {len(bad_files)} bad files:", *(f"  {line}" for line in bad_files)]


def _change_data(outcome: ChangeOutcome) -> dict[str, Any]:
    data = asdict(outcome)
    data["nodes"] = {
        "refit": data.pop("nodes_refit"),
        "dropped": data.pop("nodes_dropped"),
        "subtracted": data.pop("nodes_subtracted"),
    }
    data["nodes_refit"] = len(outcome.nodes_refit)
    data["nodes_dropped"] = len(outcome.nodes_dropped)
    data["nodes_subtracted"] = len(outcome.nodes_subtracted)
    return data
