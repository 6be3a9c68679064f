"""A table that lists images: one file a row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph.data import images
from shardgraph.data.sample import Kind, Sample, check_samples
from shardgraph.data.table import OPTIONAL_COLUMNS, named_cells, open_table, sample_of
from shardgraph.errors import DataError

REQUIRED_COLUMNS = ("path", "label")


class ManifestDataset:
    """Images listed in a table: columns ``path, label``, optionally ``id, owner, source``.

    The table is CSV, JSON lines or Parquet; see `open_table`.

    A relative path is relative to the manifest's folder and must stay inside it, symbolic links
    included; without an ``id`` it is also the sample's id (with forward slashes). An absolute path
    may lie anywhere and needs an ``id``. Empty owners and sources mean none. Other columns are
    ignored.
    """

    kind: Kind = "images"

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
        table = open_table(self.path)
        table.require(REQUIRED_COLUMNS)
        parsed = [_parse(row, where) for where, row in table.rows]
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
    cells = named_cells(row, where, REQUIRED_COLUMNS, OPTIONAL_COLUMNS)
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
    return file, sample_of(cells, file.replace(os.sep, "/"))
