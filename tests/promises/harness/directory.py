"""What lies in a store directory, as bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from shardgraph.forgetting.receipt import seal_state

INFLUENCE = ("activations", "nodes", "tallies")
"""The folders whose files are the influence state."""

_SHARED_MEMORY = "store.sqlite-shm"  # SQLite's index into its log: locks, no data


def influence_files(store: Path) -> dict[str, bytes]:
    """Every file of the influence state, by its path in the store."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in INFLUENCE
        for path in sorted((store / folder).iterdir())
    }


def influence_hashes(store: Path) -> dict[str, str]:
    """The same, with the SHA-256 of each file in place of its bytes."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in influence_files(store).items()}


def all_bytes(store: Path) -> dict[str, bytes]:
    """Every file below a store directory but the index of SQLite's log, and every folder."""
    found: dict[str, bytes] = {}
    for path in sorted(store.rglob("*")):
        if path.is_dir():
            found[f"{path.relative_to(store)}/"] = b""
        elif path.name != _SHARED_MEMORY:
            found[str(path.relative_to(store))] = path.read_bytes()
    log = [name for name in found if name.endswith("-wal")]
    for name in log:  # an empty log is as good as none: who closes last may leave or remove it
        if not found[name]:
            del found[name]
    return found


_EMPTY = re.compile(rb"\0{64,}")


def traces(store: Path, marks: Iterable[bytes]) -> list[str]:
    """Where one of ``marks`` occurs in any file below a store, or in a file's name."""
    files = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    everything = b"\n".join([*files.values(), *(str(path).encode() for path in files)])
    everything = _EMPTY.sub(b"", everything)  # no mark is so empty, and most of a database is
    return [
        f"{mark[:40]!r} in {_where(mark, files, store)}" for mark in marks if mark in everything
    ]


def confirmed(store: Path, digests: Iterable[str]) -> list[str]:
    """Digests of states that are below a store in plain, or sealed in the ledger and can be opened.

    Opening is tried with everything there that 32 bytes in hexadecimal could be.
    """
    everything = b"\n".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    numbers = {item.decode() for item in re.findall(rb"(?=([0-9a-f]{64}))", everything)}
    sealed = {item.decode() for item in re.findall(rb'"state_after":"([0-9a-f]+)"', everything)}
    found = []
    for digest in digests:
        if digest in numbers or bytes.fromhex(digest) in everything:
            found.append(f"{digest} in plain")
        if any(seal_state(number, digest) in sealed for number in numbers):
            found.append(f"{digest} sealed")
    return found


def _where(mark: bytes, files: dict[Path, bytes], store: Path) -> str:
    found = [path for path, data in files.items() if mark in data or mark in str(path).encode()]
    return ", ".join(str(path.relative_to(store)) for path in found)
