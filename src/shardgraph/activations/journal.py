"""The two files of a staging directory: rows, and the journal that claims them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardgraph import runtime
from shardgraph.activations.backbone import Backbone
from shardgraph.errors import StoreDamagedError, StoreError, UnknownIdError
from shardgraph.files import (
    erase_files,
    make_directory,
    reported,
    sync_descriptor,
    sync_directory,
)
from shardgraph.identity import SampleId, canonical_json, digest_bytes

FORMAT = 1
_ROWS = "rows.bin"
_JOURNAL = "journal.jsonl"
_DTYPE = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class StagedRow:
    """One claimed row: its number in the rows file and the digests of what went in and came out."""

    number: int
    fingerprint: str
    digest: str


class Journal:
    """Rows of equal size, claimed one by one; see `shardgraph.activations.staging`."""

    def __init__(self, directory: Path, shape: tuple[int, int]) -> None:
        """Open the two files, made if they are missing. Use `open` instead."""
        self._rows_path = directory / _ROWS
        self._journal_path = directory / _JOURNAL
        self._shape = shape
        self._row_bytes = shape[0] * shape[1] * _DTYPE.itemsize
        self._claimed: dict[SampleId, StagedRow] = {}
        self._unclaimed: dict[SampleId, StagedRow] = {}
        self._next_row = 0
        self._journal_end = 0
        self._rows = _open(self._rows_path)
        self._journal = _open(self._journal_path)

    @classmethod
    def open(cls, directory: Path, backbone: Backbone, batch_size: int) -> Journal:
        """Open or begin a journal; rows made under other conditions are erased.

        Raises:
            StoreError: the directory cannot be read or written.
        """
        make_directory(directory)
        header = _header(backbone, batch_size)
        shape = (backbone.tokens, backbone.width)
        journal = cls(directory, shape)
        if not journal._load(header):
            journal.close()
            erase_files([journal._rows_path, journal._journal_path])
            journal = cls(directory, shape)
            journal._begin(header)
            sync_directory(directory)
        return journal

    def close(self) -> None:
        """Close the files; calling it again does nothing."""
        for descriptor in (self._rows, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._rows = self._journal = -1

    def find(self, sample: SampleId) -> StagedRow | None:
        """The claimed row of a sample, if there is one."""
        return self._claimed.get(sample)

    def append(self, sample: SampleId, fingerprint: str, tokens: np.ndarray) -> None:
        """Write one row, float16 [T, D]; it is claimed by the next `sync`."""
        data = np.ascontiguousarray(tokens, _DTYPE).tobytes()
        row = StagedRow(self._next_row, fingerprint, digest_bytes(data))
        _write_at(self._rows, data, row.number * self._row_bytes, self._rows_path)
        self._unclaimed[sample] = row
        self._next_row += 1

    def sync(self) -> None:
        """Make all rows durable, then the lines that claim them.

        Calling it again after Ctrl-C writes the same lines to the same place.

        Raises:
            StoreError: writing failed. The rows are given up: a second sync could report a
                success that did not happen.
        """
        if not self._unclaimed:
            return
        lines = b"".join(_line(sample, row) for sample, row in self._unclaimed.items())
        try:
            sync_descriptor(self._rows, self._rows_path)
            _write_at(self._journal, lines, self._journal_end, self._journal_path)
            sync_descriptor(self._journal, self._journal_path)
        except StoreError:
            self._unclaimed.clear()
            raise
        self._journal_end += len(lines)
        self._claimed.update(self._unclaimed)
        self._unclaimed.clear()

    def read(self, sample: SampleId) -> np.ndarray:
        """The row of a sample, float16 [T, D].

        Raises:
            UnknownIdError: no row of the sample was claimed.
            StoreDamagedError: the row is no longer what was claimed.
        """
        row = self._claimed.get(sample)
        if row is None:
            raise UnknownIdError(f"Sample {sample!r} is not staged.", advice="Encode it first.")
        data = self._bytes_of(row)
        if digest_bytes(data) != row.digest:
            raise StoreDamagedError(
                f"The staged activation of {sample!r} has changed.",
                advice="Check the volume, then run the command again.",
            )
        return np.frombuffer(data, _DTYPE).reshape(self._shape)

    def _begin(self, header: bytes) -> None:
        _write_at(self._journal, header, 0, self._journal_path)
        sync_descriptor(self._journal, self._journal_path)
        self._journal_end = len(header)

    def _load(self, header: bytes) -> bool:
        """Take over what is there; False if it was made under other conditions."""
        with reported("read", self._journal_path), self._journal_path.open("rb") as file:
            if file.readline() != header:
                return False
            self._journal_end = len(header)
            for line in file:
                claim = _parsed(line)
                if claim is None:  # cut short by a kill: neither it nor what follows counts
                    break
                sample, row = claim
                self._journal_end += len(line)
                self._next_row = max(self._next_row, row.number + 1)
                if digest_bytes(self._bytes_of(row)) == row.digest:
                    self._claimed[sample] = row
        with reported("truncate", self._journal_path):
            os.ftruncate(self._journal, self._journal_end)
        return True

    def _bytes_of(self, row: StagedRow) -> bytes:
        with reported("read", self._rows_path):
            return os.pread(self._rows, self._row_bytes, row.number * self._row_bytes)


def _header(backbone: Backbone, batch_size: int) -> bytes:
    """The first line: everything that a row depends on, apart from its own input."""
    conditions = {
        "backbone": backbone.digest,
        "batch_size": batch_size,
        "environment": runtime.environment(backbone.libraries),
        "format": FORMAT,
        "tokens": backbone.tokens,
        "width": backbone.width,
    }
    return canonical_json(conditions) + b"\n"


def _line(sample: SampleId, row: StagedRow) -> bytes:
    claim = {"id": sample, "input": row.fingerprint, "output": row.digest, "row": row.number}
    return canonical_json(claim) + b"\n"


def _parsed(line: bytes) -> tuple[SampleId, StagedRow] | None:
    """The claim in a line; None if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        claim = json.loads(line)
        row = StagedRow(int(claim["row"]), str(claim["input"]), str(claim["output"]))
        return SampleId(str(claim["id"])), row
    except (ValueError, TypeError, LookupError):
        return None


def _open(path: Path) -> int:
    with reported("open", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _write_at(descriptor: int, data: bytes, offset: int, path: Path) -> None:
    view = memoryview(data)
    with reported("write", path):
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
