"""Run the full sweeps of ``tests/crash`` and record what they count.

    python benchmarks/store.py [--stride N] [--only a,b]

A sweep is a program of its own; see there what it does. With planted faults each should find
something: those runs are recorded beside the others. On ext4 the last of them finds nothing, since
the next sync of any file commits names with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import HERE, RESULTS, record

TESTS = HERE.parent / "tests"
SWEEPS = TESTS / "crash" / "sweeps"
sys.path.insert(0, str(TESTS / "crash"))
sys.path.insert(0, str(TESTS / "forgetting"))

from sweeps.injection import build  # noqa: E402
from sweeps.power import possible  # noqa: E402

from shardgraph.forgetting.proof import verify_ledger  # noqa: E402

LEDGER = 10_000
POWER_FAULTS = (
    "SQLite commits with synchronous=NORMAL",
    "blobs are not synced",
    "the names of blobs are not synced",
)
KILL_FAULTS = (
    ("a generation is published before its blobs are there", "kill after", "add"),
    ("superseded files are erased before the pointer moves", "kill after", "forget"),
    ("a sync that failed is tried again", "EIO", "add"),
)


def sweep(program: str, *arguments: object) -> dict[str, Any]:
    """Run a sweep in memory where there is such a place; what it counted."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        before = [build(Path(folder))] if program in ("kill", "power") else []
        place = Path(folder, "sweep")
        place.mkdir(exist_ok=program in ("processes", "residue"))
        if program not in ("processes", "residue"):
            place.rmdir()
        command = [sys.executable, SWEEPS / f"{program}.py", *before, place, *arguments]
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ledger() -> dict[str, Any]:
    """How long it takes to verify a copy of a large ledger."""
    from conftest import Office

    data = Office(entries=LEDGER).ledger()
    wall, busy = time.perf_counter(), time.process_time()
    verify_ledger(data)
    return {
        "entries": LEDGER,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - busy,
    }


def faults() -> dict[str, int]:
    """How many trials notice each planted fault."""
    found = {}
    for fault, kind, action in KILL_FAULTS:
        arguments = ("--stride", 4, "--kinds", kind, "--actions", action, "--fault", fault)
        found[fault] = sweep("kill", *arguments)["wrong"]
    if not possible():
        for fault in POWER_FAULTS:
            arguments = ("--stride", 8, "--actions", "forget", "--fault", fault)
            found[f"power cut: {fault}"] = sweep("power", *arguments)["wrong"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=9)
    parser.add_argument("--only", default="kill,power,processes,corruption,residue,ledger,faults")
    given = parser.parse_args()
    wanted = {
        "kill": lambda: sweep("kill", "--stride", given.stride),
        "power": lambda: {"skipped": possible()} if possible() else sweep("power", "--stride", 4),
        "processes": lambda: sweep("processes", "--seconds", 60),
        "corruption": lambda: sweep("corruption", "--each", 12),
        "residue": lambda: sweep("residue", "--forgets", 500),
        "ledger": ledger,
        "faults": faults,
    }
    path = RESULTS / "store.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in given.only.split(","):
        results[name] = wanted[name]()
        record("store", {"stride": given.stride}, results)


if __name__ == "__main__":
    main()
