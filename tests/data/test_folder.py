from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.data.folder import FolderDataset
from shardgraph.errors import BadFileError, DataError
from shardgraph.identity import digest_bytes


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(path)


def test_labels_and_ids_come_from_the_path(tmp_path: Path) -> None:
    image(tmp_path / "owl" / "1.png", 7)
    image(tmp_path / "owl" / "young" / "2.PNG", 8)
    image(tmp_path / "auk" / "1.png", 9)
    data = FolderDataset(tmp_path)
    assert [(s.id, s.label) for s in data.samples] == [
        ("auk/1.png", "auk"),
        ("owl/1.png", "owl"),
        ("owl/young/2.PNG", "owl"),
    ]
    assert [int(data.read(i)[0, 0, 0]) for i in range(3)] == [9, 7, 8]
    assert data.fingerprint(1) == digest_bytes((tmp_path / "owl/1.png").read_bytes())
    assert all(s.owner is None and s.source is None for s in data.samples)


def test_hidden_and_loose_text_files_are_ignored(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "a" / ".hidden.png")
    image(tmp_path / ".cache" / "1.png")
    (tmp_path / "README.txt").write_text("x")
    assert [s.id for s in FolderDataset(tmp_path).samples] == ["a/1.png"]


def test_other_file_in_a_class_is_a_bad_file_when_read(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "notes.txt").write_text("x")
    data = FolderDataset(tmp_path)
    for look in (data.read, data.inspect):
        look(0)
        with pytest.raises(BadFileError, match=r"notes\.txt"):
            look(1)


def test_listing_opens_no_file(tmp_path: Path) -> None:
    for i in range(5):
        image(tmp_path / "a" / f"{i}.png")
    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(watch)
    try:
        FolderDataset(tmp_path)
    finally:
        watching = False
    assert not [name for name in opened if name.endswith(".png")]


def test_split_folder_is_refused_with_advice(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a" / "1.png")
    image(tmp_path / "test" / "a" / "1.png")
    with pytest.raises(DataError, match=str(tmp_path / "train")):
        FolderDataset(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    image(tmp_path / "train" / "1.png")
    image(tmp_path / "bus" / "1.png")
    assert {s.label for s in FolderDataset(tmp_path).samples} == {"train", "bus"}


def test_missing_empty_and_loose_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        FolderDataset(tmp_path / "none")
    with pytest.raises(DataError, match="no samples"):
        FolderDataset(tmp_path)
    image(tmp_path / "1.png")
    with pytest.raises(DataError, match="outside any class"):
        FolderDataset(tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    image(tmp_path / "elsewhere" / "1.png")
    image(root / "a" / "1.png")
    link = root / "a" / "2.png"
    link.symlink_to(tmp_path / "elsewhere" / "1.png")
    with pytest.raises(DataError, match="leaves the folder"):
        FolderDataset(root)
    link.unlink()
    (root / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leaves the folder"):
        FolderDataset(root)


def test_links_inside_the_folder(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png", 3)
    (tmp_path / "a" / "2.png").symlink_to("1.png")
    assert int(FolderDataset(tmp_path).read(1)[0, 0, 0]) == 3
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DataError, match="points to a folder"):
        FolderDataset(tmp_path)


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    image(tmp_path / "real" / "a" / "1.png")
    (tmp_path / "link").symlink_to("real")
    assert FolderDataset(tmp_path / "link").read(0).shape == (4, 5, 3)


def test_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    os.rename(tmp_path / "a" / "1.png", os.fsencode(tmp_path / "a") + b"/\xff.png")
    with pytest.raises(DataError, match="Unicode"):
        FolderDataset(tmp_path)
