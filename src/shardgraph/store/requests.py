"""The life of a request: which states there are rows for, and what moves one on.

    accepted -> refitted -> published -> erased -> receipted

Acceptance is the fence: the row that makes a request durable is the row that takes its nodes out
of every answer. Each step is one transaction and does nothing where it was done before, so after
a crash the caller simply takes it again.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from shardgraph.errors import UsageError
from shardgraph.identity import NodeId, SampleId, canonical_json, digest_bytes
from shardgraph.store.database import Database
from shardgraph.store.rows import FENCING
from shardgraph.store.samples import Samples, label_counts
from shardgraph.store.state import REQUEST_STATES, NodesChanged, Record, Request, RequestState

SECONDS_PER_DAY = 86_400.0
_COLUMNS = (
    "id, kind, state, accepted, deadline, commitment, fenced, generation, state_opening, "
    "changed, receipt"
)

COPIED_COLUMNS = (
    "id, key, kind, state, accepted, deadline, commitment, fenced, labels, generation, "
    "changed, receipt"
)
"""What is taken over of a request from another copy of the same store, whose states are its own."""


class Requests:
    """The table of requests. Writing happens inside a transaction of the caller's."""

    def __init__(self, database: Database, samples: Samples) -> None:
        self._database = database
        self._samples = samples

    def accept(
        self,
        key: str,
        kind: str,
        samples: Sequence[SampleId],
        fenced: Iterable[int],
        accepted: float,
        days: float,
    ) -> tuple[Request, bool]:
        """Insert a request unless its key is known; the request, and whether it is new.

        Raises:
            UsageError: no samples, a deadline that is not in the future, or a key whose request
                is still pending for other samples.
            UnknownIdError: a sample is not live, or another request is pending for it.
        """
        hidden = self._hidden(key)
        ids = tuple(sorted(dict.fromkeys(samples)))
        known = self._select("key = ?", (hidden,))
        if known:
            if known[0].samples and known[0].samples != ids:
                raise UsageError(
                    f"The request key {key!r} is in use for other samples.",
                    advice="Give every request a key of its own.",
                )
            return known[0], False
        if not ids:
            raise UsageError("A request must name at least one sample.")
        if not (math.isfinite(days) and days > 0):
            raise UsageError(f"A deadline of {days} days is not in the future.")
        records = self._samples.find(ids)
        self._database.rows(
            "INSERT INTO requests (key, kind, state, accepted, deadline, commitment, "
            "state_opening, fenced, labels) VALUES (?, ?, 'accepted', ?, ?, ?, ?, ?, ?)",
            (
                hidden,
                kind,
                accepted,
                accepted + days * SECONDS_PER_DAY,
                _random(),
                _random(),
                json.dumps(sorted(set(fenced))),
                canonical_json(label_counts(records)).decode(),
            ),
        )
        request = self._select("key = ?", (hidden,))[0].id
        self._samples.claim(ids, request)
        return self.get([request])[0], True

    def of_key(self, key: str) -> Request | None:
        """The request accepted under a key, None if there is none."""
        found = self._select("key = ?", (self._hidden(key),))
        return found[0] if found else None

    def get(self, ids: Iterable[int]) -> tuple[Request, ...]:
        """Requests by id, in order of id.

        Raises:
            UsageError: there is no such request.
        """
        wanted = sorted(set(ids))
        condition = "id IN (SELECT value FROM json_each (?)) ORDER BY id"
        found = self._select(condition, (json.dumps(wanted),))
        missing = sorted(set(wanted) - {request.id for request in found})
        if missing:
            raise UsageError(
                f"There is no request {missing[0]}.", advice="List them: `shardgraph requests`."
            )
        return found

    def all(self) -> tuple[Request, ...]:
        """All requests, oldest first."""
        return self._select("TRUE ORDER BY id", ())

    def unfinished(self) -> tuple[Request, ...]:
        """Requests that have no receipt yet, oldest first."""
        return self._select("state != 'receipted' ORDER BY id", ())

    def by_state(self) -> dict[str, int]:
        """How many requests are in each state."""
        return dict(self._database.rows("SELECT state, count(*) FROM requests GROUP BY state"))

    def move(
        self, ids: Iterable[int], sources: Sequence[RequestState], target: RequestState
    ) -> None:
        """Move requests from one of the ``sources`` to ``target``; further on already is fine.

        Raises:
            UsageError: one is in a state before the ``sources``.
        """
        moving = []
        for request in self.get(ids):
            if request.state in sources:
                moving.append((target, request.id))
            elif REQUEST_STATES.index(request.state) < REQUEST_STATES.index(target):
                raise UsageError(f"Request {request.id} is {request.state}, not {sources[0]}.")
        self._database.many("UPDATE requests SET state = ? WHERE id = ?", moving)

    def published(self, ids: Iterable[int], generation: int) -> None:
        """Lift the fence of requests that the current transaction carries out."""
        self.move(ids, FENCING, "published")
        self._database.many(
            "UPDATE requests SET generation = ?, labels = '{}' WHERE id = ?",
            [(generation, request) for request in ids],
        )

    def set_changed(self, request: int, changed: NodesChanged) -> None:
        """Record what the publication did to the nodes of a request."""
        self._database.rows(
            "UPDATE requests SET changed = ? WHERE id = ?", (json.dumps(asdict(changed)), request)
        )

    def drop_openings(self) -> None:
        """Forget what opens the states in receipts: they are of the past, and stay sealed."""
        self._database.rows(
            "UPDATE requests SET state_opening = NULL "
            "WHERE state = 'receipted' AND state_opening IS NOT NULL"
        )

    def receipted(self, request: int, index: int) -> None:
        """Record the place of the receipt; which nodes were refitted is then forgotten here."""
        self.move([request], ["erased"], "receipted")
        self._database.rows(
            "UPDATE requests SET receipt = ?, fenced = '[]', changed = '{}' WHERE id = ?",
            (index, request),
        )

    def reopen(self, request: int, records: Sequence[Record], fenced: Iterable[int]) -> None:
        """Let a request taken over from another copy wait for samples that are here again."""
        self._database.rows(
            "UPDATE requests SET state = 'accepted', fenced = ?, labels = ?, generation = NULL, "
            "state_opening = ?, changed = '{}' WHERE id = ?",
            (
                json.dumps(sorted(set(fenced))),
                canonical_json(label_counts(records)).decode(),
                _random(),
                request,
            ),
        )
        self._samples.claim([record.id for record in records], request)

    def nothing_to_do(self, request: int, generation: int) -> None:
        """Let a request taken over count as published: none of its samples are here."""
        self._database.rows(
            "UPDATE requests SET state = 'published', fenced = '[]', labels = '{}', "
            "generation = ?, state_opening = ?, changed = '{}' WHERE id = ?",
            (generation, _random(), request),
        )

    def _hidden(self, key: str) -> str:
        """A digest by which the key is recognised; a key may hold a name, so it is not kept."""
        salt = self._database.value("SELECT value FROM meta WHERE name = 'salt'")
        return digest_bytes(canonical_json([salt, key]))

    def _select(self, condition: str, parameters: Sequence[Any]) -> tuple[Request, ...]:
        with self._database.snapshot():
            rows = self._database.rows(
                f"SELECT {_COLUMNS} FROM requests WHERE {condition}", parameters
            )
            return tuple(self._request(row) for row in rows)

    def _request(self, row: tuple[Any, ...]) -> Request:
        number, kind, state, accepted, deadline, commitment, fenced = row[:7]
        generation, state_opening, changed, receipt = row[7:]
        pending = self._samples.pending(number)
        return Request(
            id=number,
            kind=kind,
            state=state,
            accepted=accepted,
            deadline=deadline,
            commitment=commitment,
            samples=tuple(record.id for record in pending),
            fenced=frozenset(NodeId(node) for node in json.loads(fenced)),
            generation=generation,
            state_opening=state_opening,
            changed=NodesChanged(**{k: tuple(v) for k, v in json.loads(changed).items()}),
            receipt=receipt,
        )


def _random() -> str:
    """32 random bytes in hexadecimal: a number that nobody can guess."""
    return secrets.token_hex(32)
