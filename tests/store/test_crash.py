"""Killed, torn, out of space, broken device: at every step, and again during recovery."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardgraph.errors import StoreError
from shardgraph.store import Store

EVERY = os.environ.get("SHARDGRAPH_SWEEP") == "full"
"""Set it to strike at every step instead of a spread of them (three minutes)."""


@pytest.fixture(scope="module")
def base(toy, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base") / "store"
    toy.fit(path, toy.samples(range(12))).close()
    return path


@pytest.fixture(scope="module")
def expected(toy, tmp_path_factory):
    """Digest and files of a fit without what the scenario forgets, and with what it adds."""
    live = [toy.sample(n) for n in [*range(4, 12), 20, 21]]
    with toy.fit(tmp_path_factory.mktemp("expected") / "store", live) as store:
        return store.digest(), toy.files(store)


def scenario(toy, path: Path, acknowledged: Path) -> None:
    with Store.open(path, "write") as store:
        toy.carry_on(store)
        if not store.requests():
            toy.accept(store, "one", toy.samples([0, 1, 2, 3]))
            acknowledged.touch()
        toy.carry_on(store)
        if "class2/image-20.jpg" not in {r.id for s in range(4) for r in store.records(s)}:
            toy.add(store, toy.samples([20, 21]))
        store.compact()


def recovered(toy, path: Path, expected, acknowledged: bool) -> None:
    with Store.open(path, "write") as store:
        request = store.requests()
        assert request or not acknowledged, "an acknowledged request was lost"
        for one in request:
            if one.state in ("accepted", "refitted"):
                assert one.fenced <= store.view().fenced
            if one.state in ("erased", "receipted"):
                assert not leftovers(path, [b"image-0.jpg", b"owner-0", b"image-3.jpg"])
    scenario(toy, path, path.with_suffix(".ack"))
    with Store.open(path) as store:
        assert store.digest() == expected[0]
        assert toy.files(store) == expected[1]
        assert [request.state for request in store.requests()] == ["receipted"]
        assert len(store.ledger) == 1
        assert store.check() == ()
    assert not leftovers(path, [b"image-0.jpg", b"owner-0", b"image-3.jpg"])


def leftovers(path: Path, patterns: list[bytes]) -> list[Path]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return [file for file in files if any(p in file.read_bytes() for p in patterns)]


@pytest.mark.parametrize("kind", ["before", "after", "torn", "EIO", "ENOSPC"])
def test_a_forget_and_an_add_survive_every_fault(toy, faults, base, copied, expected, kind) -> None:
    calm = copied(base)
    status, steps = faults.run(
        lambda: scenario(toy, calm, calm.with_suffix(".ack")), faults.Fault("none")
    )
    assert status == 0
    assert steps > 60
    for at in range(1, steps + 1, 1 if EVERY else {"before": 6}.get(kind, 9)):
        path = copied(base)
        acknowledged = path.with_suffix(".ack")
        status, _ = faults.run(lambda: scenario(toy, path, acknowledged), faults.Fault(kind, at))  # noqa: B023
        assert status in (faults.KILLED, faults.REFUSED), (kind, at)
        if at % 3 == 0:  # recovery dies too
            for again in range(1, 40, 9):
                faults.run(
                    lambda: scenario(toy, path, acknowledged),  # noqa: B023
                    faults.Fault("before", again),
                )
        recovered(toy, path, expected, acknowledged.exists())
        shutil.rmtree(path)


@pytest.mark.parametrize("kind", ["before", "after", "torn", "EIO"])
def test_a_creation_that_was_killed_goes_on(toy, faults, memory_path, base, kind) -> None:
    def create(path: Path) -> None:
        toy.fit(path, toy.samples(range(12))).close()

    _, steps = faults.run(lambda: create(memory_path / f"calm{kind}"), faults.Fault("none"))
    with Store.open(base) as store:
        digest, files = store.digest(), toy.files(store)
    for at in range(1, steps + 1, 1 if EVERY else 8):
        path = memory_path / f"{kind}{at}"
        status, _ = faults.run(lambda: create(path), faults.Fault(kind, at))  # noqa: B023
        assert status in (faults.KILLED, faults.REFUSED), at
        try:
            with Store.open(path, "write") as store:
                finished = store.view().generation == 1
        except StoreError:
            finished = False
        if not finished:
            create(path)
        with Store.open(path, "write") as store:
            store.erase_superseded()
            assert (store.digest(), toy.files(store)) == (digest, files)
            assert store.check() == ()
        shutil.rmtree(path)
