"""Rows of a table: CSV, JSON lines, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardgraph.data.sample import Sample
from shardgraph.errors import DataError, UsageError
from shardgraph.identity import OwnerId, SampleId, SourceName

OPTIONAL_COLUMNS = ("id", "owner", "source")
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})
TABLE_SUFFIXES = PARQUET_SUFFIXES | JSON_SUFFIXES | {".csv"}


@dataclass(frozen=True)
class Table:
    """A table's columns, and its rows one by one: where each stands, and its cells."""

    path: Path
    columns: tuple[str, ...]
    rows: Iterator[tuple[str, Mapping[str, Any]]]

    def require(self, columns: Sequence[str]) -> None:
        """Check that the table has ``columns``.

        Raises:
            DataError: it lacks one.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise DataError(
                f"{self.path} has no column {' and no column '.join(missing)}.",
                advice=f"It must name {' and '.join(columns)}; it names {', '.join(self.columns)}.",
            )


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.suffix.lower() in TABLE_SUFFIXES


def open_table(path: Path) -> Table:
    """Open a table; its form is told by its name, CSV if that tells nothing.

    The columns of JSON lines are the keys of the first object. Reading ``rows`` may raise the
    same errors. CSV and JSON lines are held in memory meanwhile.

    Raises:
        DataError: the table cannot be read.
        UsageError: it is Parquet and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return _open_parquet(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return _open_json(path, text) if suffix in JSON_SUFFIXES else _open_csv(path, text)


def named_cells(
    row: Mapping[str, Any], where: str, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """The cells of some columns as text, without white space around it; "" where there is none.

    Raises:
        DataError: one of ``required`` is empty.
    """
    cells = {}
    for column in (*required, *optional):
        value = row.get(column)
        cells[column] = "" if value is None else str(value).strip()
    for column in required:
        if not cells[column]:
            raise DataError(f"{where}: the {column} is empty.", advice="Fill it in.")
    return cells


def sample_of(cells: Mapping[str, str], default_id: str) -> Sample:
    """The sample of a row; empty owners and sources mean none."""
    return Sample(
        SampleId(cells["id"] or default_id),
        cells["label"],
        OwnerId(cells["owner"]) if cells["owner"] else None,
        SourceName(cells["source"]) if cells["source"] else None,
    )


def _open_csv(path: Path, text: str) -> Table:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        f"{where}: the number of cells differs from that of the first line.",
                        advice="Put text that holds commas in quotation marks.",
                    )
                yield where, row
        except csv.Error as error:
            raise _unreadable(path, error) from error

    try:
        return Table(path, tuple(reader.fieldnames or ()), rows())
    except csv.Error as error:
        raise _unreadable(path, error) from error


def _open_json(path: Path, text: str) -> Table:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]

    def parsed(number: int, line: str) -> tuple[str, Mapping[str, Any]]:
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, f"line {number} is not JSON") from error
        if not isinstance(row, dict):
            raise _unreadable(path, f"line {number} is not an object")
        return where, row

    columns = tuple(parsed(*lines[0])[1]) if lines else ()
    return Table(path, columns, (parsed(number, line) for number, line in lines))


def _open_parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UsageError(
            "Reading Parquet needs pyarrow.",
            advice="Run in the project's folder: pip install '.[parquet]'",
        ) from error

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        number = 0
        wanted = {"path", "text", "label", *OPTIONAL_COLUMNS} & set(columns)
        try:
            for batch in file.iter_batches(columns=sorted(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
        except (OSError, pyarrow.ArrowException) as error:
            raise _unreadable(path, error) from error

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error
    columns = tuple(file.schema_arrow.names)
    return Table(path, columns, rows())


def _unreadable(path: Path, reason: object) -> DataError:
    return DataError(
        f"Cannot read the manifest {path}: {' '.join(str(reason).split())}.",
        advice="It must be CSV or JSON lines in UTF-8, or Parquet, by its suffix.",
    )
