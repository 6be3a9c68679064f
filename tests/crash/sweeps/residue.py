"""Forget many times, and look after each receipt for anything of what was forgotten.

    python residue.py FOLDER [--forgets N] [--seed N]

Prints one JSON object. Every sample carries patterns of its own in its activation, id, owner and
label; request keys name them. After each receipt all files of the store, with their names, the
log and free pages, are searched for every pattern that no live sample has: whole rows of float16,
and pieces of eight bytes of ids and rows, so that shifted and partial copies are found as well.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.request import ForgetRequest
from sweeps.faulty import with_fault
from sweeps.scenario import activation, fitted, name

_PIECE = 8
_LIVE = 60


def owner(number: int) -> str:
    """The owner of a sample; pairs share one."""
    return "owner-of-" + name(100_000 + number // 2)


def label(number: int) -> str:
    """The label of a sample; ten share one."""
    return "label-" + name(200_000 + number // 10)


def dataset(numbers: Iterable[int]) -> ArrayDataset:
    """Samples as data."""
    order = list(numbers)
    return ArrayDataset(
        np.stack([activation(number) for number in order]),
        [label(number) for number in order],
        ids=[name(number) for number in order],
        owners=[owner(number) for number in order],
    )


def patterns(number: int) -> set[bytes]:
    """Everything by which a sample could be recognised, whole and in pieces."""
    row = activation(number).astype("<f2").tobytes()
    texts = [name(number)[3:], owner(number)[12:], label(number)[9:]]
    return {
        row,
        *(row[at : at + _PIECE] for at in range(0, len(row) - _PIECE + 1, 2)),
        *(text.encode()[at : at + _PIECE] for text in texts for at in (0, len(text) - _PIECE)),
    }


class ResidueSweep:
    """One store through many forgets and adds."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.live = set(range(_LIVE))
        self.next = _LIVE
        self.gone: set[bytes] = set()
        self.kept: Counter[bytes] = Counter()
        for number in self.live:
            self.kept.update(patterns(number))
        self.forgets = self.searched = self.bytes = 0
        self.found: list[str] = []
        self.path = folder / "store"
        self.model = fitted(dataset(sorted(self.live)), self.path)

    def round(self) -> None:
        """Forget one to three samples, or an owner, and look; now and then add others."""
        doomed = set(self.chance.sample(sorted(self.live), self.chance.choice([1, 1, 2, 3])))
        owners = []
        if self.chance.random() < 0.3:
            owners = [owner(min(doomed))]
            doomed = {number for number in self.live if owner(number) == owners[0]}
        samples = [] if owners else [name(number) for number in doomed]
        key = f"key {name(min(doomed))}"
        self.model.forget(ForgetRequest.of(samples=samples, owners=owners, key=key))
        self.forgets += 1
        self._went(doomed)
        self._look()
        if len(self.live) < _LIVE // 2:
            new = range(self.next, self.next + _LIVE // 2)
            self.next = new.stop
            self.model.add(dataset(new))
            self._came(new)

    def _went(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.live.remove(number)
            self.kept.subtract(patterns(number))
            self.gone |= patterns(number)

    def _came(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.live.add(number)
            self.kept.update(patterns(number))

    def _look(self) -> None:
        files = [file for file in self.path.rglob("*") if file.is_file()]
        data = b"\0".join(
            part for file in files for part in (str(file).encode(), file.read_bytes())
        )
        windows = {data[at : at + _PIECE] for at in range(len(data) - _PIECE + 1)}
        left = {mark for mark in self.gone if self.kept[mark] <= 0 and mark[:_PIECE] in windows}
        left = {mark for mark in left if mark in data}
        self.searched += len(self.gone)
        self.bytes += len(data)
        if left:
            self.found.append(f"after {self.forgets} forgets: {len(left)} patterns")

    def live_are_found(self) -> bool:
        """The search sees what is there: every live row and id is in some file."""
        data = b"".join(file.read_bytes() for file in self.path.rglob("*") if file.is_file())
        rows = (activation(number).astype("<f2").tobytes() for number in self.live)
        return all(row in data for row in rows) and all(
            name(number).encode() in data for number in self.live
        )

    def report(self) -> dict[str, object]:
        """The counts."""
        return {
            "forgets": self.forgets,
            "patterns_of_the_forgotten": len(self.gone),
            "searches_for_a_pattern": self.searched,
            "bytes_searched": self.bytes,
            "live_are_found": self.live_are_found(),
            "left": len(self.found),
            "first_left": self.found[:5],
        }


def main() -> None:
    """Sweep, and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forgets", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", default="")
    given = parser.parse_args()
    started = time.perf_counter()
    with with_fault(given.fault):
        sweep = ResidueSweep(given.folder, given.seed)
        for _ in range(given.forgets):
            sweep.round()
    json.dump({**sweep.report(), "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
