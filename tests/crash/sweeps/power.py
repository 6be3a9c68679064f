"""Cut the power at system calls of fit, add, forget, compact and recover, and count.

    python power.py LIBRARY FOLDER [--stride N] [--actions a,b] [--fault NAME]

Prints one JSON object. The store lies on an ext4 image on a loop device. At the chosen call the
file system is shut down by an ioctl that writes nothing more, not even its journal, and the
process is killed: what was not synced is lost, as when the plug is pulled. The image is mounted
again, which replays its journal, and judged. Needs root and loop devices; `possible` says whether.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sweeps.faulty import with_fault
from sweeps.injection import Injection, restart_with
from sweeps.kill import DONE, Ended, in_child
from sweeps.scenario import Ground, act, judge

_MEGABYTES = 32
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # <linux/ext4.h>: EXT4_IOC_SHUTDOWN
ACTIONS = ("fit", "add", "forget", "compact", "recover")


def possible() -> str:
    """Empty where power can be cut; otherwise why it cannot."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in ("mkfs.ext4", "mount", "losetup") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    found = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return f"there is no loop device ({found.stderr.strip()})"
    return ""


class Plug:
    """Images of a volume, and the one place where they are mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mount_point = folder / "volume"
        self.mount_point.mkdir(parents=True)
        self.blank = folder / "blank.img"
        with self.blank.open("wb") as file:
            file.truncate(_MEGABYTES << 20)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-E", lazy, str(self.blank))

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        """The image is mounted in the block."""
        _run("mount", "-o", "loop", str(image), str(self.mount_point))
        try:
            yield self.mount_point
        finally:
            gc.collect()  # memory maps in cycles would keep the volume busy
            _run("umount", str(self.mount_point))

    def copy(self, image: Path, called: str) -> Path:
        """Another image with the same content."""
        target = self._folder / f"{called}.img"
        _run("cp", "--sparse=always", str(image), str(target))
        return target


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class PowerSweep:
    """Trials over one ground, and what they came to."""

    def __init__(self, folder: Path) -> None:
        self.injection = Injection()
        self.plug = Plug(folder)
        (folder / "ground").mkdir()
        self.ground = Ground(folder / "ground")
        self.trials: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.steps: dict[str, int] = {}

    def sweep(self, action: str, stride: int) -> None:
        """Cut the power before every ``stride``-th call of an action, and after its end."""
        base = self.plug.copy(self.plug.blank, action)
        with self.plug.mounted(base) as volume:
            self.ground.place(action, volume / "store")
            os.sync()
        calm = self.trial(action, base, -1)
        calls = calm.calls
        self.steps[action] = len(calls)
        for at in range(1, len(calls) + 1, stride):
            self.trial(action, base, at)

    def trial(self, action: str, base: Path, at: int) -> Ended:
        """Cut the power before step ``at``, or after the end for -1, and judge."""
        image = self.plug.copy(base, "trial")
        with self.plug.mounted(image) as volume:
            handle = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
            try:
                ended = self._struck(action, volume / "store", at, handle)
                if ended.status == DONE:
                    fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            finally:
                os.close(handle)
        with self.plug.mounted(image) as volume:
            what = judge(self.ground, action, volume / "store", ended.told)
        if ended.status > 0:
            what = what or f"surprise: {ended.status} {ended.error}"
        self.trials[action] += 1
        if what:
            self.wrong.append(f"{action}, power cut at step {at}: {what}")
        return ended

    def _struck(self, action: str, path: Path, at: int, handle: int) -> Ended:
        kind = "none" if at < 0 else "power cut"
        return in_child(
            lambda tell: act(action, path, tell),
            lambda trace: self.injection.arm(path, kind, at, trace=trace, volume=handle),
        )

    def report(self) -> dict[str, object]:
        """The counts."""
        return {
            "trials": sum(self.trials.values()),
            "by_action": dict(self.trials),
            "steps": self.steps,
            "wrong": len(self.wrong),
            "lost_requests": sum("lost" in line for line in self.wrong),
            "first_wrong": self.wrong[:20],
        }


def main() -> None:
    """Sweep, and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--actions", default=",".join(ACTIONS))
    parser.add_argument("--fault", default="")
    given = parser.parse_args()
    restart_with(given.library)
    started = time.perf_counter()
    sweep = PowerSweep(given.folder)
    with with_fault(given.fault):
        for action in given.actions.split(","):
            sweep.sweep(action, given.stride)
            sys.stderr.write(f"{action}: {sum(sweep.trials.values())}, {len(sweep.wrong)} wrong\n")
    json.dump({**sweep.report(), "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
