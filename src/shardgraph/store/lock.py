"""One writer at a time, across processes, by a lock that no crash can leave behind."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
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


def holder_of(path: Path) -> int | None:
    """The process that holds the exclusive lock on a file, None if nobody does.

    Raises:
        StoreLockedError: somebody does, who cannot be made out from here: in another container, on
            another machine, or of another user.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        if text.isdigit() and _has_open(int(text), os.fstat(descriptor)):
            return int(text)
        raise StoreLockedError(
            f"The store at {path.parent} is in use by a process that cannot be made out from here.",
            advice="Stop it where it runs, with Ctrl-C or SIGINT.",
        ) from None
    finally:
        os.close(descriptor)
    return None


def _has_open(process: int, wanted: os.stat_result) -> bool:
    """Whether a process has a file open, so that its number is not that of somebody else."""
    folder = Path(f"/proc/{process}/fd")
    try:
        links = list(folder.iterdir())
    except OSError:
        return False
    for link in links:
        with suppress(OSError):  # closed meanwhile
            if os.path.samestat(link.stat(), wanted):
                return True
    return False
