"""From what a user names to a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shardgraph.data import images
from shardgraph.data.digits import DigitsDataset, Part
from shardgraph.data.folder import FolderDataset
from shardgraph.data.image_list import ImageList
from shardgraph.data.manifest import ManifestDataset
from shardgraph.data.sample import Dataset, Kind
from shardgraph.data.table import is_table, open_table
from shardgraph.data.texts import TextDataset, TextList, read_text
from shardgraph.errors import DataError

_EMBEDDED: dict[str, Part] = {"digits": "all", "digits:train": "train", "digits:test": "test"}


def open_dataset(spec: str | os.PathLike[str], *, max_pixels: int = images.MAX_PIXELS) -> Dataset:
    """Open a folder of class folders, a table of images or texts, or the embedded digits.

    A table (.csv, .jsonl, .ndjson, .parquet, .pq) with a column ``path`` lists images, one with
    ``text`` and no ``path`` holds texts. ``digits``, ``digits:train`` and ``digits:test`` name the
    embedded data; write ``./digits`` for a folder of that name. ``max_pixels`` is the largest
    image that will be decoded.

    Raises:
        DataError: there is nothing of that name, or it is neither folder nor table; or as
            `FolderDataset`, `ManifestDataset` and `TextDataset` say.
        UsageError: the table is Parquet and pyarrow is not installed.
    """
    if isinstance(spec, str) and spec in _EMBEDDED:
        return DigitsDataset(_EMBEDDED[spec])
    path = Path(spec)
    if not path.exists():
        raise DataError(
            f"There is no file or folder {path}.",
            advice="Name a folder of class folders, a .csv, .jsonl or .parquet table, or 'digits'.",
        )
    if path.is_dir():
        return FolderDataset(path, max_pixels=max_pixels)
    if not is_table(path):
        raise DataError(
            f"{path} is neither a folder nor a manifest.",
            advice="A manifest's name ends in .csv, .jsonl, .ndjson, .parquet or .pq.",
        )
    columns = open_table(path).columns
    if "text" in columns and "path" not in columns:
        return TextDataset(path)
    if "path" not in columns:
        raise DataError(
            f"{path} has neither a column 'path', for images, nor a column 'text'.",
            advice=f"It names {', '.join(columns) or 'none'}.",
        )
    return ManifestDataset(path, max_pixels=max_pixels)


def open_queries(files: Sequence[Path], texts: Sequence[str], kind: Kind) -> Dataset:
    """Samples that are only asked about: files of images or of one text each, then ``texts``.

    Files are read as images unless ``kind``, which an encoder takes, is texts.

    Raises:
        BadFileError: a file of text cannot be read.
        DataError: a text is empty.
    """
    if texts or kind == "texts":
        return TextList([*map(read_text, files), *texts])
    return ImageList(files)
