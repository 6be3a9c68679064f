"""Death at the n-th durable step: from then on nothing reaches the disk any more.

A step is a sync, a rename, an overwrite, an unlink, a commit or the emptying of the log. After the
crash every further step fails too, as it would for a process that is gone, so no clean-up on the
way out can tidy what a real crash would leave.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from shardgraph import files
from shardgraph.activations import blob, journal
from shardgraph.store.database import Database

_IN_FILES = ("sync_descriptor", "sync_directory", "rename", "_overwrite", "_unlink_if_there")
_DURABLE = ("COMMIT", "VACUUM", "PRAGMA wal_checkpoint")


class CrashError(BaseException):
    """The process is gone. Not an `Exception`, so that nothing takes it for an ordinary one."""


@dataclass
class Steps:
    """How many durable steps there have been, and before which one the process dies."""

    last: int | None = None
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> None:
        """Count one step, or die."""
        with self._lock:
            if self.last is not None and self.count >= self.last:
                raise CrashError(f"before durable step {self.count}")
            self.count += 1


@contextmanager
def dying(last: int | None = None) -> Iterator[Steps]:
    """Let ``last`` durable steps happen in the block and no more; None only counts them."""
    steps = Steps(last)
    with pytest.MonkeyPatch.context() as patch:
        for module, names in ((files, _IN_FILES), (blob, _IN_FILES[:1]), (journal, _IN_FILES[:2])):
            for name in names:
                patch.setattr(module, name, _counted(getattr(module, name), steps))
        real = Database.rows

        def rows(self: Database, statement: str, parameters: Any = ()) -> Any:
            if statement.startswith(_DURABLE):
                steps.take()
            return real(self, statement, parameters)

        patch.setattr(Database, "rows", rows)
        yield steps


def _counted(real: Any, steps: Steps) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        steps.take()
        return real(*arguments, **options)

    return counted
