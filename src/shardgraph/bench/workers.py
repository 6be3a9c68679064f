"""Independent pieces of a run side by side: a process for each core, one thread in each.

A method fits faster on two cores than on one, but not twice as fast; two methods do.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from shardgraph import runtime
from shardgraph.bench.data import BenchData
from shardgraph.bench.methods.sharded import Memory


@dataclass(frozen=True)
class Desk:
    """What every piece of a run works with: the data, and first fits that others may have made."""

    data: BenchData
    memory: Memory

    @cached_property
    def tuning(self) -> BenchData:
        """The data that settings are chosen on."""
        return self.data.for_tuning()


class Work(Protocol):
    """A piece of a run; between processes it must survive pickling."""

    def __call__(self, desk: Desk, /) -> Any:
        """Do it, with what the process has at hand."""
        ...


Workers = Callable[[Sequence[Work]], Iterator[tuple[int, Any]]]
"""Does pieces of work and yields (place, result) as they are finished."""


@contextmanager
def workers(data: BenchData, fits: Path, jobs: int | None = None) -> Iterator[Workers]:
    """Processes that work side by side, one per core unless ``jobs`` says otherwise.

    With one job everything is done here. First fits are kept below ``fits``.
    """
    count = jobs or runtime.worker_count()
    desk = Desk(data, Memory(fits))
    if count == 1:
        yield lambda work: ((place, piece(desk)) for place, piece in enumerate(work))
        return
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for number in range(count):
        cores.put(number)
    with ProcessPoolExecutor(count, context, _sit_down, (desk.data, fits, cores)) as pool:

        def side_by_side(work: Sequence[Work]) -> Iterator[tuple[int, Any]]:
            waiting = {pool.submit(_do, piece): place for place, piece in enumerate(work)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            finally:
                for future in waiting:
                    future.cancel()

        yield side_by_side


_desk: Desk


def _sit_down(data: BenchData, fits: Path, cores: Any) -> None:
    """Begin a worker: on a core of its own where the system lets it choose one."""
    global _desk
    number = cores.get()
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[number % len(allowed)]})
    threadpool_limits(1)
    _desk = Desk(data, Memory(fits))


def _do(piece: Work) -> Any:
    return piece(_desk)
