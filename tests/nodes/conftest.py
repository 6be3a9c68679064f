"""Small operators are slower with several threads each, most of all on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardgraph.runtime import pinned_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with pinned_threads():
        yield
