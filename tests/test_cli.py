from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from shardgraph import cli, runtime
from shardgraph.forgetting.outcome import Difference, Verification
from shardgraph.model import SafeModel
from shardgraph.nodes.projection import Projection
from shardgraph.nodes.representation import from_bytes
from shardgraph.nodes.weights import NodeWeights
from shardgraph.store import Store

COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What was printed, which must be one object on one line and nothing else."""
        assert self.out.count("\n") == 1, self.out
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def run(*arguments: object) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        cli.main([str(argument) for argument in arguments])
    code = left.value.code
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue())


def content(folder: Path) -> dict[str, bytes]:
    """All files, except SQLite's index of its log and an empty log, which readers leave behind."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.pop("store.sqlite-shm", None)
    return {name: data for name, data in found.items() if data or name != "store.sqlite-wal"}


def paint(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 40, (24, 24, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


def add_photos(root: Path, count: int, first: int = 0) -> None:
    for label, colour in COLOURS.items():
        for number in range(first, first + count):
            paint(root / label / f"{number}.png", colour, number)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen images in class folders; a manifest that names owners and sources."""
    root = tmp_path_factory.mktemp("photos")
    add_photos(root, 5)
    rows = ["path,label,owner,source"]
    for path in sorted(root.rglob("*.png")):
        name = path.relative_to(root).as_posix()
        source = "web" if path.parent.name == "red" else "shop"
        rows.append(f"{name},{path.parent.name},owner-{path.stem},{source}")
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A store that no test may change, and what fitting it printed."""
    store = tmp_path_factory.mktemp("fitted") / "store"
    sharding = ("--graph", "isolated", "--shards", 3, "--source-shards", "web=2", "--epochs", 3)
    return store, run("fit", photos / "list.csv", "--store", store, *sharding, "--json")


@pytest.fixture
def store(fitted: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of the fitted store, to be changed."""
    return Path(shutil.copytree(fitted[0], tmp_path / "store"))


@pytest.fixture
def unchanged(fitted: tuple[Path, Result]) -> Iterator[Path]:
    """The fitted store, which is compared byte for byte afterwards."""
    before = content(fitted[0])
    yield fitted[0]
    assert content(fitted[0]) == before


# -- what each command says -------------------------------------------------------------------

CHANGE_KEYS = {
    "action",
    "bad_files",
    "digest",
    "generation",
    "nodes",
    "nodes_dropped",
    "nodes_refit",
    "nodes_subtracted",
    "passed_over",
    "request",
    "samples",
    "samples_refit",
    "seconds",
    "seconds_to_fence",
    "seconds_to_publish",
}


def test_fit(fitted: tuple[Path, Result]) -> None:
    result = fitted[1]
    assert result.code == 0, result.err
    assert set(result.json) >= CHANGE_KEYS
    assert result.json["action"] == "fit"
    assert result.json["samples"] == 15
    assert result.json["generation"] == 1
    assert result.json["nodes_refit"] == len(result.json["nodes"]["refit"]) > 0
    assert "encoding" in result.err
    assert "images/s" in result.err


def test_evaluate_and_predict(unchanged: Path, photos: Path, tmp_path: Path) -> None:
    add_photos(tmp_path / "test", 1, first=90)
    paint(tmp_path / "test" / "violet" / "0.png", (200, 30, 200), 0)
    (tmp_path / "test" / "red" / "broken.png").write_bytes(b"not an image")
    data = tmp_path / "test"
    stopped = run("evaluate", data, "--store", unchanged)
    assert_refused(stopped, 4, "broken.png")
    result = run("evaluate", data, "--store", unchanged, "--on-bad-file", "skip", "--json")
    assert result.code == 0
    assert result.json["samples"] == 4
    assert result.json["accuracy"] in (0, 0.25, 0.5, 0.75)
    assert result.json["unknown_labels"] == ["violet"]
    assert result.json["generation"] == 1
    assert result.json["fenced"] == []
    assert "broken.png" in result.json["bad_files"][0]
    images = sorted(photos.glob("*/0.png"))
    result = run("predict", *images, "--store", unchanged, "--top", 2, "--json")
    assert [item["image"] for item in result.json["predictions"]] == [str(path) for path in images]
    for item in result.json["predictions"]:
        assert item["label"] == item["top"][0]["label"] in COLOURS
        assert item["top"][0]["probability"] >= item["top"][1]["probability"]
    text = run("predict", images[0], "--store", unchanged)
    assert text.out.startswith(f"{images[0]}: ")
    assert_refused(run("predict", data / "red" / "broken.png", "--store", unchanged), 4, "broken")


def test_status_and_graph(unchanged: Path, tmp_path: Path) -> None:
    status = run("status", "--store", unchanged, "--json").json
    assert status["samples"] == 15
    assert status["classes"] == 3
    assert status["seed"] == 0
    assert len(status["digest"]) == 64
    text = run("status", "--store", unchanged).out
    assert text.splitlines()[0].split() == ["Samples", "15"]
    assert "efficientnet-lite0" in text
    assert status["digest"][:16] in text
    graph = run("graph", "--store", unchanged, "--mark-owner", "owner-1", "--json").json
    assert graph["shards"] == 5
    assert graph["edges"] == 0
    assert graph["cost"]["expected"]["adapter_samples"] > 0
    assert graph["touched"]["samples"] == 3
    for name in ("graph.svg", "graph.png", "graph.json"):
        result = run("graph", "--store", unchanged, "--save", tmp_path / name)
        assert result.code == 0
        assert f"Saved {tmp_path / name}" in result.out
        assert (tmp_path / name).stat().st_size > 0
    for words in ("5 shards", "15 samples", "adapter work", "distinct samples", "worst"):
        assert words in result.out
    assert json.loads((tmp_path / "graph.json").read_text())["shards"] == 5


@pytest.mark.parametrize(
    ("chosen", "form"),
    [((), Projection), (("--representation", "trained"), NodeWeights)],
)
def test_what_nodes_that_tally_learn_can_be_chosen(
    photos: Path, tmp_path: Path, chosen: tuple[str, ...], form: type
) -> None:
    sharding = ("--graph", "isolated", "--shards", 2, "--tallies", "all", "--epochs", 1)
    assert run("fit", photos, "--store", tmp_path / "store", *sharding, *chosen).code == 0
    files = list((tmp_path / "store" / "nodes").iterdir())
    assert len(files) == 2
    assert {type(from_bytes(0, file.read_bytes())) for file in files} == {form}


@pytest.mark.parametrize("graph", ["tallied", "isolated"])
def test_a_representation_that_no_node_takes_is_refused(
    photos: Path, tmp_path: Path, graph: str
) -> None:
    call = ("fit", photos, "--store", tmp_path / "store", "--graph", graph, "--shards", 2)
    assert_refused(run(*call, "--representation", "trained"), 2, "--tallies")
    assert not (tmp_path / "store").exists()


def test_samples_lists_what_a_request_would_name(unchanged: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("owner,sample\nowner-1,\n,red/0.png\n")
    rows = run("samples", "--store", unchanged, "--from", tmp_path / "names.csv", "--json").json
    found = {row["id"]: row for row in rows["samples"]}
    assert list(found) == ["blue/1.png", "green/1.png", "red/0.png", "red/1.png"]
    assert found["red/0.png"]["owner"] == "owner-0"
    assert found["red/0.png"]["source"] == "web"
    assert found["blue/1.png"]["label"] == "blue"
    plan = run("forget", "--store", unchanged, "--sample", "red/0.png", "--dry-run", "--json").json
    assert (
        found["red/0.png"]["nodes"] == len(plan["nodes"]["refit"] + plan["nodes"]["dropped"]) == 1
    )
    lines = run("samples", "--store", unchanged, "--owner", "owner-1").out.splitlines()
    assert lines[0].split("\t") == ["id", "label", "owner", "source", "shard", "nodes"]
    assert [line.split("\t")[:4] for line in lines[1:]] == [
        [f"{label}/1.png", label, "owner-1", "web" if label == "red" else "shop"]
        for label in ("blue", "green", "red")
    ]
    assert_refused(run("samples", "--store", unchanged, "--owner", "nobody"), 3, "nobody")
    assert_refused(run("samples", "--store", unchanged), 2, "")


def test_forget_prints_its_plan_first(store: Path) -> None:
    dry = run("forget", "--store", store, "--owner", "owner-1", "--dry-run", "--json").json
    result = run("forget", "--store", store, "--owner", "owner-1", "--owner", "owner-2", "--json")
    assert result.code == 0
    assert result.err.index("To forget: 6 samples") < result.err.index("fitting")
    assert dry["samples"] == 3
    assert set(result.json) >= CHANGE_KEYS
    assert result.json["samples"] == 6
    assert result.json["generation"] == 2
    assert set(dry["nodes"]["refit"]) <= {
        *result.json["nodes"]["refit"],
        *result.json["nodes"]["dropped"],
    }
    again = run("forget", "--store", store, "--owner", "owner-1")
    assert_refused(again, 3, "owner-1")


def test_a_source_with_shards_of_its_own_goes_with_its_nodes(store: Path) -> None:
    before = content(store / "nodes")
    result = run("forget", "--store", store, "--source", "web", "--json").json
    assert result["samples"] == 5
    assert result["nodes_refit"] == result["samples_refit"] == 0
    assert result["nodes_dropped"] > 0
    after = content(store / "nodes")
    assert len(after) == len(before) - result["nodes_dropped"]
    assert after.items() <= before.items()
    assert run("status", "--store", store, "--json").json["classes"] == 2


def test_forget_from_a_file_and_add_again_end_where_they_began(
    store: Path, photos: Path, tmp_path: Path
) -> None:
    digest = run("status", "--store", store, "--json").json["digest"]
    (tmp_path / "ids.txt").write_text("red/1.png\n\nblue/2.png\n")
    (tmp_path / "who.csv").write_text("owner,source\nowner-4,\n")
    for file, samples in (("ids.txt", 2), ("who.csv", 3)):
        result = run("forget", "--store", store, "--from", tmp_path / file, "--json")
        assert result.json["samples"] == samples
    added = run("add", photos / "list.csv", "--store", store, "--json")
    assert set(added.json) >= CHANGE_KEYS
    assert (added.json["samples"], added.json["passed_over"]) == (5, 10)
    assert added.json["digest"] == digest
    text = run("add", photos / "list.csv", "--store", store)
    assert (text.code, "15 samples" in text.out) == (0, True)


def test_a_forget_says_how_its_receipt_is_shown(store: Path) -> None:
    said = run("forget", "--store", store, "--owner", "owner-1").out
    command = said.partition("Its receipt: shardgraph ")[2].splitlines()[0]
    shown = run(*command.replace("...", str(store)).split())
    assert shown.code == 0
    assert shown.out.startswith("Entry 0 of the ledger")


def test_a_request_key_forgets_once(store: Path) -> None:
    call = ("forget", "--store", store, "--sample", "red/3.png", "--key", "k", "--json")
    first, second = run(*call), run(*call)
    assert (first.code, second.code) == (0, 0)
    assert first.json["digest"] == second.json["digest"]
    assert second.json["generation"] == 2
    assert second.json["nodes_refit"] == 0
    assert second.json["request"] == "k"


def test_verify(unchanged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("verify", "--store", unchanged, "--nodes", "2-4", "--json")
    assert result.code == 0
    assert result.json["equal"] is True
    assert result.json["nodes"] == 3
    assert result.json["bytes_compared"] > 0
    assert result.json["seconds"] > 0
    different = Verification((0, 3), (Difference(3, "2 of 9 bytes differ"),), 18, 0.1)
    monkeypatch.setattr(SafeModel, "verify", lambda *_, **__: different)
    result = run("verify", "--store", unchanged)
    assert result.code == 1
    assert "node 3" in result.out
    result = run("verify", "--store", unchanged, "--json")
    assert (result.code, result.json["equal"]) == (1, False)
    assert result.json["differences"] == [{"node": 3, "what": "2 of 9 bytes differ"}]


# -- refusals ---------------------------------------------------------------------------------


def assert_refused(result: Result, code: int, *words: str) -> None:
    """One line that says what is wrong and what to do; no result; no traceback."""
    assert result.code == code, result
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("shardgraph: ")]
    assert result.err.splitlines()[-1:] == lines, result.err
    message = lines[0].removeprefix("shardgraph: ")
    for word in words:
        assert word in message
    assert message.count(". ") >= 1 or "Try: shardgraph" in message, message
    if result.out:  # with --json
        assert set(result.json) == {"error", "message", "advice", "exit_code"}
        assert result.json["exit_code"] == code
        assert result.json["advice"]


REFUSALS: dict[str, tuple[int, list[str], tuple[str, ...]]] = {
    # the call
    "no store": (2, ["status"], ("--store", "Try: shardgraph status --help")),
    "no command": (2, ["frobnicate"], ("frobnicate", "Try: shardgraph --help")),
    "unknown option": (2, ["fit", "DATA", "--store", "NEW", "--shard", "3"], ("--help",)),
    "not a number": (2, ["fit", "DATA", "--store", "NEW", "--shards", "x"], ("--shards",)),
    "zero shards": (2, ["fit", "DATA", "--store", "NEW", "--shards", "0"], ("0 shards",)),
    "cliques": (2, ["fit", "DATA", "--store", "NEW", "--shards", "5", "--graph", "cliques:2"], ()),
    "no such graph": (2, ["fit", "DATA", "--store", "NEW", "--graph", "torus"], ("torus",)),
    "no graph file": (2, ["fit", "DATA", "--store", "NEW", "--graph", "no.json"], ("no.json",)),
    "safe source": (2, ["fit", "DATA", "--store", "NEW", "--safe-source", "web"], ("hub",)),
    "source shards": (2, ["fit", "DATA", "--store", "NEW", "--source-shards", "web"], ("web=16",)),
    "no source shards": (2, ["fit", "DATA", "--store", "NEW", "--source-shards", "w=0"], ()),
    "zero epochs": (2, ["fit", "DATA", "--store", "NEW", "--epochs", "0"], ("epochs",)),
    "no such encoder": (2, ["fit", "DATA", "--store", "NEW", "--backbone", "vgg"], ("vgg",)),
    "no such layer": (2, ["fit", "DATA", "--store", "NEW", "--layer", "head.9"], ("head.9",)),
    "nothing named": (2, ["forget", "--store", "STORE"], ("nothing",)),
    "no request file": (2, ["forget", "--store", "STORE", "--from", "no.txt"], ("no.txt",)),
    "not a request": (
        2,
        ["forget", "--store", "STORE", "--from", "IMAGE"],
        ("1.png", "one sample id a line"),
    ),
    "not nodes": (2, ["verify", "--store", "STORE", "--nodes", "a-b"], ("a-b",)),
    "no labels": (2, ["predict", "IMAGE", "--store", "STORE", "--top", "0"], ("--top",)),
    "no picture": (2, ["graph", "--store", "STORE", "--save", "NEW.pdf"], (".svg", ".json")),
    # names
    "no sample": (3, ["forget", "--store", "STORE", "--sample", "red/77.png"], ("red/77.png",)),
    "no owner": (3, ["forget", "--store", "STORE", "--owner", "nobody"], ("nobody",)),
    "no source": (3, ["forget", "--store", "STORE", "--source", "moon"], ("moon",)),
    "one of two": (3, ["forget", "--store", "STORE", "--owner", "owner-1", "--owner", "x"], ()),
    "no dry owner": (3, ["forget", "--store", "STORE", "--owner", "x", "--dry-run"], ()),
    "no node": (3, ["verify", "--store", "STORE", "--nodes", "99"], ("99",)),
    "no mark": (3, ["graph", "--store", "STORE", "--mark-owner", "x", "--save", "NEW.svg"], ()),
    # data
    "no data": (4, ["fit", "NEW/none", "--store", "NEW"], ("NEW/none",)),
    "no data to add": (4, ["add", "NEW/none", "--store", "COPY"], ("NEW/none",)),
    "no image": (4, ["predict", "NEW/none.png", "--store", "STORE"], ("none.png",)),
    "no source left": (2, ["fit", "DATA", "--store", "NEW", "--graph", "POOLS"], ("'shop'",)),
    # the store
    "store exists": (5, ["fit", "DATA", "--store", "STORE"], ("already", "shardgraph add")),
    "folder in use": (5, ["fit", "DATA", "--store", "FOLDER"], ("neither empty nor a store",)),
    "no place": (5, ["fit", "DATA", "--store", "FOLDER/list.csv/x"], ()),
    "no picture place": (5, ["graph", "--store", "STORE", "--save", "NEW/x/g.svg"], ()),
    "no json place": (5, ["graph", "--store", "STORE", "--save", "NEW/x/g.json"], ()),
    **{
        f"no store to {command}": (5, [command, *rest, "--store", "NEW"], ("no store",))
        for command, rest in {
            "add": ["DATA"],
            "evaluate": ["DATA"],
            "forget": ["--owner", "x"],
            "graph": [],
            "predict": ["IMAGE"],
            "status": [],
            "verify": [],
        }.items()
    },
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_one_line_and_change_nothing(
    name: str, unchanged: Path, photos: Path, tmp_path: Path
) -> None:
    code, arguments, words = REFUSALS[name]
    pools = tmp_path / "pools.json"
    only_web = [{"shards": [0], "sources": ["web"]}]
    pools.write_text(json.dumps({"format": 1, "shards": 1, "edges": [], "pools": only_web}))
    places = {
        "DATA": str(photos / "list.csv"),
        "IMAGE": str(photos / "red" / "1.png"),
        "FOLDER": str(photos),
        "STORE": str(unchanged),
        "COPY": str(unchanged),
        "POOLS": str(pools),
        "NEW": str(tmp_path / "new"),
    }

    def placed(text: str) -> str:
        for word, path in places.items():
            text = text.replace(word, path)
        return text

    before = content(photos)
    wanted = [placed(word) for word in words]
    assert_refused(run(*map(placed, arguments), "--json"), code, *wanted)
    assert content(photos) == before
    assert [path.name for path in tmp_path.iterdir()] == ["pools.json"]


def test_a_dry_run_changes_no_byte(unchanged: Path) -> None:
    result = run("forget", "--store", unchanged, "--source", "web", "--dry-run")
    assert result.code == 0
    assert "To forget: 5 samples" in result.out
    assert result.err == ""


def test_a_bad_file_stops_before_anything_is_written_or_is_skipped_by_name(
    store: Path, tmp_path: Path
) -> None:
    paint(tmp_path / "new" / "blue" / "8.png", COLOURS["blue"], 8)
    (tmp_path / "new" / "blue" / "9.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    before = content(store)
    assert_refused(run("fit", tmp_path / "new", "--store", tmp_path / "other"), 4, "9.png")
    assert not (tmp_path / "other").exists()
    assert_refused(run("add", tmp_path / "new", "--store", store), 4, "9.png")
    status = run("status", "--store", store, "--json").json
    assert (status["samples"], status["generation"]) == (15, 1)
    for kind in ("activations/", "nodes/"):
        assert [n for n in content(store) if n.startswith(kind)] == [
            n for n in before if n.startswith(kind)
        ]
    skipped = run("add", tmp_path / "new", "--store", store, "--on-bad-file", "skip", "--json")
    assert skipped.code == 0
    assert skipped.json["samples"] == 1
    assert "9.png" in skipped.json["bad_files"][0]


def test_a_store_in_use_or_damaged_or_from_elsewhere(
    store: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(store, "write"):
        assert_refused(run("forget", "--store", store, "--owner", "owner-1"), 6, str(os.getpid()))
        assert run("status", "--store", store).code == 0
    elsewhere = {**runtime.environment(), "torch": "1.0"}
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "environment", lambda *_: elsewhere)
        assert_refused(run("forget", "--store", store, "--owner", "owner-1"), 8, "1.0")
    node = min((store / "nodes").iterdir())
    node.write_bytes(node.read_bytes()[:-1] + b"\x7f")
    image = photos / "red" / "1.png"
    assert_refused(run("predict", image, "--store", store), 7, node.name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_what_the_system_refuses_is_one_line(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/some/path")

    monkeypatch.setattr(SafeModel, "open", refuse)
    assert_refused(run("status", "--store", "x"), 5, "/some/path", os.strerror(number))


# -- interruption -----------------------------------------------------------------------------

PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from shardgraph.cli import main; main()"
)


def test_control_c_in_a_fit_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    add_photos(tmp_path / "photos", 20)
    call = ["fit", tmp_path / "photos", "--store", tmp_path / "store", "--shards", 2, "--epochs", 1]
    command = [sys.executable, "-c", PROGRAM, *map(str, call)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr is not None
        seen = b""
        while b"encoding" not in seen:
            letter = process.stderr.read(1)
            assert letter, seen
            seen += letter
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == b""
    assert b"Traceback" not in err
    assert b"Run the same command to go on" in err.splitlines()[-1]
    assert_refused(run("status", "--store", tmp_path / "store"), 5, "never finished")
    assert_refused(run(*call[:-1], 2), 5, "other settings")
    result = run(*call, "--json")
    assert result.code == 0
    assert result.json["samples"] == 60


def test_a_running_request_is_stopped_and_resumed(store: Path) -> None:
    assert_refused(run("requests", "--store", store, "--stop"), 2, "Nobody is writing")
    assert_refused(run("requests", "--store", store, "--stop", "--resume"), 2, "one of the two")
    slow = (
        "import shardgraph.forgetting.carry_out as c, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def fit(*_, **__): print('fitting', flush=True); time.sleep(600)\n"
        "c.fit_nodes = c.retally = fit\n"
        "from shardgraph.cli import main; main()"
    )
    call = ["forget", "--store", str(store), "--owner", "owner-1"]
    command = [sys.executable, "-c", slow, *call]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"fitting\n"
        stopped = run("requests", "--store", store, "--stop", "--json")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [item["state"] for item in stopped.json["requests"]] == ["accepted"]
    resumed = run("requests", "--store", store, "--resume", "--json")
    assert [item["state"] for item in resumed.json["requests"]] == ["receipted"]


def test_control_c_in_a_forget_says_how_to_go_on(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    call = ("forget", "--store", store, "--owner", "owner-1", "--key", "mine")
    with monkeypatch.context() as patch:
        patch.setattr("shardgraph.model.resume", interrupt)
        patch.setattr("shardgraph.model.SafeModel.open", _open_without_resuming)
        assert_refused(run(*call), 130, "--key mine")
    status = run("status", "--store", store, "--json").json
    assert status["requests"] == {"accepted": 1}
    assert status["fenced"] > 0
    assert "being forgotten" in run("status", "--store", store).out
    assert run(*call).code == 0
    assert run("status", "--store", store, "--json").json["requests"] == {"receipted": 1}


def _open_without_resuming(path: Path, **_: object) -> SafeModel:
    return SafeModel(Store.open(path, "write"))


# -- help -------------------------------------------------------------------------------------


def test_help_is_complete() -> None:
    overview = run()
    assert overview == run("--help")
    assert overview.code == 0
    assert "Exit codes:" in overview.out
    assert isinstance(cli.commands, click.Group)
    for name, command in cli.commands.commands.items():
        shown = run(name, "--help")
        assert shown.code == 0
        assert f"shardgraph {name}" in shown.out
        assert "Example" in shown.out
        assert "--json" in shown.out
        summary = next(line for line in overview.out.splitlines() if line.startswith(f"  {name} "))
        assert summary.endswith(".")
        assert not summary.endswith("...")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter
