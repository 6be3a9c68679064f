from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardgraph.activations import journal as journal_module
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.journal import Journal
from shardgraph.errors import StoreDamagedError, StoreError, UnknownIdError
from shardgraph.identity import SampleId

SHAPE = (2, 3)


def row(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float16)


def opened(directory: Path) -> Journal:
    return Journal.open(directory, Precomputed(*SHAPE), 4)


def filled(directory: Path, count: int = 3) -> None:
    journal = opened(directory)
    for number in range(count):
        journal.append(SampleId(f"s{number}"), f"input {number}", row(number))
    journal.sync()
    journal.close()


def staged(directory: Path, count: int = 4) -> list[str]:
    journal = opened(directory)
    names = [f"s{n}" for n in range(count)]
    found = [name for name in names if journal.find(SampleId(name)) is not None]
    journal.close()
    return found


def test_rows_come_back_after_reopening(tmp_path: Path) -> None:
    filled(tmp_path / "x")
    journal = opened(tmp_path / "x")
    claimed = journal.find(SampleId("s2"))
    assert claimed is not None
    assert claimed.fingerprint == "input 2"
    assert np.array_equal(journal.read(SampleId("s2")), row(2))
    journal.append(SampleId("s3"), "input 3", row(3))
    journal.sync()
    assert [float(journal.read(SampleId(f"s{n}"))[0, 0]) for n in range(4)] == [0, 1, 2, 3]
    journal.close()
    journal.close()


def test_a_row_counts_only_after_sync(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(SampleId("s0"), "input", row(0))
    assert journal.find(SampleId("s0")) is None
    with pytest.raises(UnknownIdError, match="not staged"):
        journal.read(SampleId("s0"))
    journal.close()
    assert staged(tmp_path) == []


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    filled(tmp_path / "x")
    lines = (tmp_path / "x" / "journal.jsonl").read_bytes()
    data = (tmp_path / "x" / "rows.bin").read_bytes()
    for length in range(0, len(lines) + 1, 7):
        directory = tmp_path / str(length)
        directory.mkdir()
        (directory / "journal.jsonl").write_bytes(lines[:length])
        (directory / "rows.bin").write_bytes(data)
        whole = max(0, lines[:length].count(b"\n") - 1)
        assert staged(directory) == [f"s{n}" for n in range(whole)]
        journal = opened(directory)
        journal.append(SampleId("s3"), "input 3", row(3))
        journal.sync()
        journal.close()
        assert staged(directory) == [*(f"s{n}" for n in range(whole)), "s3"]


def test_garbage_behind_whole_lines_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path)
    for garbage in (b"\0" * 50 + b"\n", b"[1, 2]\n", b'{"row": 3}\n'):
        with (tmp_path / "journal.jsonl").open("ab") as file:
            file.write(garbage)
        assert staged(tmp_path) == ["s0", "s1", "s2"]
        assert not (tmp_path / "journal.jsonl").read_bytes().endswith(garbage)


def test_rows_that_changed_or_are_missing_are_not_reused(tmp_path: Path) -> None:
    filled(tmp_path)
    data = bytearray((tmp_path / "rows.bin").read_bytes())
    data[len(data) // 3] ^= 1  # the first byte of the second row
    (tmp_path / "rows.bin").write_bytes(data)
    assert staged(tmp_path) == ["s0", "s2"]
    (tmp_path / "rows.bin").write_bytes(data[:-1])
    assert staged(tmp_path) == ["s0"]


def test_a_row_that_changes_while_open_is_reported(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = opened(tmp_path)
    with (tmp_path / "rows.bin").open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(StoreDamagedError, match="'s0' has changed"):
        journal.read(SampleId("s0"))
    journal.close()


@pytest.mark.parametrize(("shape", "batch_size"), [((3, 2), 4), (SHAPE, 1)])
def test_other_conditions_begin_anew(
    tmp_path: Path, shape: tuple[int, int], batch_size: int
) -> None:
    filled(tmp_path)
    journal = Journal.open(tmp_path, Precomputed(*shape), batch_size)
    assert journal.find(SampleId("s0")) is None
    journal.close()
    assert (tmp_path / "rows.bin").stat().st_size == 0


def test_another_environment_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    assert staged(tmp_path) == ["s0", "s1", "s2"]
    monkeypatch.setattr(journal_module.runtime, "environment", lambda *_: {"torch": "other"})
    assert staged(tmp_path) == []


def test_rows_are_synced_before_the_lines_that_claim_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    before = (tmp_path / "journal.jsonl").read_bytes()
    synced = []

    def record(_descriptor: int, path: Path) -> None:
        synced.append((path.name, (tmp_path / "journal.jsonl").read_bytes() == before))

    monkeypatch.setattr(journal_module, "sync_descriptor", record)
    journal.append(SampleId("s0"), "input", row(0))
    journal.sync()
    journal.close()
    assert synced == [("rows.bin", True), ("journal.jsonl", False)]


def test_a_failed_sync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    journal.append(SampleId("s0"), "input", row(0))

    def fail(_descriptor: int, path: Path) -> None:
        raise StoreError(f"Cannot sync {path}.")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "sync_descriptor", fail)
        with pytest.raises(StoreError, match="Cannot sync"):
            journal.sync()
    journal.sync()
    journal.close()
    assert staged(tmp_path) == []
