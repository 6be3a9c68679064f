"""Run many histories, side by side."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any

import torch
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from harness.fresh import FreshFits
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


@dataclass(frozen=True)
class Share:
    """``count`` histories over one graph, from number ``begin`` on: one run of hypothesis."""

    topology: str
    begin: int
    count: int
    steps: int
    seed: str
    every: int


def run_share(share: Share, fresh: FreshFits, tally: Tally) -> None:
    """Run the histories of one share, and wait for the fits from scratch that they asked for."""
    members = {
        "topology": share.topology,
        "tally": tally,
        "fresh": fresh,
        "fresh_every": share.every,
        "length": share.steps,
    }
    machine: Any = type("History", (History,), members)
    machine = seeded(f"{share.seed}/{share.topology}/{share.begin}")(machine)
    run_state_machine_as_test(machine, settings=profile(share.count, share.steps))
    tally.compare(fresh.answers())


def run(
    topologies: Sequence[str], histories: int, steps: int, seed: str, every: int = FRESH_EVERY
) -> Ran:
    """Run ``histories`` histories over each topology, in as many new processes as there are cores.

    Raises:
        AssertionError: a step broke a promise.
    """
    started, before = time.perf_counter(), os.times()
    shares = [
        Share(topology, begin, min(_AT_ONCE, histories - begin), steps, seed, every)
        for topology in topologies
        for begin in range(0, histories, _AT_ONCE)
    ]
    with ProcessPoolExecutor(
        runtime.worker_count(), multiprocessing.get_context("spawn"), _become_worker
    ) as pool:
        found = list(pool.map(_run_in_worker, shares))
    after = os.times()
    rules: Counter[str] = Counter()
    for part in found:
        rules.update(part.rules)
    return Ran(
        histories=sum(part.histories for part in found),
        steps=sum(part.steps for part in found),
        fresh=sum(part.fresh for part in found),
        rules=dict(sorted(rules.items())),
        mismatches=[what for part in found for what in part.mismatches],
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=sum(after[2:4]) - sum(before[2:4]),
    )


_fresh: FreshFits | None = None


def _become_worker() -> None:
    """Take one core, as the others take theirs, and a process for fits from scratch.

    Nothing starts threads here: they would take a tenth of the time, and a history that crashes
    would not crash again at the same file. The processes that fit from scratch do, and that bits
    do not depend on the number of workers is shown in `test_exactness`.
    """
    global _fresh
    runtime.worker_count = lambda: 1
    ThreadPoolExecutor.submit = _at_once  # type: ignore[method-assign]
    torch.set_num_threads(1)
    _fresh = FreshFits()
    Finalize(None, _fresh.close, exitpriority=1)


def _at_once(
    _pool: ThreadPoolExecutor, act: Callable[..., Any], /, *arguments: Any, **options: Any
) -> Future[Any]:
    """`ThreadPoolExecutor.submit` in the thread that calls it."""
    done: Future[Any] = Future()
    try:
        done.set_result(act(*arguments, **options))
    except BaseException as error:  # noqa: BLE001 - as in a pool, it is whoever asks for the result's
        done.set_exception(error)
    return done


def _run_in_worker(share: Share) -> Tally:
    assert _fresh is not None
    tally = Tally()
    run_share(share, _fresh, tally)
    return tally
