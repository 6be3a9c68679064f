"""What is done to a store while it is struck, and what must be true of it afterwards.

Everything goes through the public `SafeModel` on a small store in which every kind of file occurs:
nodes that read one shard and tally others, so a request refits one node, subtracts from some and
leaves others alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import ShardgraphError, StoreMissingError, UsageError
from shardgraph.forgetting import create
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.proof import verify_ledger, verify_receipt
from shardgraph.forgetting.receipt import ledger_file, receipt_file
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.forgetting.restore import restore_backup
from shardgraph.graph.topologies import isolated
from shardgraph.model import SafeModel
from shardgraph.store import Store

SAMPLES, TOKENS, WIDTH = 24, 2, 8
FOUND = range(20)
"""Samples in the store before anything is done to it; the others can be added."""
GONE = (3, 4, 5)
"""Samples that are asked to be forgotten: all of one owner."""
ADDED = (20, 21)
KEY = "request-of-zqxwvk"
SETTINGS = FitSettings(
    graph=isolated(6).with_tallies("all-but:3"), tally={"heads": 2, "value_width": 4}
)
ACTIONS = ("fit", "add", "forget", "compact", "recover", "restore")


def name(number: int) -> str:
    """The id of a sample: letters that occur nowhere else."""
    word = hashlib.sha256(f"crash {number}".encode()).digest()
    return "id-" + "".join("bcdfghjklmnpqrstvwxz"[byte % 20] for byte in word[:12])


def activation(number: int) -> np.ndarray:
    """The activation [T, D] of a sample, float16."""
    random = np.random.Generator(np.random.Philox([7, number]))
    return (random.standard_normal((TOKENS, WIDTH)) + number % 4).astype(np.float16)


def fitted(data: ArrayDataset, path: Path) -> SafeModel:
    """A store of samples, fitted without a forecast: it decides nothing and takes half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(create, "measure_speed", lambda store: None)
        return SafeModel.fit(data, path, SETTINGS)[0]


def dataset(numbers: Iterable[int]) -> ArrayDataset:
    """Samples as data."""
    order = list(numbers)
    return ArrayDataset(
        np.stack([activation(number) for number in order]),
        [f"label{number % 4}" for number in order],
        ids=[name(number) for number in order],
        owners=["owner-of-" + name(number // 3 + 100) for number in order],
    )


def probe() -> np.ndarray:
    """What is asked of every state."""
    random = np.random.Generator(np.random.Philox([8, 8]))
    return random.standard_normal((3, TOKENS, WIDTH)).astype(np.float16)


def marks(numbers: Iterable[int]) -> list[bytes]:
    """Bytes by which samples could be recognised: ids, owners, activations, the request's key."""
    found = [KEY.encode()]
    for number in numbers:
        owner = "owner-of-" + name(number // 3 + 100)
        found += [name(number).encode(), owner.encode(), activation(number).tobytes()]
    return found


def traces(path: Path, patterns: Iterable[bytes]) -> list[str]:
    """Files below a folder, by name, in which or in whose name a pattern occurs."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return [
        file.name
        for file in files
        if any(mark in file.read_bytes() or mark in str(file).encode() for mark in patterns)
    ]


def blobs(path: Path) -> dict[str, bytes]:
    """Every file of the influence state."""
    return {
        f"{kind}/{file.name}": file.read_bytes()
        for kind in ("activations", "nodes", "tallies")
        for file in sorted((path / kind).iterdir())
    }


@dataclass(frozen=True)
class State:
    """What a store of some live samples must be, from a fit of its own."""

    digest: str
    files: dict[str, bytes]
    answer: bytes


def state_of(path: Path) -> State:
    """The state of a finished store."""
    with SafeModel.open(path) as model:
        answer = model.answer(probe())
        return State(model.store.digest(), blobs(path), answer.probabilities.tobytes())


Tell = Callable[[bytes], None]
"""Called with what has just been acknowledged: A(ccepted), R(eceipted), D(one)."""


def request() -> ForgetRequest:
    """The request of every sweep."""
    return ForgetRequest.of(samples=[name(number) for number in GONE], key=KEY)


@dataclass
class Ground:
    """Stores to begin with, and the states that may be seen, all made once."""

    folder: Path
    bases: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bases["add"] = self._fit("base", FOUND)
        self.bases["forget"] = self.bases["compact"] = self.bases["add"]
        self.bases["recover"] = self._copy("add", "waiting")
        with SafeModel.open(self.bases["recover"], write=True) as model:
            model.store.accept(KEY, "forget", map(name, GONE), model.plan(request()).fenced)  # type: ignore[arg-type]
        self.bases["restore"] = self._backed_up()
        self.before = state_of(self.bases["add"])
        self.without = state_of(self._fit("without", (n for n in FOUND if n not in GONE)))
        self.with_more = state_of(self._fit("more", (*FOUND, *ADDED)))
        with SafeModel.open(self.bases["recover"]) as model:
            answer = model.answer(probe())
            self.fenced, self.fence = answer.probabilities.tobytes(), frozenset(answer.without)
            self.fence_on_disk = model.store.view().fenced
        assert len({self.before.answer, self.fenced, self.without.answer}) == 3

    def _fit(self, called: str, numbers: Iterable[int]) -> Path:
        path = self.folder / called
        fitted(dataset(numbers), path).close()
        return path

    def _copy(self, source: str, called: str) -> Path:
        return Path(shutil.copytree(self.bases[source], self.folder / called))

    def _backed_up(self) -> Path:
        """A folder with a backup, and the live store that has forgotten since."""
        path = self.folder / "backed-up"
        shutil.copytree(self.bases["add"], path / "live")
        with SafeModel.open(path / "live", write=True) as model:
            model.store.back_up(path / "backup")
            model.forget(request())
        return path

    def place(self, action: str, target: Path) -> None:
        """Put at ``target`` what an action begins with."""
        if action in self.bases:
            shutil.copytree(self.bases[action], target)

    def target(self, action: str) -> State:
        """The state that an action leads to."""
        wanted = {"fit": self.before, "add": self.with_more, "compact": self.before}
        return wanted.get(action, self.without)


def act(action: str, path: Path, tell: Tell) -> None:
    """Do one thing, and tell what has been acknowledged."""
    _tell_of(tell)
    if action == "fit":
        fitted(dataset(FOUND), path).close()
    elif action == "restore":
        restore_backup(path / "backup", path / "again", since=path / "live")
        SafeModel.open(path / "again", write=True).close()
    elif action == "compact":
        with Store.open(path, "write") as store:
            store.compact()
    else:
        with SafeModel.open(path, write=True) as model:
            if action == "add":
                model.add(dataset(ADDED))
            elif action == "forget":
                model.forget(request())
            tell(b"D")
        return
    tell(b"D")


def _tell_of(tell: Tell) -> None:
    """Tell when the store has acknowledged an acceptance or a receipt; for good, in a child."""
    for method, letter in (("accept", b"A"), ("issue_receipt", b"R")):
        real = getattr(Store, method)

        @functools.wraps(real)
        def told(*given: object, _real: Callable[..., object] = real, _letter: bytes = letter,
                 **named: object) -> object:  # fmt: skip
            found = _real(*given, **named)
            tell(_letter)
            return found

        setattr(Store, method, told)


class WrongError(AssertionError):
    """Something that must not be true of a store."""


def require(condition: bool, what: str) -> None:
    """Raise `WrongError` unless the condition holds."""
    if not condition:
        raise WrongError(what)


def look_in(ground: Ground, action: str, path: Path, told: bytes) -> None:
    """What whoever opens the store for reading may see, before anyone has recovered it.

    Either the state before, or the fenced one, or the one after: each as a whole, and the first
    only if the request was not acknowledged. After a receipt nothing of the samples is left.
    """
    path = path / "again" if action == "restore" else path
    try:
        model = SafeModel.open(path)
    except StoreMissingError:
        require(action in ("fit", "restore"), "the store is gone")
        require(b"D" not in told, "what was fitted is gone")
        return
    with model:
        found = model.store.requests()
        accepted = bool(found) or action in ("recover", "restore")
        require(accepted or b"A" not in told, "lost: an acknowledged request is not there")
        answer = model.answer(probe())
        seen = answer.probabilities.tobytes()
        if action in ("fit", "compact"):
            require(seen == ground.before.answer, "a half state answered")
        elif action == "add":
            require(
                seen in (ground.before.answer, ground.with_more.answer), "a half state answered"
            )
        elif not accepted:
            require(seen == ground.before.answer, "a half state answered")
        else:
            _require_half_way(ground, model, seen)
        if found and all(one.state == "receipted" for one in found):
            left = traces(path, marks(GONE))
            require(not left, f"a receipt without erasure: {left}")


def _require_half_way(ground: Ground, model: SafeModel, seen: bytes) -> None:
    waiting = [one for one in model.store.requests() if one.state in ("accepted", "refitted")]
    if waiting:
        require(model.store.view().fenced == ground.fence_on_disk, "the fence is not whole")
        require(seen == ground.fenced, "a fenced node answered")
    else:
        require(seen == ground.without.answer, "a half state answered")


def recover(action: str, path: Path) -> None:
    """What the next start does."""
    if action == "fit":
        try:
            SafeModel.open(path, write=True).close()
        except StoreMissingError:
            fitted(dataset(FOUND), path).close()
    elif action == "restore":
        if not (path / "again").exists():
            restore_backup(path / "backup", path / "again", since=path / "live")
        SafeModel.open(path / "again", write=True).close()
    else:
        SafeModel.open(path, write=True).close()


def require_end(ground: Ground, action: str, path: Path, told: bytes) -> None:
    """What must be true once the next start is through."""
    path = path / "again" if action == "restore" else path
    with SafeModel.open(path) as model:
        store = model.store
        found = store.requests()
        digest = store.digest()
        require(bool(found) or b"A" not in told, "lost: an acknowledged request is not there")
        require(all(one.state == "receipted" for one in found), "a request is not carried out")
        wanted = ground.target(action)
        if action == "forget" and not found:
            wanted = ground.before
        if action == "add" and digest == ground.before.digest:
            require(b"D" not in told, "lost: added samples")
            wanted = ground.before
        require(digest == wanted.digest, "another state than a fit from scratch")
        require(blobs(path) == wanted.files, "other files than a fit from scratch")
        require(model.answer(probe()).probabilities.tobytes() == wanted.answer, "another answer")
        require(store.check() == (), f"the store finds fault with itself: {store.check()[:1]}")
        if found:
            _require_receipts(store)
            left = traces(path, marks(GONE))
            require(not left, f"a receipt without erasure: {left}")


def _require_receipts(store: Store) -> None:
    ledger = verify_ledger(ledger_file(store))
    require(len(ledger.entries) == len(store.requests()), "not one receipt for each request")
    for one in store.requests():
        verify_receipt(receipt_file(store, one), ledger=ledger)


def judge(ground: Ground, action: str, path: Path, told: bytes, *, recovered: bool = False) -> str:
    """Empty if all is well; otherwise what is wrong."""
    try:
        if not recovered:
            look_in(ground, action, path, told)
        recover(action, path)
        require_end(ground, action, path, told)
    except WrongError as wrong:
        return str(wrong)
    except UsageError as error:
        return f"refused: {error}"
    except ShardgraphError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def scribble(path: Path) -> None:
    """Fill SQLite's shared memory with other bytes: it must not matter to the next start."""
    index = path / "store.sqlite-shm"
    if index.exists():
        index.write_bytes(os.urandom(index.stat().st_size))
