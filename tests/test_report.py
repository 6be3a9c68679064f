from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardgraph.errors import GraphError
from shardgraph.forgetting.answer import Answer
from shardgraph.forgetting.outcome import ChangeOutcome, Difference, Evaluation, Verification
from shardgraph.forgetting.plan import Plan
from shardgraph.report import Report, count, duration, progress_bar, size, some

OUTCOME = ChangeOutcome(
    action="forget",
    samples=1,
    nodes_refit=(3, 5),
    nodes_dropped=(7,),
    nodes_subtracted=(1, 2, 4),
    samples_refit=1234,
    generation=2,
    digest="ab" * 32,
    seconds=0.1234,
    bad_files=("x.png is broken.",),
    passed_over=2,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_as_people_read_them() -> None:
    assert [count(n, "node") for n in (0, 1, 1442)] == ["0 nodes", "1 node", "1,442 nodes"]
    sizes = [size(n) for n in (0, 999, 1000, 43_100_000, 5 * 10**12)]
    assert sizes == ["0 bytes", "999 bytes", "1.0 kB", "43.1 MB", "5.0 TB"]
    assert some([]) == "none"
    assert some([1, 2]) == "1, 2"
    assert some(range(20), most=3) == "0, 1, 2 and 17 more"


def test_a_report_is_one_json_object_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report({"b": 1, "a": [2]}, "two\nlines")
    report.print(as_json=True)
    assert capsys.readouterr().out == '{"a": [2], "b": 1}\n'
    report.print(as_json=False)
    assert capsys.readouterr().out == "two\nlines\n"


def test_a_change() -> None:
    report = Report.of_change(OUTCOME)
    assert report.data["nodes_refit"] == 2
    assert report.data["nodes"] == {"refit": (3, 5), "dropped": (7,), "subtracted": (1, 2, 4)}
    for words in (
        "Forgot 1 sample in 0.12 s",
        "2 nodes refitted (3, 5) on 1,234 samples, 3 updated by subtraction, 1 dropped",
        "In the store already: 2 samples",
        "x.png is broken.",
    ):
        assert words in report.text
    assert "Fitted 2 nodes on 1 sample" in Report.of_fit(OUTCOME, Path("my.store")).text
    assert json.dumps(report.data)


def test_a_plan() -> None:
    plan = Plan(6, (1,), (), (0, 1), (), (4,), 40, 30, 1200, None)
    report = Report.of_plan(plan)
    assert report.data["nodes_refit"] == 2
    assert report.data["fenced"] == [0, 1, 4]
    assert "To forget: 6 samples in 1 shard (0 emptied)." in report.text
    assert report.text.endswith("40 samples refitted (30 distinct), 1,200 passes.")
    timed = Report.of_plan(replace(plan, predicted_seconds=3.0))
    assert timed.text.endswith("1,200 passes, about 3.00 s.")
    assert "Work" not in Report.of_plan(replace(plan, refit=())).text


def test_an_evaluation_says_what_it_left_out() -> None:
    evaluation = Evaluation(0.25, 4, 3, ("violet",), 5, (2,), 7, 1.5, ("x.png is broken.",))
    text = Report.of_evaluation(evaluation).text
    for words in ("25.00%", "4 samples", "violet", "nodes 2", "x.png", "generation 7"):
        assert words in text


def test_an_answer_ranks_labels_and_breaks_ties_by_order() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25]], np.float32)
    answer = Answer(probabilities, ("a", "b", "c"), 3, frozenset({4, 1}))
    report = Report.of_answer(["x.png"], answer, 2)
    assert report.text.splitlines() == [
        "x.png: b 0.500, a 0.250",
        "Generation 3; nodes fenced, and left out: 1, 4.",
    ]
    assert report.data["fenced"] == [1, 4]
    assert report.data["predictions"][0]["label"] == "b"


def test_a_difference_is_named() -> None:
    verification = Verification((0, 1), (Difference(1, "2 of 9 bytes differ"),), 18, 0.5)
    report = Report.of_verification(verification)
    assert report.data["equal"] is False
    assert "node 1: 2 of 9 bytes differ" in report.text
    same = Report.of_verification(Verification((0, 1), (), 18_000, 0.5))
    assert same.data["equal"] is True
    assert "18,000 bytes" in same.text


def test_an_error() -> None:
    report = Report.of_error(GraphError("Wrong.", advice="Do this."))
    assert report.data == {
        "error": "GraphError",
        "message": "Wrong.",
        "advice": "Do this.",
        "exit_code": 2,
    }


STATUS = {
    "samples": 1442,
    "pending_samples": 3,
    "classes": 10,
    "graph": "ring:3",
    "shards": 64,
    "nodes": 64,
    "fenced": 3,
    "backbone": "an encoder:a layer",
    "generation": 4,
    "digest": "cd" * 32,
    "requests": {"accepted": 1, "receipted": 2},
    "slower": ["Nodes are trained one by one."],
    "late_requests": 0,
    "overdue_requests": 0,
    "pending_erasures": 1,
    "bytes": {"activations": 4_000_000, "nodes": 2_000, "tallies": 0},
}


def test_status_is_one_line_a_fact() -> None:
    report = Report.of_status(STATUS)
    assert report.data is STATUS
    lines = {line[:12].strip(): line[12:] for line in report.text.splitlines()}
    assert lines["Samples"] == "1,442 (3 being forgotten)"
    assert lines["Slower"] == "Nodes are trained one by one."
    assert lines["Graph"] == "ring:3: 64 shards with samples, 64 nodes (3 fenced)"
    assert lines["Requests"] == "1 accepted, 2 receipted"
    assert lines["On disk"] == "4.0 MB (activations 4.0 MB, nodes 2.0 kB)"


def test_graph_shows_both_cost_models() -> None:
    work = {"adapter_samples": 22.5, "distinct_samples": 20.0, "nodes_refit": 3.0}
    work |= {"nodes_subtracting": 0.0, "tally_samples": 0.0}
    summary = {"name": "ring:3", "shards": 4, "nodes": 1, "edges": 8, "samples": 30}
    summary |= {"cost": {"expected": work, "worst": {**work, "adapter_samples": 1234.0}}}
    report = Report.of_graph(summary, None)
    assert report.text.splitlines()[0] == (
        "ring:3: 4 shards, 1 node, 8 edges to other shards, 30 samples"
    )
    row = next(line for line in report.text.splitlines() if "adapter work" in line)
    assert row.split()[-2:] == ["22.5", "1,234"]
    assert "subtract" not in report.text
    touched = {"touched": {"shards": (2,), "fenced": [0, 1]}}
    saved = Report.of_graph(summary | touched, Path("g.svg"))
    assert "Marked: shards 2; nodes 0, 1." in saved.text
    assert saved.text.endswith("Saved g.svg.")
    assert saved.data["saved"] == "g.svg"


def test_bars_follow_stages_and_end_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("encoding", 30, 40, "images")
        time.sleep(0.2)
        progress("encoding", 40, 40, "images")
        progress("fitting", 1, 2, "nodes")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("\n")
    encoding, fitting = shown.err.strip().split("\n")
    assert "40/40" in encoding
    rate = float(encoding.rsplit(", ", 1)[1].split()[0])
    assert rate < 60  # ten images in 0.2 s or more; the thirty before do not count
    assert "1/2" in fitting


def test_a_stage_reported_late_has_a_sober_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar() as progress:
        time.sleep(0.2)
        progress("fitting", 4, 4, "nodes")
    line = capsys.readouterr().err.strip().split("\r")[-1]
    assert float(line.rsplit(", ", 1)[1].split()[0]) < 25
