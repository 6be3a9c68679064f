"""The rows of samples, and the digests that stand for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from shardgraph.errors import StoreDamagedError, UnknownIdError, UsageError
from shardgraph.identity import (
    OwnerId,
    SampleId,
    ShardId,
    SourceName,
    digest_rows,
    order_key,
)
from shardgraph.store.database import Database
from shardgraph.store.state import Record

_COLUMNS = "id, label, owner, source, shard"
_NAMED_IN_ERRORS = 5


def in_order(records: Iterable[Record], seed: int) -> tuple[Record, ...]:
    """Records as they follow each other in a shard: by keyed hash of the id, then by id."""
    return tuple(sorted(records, key=lambda record: (order_key(seed, record.id), record.id)))


def records_digest(records: Iterable[Record]) -> str:
    """The digest of a shard's records, which must be in order.

    It is over one row per record, ``id, label, owner, source``.
    """
    return digest_rows((item.id, item.label, item.owner, item.source) for item in records)


def label_counts(records: Iterable[Record]) -> dict[str, int]:
    """How many records have each label, labels sorted."""
    return dict(sorted(Counter(record.label for record in records).items()))


class Samples:
    """The table of samples. Writing happens inside a transaction of the caller's."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._seed = seed

    def of_shard(self, shard: int) -> tuple[Record, ...]:
        """All records of a shard in order, compared with the digest kept for it.

        Raises:
            StoreDamagedError: they differ.
        """
        with self._database.snapshot():
            records = self.unverified(shard)
            kept = self._database.rows("SELECT records FROM shards WHERE shard = ?", (shard,))
        if (records_digest(records) if records else None) != (kept[0][0] if kept else None):
            raise StoreDamagedError(
                f"The records of shard {shard} differ from their digest.",
                advice="Restore the store from a backup, or fit it again.",
            )
        return records

    def unverified(self, shard: int) -> tuple[Record, ...]:
        """All records of a shard in order, as they are in the table."""
        return in_order(self._select("shard = ?", (shard,)), self._seed)

    def find(self, ids: Sequence[SampleId]) -> tuple[Record, ...]:
        """The records of ids that no request is pending for, in the order of ``ids``.

        Raises:
            UnknownIdError: some have none.
        """
        listed = json.dumps(list(ids))
        condition = "id IN (SELECT value FROM json_each (?)) AND request IS NULL"
        found = {record.id: record for record in self._select(condition, (listed,))}
        unknown = [sample for sample in dict.fromkeys(ids) if sample not in found]
        if unknown:
            named = ", ".join(repr(sample) for sample in unknown[:_NAMED_IN_ERRORS])
            more = len(unknown) - _NAMED_IN_ERRORS
            raise UnknownIdError(
                f"No such sample: {named}{f' and {more} more' if more > 0 else ''}.",
                advice="Ids are paths relative to the data folder, or the manifest's ids; "
                "a sample that is being forgotten has none any more.",
            )
        return tuple(found[sample] for sample in ids)

    def lookup(self, ids: Sequence[SampleId]) -> tuple[Record, ...]:
        """The records of those ids that are in the table, pending ones too, by id."""
        listed = json.dumps(list(ids))
        return self._select("id IN (SELECT value FROM json_each (?)) ORDER BY id", (listed,))

    def of(self, column: str, value: str) -> tuple[Record, ...]:
        """Records with this owner or source that no request is pending for, by id.

        Raises:
            UnknownIdError: there are none.
        """
        if column not in ("owner", "source"):
            raise UsageError(f"Samples cannot be asked for by {column!r}.")
        found = self._select(f"{column} = ? AND +request IS NULL", (value,))
        if not found:
            raise UnknownIdError(
                f"No sample has the {column} {value!r}.",
                advice="Check the spelling against the manifest.",
            )
        return tuple(sorted(found, key=lambda record: record.id))

    def pending(self, request: int | None = None) -> tuple[Record, ...]:
        """Records that a request (or any) is pending for, by id."""
        if request is None:
            return self._select("request IS NOT NULL ORDER BY id", ())
        return self._select("request = ? ORDER BY id", (request,))

    def claim(self, ids: Iterable[SampleId], request: int) -> None:
        """Mark samples as pending for a request."""
        self._database.many(
            "UPDATE samples SET request = ? WHERE id = ?", [(request, sample) for sample in ids]
        )

    def insert(self, records: Sequence[Record]) -> None:
        """Add new samples.

        Raises:
            UsageError: an id is there already, or twice.
        """
        listed = json.dumps([record.id for record in records])
        there = self._select("id IN (SELECT value FROM json_each (?))", (listed,))
        twice = [sample for sample, n in Counter(r.id for r in records).items() if n > 1]
        if there or twice:
            named = there[0].id if there else twice[0]
            raise UsageError(
                f"The sample {named!r} is in the store already, or given twice.",
                advice="Ids must be unique; forget the old sample first to replace it.",
            )
        self._database.many(
            f"INSERT INTO samples ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            [(r.id, r.label, r.owner, r.source, r.shard) for r in records],
        )

    def remove(self, request: int) -> None:
        """Delete the samples that a request is pending for."""
        self._database.rows("DELETE FROM samples WHERE request = ?", (request,))

    def _select(self, condition: str, parameters: Sequence[Any]) -> tuple[Record, ...]:
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM samples WHERE {condition}", parameters)
        return tuple(
            Record(
                SampleId(sample),
                label,
                None if owner is None else OwnerId(owner),
                None if source is None else SourceName(source),
                ShardId(shard),
            )
            for sample, label, owner, source, shard in rows
        )
