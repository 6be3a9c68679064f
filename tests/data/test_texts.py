from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shardgraph.data.open import open_dataset, open_queries
from shardgraph.data.texts import TextDataset, TextList, read_text
from shardgraph.errors import BadFileError, DataError


def write(folder: Path, text: str, name: str = "reviews.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns(tmp_path: Path) -> None:
    text = 'text,label,id,owner,source\n"Good, really.",yes,one,ann,shop\n\u00fcbel,no,two,,\n'
    data = TextDataset(write(tmp_path, text))
    first, second = data.samples
    assert (first.id, first.label, first.owner, first.source) == ("one", "yes", "ann", "shop")
    assert (second.id, second.owner, second.source) == ("two", None, None)
    assert data.kind == "texts"
    assert [data.read(row).item() for row in range(2)] == ["Good, really.", "\u00fcbel"]
    assert data.read(0).ndim == 0
    assert data.fingerprint(1) == hashlib.sha256("\u00fcbel".encode()).hexdigest()


def test_an_id_that_is_not_given_depends_on_its_text_alone(tmp_path: Path) -> None:
    rows = ["fine,yes", "poor,no", "fair,yes"]
    names = {}
    for count in (3, 2):
        path = write(tmp_path, "\n".join(["text,label", *rows[-count:]]))
        names[count] = [sample.id for sample in TextDataset(path).samples]
    assert names[3][1:] == names[2]
    assert names[2][0] == f"text-{hashlib.sha256(b'poor').hexdigest()[:16]}"


def test_json_lines(tmp_path: Path) -> None:
    lines = '{"text": "two\\nlines \u2028", "label": 3, "id": 7}\n\n{"label": true, "text": "x"}\n'
    data = TextDataset(write(tmp_path, lines, "m.jsonl"))
    assert data.read(0).item() == "two\nlines \u2028"
    assert [(sample.label, sample.id[:5]) for sample in data.samples] == [
        ("3", "7"),
        ("True", "text-"),
    ]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["fine", "poor"], "label": [1, 0], "other": [[1], [2]]})
    parquet.write_table(table, tmp_path / "m.parquet")
    data = open_dataset(tmp_path / "m.parquet")
    assert data.kind == "texts"
    assert data.read(1).item() == "poor"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("text,class\nfine,yes\n", "m.csv", "no column label"),
        ("text,label\n", "m.csv", "no samples"),
        ("text,label\n ,yes\n", "m.csv", "line 2: the text is empty"),
        ("text,label\nfine,\n", "m.csv", "line 2: the label is empty"),
        ("text,label\nfine, truly,yes\n", "m.csv", "number of cells"),
        ("text,label\nfine,yes\npoor,no\nfine,no\n", "m.csv", "line 4: the same text.*line 2"),
        ("text,label,id\nfine,yes,1\npoor,no,1\n", "m.csv", "occurs twice"),
        ('{"text": "fine"\n', "m.jsonl", "line 1 is not JSON"),
        ('{"text": "a", "label": 1}\n[1]\n', "m.jsonl", "line 2 is not an object"),
        ('{"text": ["a"], "label": 1}\n', "m.jsonl", "line 1: the text is not a string"),
        ('{"text": "a", "label": 1}\n{"label": 1}\n', "m.jsonl", "line 2: the text is empty"),
        ('{"text": "\\ud800", "label": 1}\n', "m.jsonl", "not valid Unicode"),
        ("[" * 100_000, "m.jsonl", "line 1 is not JSON"),
    ],
)
def test_each_fault_has_its_message(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TextDataset(write(tmp_path, text, name))


def test_equal_texts_with_ids_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label,id\nfine,yes,1\nfine,no,2\n")
    assert len(TextDataset(path).samples) == 2


def test_the_columns_tell_texts_from_images(tmp_path: Path) -> None:
    assert open_dataset(write(tmp_path, "text,label\nfine,yes\n")).kind == "texts"
    assert open_dataset(write(tmp_path, "text,path,label\nfine,a.png,yes\n")).kind == "images"
    with pytest.raises(DataError, match=r"neither a column 'path'.*nor a column 'text'"):
        open_dataset(write(tmp_path, "words,label\nfine,yes\n"))


def test_questions(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufefffrom a file\n", "one.txt")
    data = open_queries([file], ["and a text"], "texts")
    assert [data.read(row).item() for row in range(2)] == ["from a file\n", "and a text"]
    assert open_queries([file], [], "images").kind == "images"
    assert open_queries([], ["a text"], "images").kind == "texts"
    with pytest.raises(DataError, match="Text 2: the text is empty"):
        TextList(["fine", " "])


def test_files_that_hold_no_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("\u00fcbel".encode("latin-1"))
    for path, message in (
        (tmp_path / "none.txt", "No such file"),
        (tmp_path / "latin.txt", "not UTF-8"),
        (write(tmp_path, " \n", "blank.txt"), "empty"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(BadFileError, match=message):
            read_text(path)


def test_an_array_of_text_keeps_every_letter() -> None:
    text = "a\x00b \U0001f600"
    assert TextList([text]).read(0).item() == text
    assert np.array(text).shape == ()
