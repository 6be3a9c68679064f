from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shardgraph.activations.blob import blob_chunks, open_blob, write_blob
from shardgraph.errors import DataError, StoreDamagedError, StoreError
from shardgraph.identity import digest_bytes


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 5)).astype(np.float16)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_written_rows_come_back(tmp_path: Path, count: int) -> None:
    expected = rows(count)
    digest = write_blob(tmp_path / "a", iter(expected), count, 3, 5)
    assert digest == digest_bytes((tmp_path / "a").read_bytes())
    found = open_blob(tmp_path / "a")
    assert found.dtype == np.float16
    assert np.array_equal(found, expected)
    assert not found.flags.writeable
    assert isinstance(found, np.memmap) == (count > 0)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_safetensors_library_reads_it(tmp_path: Path, count: int) -> None:
    write_blob(tmp_path / "a", iter(rows(count)), count, 3, 5)
    found = load_file(tmp_path / "a")
    assert list(found) == ["tokens"]
    assert np.array_equal(found["tokens"], rows(count))


def test_equal_rows_give_equal_bytes_and_aligned_data(tmp_path: Path) -> None:
    for name in "ab":
        write_blob(tmp_path / name, iter(rows(2)), 2, 3, 5)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes() == b"".join(blob_chunks(rows(2), 2, 3, 5))
    assert (8 + struct.unpack_from("<Q", data)[0]) % 64 == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (rows(1), "1 rows were given for a file of 2"),
        (rows(3), "3 rows were given for a file of 2"),
        (rows(2).astype(np.float32), "float32"),
        (rows(2)[:, :2], r"\(2, 5\)"),
    ],
)
def test_rows_that_do_not_fit_leave_nothing(
    tmp_path: Path, given: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_blob(tmp_path / "a", iter(given), 2, 3, 5)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(StoreError, match="Cannot create"):
        write_blob(tmp_path / "a", iter(rows(1)), 1, 3, 5)
    assert (tmp_path / "a").read_text() == "mine"


def changed_header(data: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(change(header), separators=(",", ":")).encode()
    return struct.pack("<Q", length) + text.ljust(length) + data[8 + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: struct.pack("<Q", 3000) + data[8:] * 20,
        lambda data: data[:8] + b"\xff" + data[9:],
        lambda data: data.replace(b"F16", b"I16"),
        lambda data: changed_header(data, lambda header: [header]),
        lambda data: changed_header(data, lambda header: {"other": header["tokens"]}),
        lambda data: changed_header(data, lambda header: {"tokens": None}),
        lambda data: data.replace(b"[2,3,5]", b"[-2,3,5"),
        lambda data: data.replace(b"[2,3,5]", b"[2,5,3]")[:-2],
    ],
)
def test_damage_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_blob(tmp_path / "a", iter(rows(2)), 2, 3, 5)
    (tmp_path / "b").write_bytes(damage((tmp_path / "a").read_bytes()))
    with pytest.raises(StoreDamagedError, match="cannot be used"):
        open_blob(tmp_path / "b")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDamagedError, match="No such file"):
        open_blob(tmp_path / "none")
    save_file({"tokens": rows(2), "more": rows(1)}, tmp_path / "a")
    with pytest.raises(StoreDamagedError):
        open_blob(tmp_path / "a")


def test_no_torch_is_needed() -> None:
    code = "import sys, shardgraph.activations.blob; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
