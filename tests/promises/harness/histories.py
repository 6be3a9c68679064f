"""Run many histories. As a program: one process of several that share them.

    python histories.py 34 30 15 a-seed isolated ring:3

prints one JSON object: what was run, and what differed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from harness.fresh import FreshFits, import_path
from harness.machine import FRESH_EVERY, History, Tally, profile
from shardgraph import runtime

_AT_ONCE = 10
"""Histories in one run of hypothesis: of more, it makes some by changing others, and shorter."""


@dataclass(frozen=True)
class Ran:
    """The histories of all processes together."""

    histories: int
    steps: int
    fresh: int
    rules: dict[str, int]
    mismatches: list[str]
    wall_seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.histories} whole histories, {self.steps} steps in all, every step against the "
            f"reference, {self.fresh} states against fits in another process, "
            f"{len(self.mismatches)} mismatches, {self.wall_seconds:.0f} s "
            f"({self.cpu_seconds:.0f} s of CPU)"
        )


def run_here(
    topologies: Sequence[str], histories: int, steps: int, seed: str, every: int = FRESH_EVERY
) -> Tally:
    """Run ``histories`` histories over each topology, in this process.

    Raises:
        AssertionError: a step broke a promise; hypothesis shows the shortest history that does.
    """
    tally = Tally()
    with FreshFits() as fresh:
        for topology in topologies:
            members = {
                "topology": topology,
                "tally": tally,
                "fresh": fresh,
                "fresh_every": every,
                "length": steps,
            }
            for begin in range(0, histories, _AT_ONCE):
                machine: Any = type("History", (History,), dict(members))
                machine = seeded(f"{seed}/{topology}/{begin}")(machine)
                chosen = profile(min(_AT_ONCE, histories - begin), steps)
                run_state_machine_as_test(machine, settings=chosen)
            tally.compare(fresh.answers())
    return tally


def run(
    shares: Sequence[tuple[str, Sequence[str]]],
    histories: int,
    steps: int,
    every: int = FRESH_EVERY,
) -> Ran:
    """Run every share (a seed and its topologies) in a process of its own, one per core at a time.

    Raises:
        AssertionError: a process failed; the message is its output.
    """
    started, before = time.perf_counter(), os.times()
    waiting = [
        [sys.executable, __file__, str(histories), str(steps), str(every), seed, *topologies]
        for seed, topologies in shares
    ]
    running: list[subprocess.Popen[str]] = []
    found: list[dict[str, Any]] = []
    try:
        while waiting or running:
            while waiting and len(running) < runtime.worker_count():
                running.append(
                    subprocess.Popen(
                        waiting.pop(0),
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        env={**os.environ, "PYTHONPATH": import_path()},
                    )
                )
            process = running.pop(0)
            output, _ = process.communicate()
            assert process.returncode == 0, output
            found.append(json.loads(output.splitlines()[-1]))
    finally:
        for process in running:
            process.kill()
            process.communicate()
    after = os.times()
    rules: Counter[str] = Counter()
    for part in found:
        rules.update(part["rules"])
    return Ran(
        histories=sum(part["histories"] for part in found),
        steps=sum(part["steps"] for part in found),
        fresh=sum(part["fresh"] for part in found),
        rules=dict(sorted(rules.items())),
        mismatches=[what for part in found for what in part["mismatches"]],
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=sum(after[2:4]) - sum(before[2:4]),
    )


if __name__ == "__main__":
    # Several of these share the cores; `test_exactness` shows that bits do not depend on it.
    runtime.worker_count = lambda: 1
    torch.set_num_threads(1)
    counts = [int(word) for word in sys.argv[1:4]]
    result = run_here(sys.argv[5:], counts[0], counts[1], sys.argv[4], counts[2])
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
