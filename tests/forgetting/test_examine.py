"""Finished requests and the ledger are held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.examine import examine_ledger
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from shardgraph.store import HARMLESS


@pytest.fixture
def model(tmp_path: Path) -> Iterator[SafeModel]:
    """A store that has forgotten two samples in two requests."""
    tokens = np.random.default_rng(3).standard_normal((12, 2, 4)).astype(np.float16)
    data = ArrayDataset(tokens, [f"label{n % 2}" for n in range(12)])
    settings = FitSettings(graph="isolated", shards=3, recipe={"heads": 1, "epochs": 1})
    with SafeModel.fit(data, tmp_path / "store", settings)[0] as model:
        assert examine_ledger(model.store) == ()
        for sample in ("3", "7"):
            model.forget(ForgetRequest.of(samples=[sample]))
        yield model


def test_an_intact_ledger_has_no_findings(model: SafeModel) -> None:
    assert examine_ledger(model.store) == ()
    assert model.store.check() == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE requests SET commitment = hex(randomblob(32)) WHERE id = 1", "row of request 1"),
        ("UPDATE requests SET commitment = 'zz' WHERE id = 1", "row of request 1"),
        ("UPDATE requests SET generation = 9 WHERE id = 2", "row of request 2"),
        ("UPDATE requests SET state_opening = commitment WHERE id = 2", "row of request 2"),
        ("UPDATE requests SET receipt = 7 WHERE id = 2", "No request has receipt 1"),
        ("UPDATE signers SET public = randomblob(32)", "fingerprint"),
        ("DELETE FROM signers", "keys are missing"),
        ("DELETE FROM meta WHERE name = 'ledger-head'", "no receipts yet"),
    ],
)
def test_what_was_changed_behind_the_back_of_the_store_is_found(
    model: SafeModel, change: str, what: str
) -> None:
    with model.store._database.transaction():
        model.store._database.rows(change)
    found = examine_ledger(model.store)
    assert any(what in one.what for one in found), found
    assert {one.kind for one in found} == {"ledger"}
    assert "ledger" not in HARMLESS


def test_a_signing_key_that_is_gone_or_another_is_found(model: SafeModel) -> None:
    key = model.store.path / "keys" / "receipts.pem"
    data = key.read_bytes()
    for damaged in (data[:60], data.replace(b"M", b"N"), b""):
        key.write_bytes(damaged)
        assert [one.kind for one in model.store.check()] == ["key"]
    key.unlink()
    assert [one.kind for one in model.store.check()] == ["key"]
    key.write_bytes(data)
    key.chmod(0o600)
    assert model.store.check() == ()
