"""What the page "What exact means" prints runs, exists and was measured."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shardgraph import cli
from shardgraph.activations.open import open_backbone
from shardgraph.forgetting import machine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guide" / "exact.md").read_text()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nine images of three owners, and the manifest ``photos.csv``."""
    rows = ["path,label,owner,source"]
    for number in range(9):
        noise = np.random.default_rng(number).integers(0, 99, (24, 24, 3))
        colour = np.array([156 * (number % 3 == 0), 156 * (number % 3 == 1), 80])
        path = tmp_path / f"{number}.png"
        Image.fromarray((noise + colour).astype(np.uint8)).save(path)
        owner = ("alice", "bob", "carol")[number // 3]
        rows.append(f"{path.name},label-{number % 3},{owner},web")
    (tmp_path / "photos.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    tried = machine.check_batches(open_backbone())
    monkeypatch.setattr(machine, "check_batches", lambda _: tried)  # once for both fits
    return tmp_path


def printed_commands() -> list[str]:
    (block,) = re.findall(r"^```shell\n(.*?)^```", PAGE, re.M | re.S)
    return str(block).splitlines()


def run(command: str) -> str:
    """What a line prints; it must succeed."""
    if not command.startswith("shardgraph "):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        return done.stdout
    with contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as left:
        cli.main(command.split()[1:])
    assert left.value.code == 0
    return ""


def test_the_comparison_by_hand_runs_as_printed(photos: Path) -> None:
    commands = printed_commands()
    assert sum(command.startswith("diff -r ") for command in commands) == 3
    for command in commands:
        printed = run(command)
        assert not printed, f"{command}: {printed}"
    for kind in ("activations", "nodes", "tallies"):
        assert any((photos / "fresh.store" / kind).iterdir())
    assert "alice" not in (photos / "rest.csv").read_text()


def test_every_place_that_the_page_names_exists() -> None:
    places = re.findall(r"`(\w+(?:/\w+)*\.py)` `(\w+)`", PAGE)
    assert len(places) >= 10
    for file, name in places:
        source = (ROOT / "src" / "shardgraph" / file).read_text()
        assert re.search(rf"^ *def {name}\(", source, re.M), f"{file} has no {name}"


def figures(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())
    return found


def cell(row: dict[str, Any]) -> str:
    low, high = row["auc_interval_95"]
    return f"{row['auc']:.2f} ({low:.2f} to {high:.2f})"


def test_the_figures_of_the_statistical_check_are_those_measured() -> None:
    record = figures("membership")
    kinds = [record["results"][kind] for kind in ("nodes that read", "nodes that tally")]
    for attacker in ("answers", "open store"):
        found = [kind["memorised most"][attacker] for kind in kinds]
        rows = {
            "members, never forgotten": [each["members"] for each in found],
            "forgotten, every node left stale": [
                each["leaks"][max(each["leaks"], key=int)] for each in found
            ],
            "forgotten, one node left stale": [each["leaks"]["1"] for each in found],
            "**forgotten**": [each["forgotten"] for each in found],
        }
        for name, measured in rows.items():
            line = f"| {attacker} | {name} | {cell(measured[0])} | {cell(measured[1])} |"
            assert line in PAGE, line
    config = record["config"]
    told = f"{config['shadows']} shadow models and {config['targets']} stores of each kind"
    assert told in " ".join(PAGE.split())


def test_the_figures_of_the_long_histories_are_those_recorded() -> None:
    record = figures("stress")
    found, steps = record["results"], record["config"]["steps"]
    told = (
        f"so far {found['whole_histories']:,} of {steps} steps, {found['steps']:,} steps in all, "
        f"{len(found['mismatches'])} differences"
    )
    assert told in " ".join(PAGE.split())


def test_the_figures_of_the_histories_are_those_measured() -> None:
    record = figures("histories")
    found, steps = record["results"], record["config"]["steps"]
    told = (
        f"{found['histories']} random histories of {steps} steps each, "
        f"{found['steps_in_all']:,} in all, on real photographs, "
        f"{found['files_compared']:,} files compared with those of fits from scratch "
        f"in other processes: {len(found['mismatches'])} differences"
    )
    assert told in " ".join(PAGE.split())
