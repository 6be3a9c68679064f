"""Where a kernel does not keep what exactness needs, the slower path is taken, and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shardgraph.activations.backbone import PRECOMPUTED
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import EnvironmentChangedError, UsageError
from shardgraph.forgetting import machine
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.machine import slower_paths
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from shardgraph.nodes import train
from shardgraph.nodes.weights import NodeWeights
from shardgraph.report import Report

ALONE = "Nodes are trained one by one: together they get other bits on this machine."
SAFE = "Features are computed in float64: float32 products are not exact here."
READING = FitSettings(shards=4, graph="ring:2", recipe={"heads": 1, "value_width": 16, "epochs": 1})
TALLYING = FitSettings(shards=4, graph="tallied:3", tally={"heads": 2, "value_width": 8})
TOKENS = np.random.default_rng(0).standard_normal((24, 3, 64)).astype(np.float16)


@pytest.fixture(autouse=True)
def _untried() -> Iterator[None]:
    """The tests of the machine are made anew, and not remembered."""
    for tried in (machine._may_stack, machine._features):
        tried.cache_clear()
    yield
    for tried in (machine._may_stack, machine._features):
        tried.cache_clear()


def fit(path: Path, settings: FitSettings, count: int = 24) -> SafeModel:
    ids = [f"s{n}" for n in range(count)]
    labels = [f"class {n % 3}" for n in range(count)]
    data = ArrayDataset(TOKENS[:count], labels, ids=ids)
    return SafeModel.fit(data, path, settings)[0]


def files(model: SafeModel) -> dict[str, bytes]:
    folders = [model.store.path / name for name in ("activations", "nodes", "tallies")]
    return {
        str(p.relative_to(model.store.path)): p.read_bytes() for f in folders for p in f.iterdir()
    }


def moved(weights: NodeWeights, by: float) -> NodeWeights:
    """The same weights with one number changed."""
    values = weights.arrays["values"].copy()
    values.flat[0] += np.float32(by)
    return replace(weights, arrays={**weights.arrays, "values": values})


def forgotten_is_fresh(tmp_path: Path, settings: FitSettings) -> SafeModel:
    """A store that forgot equals one that never saw, on this machine as it is now."""
    model = fit(tmp_path / "lived", settings)
    model.forget(ForgetRequest.of(samples=["s22", "s23"]))
    with fit(tmp_path / "fresh", settings, 22) as fresh:
        assert files(model) == files(fresh)
        assert model.store.digest() == fresh.store.digest()
    return model


def test_a_sound_machine_takes_no_slower_path(tmp_path: Path) -> None:
    for number, settings in enumerate((READING, TALLYING)):
        with fit(tmp_path / str(number), settings) as model:
            assert model.store.config.settings["stacked"] is True
            assert model.store.config.settings["features"] == "float32"
            assert model.status()["slower"] == []


def test_a_kernel_that_depends_on_the_stack_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train._train_stack

    def broken(nodes: Any, *more: Any) -> Any:
        found = real(nodes, *more)
        return [moved(weights, len(nodes) * 1e-3) for weights in found] if len(nodes) > 1 else found

    monkeypatch.setattr(train, "_train_stack", broken)
    with forgotten_is_fresh(tmp_path, READING) as model:
        assert model.store.config.settings["stacked"] is False
        status = model.status()
    assert status["slower"] == [ALONE]
    assert ALONE in Report.of_status(status).text


def test_products_that_are_not_exact_are_done_in_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fit(tmp_path / "sound", TALLYING, 22) as sound:
        expected = files(sound)
    plain = torch.bmm

    def lossy(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float64:
            return plain(left, right)
        return plain(left.to(torch.bfloat16), right.to(torch.bfloat16)).to(left.dtype)

    machine._features.cache_clear()
    monkeypatch.setattr(torch, "bmm", lossy)
    with forgotten_is_fresh(tmp_path, TALLYING) as model:
        assert model.store.config.settings["features"] == "float64"
        assert model.status()["slower"] == [SAFE]
        assert files(model) == expected, "float64 gives the bits of a sound machine"


def test_a_machine_whose_fits_do_not_repeat_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = train._train_stack, iter(range(10_000))

    def noisy(nodes: Any, *more: Any) -> Any:
        return [moved(weights, next(calls)) for weights in real(nodes, *more)]

    monkeypatch.setattr(train, "_train_stack", noisy)
    with pytest.raises(UsageError, match="Training twice"):
        fit(tmp_path / "store", READING)
    assert not (tmp_path / "store").exists()


def test_a_head_that_does_not_repeat_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = machine.check_exactness

    def found(**shape: int) -> Any:
        return tuple(replace(finding, holds=finding.name != "solve") for finding in real(**shape))

    monkeypatch.setattr(machine, "check_exactness", found)
    with pytest.raises(UsageError, match="Solving a head twice"):
        fit(tmp_path / "store", TALLYING)


def test_only_what_a_graph_needs_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("tried without need")

    with monkeypatch.context() as patch:
        patch.setattr(machine, "check_machine", never)
        fit(tmp_path / "tallying", TALLYING).close()
    with monkeypatch.context() as patch:
        patch.setattr(machine, "check_exactness", never)
        fit(tmp_path / "reading", READING).close()


def test_each_slower_path_has_its_line() -> None:
    slow = {"batch_size": 1, "stacked": False, "features": "float64"}
    assert len(slower_paths(slow, "an encoder")) == 3
    assert slower_paths(slow, PRECOMPUTED) == (ALONE, SAFE)
    assert slower_paths({"batch_size": 8, "stacked": True}, "an encoder") == ()


def test_a_fit_tells_of_its_slower_path(tmp_path: Path) -> None:
    with fit(tmp_path / "store", READING) as model:
        outcome = model.forget(ForgetRequest.of(samples=["s3"]))
    report = Report.of_fit(outcome, tmp_path, [ALONE])
    assert ALONE in report.text.splitlines()
    assert report.data["slower"] == [ALONE]


def test_a_change_is_refused_while_the_process_computes_otherwise(tmp_path: Path) -> None:
    with fit(tmp_path / "store", TALLYING) as model:
        before = files(model)
        with torch.autocast("cpu"), pytest.raises(EnvironmentChangedError) as refused:
            model.forget(ForgetRequest.of(samples=["s3"]))
        assert "arithmetic" in refused.value.message
        assert "rebase" in refused.value.advice
        assert files(model) == before
        assert model.forget(ForgetRequest.of(samples=["s3"])).samples == 1
