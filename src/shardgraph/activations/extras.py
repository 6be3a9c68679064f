"""Packages that only some encoders need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shardgraph.errors import UsageError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import what the extra ``shardgraph[extra]`` installs.

    Raises:
        UsageError: something of it is not installed; says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"This encoder needs the package {error.name}.",
            advice=f"Run in the project's folder: pip install '.[{extra}]'",
        ) from error
