"""A folder of class folders: ``ROOT/CLASS/.../FILE``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shardgraph.data import images
from shardgraph.data.sample import Kind, Sample, check_samples
from shardgraph.errors import BadFileError, DataError
from shardgraph.identity import SampleId


class FolderDataset:
    """Images in one folder per class.

    A sample's label is the name of the first folder level; its id is the path relative to the
    root, with forward slashes. Hidden files and folders are ignored, and so are non-image files
    that lie beside the class folders (a README). Every other file is a sample: one that is not an
    image is a bad file, reported when it is read.

    Listing is one walk of the directories and opens no file.
    """

    kind: Kind = "images"

    def __init__(self, root: str | os.PathLike[str], *, max_pixels: int = images.MAX_PIXELS):
        """List the samples below ``root``.

        Raises:
            DataError: ``root`` is missing or not a folder, holds no samples, holds ``train/`` with
                class folders inside, holds images outside any class folder, or holds a symbolic
                link that leaves it or points to a folder.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f"There is no folder {self.root}.",
                advice="Name a folder that holds one folder per class.",
            )
        _refuse_split_folder(self.root)
        self._max_pixels = max_pixels
        found = sorted(_class_files(self.root))
        self._samples = check_samples(
            (Sample(SampleId(name), name.partition("/")[0]) for name in found),
            f"The folder {self.root}",
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, sorted by id."""
        return self._samples

    def read(self, index: int) -> np.ndarray:
        """The image of ``samples[index]``: uint8, H x W x 3; see `images.decode`."""
        return images.decode(self._image_path(index), max_pixels=self._max_pixels)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the file of ``samples[index]``."""
        return images.fingerprint(self._path(index))

    def inspect(self, index: int) -> None:
        """Check suffix and header of the file of ``samples[index]``."""
        images.inspect(self._image_path(index), max_pixels=self._max_pixels)

    def _path(self, index: int) -> Path:
        return self.root / self._samples[index].id

    def _image_path(self, index: int) -> Path:
        path = self._path(index)
        if not images.has_image_suffix(path.name):
            raise BadFileError(
                f"{path} is not an image file by its name.",
                advice="Move it out of the class folders, or use --on-bad-file skip.",
            )
        return path


def _refuse_split_folder(root: Path) -> None:
    train = root / "train"
    if not train.is_dir():
        return
    with os.scandir(train) as entries:
        nested = any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    if nested:
        raise DataError(
            f"{root} holds a folder 'train' with class folders inside.",
            advice=f"Name one part of the data, for example {train}.",
        )


def _class_files(root: Path) -> Iterator[str]:
    """Relative names, with forward slashes, of all files in class folders."""
    real_root = os.path.realpath(root)
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in _entries(root, prefix):
            name = prefix + entry.name
            if entry.is_symlink():
                _check_link(entry, real_root)
            if entry.is_dir(follow_symlinks=False):
                pending.append(name + "/")
            elif prefix:
                yield name
            elif images.has_image_suffix(name):
                raise DataError(
                    f"The image {entry.path} lies outside any class folder.",
                    advice="Move it into the folder of its class.",
                )


def _entries(root: Path, prefix: str) -> list[os.DirEntry[str]]:
    folder = os.path.join(root, prefix)
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"Cannot list the folder {folder}: {error.strerror}.",
            advice="Check its permissions.",
        ) from error


def _check_link(entry: os.DirEntry[str], real_root: str) -> None:
    target = os.path.realpath(entry.path)
    if os.path.commonpath([real_root, target]) != real_root:
        raise DataError(
            f"The symbolic link {entry.path} leaves the folder.",
            advice="Copy the files in, or list them in a manifest.",
        )
    if os.path.isdir(target):
        raise DataError(
            f"The symbolic link {entry.path} points to a folder.",
            advice="One image must not be two samples: remove the link.",
        )
