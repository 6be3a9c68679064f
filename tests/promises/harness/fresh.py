"""Fits from scratch in a process of their own, under other circumstances.

The process is told which samples are live and nothing else. It has another hash seed, another
locale, another working directory, and takes the samples in reversed order. Run as a program, this
file is that process: one JSON object a line in, one a line out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.directory import influence_hashes
from harness.world import Live, World, fit, scratch

_OUTSTANDING = 8
"""Questions sent ahead of their answers; few enough that no pipe ever fills."""


class FreshFits:
    """The process, seen from a test. Questions may run ahead of their answers."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shardgraph-elsewhere-")
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "4711",
            "LC_ALL": "C",
            "LANG": "C",
            "TZ": "Pacific/Chatham",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).absolute().parent.parent), os.environ.get("PYTHONPATH", "")]
            ),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder.name,
            env=environment,
        )
        self._waiting: deque[tuple[Any, dict[str, Any]]] = deque()
        self._known: dict[str, dict[str, Any]] = {}
        self.fits = 0

    def state(self, world: World, topology: str, live: Live) -> dict[str, Any]:
        """``digest``, ``files`` (hash by name) and ``probe`` (an answer) of a fit from scratch."""
        question = _question(world, topology, live)
        if question not in self._known:
            self._known[question] = self._ask(question)
        return self._known[question]

    def check_later(self, what: Any, world: World, topology: str, live: Live) -> list[Any]:
        """Ask without waiting; returns (what, answer) of questions that are answered meanwhile."""
        self._send(_question(world, topology, live))
        self._waiting.append((what, {}))
        return self.answers(_OUTSTANDING)

    def answers(self, left: int = 0) -> list[Any]:
        """Wait until at most ``left`` questions have no answer; (what, answer) of the others."""
        found = []
        while len(self._waiting) > left:
            what, _ = self._waiting.popleft()
            found.append((what, self._receive()))
        return found

    def _ask(self, question: str) -> dict[str, Any]:
        if self._waiting:
            raise RuntimeError("questions that were sent ahead have not been answered")
        self._send(question)
        return self._receive()

    def _send(self, question: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        self.fits += 1

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


def _serve() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
