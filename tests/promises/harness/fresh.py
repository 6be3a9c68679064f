"""What happens in a process of its own, under other circumstances: fits from scratch, and changes.

The process is told which samples are live, or which store to change, and nothing else. It has
another hash seed, another locale and encoding, another time zone and working directory, lists
folders in another order and takes samples in reversed order. Each change happens in a fork of it,
so that it finds nothing in memory. Run as a program, this file is that process: one JSON object a
line in, one a line out.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

import shardgraph
from harness.directory import influence_hashes
from harness.world import Live, World, fit, scratch
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

_OUTSTANDING = 8
"""Questions sent ahead of their answers; few enough that no pipe ever fills."""


def import_path() -> str:
    """Where a process elsewhere finds this harness and the very package that is tested here."""
    mine = Path(__file__).absolute().parent.parent
    package = Path(shardgraph.__file__).absolute().parent.parent
    return os.pathsep.join([str(mine), str(package), os.environ.get("PYTHONPATH", "")])


class FreshFits:
    """The process, seen from a test. Questions may run ahead of their answers."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shardgraph-elsewhere-")
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "4711",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "LC_ALL": "C",
            "LANG": "C",
            "TZ": "Pacific/Chatham",
            "PYTHONPATH": import_path(),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder.name,
            env=environment,
        )
        self._waiting: deque[Any] = deque()
        self._done: list[Any] = []
        self._known: dict[str, dict[str, Any]] = {}

    def state(self, world: World, topology: str, live: Live) -> dict[str, Any]:
        """``digest``, ``files`` (hash by name) and ``probe`` (an answer) of a fit from scratch."""
        question = _question(world, topology, live)
        if question not in self._known:
            self._known[question] = self._ask(question)
        return self._known[question]

    def change(
        self, store: Path, world: World, forget: Iterable[str], add: Live
    ) -> list[dict[str, Any]]:
        """Open a store that is closed here, forget, add, close it; what was done, and the digest.

        The process that does so has never seen the store.
        """
        change = {"add": add, "forget": sorted(forget), "seed": world.seed, "store": str(store)}
        found = self._ask(json.dumps(change))
        if "failed" in found:
            raise AssertionError(f"in another process: {found['failed']}")
        return list(found["done"])

    def check_later(self, what: Any, world: World, topology: str, live: Live) -> list[Any]:
        """Ask without waiting; returns (what, answer) of questions that are answered meanwhile."""
        self._send(_question(world, topology, live))
        self._waiting.append(what)
        return self.answers(_OUTSTANDING)

    def answers(self, left: int = 0) -> list[Any]:
        """Wait until at most ``left`` questions have no answer; (what, answer) of the others."""
        while len(self._waiting) > left:
            self._done.append((self._waiting.popleft(), self._receive()))
        found, self._done = self._done, []
        return found

    def _ask(self, question: str) -> dict[str, Any]:
        self._done = self.answers()
        self._send(question)
        return self._receive()

    def _send(self, question: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the process that fits from scratch has died; see its output")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()


def _question(world: World, topology: str, live: Live) -> str:
    return json.dumps({"live": live, "seed": world.seed, "topology": topology}, sort_keys=True)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    world = World(question["seed"])
    with scratch() as folder:
        path = folder / "store"
        with fit(world, question["topology"], question["live"], path, reverse=True) as model:
            return {
                "digest": model.store.digest(),
                "files": influence_hashes(path),
                "probe": model.answer(world.probe()).probabilities.tolist(),
            }


def _change(change: dict[str, Any]) -> dict[str, Any]:
    world, done = World(change["seed"]), []
    with SafeModel.open(change["store"], write=True) as model:
        if change["forget"]:
            done.append(model.forget(ForgetRequest.of(samples=change["forget"])))
        if change["add"]:
            done.append(model.add(world.dataset(change["add"], reverse=True)))
        outcomes = [
            {
                "refit": outcome.nodes_refit,
                "subtracted": outcome.nodes_subtracted,
                "dropped": outcome.nodes_dropped,
            }
            for outcome in done
        ]
    return {"done": outcomes}


def _forked(act: Callable[[dict[str, Any]], dict[str, Any]], given: dict[str, Any]) -> None:
    """Do it in a fork, which writes the answer."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        _say(act(given))
    except BaseException:  # noqa: BLE001 - whatever it is, the test must hear of it
        _say({"failed": traceback.format_exc()})
    finally:
        os._exit(0)


class _Turned:
    """What `os.scandir` found, the other way round."""

    def __init__(self, found: Iterable[Any]) -> None:
        self._left: Iterator[Any] = iter(sorted(found, key=lambda e: e.name, reverse=True))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing to close."""


def _turn_folders() -> None:
    """List every folder from its last name to its first."""
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda *path: sorted(listdir(*path), reverse=True)  # type: ignore[assignment]
    os.scandir = lambda *path: _Turned(scandir(*path))  # type: ignore[assignment, misc]


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _serve() -> None:
    _turn_folders()
    torch.set_num_threads(1)  # no thread of torch's may be there when the process forks
    gc.freeze()  # a collection in a fork would touch, and so copy, every page
    for line in sys.stdin:
        question = json.loads(line)
        if "store" in question:
            _forked(_change, question)
        else:
            _say(_answer(question))


if __name__ == "__main__":
    _serve()
