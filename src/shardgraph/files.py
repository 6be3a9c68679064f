"""Durable writes and durable erasure: the only module that syncs, renames or unlinks.

A file is *durable* when its bytes and its name have both been synced: the bytes by ``fsync`` on
the file, the name by ``fsync`` on its directory. Every function here says which of the two it
has done when it returns.

A failed ``fsync`` is never tried again: after one, the kernel may have dropped the dirty pages
and a second call would report a success that did not happen. It becomes a `StoreError`, and the
caller must write the bytes anew.

Not guaranteed: that overwriting reaches the old physical cells. Copy-on-write file systems,
snapshots and flash translation layers keep old blocks that no program can reach by name; encrypt
the volume where that matters.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from shardgraph.errors import StoreError

PARTIAL_SUFFIX = ".partial"
"""Ending of the names of files that are still being written."""

_ZEROS = bytes(1 << 20)
_SYNC_WORKERS = 8  # a journalling file system commits syncs that wait side by side together
_ALLOCATION_UNIT = 512  # st_blocks is counted in these (POSIX <sys/stat.h>)
_ADVICE = {
    errno.ENOSPC: "Free some space on the volume and run the command again.",
    errno.EDQUOT: "The disk quota is used up: free some space and run the command again.",
    errno.EROFS: "The volume is mounted read-only: remount it for writing.",
    errno.EACCES: "Check who owns the path and whether it may be written.",
    errno.EPERM: "Check who owns the path and whether it may be written.",
    errno.EIO: "The device reported an error: check it before using the store again.",
}


@contextmanager
def reported(action: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `StoreError` that names ``action`` and ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "Check the path and the state of the volume.")
        raise StoreError(f"Cannot {action} {path}: {reason}.", advice=advice) from error


def sync_descriptor(descriptor: int, path: Path) -> None:
    """Make the bytes behind an open file durable; ``path`` is for the message only."""
    with reported("sync", path):
        os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of an existing file durable, but not its name."""
    with reported("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor, path)
    finally:
        os.close(descriptor)


def sync_files(paths: Iterable[Path]) -> None:
    """`sync_file` for many, side by side: several times faster than one after the other."""
    paths = list(paths)
    if len(paths) < 2:
        for path in paths:
            sync_file(path)
        return
    with ThreadPoolExecutor(_SYNC_WORKERS) as pool:
        for _ in pool.map(sync_file, paths):
            pass


class SyncAhead:
    """`sync_file` for files in the background, while the caller goes on to write others.

    Its threads start with the first file and end with `wait`.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._begun: list[Future[None]] = []

    def begin(self, path: Path) -> None:
        """Begin to make the bytes of a file durable; nothing is durable before `wait`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_SYNC_WORKERS)
        self._begun.append(self._pool.submit(sync_file, path))

    def wait(self) -> None:
        """Wait until the bytes of all files begun are durable; also after an error, for all.

        Raises:
            StoreError: those of some could not be made durable.
        """
        pool, self._pool = self._pool, None
        begun, self._begun = self._begun, []
        if pool is not None:
            pool.shutdown()
        for one in begun:
            one.result()


def sync_directory(path: Path) -> None:
    """Make the names in one directory durable (creations, renames and unlinks before the call)."""
    with reported("open", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor, path)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create ``path`` and its missing parents, each name durable; an existing one is fine."""
    missing = []
    current = path
    while not current.is_dir():
        missing.append(current)
        if current.parent == current:
            break
        current = current.parent
    for directory in reversed(missing):
        with reported("create", directory):
            os.makedirs(directory, exist_ok=True)
        sync_directory(directory.parent)


def temporary_name(path: Path) -> Path:
    """A name beside ``path`` that no other writer uses, hidden and ending in `PARTIAL_SUFFIX`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")


def write_new(
    path: Path, data: bytes | memoryview, *, sync: bool = True, mode: int = 0o666
) -> None:
    """Write a file that must not exist yet; with ``sync``, its bytes are durable (not its name).

    ``mode`` are its permissions, less those that the process masks.

    Raises:
        StoreError: the path exists, or writing failed; a file that was begun has been erased.
    """
    with reported("create", path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
    try:
        try:
            with reported("write", path):
                _write_all(descriptor, data)
            if sync:
                sync_descriptor(descriptor, path)
        finally:
            os.close(descriptor)
    except StoreError:
        erase_file(path)
        raise


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Write over bytes inside an existing file, durably. Not guaranteed: all or nothing."""
    with reported("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.pwrite(descriptor, data, offset) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Replace ``path`` by ``data`` in one durable step: readers see the old or the new bytes.

    The bytes of a replaced file are unlinked, **not** overwritten: erase it first, or use
    another name, where its content must not survive.
    """
    temporary = temporary_name(path)
    write_new(temporary, data)
    try:
        rename(temporary, path)
    except StoreError:
        erase_file(temporary)
        raise
    sync_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Give a file its final name, replacing what was there. The name is not durable yet."""
    with reported("rename", source):
        os.replace(source, target)


def erase_file(path: Path) -> None:
    """Overwrite, sync, unlink, and make the unlink durable. A missing file is fine.

    All allocated bytes are overwritten with zeros, also behind the end of the file, under every
    name the file has (hard links lose their content too). A symbolic link is removed and what it
    points to is left alone.

    Raises:
        StoreError: the bytes could not be overwritten, or not durably. The name is then still
            there, so the call can be made again.
    """
    erase_files([path])


def erase_files(paths: Iterable[Path]) -> None:
    """Erase many files as `erase_file` does, with one directory sync per directory.

    No file is unlinked before the zeros of all of them are durable.
    """
    kinds = {path: _overwrite(path) for path in dict.fromkeys(paths)}
    sync_files(path for path, kind in kinds.items() if kind == "regular")
    found = [path for path, kind in kinds.items() if kind != "missing"]
    for path in found:
        with reported("unlink", path):
            _unlink_if_there(path)
    for directory in dict.fromkeys(path.parent for path in found):
        sync_directory(directory)


def erase_tree(path: Path) -> None:
    """Erase every file below a directory, then the directory itself. A missing one is fine.

    Symbolic links are removed, never followed; ``path`` itself must not be one.
    """
    if path.is_symlink() or not path.is_dir():
        erase_file(path)
        return
    directories = []
    for root, names, files in os.walk(path):
        directories.append(Path(root))
        links = [name for name in names if os.path.islink(os.path.join(root, name))]
        erase_files(Path(root, name) for name in [*files, *links])
    for directory in reversed(directories):
        with reported("remove", directory):
            os.rmdir(directory)
    sync_directory(path.parent)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        view = view[os.write(descriptor, view) :]


def _unlink_if_there(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _overwrite(path: Path) -> Literal["regular", "special", "missing"]:
    """Replace all allocated bytes of a regular file by zeros, not yet durably."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return "missing"
    if stat.S_ISDIR(found.st_mode):
        raise StoreError(f"Cannot erase {path}: it is a directory.", advice="Remove it by hand.")
    if not stat.S_ISREG(found.st_mode):
        return "special"
    with reported("overwrite", path):
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            left = max(found.st_size, found.st_blocks * _ALLOCATION_UNIT)
            while left:
                left -= os.write(descriptor, _ZEROS[: min(left, len(_ZEROS))])
        finally:
            os.close(descriptor)
    return "regular"
