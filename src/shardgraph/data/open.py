"""From what a user names to a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from shardgraph.data import images
from shardgraph.data.digits import DigitsDataset, Part
from shardgraph.data.folder import FolderDataset
from shardgraph.data.manifest import PARQUET_SUFFIXES, ManifestDataset
from shardgraph.data.sample import Dataset
from shardgraph.errors import DataError

_EMBEDDED: dict[str, Part] = {"digits": "all", "digits:train": "train", "digits:test": "test"}


def open_dataset(spec: str | os.PathLike[str], *, max_pixels: int = images.MAX_PIXELS) -> Dataset:
    """Open a folder of class folders, a manifest (.csv, .parquet, .pq) or the embedded digits.

    ``digits``, ``digits:train`` and ``digits:test`` name the embedded data; write ``./digits`` for
    a folder of that name. ``max_pixels`` is the largest image that will be decoded.

    Raises:
        DataError: there is nothing of that name, or it is neither folder nor manifest; or as
            `FolderDataset` and `ManifestDataset` say.
        UsageError: the manifest is Parquet and pyarrow is not installed.
    """
    if isinstance(spec, str) and spec in _EMBEDDED:
        return DigitsDataset(_EMBEDDED[spec])
    path = Path(spec)
    if not path.exists():
        raise DataError(
            f"There is no file or folder {path}.",
            advice="Name a folder of class folders, a .csv or .parquet manifest, or 'digits'.",
        )
    if path.is_dir():
        return FolderDataset(path, max_pixels=max_pixels)
    if path.suffix.lower() == ".csv" or path.suffix.lower() in PARQUET_SUFFIXES:
        return ManifestDataset(path, max_pixels=max_pixels)
    raise DataError(
        f"{path} is neither a folder nor a manifest.",
        advice="A manifest's name ends in .csv, .parquet or .pq.",
    )
