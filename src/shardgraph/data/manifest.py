"""A table of samples: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph.data import images
from shardgraph.data.sample import Sample, check_samples
from shardgraph.errors import DataError, UsageError
from shardgraph.identity import OwnerId, SampleId, SourceName

REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("id", "owner", "source")
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})

_Row = tuple[str, Mapping[str, Any]]  # where it stands, and its cells


class ManifestDataset:
    """Images listed in a table: columns ``path, label``, optionally ``id, owner, source``.

    A relative path is relative to the manifest's folder and must stay inside it, symbolic links
    included; without an ``id`` it is also the sample's id (with forward slashes). An absolute path
    may lie anywhere and needs an ``id``. Empty owners and sources mean none. Other columns are
    ignored.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_pixels: int = images.MAX_PIXELS):
        """Read the table; no image is opened.

        Raises:
            DataError: the table cannot be read, lacks a column, is empty, or has a row without
                path or label, with a path that leaves the folder, or with an id that occurs twice.
            UsageError: the table is Parquet and pyarrow is not installed.
        """
        self.path = Path(path)
        self._folder = self.path.parent
        self._max_pixels = max_pixels
        is_parquet = self.path.suffix.lower() in PARQUET_SUFFIXES
        rows = _parquet_rows(self.path) if is_parquet else _csv_rows(self.path)
        parsed = [_parse(row, where) for where, row in rows]
        self._files = [file for file, _ in parsed]
        self._samples = check_samples((sample for _, sample in parsed), str(self.path))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in the order of the table."""
        return self._samples

    def read(self, index: int) -> np.ndarray:
        """The image of ``samples[index]``: uint8, H x W x 3; see `images.decode`."""
        return images.decode(self._locate(index), max_pixels=self._max_pixels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the file of ``samples[index]``."""
        return images.fingerprint(self._locate(index))

    def inspect(self, index: int) -> None:
        """Check the header of the file of ``samples[index]``."""
        images.inspect(self._locate(index), max_pixels=self._max_pixels)

    def _locate(self, index: int) -> Path:
        """The file of one sample; raises `DataError` if a link takes it out of the folder."""
        name = self._files[index]
        path = self._folder / name
        if not os.path.isabs(name):
            folder = os.path.realpath(self._folder)
            if os.path.commonpath([folder, os.path.realpath(path)]) != folder:
                raise DataError(
                    f"{path} leaves the folder of the manifest through a symbolic link.",
                    advice="Copy the file in, or give its absolute path and an id.",
                )
        return path


def _parse(row: Mapping[str, Any], where: str) -> tuple[str, Sample]:
    cells = {column: _cell(row, column) for column in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)}
    for column in REQUIRED_COLUMNS:
        if not cells[column]:
            raise DataError(f"{where}: the {column} is empty.", advice="Fill it in.")
    file = cells["path"]
    if os.path.isabs(file):
        if not cells["id"]:
            raise DataError(
                f"{where}: an absolute path needs an id.",
                advice="Add a column 'id', or make the path relative to the manifest.",
            )
    else:
        file = os.path.normpath(file)
        if file.split(os.sep)[0] == os.pardir:
            raise DataError(
                f"{where}: the path {cells['path']!r} leaves the folder of the manifest.",
                advice="Move the manifest up, or give an absolute path and an id.",
            )
    sample = Sample(
        SampleId(cells["id"] or file.replace(os.sep, "/")),
        cells["label"],
        OwnerId(cells["owner"]) if cells["owner"] else None,
        SourceName(cells["source"]) if cells["source"] else None,
    )
    return file, sample


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


def _check_columns(columns: Iterable[str], path: Path) -> None:
    found = list(columns)
    missing = [column for column in REQUIRED_COLUMNS if column not in found]
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}.",
            advice=f"The first line must name path and label; it names {', '.join(found)}.",
        )


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), path)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        f"{where}: the number of cells differs from that of the first line.",
                        advice="Put text that holds commas in quotation marks.",
                    )
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"Cannot read the manifest {path}: {error}.",
            advice="It must be a CSV file in UTF-8 with the columns path and label.",
        ) from error


def _parquet_rows(path: Path) -> Iterator[_Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UsageError(
            "Reading Parquet needs pyarrow.", advice="Run: pip install 'shardgraph[parquet]'"
        ) from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        _check_columns(file.schema_arrow.names, path)
        wanted = {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS} & set(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(columns=sorted(wanted)):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"Cannot read the manifest {path}: {reason}.",
            advice="It must be a Parquet file with the columns path and label.",
        ) from error
