"""What people read and what programs read: the same facts as text and as one JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from shardgraph.errors import ShardgraphError

if TYPE_CHECKING:
    from shardgraph.forgetting.answer import Answer
    from shardgraph.forgetting.outcome import ChangeOutcome, Evaluation, Verification
    from shardgraph.forgetting.plan import Plan
    from shardgraph.forgetting.progress import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each stage on standard error: units per second and time left."""
    current: tuple[str, tqdm[Any]] | None = None
    ended = time.time()

    def show(stage: str, done: int, total: int, unit: str) -> None:
        nonlocal current, ended
        if current is None or current[0] != stage:
            if current is not None:
                current[1].close()
                ended = time.time()
            current = stage, _bar(stage, done, total, unit, ended)
        bar = current[1]
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            ended = time.time()
            current = None

    try:
        yield show
    finally:
        if current is not None:
            current[1].close()


def _bar(stage: str, done: int, total: int, unit: str, began: float) -> tqdm[Any]:
    """A bar on a terminal; an update every ten seconds where standard error is a file.

    Encoding reports before it begins, and what was ``done`` by then does not count into its speed;
    other stages report when they have done something since they ``began`` (seconds, epoch).
    """
    bar: tqdm[Any] = tqdm(
        desc=stage,
        file=sys.stderr,
        initial=done if stage == "encoding" else 0,
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
        total=total,
        unit=f" {unit}",
    )
    if stage != "encoding":
        bar.start_t = bar.last_print_t = began
    return bar


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


def count(number: int, noun: str) -> str:
    """A number and what it counts, such as ``1 node`` or ``1,442 samples``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes as people read them, in powers of ten."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@dataclass(frozen=True)
class Report:
    """One result, as an object and as text."""

    data: dict[str, Any]
    text: str

    def print(self, *, as_json: bool) -> None:
        """Write the object (one line of JSON) or the text to standard output."""
        click.echo(json.dumps(self.data, sort_keys=True) if as_json else self.text)

    @classmethod
    def of_error(cls, error: ShardgraphError) -> Report:
        """In place of a result."""
        data = {
            "error": type(error).__name__,
            "message": error.message,
            "advice": error.advice,
            "exit_code": error.exit_code,
        }
        return cls(data, str(error))

    @classmethod
    def of_fit(cls, outcome: ChangeOutcome, store: Path, slower: Sequence[str] = ()) -> Report:
        """After a fit; ``slower`` says where this machine had to take a slower path."""
        lines = [
            f"Fitted {count(len(outcome.nodes_refit), 'node')} on "
            f"{count(outcome.samples, 'sample')} in {duration(outcome.seconds)}.",
            f"Store {store}, generation {outcome.generation}, digest {outcome.digest[:16]}.",
            *slower,
            *_bad_file_lines(outcome.bad_files),
        ]
        return cls({**_change_data(outcome), "slower": list(slower)}, "\n".join(lines))

    @classmethod
    def of_change(cls, outcome: ChangeOutcome) -> Report:
        """After an add or a forget."""
        verb = "Forgot" if outcome.action == "forget" else "Added"
        lines = [
            f"{verb} {count(outcome.samples, 'sample')} in {duration(outcome.seconds)}.",
            f"{count(len(outcome.nodes_refit), 'node')} refitted ({some(outcome.nodes_refit)}) on "
            f"{count(outcome.samples_refit, 'sample')}, {len(outcome.nodes_subtracted)} updated "
            f"by subtraction, {len(outcome.nodes_dropped)} dropped.",
            f"Generation {outcome.generation}, digest {outcome.digest[:16]}.",
        ]
        if outcome.passed_over:
            lines.append(f"In the store already: {count(outcome.passed_over, 'sample')}.")
        if outcome.request:
            lines.append(f"Its receipt: shardgraph receipt show {outcome.request} --store ...")
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
            f"To forget: {count(plan.samples, 'sample')} in {count(len(plan.shards), 'shard')} "
            f"({len(plan.emptied)} emptied).",
            f"Nodes to refit: {len(plan.refit)} ({some(plan.refit)}); to drop: "
            f"{len(plan.dropped)}; to subtract from: {len(plan.subtract)}.",
        ]
        if plan.refit:
            forecast = plan.predicted_seconds
            lines.append(
                f"Work: {count(plan.samples_refit, 'sample')} refitted "
                f"({plan.distinct_samples:,} distinct), {plan.passes:,} passes"
                + ("." if forecast is None else f", about {duration(forecast)}.")
            )
        if plan.tuning_samples:
            lines.append(f"Heads to tune anew on {count(plan.tuning_samples, 'sample')}.")
        return cls(data, "\n".join(lines))

    @classmethod
    def of_evaluation(cls, evaluation: Evaluation) -> Report:
        """After an evaluation."""
        data = asdict(evaluation) | {"fenced": list(evaluation.fenced)}
        lines = [
            f"Accuracy {evaluation.accuracy:.2%} on {count(evaluation.samples, 'sample')}: "
            f"{evaluation.classes} classes, {count(evaluation.nodes, 'node')}, "
            f"generation {evaluation.generation}, {duration(evaluation.seconds)}.",
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
    def of_answer(
        cls, names: Sequence[str], answer: Answer, top: int, key: str = "image"
    ) -> Report:
        """After a prediction: the ``top`` most probable labels of each input, named as ``key``."""
        predictions = []
        lines = []
        for name, row in zip(names, answer.probabilities, strict=True):
            best = sorted(range(len(row)), key=lambda column: (-row[column], column))[:top]
            labels = [
                {"label": answer.classes[column], "probability": round(float(row[column]), 6)}
                for column in best
            ]
            predictions.append({key: name, "label": labels[0]["label"], "top": labels})
            shown = ", ".join(f"{item['label']} {item['probability']:.3f}" for item in labels)
            lines.append(f"{name}: {shown}")
        without = some(sorted(answer.without))
        fenced = f"; nodes fenced, and left out: {without}" if answer.without else ""
        lines.append(f"Generation {answer.generation}{fenced}.")
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
                f"Equal: {count(len(verification.nodes), 'node')} fitted from scratch in a fresh "
                f"process, {verification.bytes_compared:,} bytes compared, "
                f"{duration(verification.seconds)}."
            )
        else:
            found = [f"node {item.node}: {item.what}" for item in verification.differences]
            text = "DIFFERENT:\n  " + "\n  ".join(found)
        return cls(data, text)

    @classmethod
    def of_status(cls, status: dict[str, Any]) -> Report:
        """What the store holds: one line a fact."""
        requests = [f"{number} {state}" for state, number in status["requests"].items() if number]
        unerased = status["requests"].get("published", 0)
        on_disk = [f"{kind} {size(number)}" for kind, number in status["bytes"].items() if number]
        rows = {
            "Samples": f"{status['samples']:,}"
            + _unless_zero(status["pending_samples"], "being forgotten"),
            "Classes": f"{status['classes']:,}",
            "Graph": f"{status['graph']}: {count(status['shards'], 'shard')} with samples, "
            + count(status["nodes"], "node")
            + _unless_zero(status["fenced"], "fenced"),
            "Encoder": str(status["backbone"]),
            "Generation": f"{status['generation']}, digest {status['digest'][:16]}",
            "Requests": (", ".join(requests) or "none")
            + _unless_zero(status["late_requests"], "late")
            + _unless_zero(status["overdue_requests"], "overdue"),
            "Slower": " ".join(status["slower"]),
            "To erase": f"{count(status['pending_erasures'], 'file')}"
            + _unless_zero(unerased, "requests whose rows are not yet overwritten"),
            "On disk": f"{size(sum(status['bytes'].values()))} ({', '.join(on_disk)})",
        }
        return cls(status, "\n".join(f"{name:<12}{text}" for name, text in rows.items() if text))

    @classmethod
    def of_graph(cls, summary: dict[str, Any], saved: Path | None) -> Report:
        """The shard graph in figures, and what forgetting one sample costs."""
        expected, worst = summary["cost"]["expected"], summary["cost"]["worst"]
        lines = [
            f"{summary['name']}: {count(summary['shards'], 'shard')}, "
            f"{count(summary['nodes'], 'node')}, "
            f"{count(summary['edges'], 'edge')} to other shards, "
            f"{count(summary['samples'], 'sample')}",
            "",
            f"{'To forget one sample':<42}{'expected':>12}{'worst':>12}",
            *(
                f"{title:<42}{expected[name]:>12,.1f}{worst[name]:>12,.0f}"
                for name, title in _COSTS.items()
                if worst[name] or name in _ALWAYS_SHOWN
            ),
        ]
        if "touched" in summary:
            plan = summary["touched"]
            lines += ["", f"Marked: shards {some(plan['shards'])}; nodes {some(plan['fenced'])}."]
        if saved is None:
            return cls(summary, "\n".join(lines))
        return cls({**summary, "saved": str(saved)}, "\n".join([*lines, "", f"Saved {saved}."]))


_COSTS = {
    "adapter_samples": "  adapter work: samples, once per node",
    "distinct_samples": "  distinct samples among them",
    "nodes_refit": "  nodes refitted",
    "nodes_subtracting": "  nodes that subtract",
    "tally_samples": "  samples tallied anew, once per node",
}
_ALWAYS_SHOWN = ("adapter_samples", "distinct_samples", "nodes_refit")


def _unless_zero(number: int, what: str) -> str:
    return f" ({number:,} {what})" if number else ""


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
