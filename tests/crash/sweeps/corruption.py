"""Damage every kind of file in every way, and see what the package makes of it.

    python corruption.py FOLDER [--each N] [--seed N]

Prints one JSON object. A trial damages one file of a copied store: a bit is flipped, bytes are
cut off or written over, the file is emptied, replaced by another file of the same kind, or by an
older one of the same name. Then it is used: asked, checked, opened for writing, asked to forget,
its receipts verified, its backup restored. What comes out must be right, or an error of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from shardgraph.errors import ShardgraphError
from shardgraph.forgetting.proof import verify_ledger, verify_receipt
from shardgraph.forgetting.receipt import ledger_file, receipt_file
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.forgetting.restore import restore_backup
from shardgraph.model import SafeModel
from shardgraph.store import HARMLESS, Store
from sweeps.scenario import (
    FOUND,
    GONE,
    blobs,
    dataset,
    fitted,
    marks,
    name,
    probe,
    request,
    state_of,
    traces,
)

LAST = (9, 10, 11)
"""Samples that are forgotten after the damage."""
WAYS = ("flip", "flips", "cut", "overwrite", "empty", "swap", "older")
KINDS = {
    "database": "live/store.sqlite",
    "log": "live/store.sqlite-wal",
    "index of the log": "live/store.sqlite-shm",
    "activations": "live/activations/*",
    "nodes": "live/nodes/*",
    "tallies": "live/tallies/*",
    "lock": "live/lock",
    "newest": "live/newest",
    "signing key": "live/keys/*",
    "receipt": "receipt.json",
    "ledger": "ledger.jsonl",
    "saved requests": "saved.requests",
    "backup database": "backup/backup.sqlite",
    "backup key": "backup/backup.pem",
    "backup activations": "backup/activations/*",
    "backup nodes": "backup/nodes/*",
    "backup tallies": "backup/tallies/*",
}


class WrongError(AssertionError):
    """A wrong answer, given without complaint."""


class CorruptionSweep:
    """A store with one request carried out and one just accepted, and what it may answer.

    The store was left as a killed process leaves it: the acceptance is in the log alone.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        folder.mkdir(parents=True)
        self.base = folder / "base"
        self.older = folder / "older"
        self._make()
        left = [n for n in FOUND if n not in GONE]
        self.without = self._fit("without", left)
        self.with_all = self._fit("all", FOUND)
        self.after = self._fit("after", [n for n in left if n not in LAST])
        with SafeModel.open(self.base / "live") as model:
            self.fenced = model.answer(probe()).probabilities.tobytes()
        self._planted = False  # what the damage itself brought is not for the store to erase
        self.trials: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def _fit(self, called: str, numbers: object) -> object:
        path = self.folder / called
        fitted(dataset(numbers), path).close()
        return state_of(path)

    def _make(self) -> None:
        work = self.folder / "work"
        work.mkdir()
        model = fitted(dataset(FOUND), work / "live")
        model.store.back_up(work / "backup")
        shutil.copytree(work, self.older)
        model.forget(request())
        model.store.save_requests(work / "saved.requests")
        (work / "receipt.json").write_bytes(receipt_file(model.store, model.store.requests()[0]))
        (work / "ledger.jsonl").write_bytes(ledger_file(model.store))
        shutil.rmtree(self.older / "live")
        model.close()
        shutil.copytree(work / "live", self.older / "live")
        model = SafeModel.open(work / "live", write=True)
        model.store.compact()
        last = self._last()
        fence = model.plan(last).fenced
        model.store.accept(last.key, "forget", map(str, last.samples), fence)  # type: ignore[arg-type]
        shutil.copytree(work, self.base)
        model.close()

    def _last(self) -> ForgetRequest:
        return ForgetRequest.of(samples=[name(n) for n in LAST], key="the last request")

    def trial(self, kind: str, way: str) -> None:
        """Damage one file in one way, and use everything."""
        place = self.folder / secrets.token_hex(6)
        shutil.copytree(self.base, place)
        chosen = self.chance.choice(sorted(place.glob(KINDS[kind])))
        if self._damage(place, chosen, way):
            self.trials[f"{kind}, {way}"] += 1
            self._planted = way in ("swap", "older")
            found = [self._outcome(use, place) for use in (self._read, self._prove, self._write)]
            if kind.startswith("backup") or kind == "saved requests":
                found.append(self._outcome(self._restore, place))
            wrong = [text for text in found if text.startswith("wrong")]
            if wrong:
                self.wrong.append(f"{kind}, {way} ({chosen.name}): {wrong[0]}")
            self.outcomes[_summary(found)] += 1
        shutil.rmtree(place)

    def _damage(self, place: Path, path: Path, way: str) -> bool:
        data = bytearray(path.read_bytes())
        if way == "older":
            source = self.older / path.relative_to(place)
            if not source.exists() or source.read_bytes() == data:
                return False
            data = bytearray(source.read_bytes())
        elif way == "swap":
            others = [p for p in path.parent.iterdir() if p.is_file() and p != path]
            if not others:
                return False
            data = bytearray(self.chance.choice(sorted(others)).read_bytes())
        elif not data:
            return False
        elif way == "cut":
            del data[self.chance.randrange(len(data)) :]
        elif way == "empty":
            data.clear()
        else:
            for _ in range({"flip": 1, "flips": 8}.get(way, 0)):
                data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
            if way == "overwrite":
                at = self.chance.randrange(len(data))
                data[at : at + 512] = os.urandom(len(data[at : at + 512]))
        if data == path.read_bytes():
            return False
        path.chmod(0o600)
        path.write_bytes(data)
        return True

    def _outcome(self, use: Callable[[Path], str], place: Path) -> str:
        try:
            return use(place)
        except WrongError as wrong:
            return f"wrong: {wrong}"
        except ShardgraphError:
            return "refused"
        except Exception as error:  # noqa: BLE001 - anything else is a defect
            return f"wrong: {type(error).__name__}: {error}"

    def _read(self, place: Path) -> str:
        """Ask it, as a reader."""
        with SafeModel.open(place / "live") as model:
            seen = model.answer(probe()).probabilities.tobytes()
            _require(seen == self.fenced, "a wrong answer, or one without the fence")
            findings = {one.kind for one in model.store.check()}
            _require(len(model.store.requests()) == 2, "a request is lost")
            return "found" if findings - HARMLESS else "noted" if findings else "right"

    def _write(self, place: Path) -> str:
        """Carry out what is waiting, and compare with a fit from scratch."""
        with SafeModel.open(place / "live", write=True) as model:
            store = model.store
            states = [one.state for one in store.requests()]
            _require(states == ["receipted"] * 2, f"the requests end as {states}")
            again = model.forget(request())
            _require(again.samples == 0, "a request with a known key forgot again")
            _require(store.digest() == self.after.digest, "another state")  # type: ignore[attr-defined]
            _require_named(store, blobs(place / "live"), self.after.files)  # type: ignore[attr-defined]
            left = traces(place / "live", marks((*GONE, *LAST)))
            _require(not left or self._planted, f"something is left in {left}")
            ledger = verify_ledger(ledger_file(store))
            for one in store.requests():
                verify_receipt(receipt_file(store, one), ledger=ledger)
        return "right"

    def _prove(self, place: Path) -> str:
        """Verify the receipt in hand; whatever is accepted must be what was issued."""
        data = (place / "receipt.json").read_bytes()
        ledger = verify_ledger((place / "ledger.jsonl").read_bytes())
        verify_receipt(data, ledger=ledger)
        for file in ("receipt.json", "ledger.jsonl"):
            same = (place / file).read_bytes() == (self.base / file).read_bytes()
            _require(same, f"a changed {file} was accepted")
        return "right"

    def _restore(self, place: Path) -> str:
        """Restore the backup with what was saved of the requests."""
        target = place / "again"
        restore_backup(place / "backup", target, since=place / "saved.requests")
        with SafeModel.open(target, write=True) as model:
            digest = model.store.digest()
        _require(digest == self.without.digest, "a restore gave another state")  # type: ignore[attr-defined]
        _require(not traces(target, marks(GONE)[1:]), "a restore brought something back")
        return "right"

    def report(self) -> dict[str, object]:
        """The counts."""
        return {
            "trials": sum(self.trials.values()),
            "by_kind_and_way": dict(sorted(self.trials.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "wrong": len(self.wrong),
            "first_wrong": self.wrong[:20],
        }


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise WrongError(what)


def _require_named(store: Store, found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Files that a change has no need of may stay damaged, but only if `check` names each."""
    _require(found.keys() == wanted.keys(), "other files")
    named = " ".join(one.what for one in store.check() if one.kind == "blob")
    for file, data in found.items():
        _require(data == wanted[file] or file in named, f"{file} is damaged without a finding")


def _summary(found: list[str]) -> str:
    if any(text.startswith("wrong") for text in found):
        return "wrong"
    if "refused" in found:
        return "refused"
    return "found by check" if "found" in found or "noted" in found else "harmless"


def main() -> None:
    """Sweep, and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    sweep = CorruptionSweep(given.folder, given.seed)
    for kind, pattern in KINDS.items():
        if not list(sweep.base.glob(pattern)):
            continue
        for way in WAYS:
            for _ in range(given.each):
                sweep.trial(kind, way)
        sys.stderr.write(f"{kind}: {sum(sweep.trials.values())}, {len(sweep.wrong)} wrong\n")
    json.dump({**sweep.report(), "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
