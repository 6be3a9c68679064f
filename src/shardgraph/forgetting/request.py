"""What someone asks to be forgotten. No torch: a request can be read and planned anywhere."""

from __future__ import annotations

import csv
import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shardgraph.errors import UsageError
from shardgraph.identity import SampleId
from shardgraph.store import Record, Store

DEADLINE_DAYS = 30.0
"""Days within which a request should be carried out: about the month of GDPR, article 12(3)."""


def new_request_key() -> str:
    """A random key that names one request and nothing else."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """Samples, owners and sources to forget, in one request.

    ``key`` makes the request idempotent: carrying out the same key twice forgets once and gives
    the same answer. Only a salted digest of it is kept. ``days`` is how long the request may take
    before it counts as overdue; a warning comes when two thirds of them have passed.

    Raises:
        UsageError: nothing is named, the key is empty, or the deadline is not in the future.
    """

    samples: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    key: str = field(default_factory=new_request_key)
    days: float = DEADLINE_DAYS

    def __post_init__(self) -> None:
        if not (self.samples or self.owners or self.sources):
            raise UsageError(
                "The request names nothing to forget.",
                advice="Name at least one sample, owner or source.",
            )
        if not self.key:
            raise UsageError(
                "The request key is empty.", advice="Leave it out to have one drawn at random."
            )

        if not (math.isfinite(self.days) and self.days > 0):
            raise UsageError(
                f"A deadline of {self.days} days is not in the future.",
                advice="Give a number of days above zero.",
            )

    @classmethod
    def of(
        cls,
        *,
        samples: Iterable[str] = (),
        owners: Iterable[str] = (),
        sources: Iterable[str] = (),
        key: str | None = None,
        days: float = DEADLINE_DAYS,
    ) -> ForgetRequest:
        """A request over the distinct names given, in sorted order."""
        return cls(
            samples=tuple(sorted(set(samples))),
            owners=tuple(sorted(set(owners))),
            sources=tuple(sorted(set(sources))),
            key=new_request_key() if key is None else key,
            days=days,
        )


def records_named(store: Store, request: ForgetRequest) -> tuple[Record, ...]:
    """What a store records of the live samples that a request names, by id.

    Raises:
        UnknownIdError: a sample, owner or source has no live sample.
    """
    found = {item.id: item for item in store.find(map(SampleId, request.samples))}
    for owner in request.owners:
        found |= {item.id: item for item in store.owned_by(owner)}
    for source in request.sources:
        found |= {item.id: item for item in store.from_source(source)}
    return tuple(found[name] for name in sorted(found))


def read_request_file(path: Path) -> dict[str, list[str]]:
    """The names in a request file, as keyword arguments of :meth:`ForgetRequest.of`.

    A ``.csv`` file has a header with one or more of the columns ``sample`` (or ``id``), ``owner``
    and ``source``; empty cells are passed over. Any other file is text, one sample id a line;
    blank lines are passed over.

    Raises:
        UsageError: the file is missing, is not text, or has none of the columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no file {path}.", advice="Check the path given to --from."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read as UTF-8 text.",
            advice="Give a text file with one sample id a line, or a CSV file.",
        ) from error
    if path.suffix.lower() != ".csv":
        return {"samples": [line.strip() for line in text.splitlines() if line.strip()]}
    return _read_csv(path, text)


def _read_csv(path: Path, text: str) -> dict[str, list[str]]:
    columns = {"sample": "samples", "id": "samples", "owner": "owners", "source": "sources"}
    rows = csv.DictReader(text.splitlines())
    known = [name for name in rows.fieldnames or () if name in columns]
    if not known:
        raise UsageError(
            f"{path} has none of the columns sample, id, owner, source.",
            advice="Add a header line, for example: owner",
        )
    names: dict[str, list[str]] = {}
    for row in rows:
        for column in known:
            if row[column]:
                names.setdefault(columns[column], []).append(row[column])
    return names
