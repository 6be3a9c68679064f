"""A toy model over a real store, and faults that strike at the n-th step of a scenario."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardgraph.errors import ShardgraphError
from shardgraph.identity import canonical_json, shard_position
from shardgraph.store import Change, Record, Request, Store, StoreConfig
from shardgraph.store.database import Database
from shardgraph.store.samples import in_order

SHARDS = 4
SEED = 7


class Toy:
    """Blobs that are plain functions of records: node k reads shards k and k + 1."""

    config = StoreConfig(
        seed=SEED,
        recipe={"kind": "toy"},
        graph={"shards": SHARDS},
        backbone={"name": "none"},
        environment={"machine": "toy"},
    )

    def sample(self, number: int, mark: str = "") -> Record:
        owner = f"owner{mark}-{number // 2}"
        shard = shard_position(SEED, f"o:{owner}") % SHARDS
        return Record(f"class{number % 3}/image{mark}-{number}.jpg", f"label{number % 3}", owner,
                      "shop" if number % 2 else None, shard)  # fmt: skip

    def samples(self, numbers: Sequence[int]) -> tuple[Record, ...]:
        return tuple(self.sample(number) for number in numbers)

    def nodes_of(self, shards: set[int]) -> set[int]:
        return {node for node in range(SHARDS) if {node, (node + 1) % SHARDS} & shards}

    def bytes_of(self, records: Sequence[Record]) -> bytes:
        ordered = in_order(records, SEED)
        return canonical_json([[r.id, r.label, r.owner] for r in ordered]) * 4

    def change(
        self, store: Store, requests: Sequence[Request] = (), added: Sequence[Record] = ()
    ) -> Change:
        gone = {sample for request in requests for sample in request.samples}
        before = {shard: store.records(shard) for shard in range(SHARDS)}
        live = {
            shard: [
                *(record for record in before[shard] if record.id not in gone),
                *(record for record in added if record.shard == shard),
            ]
            for shard in range(SHARDS)
        }
        touched = {s for s in range(SHARDS) if set(before[s]) != set(live[s])}
        influenced = self.nodes_of(touched) | {n for r in requests for n in r.fenced}
        activations: dict[int, str | None] = {}
        nodes: dict[int, str | None] = {}
        tallies: dict[int, str | None] = {}
        for shard in touched:
            rows = live[shard]
            data = b"A" + self.bytes_of(rows)
            activations[shard] = store.put("activations", shard, data) if rows else None
        for node in influenced:
            home, other = live[node], live[(node + 1) % SHARDS]
            data = self.bytes_of([*home, *other])
            nodes[node] = store.put("nodes", node, b"W" + data) if home else None
            tallies[node] = store.put("tallies", node, b"T" + data) if home else None
        return Change(tuple(r.id for r in requests), tuple(added), activations, nodes, tallies)

    def fit(self, path: Path, records: Sequence[Record]) -> Store:
        store = Store.create(path, self.config)
        store.publish(self.change(store, added=records))
        return store

    def add(self, store: Store, records: Sequence[Record]) -> None:
        store.publish(self.change(store, added=records))
        store.erase_superseded()

    def accept(self, store: Store, key: str, records: Sequence[Record], **more: Any) -> Request:
        fenced = self.nodes_of({record.shard for record in records})
        return store.accept(key, "samples", [record.id for record in records], fenced, **more)

    def carry_on(self, store: Store) -> None:
        """What every start does: take all unfinished requests to their receipts."""
        waiting = [r for r in store.unfinished() if r.state in ("accepted", "refitted")]
        if waiting:
            change = self.change(store, waiting)
            store.mark_refitted([request.id for request in waiting])
            store.publish(change)
        store.erase_superseded()
        store.finish([r.id for r in store.unfinished()])
        for request in store.unfinished():
            store.issue_receipt(request.id, json.dumps({"for": request.commitment}).encode())

    def files(self, store: Store) -> dict[str, bytes]:
        folders = ("activations", "nodes", "tallies")
        paths = [path for folder in folders for path in (store.path / folder).iterdir()]
        return {str(path.relative_to(store.path)): path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


DURABLE_SQL = ("COMMIT", "VACUUM", "PRAGMA wal_checkpoint")


@dataclass
class Fault:
    """Strikes at the ``at``-th step: before it, after it, half-way through a write, or with an
    error in its place."""

    kind: str
    at: int = -1
    steps: int = 0

    def arm(self) -> None:
        """Replace the primitives in this process, for good: call it in a forked child only."""
        for name in ("write", "fsync", "replace", "unlink", "rmdir", "ftruncate"):
            setattr(os, name, self._wrapped(getattr(os, name), name))
        rows = Database.rows
        step = self._wrapped(rows, "sql")

        def counted(database: Database, statement: str, parameters: Sequence[Any] = ()) -> Any:
            run = step if statement.startswith(DURABLE_SQL) else rows
            return run(database, statement, parameters)

        Database.rows = counted  # type: ignore[method-assign]

    def _wrapped(self, primitive: Callable[..., Any], name: str) -> Callable[..., Any]:
        def struck(*arguments: Any) -> Any:
            self.steps += 1
            if self.steps != self.at:
                return primitive(*arguments)
            if self.kind in ("EIO", "ENOSPC") and name != "sql":
                raise OSError(getattr(errno, self.kind), os.strerror(getattr(errno, self.kind)))
            if self.kind == "torn" and name == "write":
                primitive(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if self.kind == "after":
                primitive(*arguments)
            os._exit(KILLED)

        return struck


KILLED, REFUSED, SURPRISE = 9, 3, 4


def run_in_child(work: Callable[[], None], fault: Fault) -> tuple[int, int]:
    """Run ``work`` in a forked process under a fault; its exit status and the steps it took."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = SURPRISE
        try:
            fault.arm()
            work()
            status = 0
        except ShardgraphError:
            status = REFUSED
        finally:
            with os.fdopen(writing, "w") as pipe:
                pipe.write(str(fault.steps))
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        steps = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(steps or 0)


@pytest.fixture(scope="session")
def faults() -> Any:
    class Faults:
        Fault = Fault
        run = staticmethod(run_in_child)
        KILLED, REFUSED, SURPRISE = KILLED, REFUSED, SURPRISE

    return Faults


@pytest.fixture(scope="session")
def memory_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory where there is one: a kill shows the same there, syncs cost less."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path_factory.mktemp("memory")
        return
    with tempfile.TemporaryDirectory(dir=shared) as path:
        yield Path(path)


@pytest.fixture
def store(toy: Toy, memory_path: Path) -> Iterator[Store]:
    """A finished store of twelve samples, open for writing."""
    with (
        tempfile.TemporaryDirectory(dir=memory_path) as place,
        toy.fit(Path(place, "store"), toy.samples(range(12))) as store,
    ):
        yield store


@pytest.fixture
def copied(memory_path: Path) -> Callable[[Path], Path]:
    """A function that copies a closed store to a fresh place."""

    def copy(source: Path) -> Path:
        target = memory_path / f"copy-{secrets.token_hex(4)}"
        shutil.copytree(source, target)
        return target

    return copy
