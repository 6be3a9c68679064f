"""Results on disk: one JSON record per cell, found again by everything that decided it."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shardgraph
from shardgraph import runtime
from shardgraph.files import make_directory, write_atomic
from shardgraph.identity import digest_bytes, digest_json

FORMAT = "shardgraph-bench-1"
"""Format name and version, in every record."""

_SOURCE = Path(shardgraph.__file__).parent
_DECIDES = (
    "activations/averaged.py",
    "bench/cells.py",
    "bench/data.py",
    "bench/methods",
    "bench/streams.py",
    "bench/tuning.py",
)
_DECIDES_TOO = ("forgetting", "graph", "identity.py", "nodes", "runtime.py", "store")


@functools.cache
def code_digest() -> str:
    """SHA-256 of the source files that decide a result; not of tables and plots."""
    return digest_json(
        [[name, digest_bytes((_SOURCE / name).read_bytes())] for name in decisive_files()]
    )


def decisive_files() -> list[str]:
    """The source files that decide a result, relative to the package, sorted."""
    found = [
        file
        for name in (*_DECIDES, *_DECIDES_TOO)
        for file in ([_SOURCE / name] if name.endswith(".py") else (_SOURCE / name).rglob("*.py"))
    ]
    return sorted(file.relative_to(_SOURCE).as_posix() for file in found)


@functools.cache
def commit() -> str:
    """The commit that is run, with ``+`` if its sources have changed; the version without git."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=_SOURCE, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return shardgraph.__version__


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was when this is called."""
    return {
        **runtime.environment(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "workers": runtime.worker_count(),
    }


@dataclass(frozen=True)
class Records:
    """The records of one run below a directory."""

    directory: Path

    def path(self, config: dict[str, Any]) -> Path:
        """Where the record of a cell lies: its name says what it is and covers all of it."""
        key = digest_json({"code": code_digest(), "config": config, "format": FORMAT})
        words = [str(config[name]) for name in ("kind", "data", "family", "seed") if name in config]
        return self.directory / f"{'-'.join(words)}-{key[:16]}.json"

    def find(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """The record of an earlier run of the same code with the same configuration."""
        path = self.path(config)
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def keep(
        self, config: dict[str, Any], results: dict[str, Any], took: dict[str, float]
    ) -> dict[str, Any]:
        """Write a cell's record with the seconds that the whole cell took, and return it."""
        record = {
            "code": code_digest(),
            "commit": commit(),
            "config": config,
            "ended": time.time(),
            "format": FORMAT,
            "machine": machine(),
            "results": results,
            "took": took,
        }
        make_directory(self.directory)
        write_atomic(self.path(config), _text(record))
        return record


def write_all(path: Path, records: list[dict[str, Any]], run: dict[str, Any]) -> None:
    """All records of a run in one JSON file, a record a line, with what is said of the run."""
    lines = ",\n".join(json.dumps(record, sort_keys=True) for record in records)
    head = f'"format": "{FORMAT}", "run": {json.dumps(run, sort_keys=True)}'
    write_atomic(path, f'{{{head}, "records": [\n{lines}\n]}}\n'.encode())


def read_all(path: Path) -> list[dict[str, Any]]:
    """The records of a file that `write_all` wrote."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["records"]
    return found


def read_run(path: Path) -> dict[str, Any]:
    """What is said of the run that wrote a file of records."""
    found: dict[str, Any] = json.loads(path.read_text())["run"]
    return found


def _text(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
