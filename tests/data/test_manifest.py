from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.data.manifest import ManifestDataset
from shardgraph.errors import DataError, UsageError


def write(folder: Path, text: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(path)


def test_all_columns(tmp_path: Path) -> None:
    image(tmp_path / "x" / "1.png", 5)
    text = "path,label,id,owner,source,other\nx/1.png,owl,one,ann,zoo,9\nx/2.png,auk,two,,,\n"
    data = ManifestDataset(write(tmp_path, text))
    first, second = data.samples
    assert (first.id, first.label, first.owner, first.source) == ("one", "owl", "ann", "zoo")
    assert (second.id, second.owner, second.source) == ("two", None, None)
    assert int(data.read(0)[0, 0, 0]) == 5
    data.inspect(0)
    assert len(data.fingerprint(0)) == 64


def test_id_is_the_relative_path_where_none_is_given(tmp_path: Path) -> None:
    text = "\ufeffpath,label\n./x//1.png,owl\n"
    assert ManifestDataset(write(tmp_path, text)).samples[0].id == "x/1.png"


def test_absolute_path_needs_an_id(tmp_path: Path) -> None:
    image(tmp_path / "far" / "1.png", 6)
    (tmp_path / "near").mkdir()
    file = tmp_path / "far" / "1.png"
    data = ManifestDataset(write(tmp_path / "near", f"path,label,id\n{file},owl,one\n"))
    assert int(data.read(0)[0, 0, 0]) == 6
    with pytest.raises(DataError, match="needs an id"):
        ManifestDataset(write(tmp_path / "near", f"path,label\n{file},owl\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\na.png,owl\n", "no column label"),
        ("a.png,owl\n", "no column path and no column label"),
        ("", "no column path"),
        ("path,label\n", "no samples"),
        ("path,label\na.png,\n", "line 2: the label is empty"),
        ("path,label\n,owl\n", "line 2: the path is empty"),
        ("path,label\na.png,owl\na.png,owl\n", "occurs twice"),
        ("path,label,id\na.png,owl,1\nb.png,owl,1\n", "occurs twice"),
        ("path,label\n../a.png,owl\n", "leaves the folder"),
        ("path,label\nx/../../a.png,owl\n", "leaves the folder"),
        ("path,label\na.png\n", "number of cells"),
        ("path,label\na.png,owl,extra\n", "number of cells"),
        ('path,label\n"a.png,owl\n', "Cannot read the manifest"),
    ],
)
def test_each_fault_has_its_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ManifestDataset(write(tmp_path, text))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff\xfe.png,owl\n")
    with pytest.raises(DataError, match="Cannot read"):
        ManifestDataset(tmp_path / "m.csv")


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "far" / "1.png")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "1.png").symlink_to(tmp_path / "far" / "1.png")
    data = ManifestDataset(write(tmp_path / "near", "path,label\n1.png,owl\n"))
    for look in (data.read, data.inspect, data.fingerprint):
        with pytest.raises(DataError, match="symbolic link"):
            look(0)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"path": ["a.png", "b.png"], "label": [3, 4], "owner": ["ann", None]})
    parquet.write_table(table, tmp_path / "m.parquet")
    first, second = ManifestDataset(tmp_path / "m.parquet").samples
    assert (first.id, first.label, first.owner) == ("a.png", "3", "ann")
    assert second.owner is None
    parquet.write_table(table.drop_columns(["label"]), tmp_path / "n.parquet")
    with pytest.raises(DataError, match="no column label"):
        ManifestDataset(tmp_path / "n.parquet")
    (tmp_path / "o.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="Cannot read"):
        ManifestDataset(tmp_path / "o.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"'\.\[parquet\]'"):
        ManifestDataset(tmp_path / "m.parquet")
