"""Run a sweep with one of the planted faults of the promises, to see that the sweep finds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "promises"))


@contextmanager
def with_fault(name: str) -> Iterator[None]:
    """The block runs with the fault of this name in place; with none for an empty name."""
    if not name:
        yield
        return
    import store_faults  # noqa: F401 - registers its faults
    from faults import FAULTS, planted

    chosen = {one.name: one for one in FAULTS}[name]
    with planted(chosen):
        yield
