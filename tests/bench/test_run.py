"""A whole run: resumed where it stopped, and turned into tables and pictures."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from shardgraph import cli
from shardgraph.bench import cells, grid, records, summary, tables
from shardgraph.bench.config import BenchConfig
from shardgraph.bench.data import BenchData, Part
from shardgraph.bench.grid import run_grid
from shardgraph.bench.run import publish
from shardgraph.errors import UsageError

RECIPE = {"heads": 2, "value_width": 16, "epochs": 2, "batch_size": 8}
CONFIG: dict[str, Any] = {
    "seeds": [0, 1],
    "requests": 2,
    "tuning": {
        "parts": [1],
        "shards": 2,
        "recipes": [RECIPE],
        "neighbours": {"feature": ["mean"], "k": [1000], "temperature": [1e20, 0.1]},
        "proto-sisa": {"feature": ["mean"], "share": [0.1, 0.9], "temperature": [0.1]},
    },
    "methods": [
        {"family": "ridge"},
        {"family": "neighbours"},
        {"family": "unsharded"},
        {"family": "sisa", "shards": [2, 4]},
        {"family": "proto-sisa", "shards": 2},
        {"family": "s3t", "shards": 2, "slices": 2, "sequences": 2},
        {"family": "safe", "graph": "ring:2", "shards": 4},
        {"family": "safe-tallies", "tallies": "all-but:2", "shards": 4, "tally": {"heads": 4}},
    ],
    "streams": {
        "methods": [
            {"family": "sisa", "shards": 2},
            {"family": "s3t", "shards": 2, "slices": 2, "sequences": 2},
        ],
        "checkpoints": [0, 20],
        "sources": 4,
        "seeds": [0],
    },
    "latency": [{"family": "sisa", "shards": 2}],
}


RING = "SAFE ring:2, 4 shards"


def silent(*_: object) -> None: ...


@pytest.fixture(scope="session")
def found(data: BenchData, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    config = BenchConfig.from_json(CONFIG)
    return run_grid(data, config, tmp_path_factory.mktemp("run"), silent, jobs=1)


def results_of(found: list[dict[str, Any]], kind: str, family: str) -> list[dict[str, Any]]:
    wanted = [record for record in found if record["config"]["kind"] == kind]
    return [record["results"] for record in wanted if record["config"]["family"] == family]


def test_every_cell_has_a_record(found: list[dict[str, Any]]) -> None:
    kinds = [record["config"]["kind"] for record in found]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "tuning": 1, "compare": 16, "stream": 4, "latency": 1
    }  # fmt: skip
    for record in found:
        assert record["commit"]
        assert record["machine"]["cpu"]
        assert record["took"]["wall_seconds"] > 0
        assert record["config"]["seed"] in (0, 1, 1_000_003)


def test_tuning_chose_what_is_better(found: list[dict[str, Any]]) -> None:
    tuned = found[0]["results"]["tuned"]["families"]
    assert tuned["neighbours"]["temperature"] == 0.1
    trials = [trial for trial in found[0]["results"]["trials"] if trial["family"] == "neighbours"]
    assert trials[0]["accuracy"] < trials[1]["accuracy"]


def test_costs_are_what_the_graph_says(found: list[dict[str, Any]], data: BenchData) -> None:
    whole = results_of(found, "compare", "unsharded")[0]["forget"]
    assert whole["samples"] == len(data.train) - 1.5  # two deletions, one after the other
    assert whole["passes"] == whole["samples"] * RECIPE["epochs"]
    assert results_of(found, "compare", "ridge")[0]["forget"]["samples"] == 1
    halves = results_of(found, "compare", "sisa")[0]["forget"]
    assert 0.2 < halves["samples"] / len(data.train) < 0.8


def test_who_answers_while_a_request_is_carried_out(found: list[dict[str, Any]]) -> None:
    silent_families = {
        record["config"]["family"]
        for record in found
        if record["config"]["kind"] == "compare"
        and record["results"]["accuracy_while_fenced"] is None
    }
    assert silent_families == {"neighbours", "ridge", "unsharded"}


def test_streams_go_on_from_checkpoint_to_checkpoint(found: list[dict[str, Any]]) -> None:
    for family, exact in (("sisa", True), ("s3t", False)):
        for result in results_of(found, "stream", family):
            assert [point["deletions"] for point in result["points"]] == [0, 20]
            each = [point["forget"]["passes"] for point in result["points"]]
            assert result["totals"]["passes"] == 20 * sum(each) / 2
            assert (result["totals"]["passes"] > 0) == exact
    assert results_of(found, "stream", "s3t")[0]["points"][1]["accuracy"] < 0.9


def test_latencies_are_in_order(found: list[dict[str, Any]]) -> None:
    (timed,) = results_of(found, "latency", "sisa")
    assert 0 < timed["fence_seconds"] < timed["publish_seconds"] < timed["receipt_seconds"]
    assert len(timed["each"]) == cells.LATENCY_REQUESTS


def test_finished_cells_are_not_run_again(
    data: BenchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [{"family": "ridge"}, {"family": "means"}, {"family": "neighbours"}]
    config = BenchConfig.from_json({"seeds": [0], "requests": 1, "methods": methods})
    ran: list[str] = []
    compare = cells.compare

    def counted(data: Any, spec: Any, *rest: Any, **more: Any) -> Any:
        ran.append(spec.family)
        if ran == ["ridge", "means"]:
            raise KeyboardInterrupt
        return compare(data, spec, *rest, **more)

    monkeypatch.setattr(grid.cells, "compare", counted)
    with pytest.raises(KeyboardInterrupt):
        run_grid(data, config, tmp_path, silent, jobs=1)
    assert [record["config"].get("family") for record in grid.kept(data, config, tmp_path)] == [
        None, "ridge"
    ]  # fmt: skip
    first = run_grid(data, config, tmp_path, silent, jobs=1)
    assert ran == ["ridge", "means", "means", "neighbours"]
    assert grid.kept(data, config, tmp_path) == first
    assert run_grid(data, config, tmp_path, silent, jobs=1) == first
    assert len(ran) == 4
    more = BenchConfig.from_json({"seeds": [0], "requests": 2, "methods": methods})
    run_grid(data, more, tmp_path, silent, jobs=1)
    assert len(ran) == 7, "another configuration is another record"
    monkeypatch.setattr(records, "code_digest", lambda: "other code")
    run_grid(data, config, tmp_path, silent, jobs=1)
    assert len(ran) == 10, "other code is another record"


def test_a_record_does_not_depend_on_what_others_were_tuned_to(
    data: BenchData, tmp_path: Path
) -> None:
    alone = {**CONFIG, "seeds": [0], "streams": {}, "latency": [], "methods": [{"family": "means"}]}
    beside = {**alone, "methods": [{"family": "neighbours"}, {"family": "means"}]}
    first = run_grid(data, BenchConfig.from_json(alone), tmp_path, silent, jobs=1)
    second = run_grid(data, BenchConfig.from_json(beside), tmp_path, silent, jobs=1)
    assert first[1] in second
    assert second[1]["config"]["tuned"]["families"].keys() == {"neighbours"}


def decided(found: list[dict[str, Any]]) -> list[Any]:
    """What does not depend on the clock."""
    return [
        [record["config"], record["results"].get("accuracy"), record["results"].get("tuned")]
        for record in found
    ]


def test_processes_side_by_side_find_the_same(data: BenchData, tmp_path: Path) -> None:
    methods = [{"family": "sisa", "shards": 2}, {"family": "proto-sisa", "shards": 2}]
    config = BenchConfig.from_json({**CONFIG, "requests": 1, "methods": methods, "streams": {}})
    one = run_grid(data, config, tmp_path / "one", silent, jobs=1)
    two = run_grid(data, config, tmp_path / "two", silent, jobs=2)
    assert decided(one) == decided(two)
    cores = [
        record["machine"]["workers"] for record in two if record["config"]["kind"] == "compare"
    ]
    assert set(cores) == {1}, "each on a core of its own"
    names = [
        sorted(path.name for path in (tmp_path / run / "fits").rglob("*.node"))
        for run in ("one", "two")
    ]
    assert names[0] == names[1] != []


def test_a_worker_is_given_the_file_of_its_activations(data: BenchData, tmp_path: Path) -> None:
    file = tmp_path / "tokens.npy"
    np.save(file, data.train.tokens)
    part = Part.stored(data.train.samples, file)
    sent = pickle.dumps(part.from_sources(2))
    assert len(sent) < data.train.tokens.nbytes
    got = pickle.loads(sent)  # noqa: S301 - its own bytes
    np.testing.assert_array_equal(got.tokens, data.train.tokens)
    assert {sample.source for sample in got.samples} == {"source-0", "source-1"}
    few = pickle.loads(pickle.dumps(part.rows([3, 5])))  # noqa: S301 - its own bytes
    np.testing.assert_array_equal(few.tokens, data.train.tokens[[3, 5]])


def test_the_digest_of_the_code_covers_the_methods() -> None:
    covered = records.decisive_files()
    for name in ("nodes/train.py", "bench/methods/sliced.py", "graph/topologies.py", "identity.py"):
        assert name in covered
    assert not any(name.startswith("bench/plots") for name in covered)


def test_tables_and_pictures_say_what_records_say(
    found: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = {"cells": len(found), "cells_found": 0, "jobs": 2, "wall_seconds": 90.0}
    outcome = publish(found, run, tmp_path)
    assert records.read_run(tmp_path / "results.json") == run
    assert records.read_all(tmp_path / "results.json") == found
    page = (tmp_path / "results.md").read_text()
    assert "22 cells in 1.5 minutes, 2 at a time." in page
    assert "minutes" not in tables.run_line({**run, "cells_found": 3})
    for record in found:
        if "title" in record["config"]:
            assert record["config"]["title"] in page
    values = [result["accuracy"] for result in results_of(found, "compare", "unsharded")]
    assert f"{100 * np.mean(values):.1f} ± " in page
    assert len(outcome.pictures) == 12
    for path in outcome.pictures:
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else start[:5] == b"<?xml"
    before = {path: path.read_bytes() for path in outcome.pictures}
    publish(found, run, tmp_path)
    assert {path: path.read_bytes() for path in outcome.pictures} == before


def test_tables_over_several_places(found: list[dict[str, Any]]) -> None:
    other = [{**record, "config": {**record["config"], "encoder": "other:1"}} for record in found]
    few = [record for record in other if record["config"].get("family") == "sisa"]
    table = tables.across([*found, *few], [("halves", "SISA, 2 shards"), ("ring", RING)])
    head, _, halves, ring = table.splitlines()
    assert "made up, none: accuracy, %" in head
    assert "made up, other: accuracy, %" in head
    accuracy = np.mean([r["accuracy"] for r in results_of(found, "compare", "sisa")[:2]])
    assert halves.count(f" {100 * accuracy:.1f}") == 2
    assert ring.split(" | ")[2] == "not measured"
    gained = tables.gains([*found, *few], [RING]).splitlines()[-1]
    rows = {row.title: row for row in summary.rows(found)}
    ours, theirs = (100 * rows[title].accuracy.mean for title in (RING, "SISA, 4 shards"))
    assert f" {ours - theirs:+.1f}; " in gained
    assert gained.endswith("| not measured |")


def test_the_command_on_a_folder_of_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for label, level in (("dark", 30), ("light", 200)):
            for number in range(count):
                path = tmp_path / "set" / part / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(generator.normal(level, 20, (16, 16, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    (tmp_path / "config.json").write_text(
        json.dumps({"seeds": [0], "requests": 1, "methods": [{"family": "means"}]})
    )
    words = [
        "bench",
        str(tmp_path / "set"),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
        "--json",
    ]
    words += ["--config", str(tmp_path / "config.json")]
    nothing = CliRunner().invoke(cli.commands, [*words, "--kept"])
    assert isinstance(nothing.exception, UsageError)
    done = CliRunner().invoke(cli.commands, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["cells"] == 2
    again = CliRunner().invoke(cli.commands, [*words, "--kept"])
    assert json.loads(again.stdout.splitlines()[-1])["cells"] == 2
    assert "class means" in (tmp_path / "out" / "results.md").read_text()
