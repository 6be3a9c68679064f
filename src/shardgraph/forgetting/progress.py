"""How far long work has come: the one shape of callback that all of it takes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with (what is being done, units done, units in all, the unit's name)."""

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Show how far the stage has come."""
        ...


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """Show nothing."""
