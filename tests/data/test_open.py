from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.data.folder import FolderDataset
from shardgraph.data.manifest import ManifestDataset
from shardgraph.data.open import open_dataset
from shardgraph.errors import BadFileError, DataError


def test_each_kind(tmp_path: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "d" / "a" / "1.png")
    (tmp_path / "m.CSV").write_text("path,label\nd/a/1.png,a\n")
    assert isinstance(open_dataset(tmp_path / "d"), FolderDataset)
    assert isinstance(open_dataset(str(tmp_path / "m.CSV")), ManifestDataset)
    for spec in (tmp_path / "d", tmp_path / "m.CSV"):
        with pytest.raises(BadFileError, match="9 x 9"):
            open_dataset(spec, max_pixels=80).read(0)


def test_embedded_data() -> None:
    counts = [len(open_dataset(f"digits{part}").samples) for part in ("", ":train", ":test")]
    assert counts[0] == counts[1] + counts[2] == 1797


def test_nothing_and_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        open_dataset(tmp_path / "none")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match="neither"):
        open_dataset(tmp_path / "x.txt")
