"""A second place that says how new the database must be.

SQLite takes a write-ahead log that is damaged or gone for one that ends earlier, and yesterday's
database file for a whole one: either would silently lose a request that was acknowledged. So the
writer counts its transactions in the database, and after each commit writes the count to a file of
its own, durably, before anything is acknowledged. A database that counts less is refused.

    newest     two records of 64 bytes, written in turns: count, SHA-256 of the count, line feed

A kill between the two leaves the file behind the database, which is fine. A record that is torn or
damaged does not count, so the file alone can never make a store refuse itself wrongly.

Not noticed: database and file taken back together, as by a snapshot of the volume.
"""

from __future__ import annotations

from pathlib import Path

from shardgraph import files
from shardgraph.identity import digest_bytes

_RECORD = 64
_DIGITS, _CHECK = 20, 42


def read(path: Path) -> int:
    """The highest count that was written, 0 if there is none or it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    return max(_parsed(data[:_RECORD]), _parsed(data[_RECORD : 2 * _RECORD]))


def write(path: Path, count: int) -> None:
    """Write a count durably, over the older of the two records.

    Raises:
        StoreError: that failed.
    """
    files.write_at(path, count % 2 * _RECORD, _record(count))


def create(path: Path) -> None:
    """Make the file if there is none, durably."""
    if not path.exists():
        files.write_new(path, b"")
        files.sync_directory(path.parent)


def is_whole(path: Path) -> bool:
    """Whether a record can be read, or none was ever written."""
    return not path.exists() or read(path) > 0 or not any(path.read_bytes())


def _record(count: int) -> bytes:
    text = f"{count:0{_DIGITS}d}"
    return f"{text} {digest_bytes(text.encode())[:_CHECK]}\n".encode()


def _parsed(record: bytes) -> int:
    digits = record[:_DIGITS]
    return int(digits) if digits.isdigit() and _record(int(digits)) == record else 0
