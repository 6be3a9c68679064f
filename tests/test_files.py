"""Durable writes and erasure, seen from the file system and from the order of system calls."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shardgraph import files
from shardgraph.errors import StoreError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was synced, renamed and unlinked, in order, by the name of the file."""
    seen: list[tuple[str, str]] = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def name(descriptor: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", lambda d: (seen.append(("sync", name(d))), fsync(d)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (seen.append(("rename", Path(b).name)), replace(a, b))
    )
    monkeypatch.setattr(os, "unlink", lambda p: (seen.append(("unlink", Path(p).name)), unlink(p)))
    return seen


def failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fail)


def test_an_atomic_write_syncs_bytes_renames_and_syncs_the_name(tmp_path, calls) -> None:
    files.write_atomic(tmp_path / "file", b"new")
    assert [kind for kind, _ in calls] == ["sync", "rename", "sync"]
    assert calls[1:] == [("rename", "file"), ("sync", tmp_path.name)]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_atomic_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, step
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    real, count = getattr(os, step), 0

    def fail_once(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, step, fail_once)
    with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_sync_is_not_tried_again(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    tried = 0

    def fail(descriptor: int) -> None:
        nonlocal tried
        tried += 1
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="device reported an error"):
        files.sync_file(path)
    assert tried == 1


def test_syncing_ahead_syncs_each_file_once_and_may_begin_again(tmp_path, calls) -> None:
    ahead = files.SyncAhead()
    ahead.wait()
    for names in (["a", "b", "c"], ["d"]):
        for name in names:
            (tmp_path / name).write_bytes(b"x")
            ahead.begin(tmp_path / name)
        ahead.wait()
        assert sorted(calls) == [("sync", name) for name in names]
        calls.clear()


def test_syncing_ahead_tells_of_a_failure_when_all_have_ended(tmp_path, monkeypatch) -> None:
    ended: list[int] = []

    def fail_first(descriptor: int) -> None:
        ended.append(descriptor)
        if len(ended) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_first)
    ahead = files.SyncAhead()
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"x")
        ahead.begin(tmp_path / str(number))
    with pytest.raises(StoreError, match="device reported an error"):
        ahead.wait()
    assert len(ended) == 20
    ahead.wait()


def test_writing_over_an_existing_file_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StoreError, match="exists"):
        files.write_new(tmp_path / "file", b"new")


def test_short_writes_are_completed(tmp_path, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda d, data: write(d, bytes(data)[:3]))
    files.write_new(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) + 17])
def test_erasing_overwrites_everything_before_the_name_goes(tmp_path, calls, size) -> None:
    path, other = tmp_path / "file", tmp_path / "other name"
    path.write_bytes(b"\xff" * size)
    os.link(path, other)
    files.erase_file(path)
    assert not path.exists()
    assert other.read_bytes().count(0) == other.stat().st_size >= size
    assert calls == [("sync", "file"), ("unlink", "file"), ("sync", tmp_path.name)]


def test_space_allocated_behind_the_end_is_overwritten_too(tmp_path) -> None:
    path, other = tmp_path / "file", tmp_path / "other name"
    path.write_bytes(b"\xff" * 65_536)
    os.truncate(path, 100)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 65_536)
    os.truncate(path, 65_536)
    os.link(path, other)
    files.erase_file(path)
    assert other.stat().st_size >= 65_536
    assert not other.read_bytes().strip(b"\0")


def test_many_are_all_overwritten_before_the_first_is_unlinked(tmp_path, calls) -> None:
    paths = [tmp_path / f"file{n}" for n in range(5)]
    for path in paths:
        path.write_bytes(b"x")
    files.erase_files([*paths, paths[0], tmp_path / "missing"])
    kinds = [kind for kind, _ in calls]
    assert kinds == ["sync"] * 5 + ["unlink"] * 5 + ["sync"]


def test_a_file_whose_zeros_cannot_be_made_durable_keeps_its_name(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO)
        with pytest.raises(StoreError):
            files.erase_file(path)
    assert path.exists()
    files.erase_file(path)
    assert not path.exists()


def test_links_are_removed_and_never_followed(tmp_path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_bytes(b"keep")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    files.erase_file(tmp_path / "link")
    files.erase_file(tmp_path / "dangling")
    files.erase_tree(tmp_path / "tree")
    assert target.read_bytes() == b"keep"
    assert (tmp_path / "folder" / "inner").read_bytes() == b"keep"
    assert sorted(os.listdir(tmp_path)) == ["folder", "target"]


def test_a_linked_directory_is_not_entered(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_bytes(b"keep")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.erase_tree(tmp_path / "link")
    assert (tmp_path / "folder" / "inner").read_bytes() == b"keep"
    assert not (tmp_path / "link").is_symlink()


def test_a_pipe_does_not_block_its_erasure(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    files.erase_file(tmp_path / "pipe")
    assert os.listdir(tmp_path) == []


def test_a_directory_is_not_a_file(tmp_path) -> None:
    with pytest.raises(StoreError, match="directory"):
        files.erase_file(tmp_path)


def test_a_tree_is_erased_to_the_last_file(tmp_path) -> None:
    deep = tmp_path / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (tmp_path / "tree" / "file").write_bytes(b"x")
    files.erase_tree(tmp_path / "tree")
    files.erase_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_directories_are_made_with_durable_names(tmp_path, calls) -> None:
    files.make_directory(tmp_path / "a" / "b")
    files.make_directory(tmp_path / "a" / "b")
    assert calls == [("sync", tmp_path.name), ("sync", "a")]


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Cannot create"):
        files.make_directory(tmp_path / "file" / "inner")
