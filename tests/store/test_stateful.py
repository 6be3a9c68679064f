"""Any history of requests, additions, restarts and half-finished work ends in the same state."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shardgraph.errors import UnknownIdError, UsageError
from shardgraph.store import Record, Request, Store

NUMBERS = st.integers(0, 15)


class Histories(RuleBasedStateMachine):
    """The store beside a model of it: which samples live, and which requests are how far."""

    toy = None  # set by the test
    place = None

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir=self.place)) / "store"
        self.live: dict[str, Record] = {}
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.gone: set[str] = set()

    @initialize(numbers=st.sets(NUMBERS, min_size=1))
    def fit(self, numbers: set[int]) -> None:
        records = self.toy.samples(sorted(numbers))
        self.store = self.toy.fit(self.path, records)
        self.live = {record.id: record for record in records}

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4), key=st.sampled_from("abcdef"))
    def accept(self, numbers: list[int], key: str) -> None:
        records = self.toy.samples(numbers)
        ids = tuple(sorted({record.id for record in records}))
        waiting = {sample for request in self.accepted.values() for sample in request}
        if key in self.accepted or any(s not in self.live or s in waiting for s in ids):
            before = self.store.requests()
            with contextlib.suppress(UnknownIdError, UsageError):
                self.toy.accept(self.store, key, records)
            assert self.store.requests() == before
            return
        request = self.toy.accept(self.store, key, records)
        assert request.state == "accepted"
        self.accepted[key] = ids

    @rule(numbers=st.sets(NUMBERS, min_size=1, max_size=4))
    def add(self, numbers: set[int]) -> None:
        records = [r for r in self.toy.samples(sorted(numbers)) if r.id not in self.live]
        self.toy.add(self.store, records)
        self.live.update({record.id: record for record in records})
        self.gone -= {record.id for record in records}

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.path, "write")

    @rule(stage=st.integers(0, 6), only=st.booleans())
    def go_part_of_the_way(self, stage: int, only: bool) -> None:
        requests = [r for r in self.store.unfinished() if r.state in ("accepted", "refitted")]
        chosen = requests[:1] if only else requests
        if chosen:
            self._publish(chosen, stage)
        if stage > 3:
            self.store.erase_superseded()
            done = [r.id for r in self.store.unfinished() if r.state == "published"]
            if stage > 4:
                self.store.finish(done)
            if stage > 5:
                for request in self.store.unfinished():
                    if request.state == "erased":
                        self.store.issue_receipt(request.id, json.dumps(request.id).encode())

    def _publish(self, chosen: list[Request], stage: int) -> None:
        change = self.toy.change(self.store, chosen)
        if stage > 0:
            self.store.sync()
        if stage > 1:
            self.store.mark_refitted([request.id for request in chosen])
        if stage > 2:
            self.store.publish(change)
            forgotten = {sample for request in chosen for sample in request.samples}
            self.gone |= forgotten
            for sample in forgotten:
                del self.live[sample]
            self.accepted = {
                key: () if set(ids) <= forgotten else ids for key, ids in self.accepted.items()
            }

    @precondition(lambda self: self.store.unfinished())
    @rule()
    def carry_on(self) -> None:
        waiting = [r for r in self.store.unfinished() if r.state in ("accepted", "refitted")]
        forgotten = {sample for request in waiting for sample in request.samples}
        self.toy.carry_on(self.store)
        self.gone |= forgotten
        self.live = {name: r for name, r in self.live.items() if name not in forgotten}
        self.accepted = dict.fromkeys(self.accepted, ())
        assert self.store.unfinished() == ()
        assert self.store.check() == ()
        everything = b"".join(p.read_bytes() for p in self.path.rglob("*") if p.is_file())
        assert not [sample for sample in self.gone if sample.encode() + b'"' in everything]

    @invariant()
    def every_sample_is_live_pending_or_gone(self) -> None:
        view = self.store.view()
        waiting = {sample for ids in self.accepted.values() for sample in ids}
        assert self.store.pending() == waiting
        assert view.samples == len(self.live) - len(waiting)
        left = [record for name, record in self.live.items() if name not in waiting]
        assert view.labels() == tuple(sorted({record.label for record in left}))
        shards = {self.live[sample].shard for sample in waiting}
        assert view.fenced == self.toy.nodes_of(shards)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.toy.carry_on(self.store)
        gone = {sample for ids in self.accepted.values() for sample in ids}
        records = [record for name, record in self.live.items() if name not in gone]
        with self.toy.fit(self.path.with_name("fresh"), records) as fresh:
            assert self.store.digest() == fresh.digest()
            assert self.toy.files(self.store) == self.toy.files(fresh)
        assert len(self.store.ledger) == len(self.store.requests())
        self.store.close()
        shutil.rmtree(self.path.parent)


def test_every_history_ends_as_a_fresh_fit_of_what_is_left(toy, memory_path) -> None:
    Histories.toy, Histories.place = toy, memory_path
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
