"""Who holds a store, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from shardgraph.errors import StoreLockedError
from shardgraph.store.lock import WriterLock, holder_of


def test_the_holder_of_a_lock_is_the_process_that_has_it(tmp_path) -> None:
    path = tmp_path / "lock"
    assert holder_of(path) is None
    lock = WriterLock(path)
    assert holder_of(path) == os.getpid()
    path.write_bytes(b"1\n")  # somebody else, who has it not open
    with pytest.raises(StoreLockedError, match="made out"):
        holder_of(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreLockedError, match="made out"):
        holder_of(path)
    lock.release()
    assert holder_of(path) is None
    assert WriterLock(path).release() is None


def test_a_process_elsewhere_is_found_and_can_be_interrupted(tmp_path) -> None:
    path = tmp_path / "lock"
    program = (
        "import signal, sys, time, pathlib; from shardgraph.store.lock import WriterLock\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "lock = WriterLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert holder_of(path) == process.pid
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    assert holder_of(path) is None
