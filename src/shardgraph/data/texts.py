"""Texts: a table with one text a row, single files, and strings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph.data.sample import Kind, Sample, check_samples, is_text
from shardgraph.data.table import OPTIONAL_COLUMNS, named_cells, open_table, sample_of
from shardgraph.errors import BadFileError, DataError
from shardgraph.identity import SampleId, digest_bytes

REQUIRED_COLUMNS = ("text", "label")
_ID_DIGITS = 16  # of the text's SHA-256, in an id that the table does not give


class _Texts:
    """Texts that are in memory."""

    kind: Kind = "texts"
    _texts: list[str]
    _samples: tuple[Sample, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in the order given."""
        return self._samples

    def read(self, index: int) -> np.ndarray:
        """The text of ``samples[index]``, as an array without dimensions."""
        return np.array(self._texts[index])

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the text's UTF-8 bytes."""
        return digest_bytes(self._texts[index].encode())

    def inspect(self, index: int) -> None:
        """Nothing can be wrong that was not seen before."""


class TextDataset(_Texts):
    """Texts in a table: columns ``text, label``, optionally ``id, owner, source``.

    The table is CSV, JSON lines or Parquet; see `open_table`. Without an ``id``, a text's id is
    ``text-`` and the first 16 hexadecimal digits of the SHA-256 of its UTF-8 bytes, so that it
    depends on no other row. Empty owners and sources mean none. Other columns are ignored.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Read the whole table into memory.

        Raises:
            DataError: the table cannot be read, lacks a column, is empty, or has a row without
                text or label, with a text that is no string or no valid Unicode, or with an id
                (or, without ids, a text) that occurs twice.
            UsageError: the table is Parquet and pyarrow is not installed.
        """
        table = open_table(Path(path))
        table.require(REQUIRED_COLUMNS)
        self._texts = []
        samples: list[Sample] = []
        without_id: dict[str, str] = {}
        for where, row in table.rows:
            text = _text(row, where)
            cells = named_cells(row, where, ("label",), OPTIONAL_COLUMNS)
            default = _id_of(text)
            if not cells["id"] and without_id.setdefault(default, where) != where:
                raise DataError(
                    f"{where}: the same text stands in {without_id[default]}.",
                    advice="Add a column 'id' that tells equal texts apart, or remove one.",
                )
            self._texts.append(text)
            samples.append(sample_of(cells, default))
        self._samples = check_samples(samples, str(table.path))


class TextList(_Texts):
    """Texts in the order given, without labels or owners, for questions about texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Wrap the texts.

        Raises:
            DataError: one is empty or no valid Unicode.
        """
        self._texts = [_checked(text, f"Text {place}") for place, text in enumerate(texts, 1)]
        self._samples = tuple(Sample(SampleId(str(row)), "?") for row in range(len(texts)))


def read_text(path: Path) -> str:
    """One file as one text.

    Raises:
        BadFileError: the file cannot be read, is not UTF-8, or holds nothing but white space.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _bad(path, error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise _bad(path, "it is not UTF-8") from error
    if not text.strip():
        raise _bad(path, "it is empty")
    return text


def _text(row: Mapping[str, Any], where: str) -> str:
    value = row.get("text")
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: the text is not a string.", advice="Put it in quotation marks.")
    return _checked(value or "", where)


def _checked(text: str, where: str) -> str:
    if not text.strip():
        raise DataError(f"{where}: the text is empty.", advice="Fill it in.")
    if not is_text(text):
        raise DataError(
            f"{where}: the text is not valid Unicode.", advice="It holds half a surrogate pair."
        )
    return text


def _id_of(text: str) -> str:
    return f"text-{digest_bytes(text.encode())[:_ID_DIGITS]}"


def _bad(path: Path, reason: str) -> BadFileError:
    return BadFileError(
        f"Cannot read the text {path}: {reason}.", advice="Name a file of text in UTF-8."
    )
