"""One writer at a time, across processes, by a lock that no crash can leave behind."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from shardgraph.errors import StoreLockedError
from shardgraph.files import reported

_POLL_SECONDS = 0.02


class WriterLock:
    """An exclusive ``flock`` on a file, released by the kernel when its holder ends.

    The file names the process that holds the lock, for people only; it is never removed, and
    what it says decides nothing. Not guaranteed on network file systems that do not carry
    ``flock`` to the server. A process forked while the lock is held holds it too.
    """

    def __init__(self, path: Path, *, shared: bool = False, wait: float = 0.0) -> None:
        """Take the lock within ``wait`` seconds; ``shared`` keeps writers out, not each other.

        Raises:
            StoreLockedError: it is held elsewhere; the message names the process.
        """
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        self._path = path
        self._shared = shared
        with reported("open", path):
            self._descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait)
            if not shared:
                with reported("write", path):
                    os.ftruncate(self._descriptor, 0)
                    os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _acquire(self, path: Path, operation: int, wait: float) -> None:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    continue
                holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
                raise StoreLockedError(
                    f"The store at {path.parent} is in use by process {holder or 'unknown'}.",
                    advice="Wait until it has ended, or stop it, and run the command again.",
                ) from None
            return

    def release(self) -> None:
        """Let the next one in."""
        try:
            if not self._shared:
                with reported("write", self._path):
                    os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)
