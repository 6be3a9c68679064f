"""Two processes with four threads each predict, forget and add at once.

    python processes.py FOLDER [--seconds N] [--fault NAME]

Prints one JSON object. In each process two threads ask through one model that is open for reading,
and two open the store for writing in turns, forget or add, and close it. Times are those of one
clock for all processes. Afterwards every answer is held against three rules:

- an answer that began after a request was acknowledged comes from a fence that covers the
  request's, or from a generation that has carried it out;
- answers of one generation behind one fence are the same bytes, in whichever thread and process;
- those of some generations are what a fit from scratch of their live samples answers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from shardgraph.errors import StoreLockedError, UsageError
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from sweeps.faulty import with_fault
from sweeps.scenario import dataset, fitted, name, probe

_FITTED = 4
"""Generations that are compared with a fit from scratch."""
_PATIENCE = 120.0
_START, _EVER = 48, 200


@dataclass
class Seen:
    """What the threads of one process saw and did."""

    answers: list[tuple[float, int, frozenset[int], str]] = field(default_factory=list)
    accepted: list[tuple[float, str, frozenset[int]]] = field(default_factory=list)
    carried_out: list[tuple[str, int]] = field(default_factory=list)
    live: dict[int, tuple[str, ...]] = field(default_factory=dict)
    silent: int = 0
    waited: int = 0
    errors: list[str] = field(default_factory=list)


class Worker:
    """One process."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.until = 0.0
        self.seen = Seen()

    def run(self, seconds: float, barrier: Any) -> Seen:
        """Four threads until the time is over, which begins when all processes are there."""
        with SafeModel.open(self.path) as reader:
            reader.answer(probe())
            barrier.wait(_PATIENCE)
            self.until = time.monotonic() + seconds
            work = [lambda: self._ask(reader)] * 2
            work += [lambda place=place: self._change(place) for place in (0, 1)]  # type: ignore[misc]
            threads = [threading.Thread(target=self._guarded, args=(one,)) for one in work]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_PATIENCE)
            if any(thread.is_alive() for thread in threads):
                self.seen.errors.append("deadlock: a thread has not ended")
        return self.seen

    def _guarded(self, work: Any) -> None:
        try:
            while self._going():
                work()
        except BaseException as error:  # noqa: BLE001 - handed to the parent
            self.seen.errors.append(f"{type(error).__name__}: {error}")

    def _going(self) -> bool:
        """Until the time is over, and on a slow machine until a request has been asked about."""
        now = time.monotonic()
        seen = bool(self.seen.accepted) and now > self.seen.accepted[0][0] + 1
        return now < self.until or (not seen and now < self.until + _PATIENCE / 2)

    def _ask(self, reader: SafeModel) -> None:
        began = time.monotonic()
        try:
            answer = reader.answer(probe())
        except UsageError:  # every node is fenced
            self.seen.silent += 1
            return
        fence = frozenset(map(int, answer.without))
        row = (began, answer.generation, fence, answer.probabilities.tobytes().hex())
        self.seen.answers.append(row)

    def _change(self, place: int) -> None:
        chance = random.Random(time.monotonic_ns())
        try:
            model = SafeModel.open(self.path, write=True)
        except StoreLockedError:
            self.seen.waited += 1
            time.sleep(0.002)
            return
        with model:
            ids = self._ids(model)
            if len(ids) > _START // 2 and (place == 0 or chance.random() < 0.3):
                self._forget(model, chance.sample(ids, chance.choice([1, 2])))
            else:
                held = set(ids)
                absent = [number for number in range(_EVER) if name(number) not in held]
                model.add(dataset(chance.sample(absent, 4)))
            self.seen.live[model.store.view().generation] = tuple(self._ids(model))
        time.sleep(chance.random() / 20)  # let the others have the lock

    def _forget(self, model: SafeModel, ids: list[str]) -> None:
        key = f"{self.number} {time.monotonic_ns()} {ids[0]}"
        real = model.store.accept

        def accept(*given: Any, **named: Any) -> Any:
            found = real(*given, **named)
            self.seen.accepted.append((time.monotonic(), key, frozenset(map(int, found.fenced))))
            return found

        model.store.accept = accept  # type: ignore[method-assign]
        outcome = model.forget(ForgetRequest.of(samples=ids, key=key))
        self.seen.carried_out.append((key, outcome.generation))

    def _ids(self, model: SafeModel) -> list[str]:
        shards = model.store.view().shards
        return sorted(str(one.id) for shard in shards for one in model.store.records(shard))


def work(path: str, number: int, seconds: float, fault: str, barrier: Any, queue: Any) -> None:
    """What a process does."""
    with with_fault(fault):
        queue.put(Worker(Path(path), number).run(seconds, barrier))


def stale(seen: list[Seen]) -> list[str]:
    """Answers that an acknowledged request should have kept from being given."""
    generation = dict(item for one in seen for item in one.carried_out)
    requests = sorted(item for one in seen for item in one.accepted)
    answers = sorted((item for one in seen for item in one.answers), key=lambda item: item[0])
    found: list[str] = []
    pending: list[tuple[str, frozenset[int]]] = []
    at = 0
    for began, number, fence, _ in answers:
        while at < len(requests) and requests[at][0] < began:
            pending.append(requests[at][1:])
            at += 1
        for key, fenced in pending:
            done = generation.get(key)
            if not (fence >= fenced or (done is not None and number >= done)):
                found.append(f"generation {number} without {sorted(fence)}, request of {done}")
        pending = [item for item in pending if generation.get(item[0], number + 1) > number]
    return found


def mixed(seen: list[Seen]) -> int:
    """Pairs of generation and fence for which there were different answers."""
    by_state: defaultdict[tuple[int, frozenset[int]], set[str]] = defaultdict(set)
    for one in seen:
        for _, number, fence, answer in one.answers:
            by_state[number, fence].add(answer)
    return sum(len(answers) > 1 for answers in by_state.values())


def unlike_a_fit(seen: list[Seen], folder: Path) -> tuple[int, int]:
    """How many generations were fitted from scratch, and how many of them answer otherwise."""
    whole = {n: answer for one in seen for _, n, fence, answer in one.answers if not fence}
    live = {number: ids for one in seen for number, ids in one.live.items() if number in whole}
    numbers = {name(number): number for number in range(_EVER)}
    compared = wrong = 0
    for number in sorted(live)[:: max(1, len(live) // _FITTED)][:_FITTED]:
        known = [numbers[one] for one in live[number]]
        path = folder / f"fit-{number}"
        with fitted(dataset(known), path) as model:
            answer = model.answer(probe()).probabilities.tobytes().hex()
        compared += 1
        wrong += answer != whole[number]
    return compared, wrong


def main() -> None:
    """Run, and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fault", default="")
    given = parser.parse_args()
    path = given.folder / "store"
    fitted(dataset(range(_START)), path).close()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    barrier = context.Barrier(2)
    common = (given.seconds, given.fault, barrier, queue)
    arguments = [(str(path), number, *common) for number in range(2)]
    processes = [context.Process(target=work, args=one) for one in arguments]
    for process in processes:
        process.start()
    seen = [queue.get(timeout=given.seconds + 2 * _PATIENCE) for _ in processes]
    for process in processes:
        process.join(_PATIENCE)
    old = stale(seen)
    compared, wrong = unlike_a_fit(seen, given.folder)
    with SafeModel.open(path, write=True) as model:
        findings = [one.what for one in model.store.check()]
        unfinished = len(model.store.unfinished())
    report = {
        "seconds": given.seconds,
        "answers": sum(len(one.answers) for one in seen),
        "behind_a_fence": sum(bool(fence) for one in seen for _, _, fence, _ in one.answers),
        "generations_that_answered": len({item[1] for one in seen for item in one.answers}),
        "processes_that_changed": sum(bool(one.live) for one in seen),
        "requests": sum(len(one.accepted) for one in seen),
        "changes": sum(len(one.live) for one in seen),
        "waits_for_the_lock": sum(one.waited for one in seen),
        "stale": len(old),
        "first_stale": old[:5],
        "mixed": mixed(seen),
        "compared_with_a_fit": compared,
        "unlike_a_fit": wrong,
        "errors": [error for one in seen for error in one.errors][:10],
        "findings": findings[:5],
        "unfinished": unfinished,
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
