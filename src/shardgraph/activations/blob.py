"""The activation file of one shard: safetensors, one tensor ``tokens``, float16 [n, T, D].

The format is that of https://github.com/huggingface/safetensors: eight bytes of header length
(little-endian), a JSON header, then the data. Ours is one of its many spellings, and always the
same one for the same rows: no metadata, keys in fixed order, padded with spaces so that the data
begins at a multiple of 64 bytes. Any safetensors library reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shardgraph.errors import DataError, StoreDamagedError
from shardgraph.files import erase_file, reported, sync_descriptor

TENSOR = "tokens"
_ALIGNMENT = 64
_LENGTH = struct.Struct("<Q")
_DTYPE = np.dtype("<f2")
_MAX_HEADER = 4096  # ours has fewer than 200 bytes


def blob_chunks(rows: Iterable[np.ndarray], count: int, tokens: int, width: int) -> Iterator[bytes]:
    """The bytes of an activation file, piece by piece: the header, then one piece per row.

    Args:
        rows: ``count`` arrays of float16 [tokens, width].
        count: samples in the shard; may be 0.
        tokens: T.
        width: D.

    Raises:
        DataError: there are more or fewer rows than ``count``, or one has another shape or type.
    """
    yield _header(count, tokens, width)
    written = 0
    for row in rows:
        if row.shape != (tokens, width) or row.dtype != np.float16:
            raise DataError(
                f"A row of shape {row.shape} and type {row.dtype} does not belong in a file of "
                f"float16 [{tokens}, {width}].",
                advice="Encode it with the backbone of the store.",
            )
        written += 1
        yield np.ascontiguousarray(row, _DTYPE).tobytes()
    if written != count:
        raise DataError(
            f"{written} rows were given for a file of {count}.", advice="Count them anew."
        )


def write_blob(path: Path, rows: Iterable[np.ndarray], count: int, tokens: int, width: int) -> str:
    """Write a new activation file, one row in memory at a time.

    The bytes are durable on return, the name is not: the caller renames and syncs the directory.

    Returns:
        SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        DataError: the rows do not fit; see `blob_chunks`. What was begun has been erased.
        StoreError: the path exists already, or writing failed.
    """
    running = hashlib.sha256()
    with reported("create", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    complete = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in blob_chunks(rows, count, tokens, width):
                running.update(chunk)
                with reported("write", path):
                    file.write(chunk)
            with reported("write", path):
                file.flush()
            sync_descriptor(file.fileno(), path)
        complete = True
    finally:
        if not complete:
            erase_file(path)
    return running.hexdigest()


def open_blob(path: Path) -> np.ndarray:
    """Map an activation file: float16 [n, T, D], read-only, nothing read yet.

    The result is a `numpy.memmap`, or a plain empty array where n = 0 (nothing can be mapped).

    Not checked: the numbers themselves; compare the file's digest for that.

    Raises:
        StoreDamagedError: the file is missing, cut short, too long, or not an activation file.
    """
    try:
        with path.open("rb") as file:
            shape, begin = _read_header(file.read(_LENGTH.size + _MAX_HEADER), path)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _damaged(path, error.strerror or type(error).__name__) from error
    if size != begin + math.prod(shape) * _DTYPE.itemsize:
        raise _damaged(path, f"it has {size} bytes, which does not fit the shape {shape}")
    if shape[0] == 0:
        empty = np.empty(shape, _DTYPE)
        empty.flags.writeable = False
        return empty
    return np.memmap(path, dtype=_DTYPE, mode="r", offset=begin, shape=shape)


def _header(count: int, tokens: int, width: int) -> bytes:
    shape = [count, tokens, width]
    entry = {
        "dtype": "F16",
        "shape": shape,
        "data_offsets": [0, math.prod(shape) * _DTYPE.itemsize],
    }
    text = json.dumps({TENSOR: entry}, separators=(",", ":")).encode("ascii")
    padding = -(_LENGTH.size + len(text)) % _ALIGNMENT
    return _LENGTH.pack(len(text) + padding) + text + b" " * padding


def _read_header(start: bytes, path: Path) -> tuple[tuple[int, int, int], int]:
    """Shape and first data byte, from the first bytes of a file."""
    if len(start) < _LENGTH.size:
        raise _damaged(path, "it ends before its header")
    (length,) = _LENGTH.unpack_from(start)
    end = _LENGTH.size + length
    if end > len(start):
        raise _damaged(path, "its header is cut short, or it is another kind of file")
    try:
        parsed: Any = json.loads(start[_LENGTH.size : end])
        count, tokens, width = (int(size) for size in parsed[TENSOR]["shape"])
    except (ValueError, TypeError, LookupError) as error:
        raise _damaged(path, "its header cannot be read") from error
    if start[:end] != _header(count, tokens, width) or min(count, tokens, width) < 0:
        raise _damaged(path, "it holds something else than activations")
    return (count, tokens, width), end


def _damaged(path: Path, reason: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"The activation file {path} cannot be used: {reason}.",
        advice="Restore it from a backup, or fit the store anew.",
    )
