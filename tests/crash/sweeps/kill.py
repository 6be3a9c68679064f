"""Strike at system calls of fit, add, forget, compact, recover and restore, and count.

    python kill.py LIBRARY FOLDER [--stride N] [--seed N] [--kinds a,b] [--actions a,b]
                   [--fault NAME]

Prints one JSON object. A trial copies a store, does one thing in a forked process that is struck
at one call, judges what is left as a reader sees it, recovers, and judges the end. In every third
trial the recovery is killed too, up to three times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from shardgraph.errors import ShardgraphError
from sweeps.faulty import with_fault
from sweeps.injection import Injection, restart_with
from sweeps.scenario import ACTIONS, Ground, act, judge, look_in, recover, scribble

DONE, REFUSED, SURPRISE = 0, 3, 4
MOVING = ("write", "pwrite", "sendfile", "copy_file_range")
KINDS = ("kill before", "kill after", "torn", "EIO", "ENOSPC", "EIO from then on",
         "ENOSPC from then on", "short")  # fmt: skip
_PATIENCE = 100


@dataclass(frozen=True)
class Ended:
    """How a child ended, what it had acknowledged, and its calls if they were traced."""

    status: int
    told: bytes
    calls: tuple[str, ...]
    error: str = ""


def in_child(work: Callable[[Callable[[bytes], None]], None], arm: Callable[[int], None]) -> Ended:
    """Run ``work`` in a forked process that is armed first."""
    told_in, told_out = os.pipe()
    trace = os.memfd_create("trace")
    child = os.fork()
    if child == 0:
        status = SURPRISE
        try:
            arm(trace)
            work(lambda letter: (os.write(told_out, letter), None)[1])
            status = DONE
        except ShardgraphError:
            status = REFUSED
        except BaseException as error:  # noqa: BLE001 - handed to the parent
            os.write(told_out, f"!{type(error).__name__}: {error}"[:400].encode())
        finally:
            os._exit(status)
    os.close(told_out)
    signal.alarm(_PATIENCE)  # a child that hangs ends the sweep, loudly
    with os.fdopen(told_in, "rb") as pipe:
        told, _, error = pipe.read().partition(b"!")
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    os.lseek(trace, 0, os.SEEK_SET)
    with os.fdopen(trace, "rb") as file:
        calls = tuple(file.read().decode().splitlines())
    return Ended(os.waitstatus_to_exitcode(status), told, calls, error.decode())


class Sweep:
    """Trials over one ground, and what they came to."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.injection = Injection()
        self.folder = folder
        (folder / "ground").mkdir(parents=True)
        self.ground = Ground(folder / "ground")
        self.chance = random.Random(seed)
        self.trials: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.recoveries_killed = 0
        self.steps: dict[str, int] = {}

    def calm(self, action: str) -> tuple[str, ...]:
        """The calls of an action that nothing strikes, with their order."""
        place = self._fresh(action)
        ended = in_child(
            lambda tell: act(action, place, tell),
            lambda trace: self.injection.arm(place, "none", -1, trace=trace),
        )
        wrong = judge(self.ground, action, place, ended.told)
        if ended.status != DONE or wrong:
            raise SystemExit(f"{action} fails by itself: {wrong} {ended.error}")
        shutil.rmtree(place)
        self.steps[action] = len(ended.calls)
        return ended.calls

    def sweep(self, action: str, kinds: Sequence[str], stride: int) -> None:
        """Strike an action in every way at every ``stride``-th call, not always the same ones.

        Calls of a name that no trial has struck so far are struck once, in the first way.
        """
        calls = self.calm(action)
        for kind in kinds:
            for at in range(1 + self.chance.randrange(stride), len(calls) + 1, stride):
                call = calls[at - 1]
                if kind not in ("torn", "short") or call.startswith(MOVING):
                    self.trial(action, kind, at, call)
        for at, call in enumerate(calls, 1):
            if not self.calls[call.split()[0]]:
                self.trial(action, kinds[0], at, call)

    def trial(self, action: str, kind: str, at: int, call: str) -> None:
        """Strike once, and judge."""
        place = self._fresh(action)
        ended = in_child(
            lambda tell: act(action, place, tell),
            lambda trace: self.injection.arm(place, kind, at),
        )
        self.trials[f"{action}, {kind}"] += 1
        self.calls[call.split()[0]] += 1
        self.outcomes[_outcome(ended.status)] += 1
        what = self._verdict(action, kind, call, place, ended)
        if what:
            self.wrong.append(f"{action}, {kind} at step {at} ({call}): {what}")
        shutil.rmtree(place, ignore_errors=True)

    def _verdict(self, action: str, kind: str, call: str, place: Path, ended: Ended) -> str:
        if ended.status == SURPRISE:
            return f"surprise: {ended.error}"
        if kind.startswith("EIO") and _is_our_sync(call) and b"D" in ended.told:
            return "a sync failed and success was reported"
        if self.chance.random() < 0.5:
            scribble(place)
        if self.chance.random() < 1 / 3:
            try:
                look_in(self.ground, action, place, ended.told)
            except AssertionError as wrong:
                return str(wrong)
            except ShardgraphError as error:
                return f"{type(error).__name__}: {error}"
            for _ in range(self.chance.randint(1, 3)):
                at = self.chance.randint(1, 120)
                again = in_child(
                    lambda tell: recover(action, place),
                    lambda trace, at=at: self.injection.arm(place, "kill before", at),  # type: ignore[misc]
                )
                self.recoveries_killed += again.status < 0
        return judge(self.ground, action, place, ended.told)

    def _fresh(self, action: str) -> Path:
        place = self.folder / secrets.token_hex(6)
        self.ground.place(action, place)
        return place

    def report(self) -> dict[str, object]:
        """The counts."""
        wrong = Counter(_class_of(line) for line in self.wrong)
        return {
            "trials": sum(self.trials.values()),
            "by_action_and_kind": dict(sorted(self.trials.items())),
            "struck_calls": dict(sorted(self.calls.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "recoveries_killed": self.recoveries_killed,
            "steps": self.steps,
            "wrong": sum(wrong.values()),
            "lost_requests": wrong["lost"],
            "half_states_answered": wrong["half"],
            "receipts_without_erasure": wrong["receipt"],
            "first_wrong": self.wrong[:20],
        }


def _is_our_sync(call: str) -> bool:
    """SQLite reports a commit whose sync failed, and may pass over that of a close: what a close
    moves is in its log as well."""
    return call.startswith("fsync") or call == "fdatasync /newest"


def _outcome(status: int) -> str:
    return {DONE: "succeeded", REFUSED: "refused", SURPRISE: "surprised"}.get(status, "killed")


def _class_of(line: str) -> str:
    known = {"lost": "lost", "half state": "half", "fence": "half", "receipt without": "receipt"}
    return next((name for part, name in known.items() if part in line), "other")


def main() -> None:
    """Sweep, and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--actions", default=",".join(ACTIONS))
    parser.add_argument("--fault", default="")
    given = parser.parse_args()
    restart_with(given.library)
    started = time.perf_counter()
    sweep = Sweep(given.folder, given.seed)
    with with_fault(given.fault):
        for action in given.actions.split(","):
            sweep.sweep(action, given.kinds.split(","), given.stride)
            sys.stderr.write(f"{action}: {sum(sweep.trials.values())}, {len(sweep.wrong)} wrong\n")
    json.dump({**sweep.report(), "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
