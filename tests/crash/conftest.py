"""The sweeps run as programs of their own, with a library in front of libc."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sweeps.injection import build

SWEEPS = Path(__file__).parent / "sweeps"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that strikes at system calls."""
    built = build(tmp_path_factory.mktemp("library"))
    if built is None:
        pytest.skip("NOT RUN: there is no C compiler, so no fault of the system can be injected")
    return built


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder, in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def sweep() -> Callable[..., dict[str, Any]]:
    """Run a sweep as a program and return what it counted."""

    def run(program: str, *arguments: object) -> dict[str, Any]:
        command = [sys.executable, str(SWEEPS / f"{program}.py"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run
