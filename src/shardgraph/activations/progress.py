"""How far a long encoding has come: a callback, and one that draws a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int, int], None]
"""Called with samples done (reused ones included), samples in all, and samples reused."""


@contextmanager
def progress_bar(description: str, unit: str = "image") -> Iterator[Progress]:
    """A bar on standard error: share done, time left, and ``unit`` per second.

    Samples reused from an interrupted run count as done, not towards the speed. Drawn only when
    standard error is a terminal.
    """
    bar: tqdm[None] | None = None

    def show(done: int, total: int, reused: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(
                desc=description,
                total=total,
                initial=reused,
                unit=f" {unit}s",
                file=sys.stderr,
                disable=None,
            )
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
