"""Verification: which nodes, what it finds, and that it does not blame a store for its machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import (
    EnvironmentChangedError,
    StoreDamagedError,
    UnknownIdError,
    UsageError,
)
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.verify import parse_nodes, verify, verify_here
from shardgraph.identity import SampleId
from shardgraph.model import SafeModel
from shardgraph.store import Store

SETTINGS = FitSettings(
    shards=2,
    graph="isolated",
    tallies="all",
    tally={"heads": 2, "value_width": 4, "representation": "trained"},
    recipe={"heads": 1, "value_width": 16, "epochs": 1},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    data = ArrayDataset(np.random.default_rng(0).standard_normal((16, 2, 8)), ["a", "b"] * 8)
    model, _ = SafeModel.fit(data, tmp_path / "store", SETTINGS)
    model.close()
    with Store.open(tmp_path / "store") as held:
        yield held


def test_lists_of_nodes() -> None:
    assert parse_nodes("4, 0,10-12,4") == (0, 4, 10, 11, 12)
    for text in ("", "a", "1-", "-3", "1,,2"):
        with pytest.raises(UsageError, match="not a list of nodes"):
            parse_nodes(text)


def test_equal_nodes_and_how_much_was_compared(store: Store) -> None:
    told: list[dict[str, object]] = []
    found = verify_here(store, None, told.append)
    files = [*(store.path / "nodes").iterdir(), *(store.path / "tallies").iterdir()]
    assert found["differences"] == []
    assert found["bytes_compared"] == sum(path.stat().st_size for path in files)
    assert told[-1] == {"done": 2, "total": 2}


@pytest.mark.parametrize("kind", ["nodes", "tallies"])
def test_a_changed_byte_is_found_in_its_node(kind: str, store: Store) -> None:
    path = min((store.path / kind).iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (difference,) = verify_here(store, None, lambda _: None)["differences"]
    assert difference["node"] == int(path.name[:5])
    assert difference["what"].startswith(f"{kind}: 1 of ")
    assert verify_here(store, [1 - difference["node"]], lambda _: None)["differences"] == []


def test_a_missing_file_is_a_difference(store: Store) -> None:
    min((store.path / "tallies").iterdir()).unlink()
    (difference,) = verify_here(store, None, lambda _: None)["differences"]
    assert difference["what"].startswith("tallies: 0 bytes stored")


def test_an_unknown_node_is_refused(store: Store) -> None:
    with pytest.raises(UnknownIdError, match="no node 7"):
        verify(store.path, [7])


def test_a_store_that_changes_meanwhile_is_not_judged(store: Store) -> None:
    def accept(_: object) -> None:
        with Store.open(store.path, mode="write") as other:
            other.accept("key", "forget", [SampleId("0")], [0])

    found = verify_here(store, None, accept)
    assert "changed while" in found["error"]
    assert not found["damaged"]


def test_damaged_activations_are_not_called_a_difference(store: Store) -> None:
    path = min((store.path / "activations").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamagedError, match=path.name):
        verify(store.path)


def test_another_arithmetic_is_told_and_not_called_a_difference(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    with pytest.raises(EnvironmentChangedError, match="MKL_CBWR=COMPATIBLE") as refused:
        verify(store.path)
    assert "rebase" in refused.value.advice
