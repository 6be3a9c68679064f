"""Configurations: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardgraph.bench.config import DEFAULT, QUICK, BenchConfig, read_config
from shardgraph.bench.methods.catalogue import FAMILIES, Spec, Tuned, build
from shardgraph.bench.run import configured
from shardgraph.errors import UsageError


@pytest.mark.parametrize("name", [DEFAULT, QUICK])
def test_configurations_of_the_package_can_be_built(name: str) -> None:
    config = read_config(name)
    assert {spec.family for spec in config.methods} == set(FAMILIES)
    assert len(config.seeds) >= 3
    for spec in (*config.methods, *config.streams.methods, *config.latency):
        build(spec, Tuned(), 0)


def test_a_list_of_shards_stands_for_one_method_each() -> None:
    config = BenchConfig.from_json({"methods": [{"family": "sisa", "shards": [2, 4]}]})
    assert config.methods == (Spec("sisa", shards=2), Spec("sisa", shards=4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"methds": []},
        {"methods": [{"family": "magic"}]},
        {"methods": [{"family": "sisa", "shard": 4}]},
        {"streams": {"every": 3}},
        [],
    ],
)
def test_what_is_not_known_is_refused(wrong: object, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(wrong))
    with pytest.raises(UsageError):
        read_config(tmp_path / "c.json")


def test_specs_survive_json() -> None:
    for spec in (*read_config(DEFAULT).methods, *read_config(QUICK).streams.methods):
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_options_that_contradict_each_other() -> None:
    for options in (
        {"data": ()},
        {"data": ("a", "b"), "test": Path("t")},
        {"data": ("a",), "quick": True, "config": Path("c.json")},
        {"data": ("a",), "seeds": 0},
        {"data": ("a",), "methods": ["magic"]},
    ):
        with pytest.raises(UsageError):
            configured(**options)  # type: ignore[arg-type]
    wanted = configured((), quick=True, methods=["ridge"], seeds=1)
    assert wanted.data == ("digits",)
    assert wanted.config.methods == (Spec("ridge"),)
    assert wanted.config.seeds == (0,)


def test_recipes_are_those_of_the_nearest_share() -> None:
    tuned = Tuned(adapter={"1": {"epochs": 1}, "16": {"epochs": 2}, "64": {"epochs": 3}})
    assert [tuned.recipe(parts).epochs for parts in (1, 3, 5, 16, 31, 40, 256)] == [
        1, 1, 2, 2, 2, 3, 3
    ]  # fmt: skip
