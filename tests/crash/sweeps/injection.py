"""Build the library that strikes at the n-th system call, and arm it in a forked process."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("injection.c")
VARIABLE = "SHARDGRAPH_INJECTION"
"""Path of the library that the process was started with."""


@dataclass(frozen=True)
class Kind:
    """What happens at a step: see ``injection.c`` for the numbers."""

    number: int
    error: int = 0


KINDS = {
    "none": Kind(0),
    "kill before": Kind(1),
    "kill after": Kind(2),
    "torn": Kind(3),
    "EIO": Kind(4, errno.EIO),
    "ENOSPC": Kind(4, errno.ENOSPC),
    "EIO from then on": Kind(5, errno.EIO),
    "ENOSPC from then on": Kind(5, errno.ENOSPC),
    "short": Kind(6),
    "power cut": Kind(7),
}
"""``torn`` and ``short`` concern calls that move bytes: half of them go, then the process dies, or
is told so. At other calls ``torn`` kills before the call, and ``short`` does nothing."""


def build(folder: Path) -> Path | None:
    """Compile the library into a folder; None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "injection.so"
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True)
    return library


def restart_with(library: Path) -> None:
    """Start this program again with the library in front of libc, unless it has it already."""
    if os.environ.get(VARIABLE) != str(library):
        environment = {**os.environ, VARIABLE: str(library), "LD_PRELOAD": str(library)}
        environment["OMP_NUM_THREADS"] = "1"  # threads of a pool do not survive a fork,
        environment["MKL_DISABLE_FAST_MM"] = "1"  # nor do the buffers that MKL keeps by thread
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


class Injection:
    """The library as this process has it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[VARIABLE])
        self._library.injection_arm.argtypes = [
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._library.injection_steps.restype = ctypes.c_long

    def arm(self, root: Path, kind: str, at: int, *, trace: int = -1, volume: int = -1) -> None:
        """Strike at step ``at`` below ``root``; for good, so call it in a forked child only.

        ``trace`` is a descriptor that gets a line ``call path`` for each step, ``volume`` one of
        the mounted folder whose power is cut.
        """
        chosen = KINDS[kind]
        self._library.injection_arm(
            os.fsencode(root), chosen.number, at, chosen.error, trace, volume
        )

    def steps(self) -> int:
        """How many steps there have been."""
        return int(self._library.injection_steps())
