"""Promise 8: bad input gets one clear error that says what to do, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness.actor import Actor
from harness.directory import all_bytes
from harness.world import World, settings_for, unmeasured

from shardgraph import runtime
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import (
    DataError,
    EnvironmentChangedError,
    GraphError,
    RecipeError,
    ShardgraphError,
    StoreExistsError,
    StoreLockedError,
    StoreMissingError,
    UnknownIdError,
    UsageError,
)
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel

Act = Callable[[Actor], object]

FORGETTING: dict[str, tuple[type[ShardgraphError], Act]] = {
    "an unknown sample": (
        UnknownIdError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=["nobody"])),
    ),
    "an unknown sample among known ones": (
        UnknownIdError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=[*list(actor.live)[:2], "no"])),
    ),
    "an unknown owner beside a known sample": (
        UnknownIdError,
        lambda actor: actor.model.forget(
            ForgetRequest.of(samples=list(actor.live)[:1], owners=["nobody"])
        ),
    ),
    "an unknown source": (
        UnknownIdError,
        lambda actor: actor.model.forget(ForgetRequest.of(sources=["nowhere"])),
    ),
    "an owner's name where a sample's should be": (
        UnknownIdError,
        lambda actor: actor.model.forget(
            ForgetRequest.of(samples=[next(b.owner for b in actor.beings() if b.owner)])
        ),
    ),
    "a sample's name with other letters": (
        UnknownIdError,
        lambda actor: actor.model.forget(
            ForgetRequest.of(samples=[next(iter(actor.live)).upper()])
        ),
    ),
    "a name with a wildcard": (
        UnknownIdError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=["sample-%"])),
    ),
    "a name with half a surrogate": (
        ShardgraphError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=["\ud800"])),
    ),
    "an owner with half a surrogate": (
        ShardgraphError,
        lambda actor: actor.model.forget(ForgetRequest.of(owners=["\ud800"])),
    ),
    "nothing": (UsageError, lambda actor: actor.model.forget(ForgetRequest.of())),
    "an empty key": (
        UsageError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=list(actor.live)[:1], key="")),
    ),
    "one name as if it were a list": (
        UsageError,
        lambda actor: actor.model.forget(ForgetRequest.of(samples=next(iter(actor.live)))),
    ),
    "a plan for an unknown sample": (
        UnknownIdError,
        lambda actor: actor.model.plan(ForgetRequest.of(samples=["nobody"])),
    ),
}


def _rows(count: int, value: float = 1.0, width: int = 8) -> np.ndarray:
    return np.full((count, 2, width), value, np.float32)


ADDING: dict[str, tuple[type[ShardgraphError], Act]] = {
    "a live sample with another label": (
        DataError,
        lambda actor: actor.model.add(actor.world.dataset(dict.fromkeys(list(actor.live)[:1], 1))),
    ),
    "activations of another width": (
        DataError,
        lambda actor: actor.model.add(ArrayDataset(_rows(1, width=9), ["a"], ids=["new"])),
    ),
    "activations that are not finite": (
        DataError,
        lambda actor: actor.model.add(ArrayDataset(_rows(1, np.nan), ["a"], ids=["new"])),
    ),
    "activations that float16 does not hold": (
        DataError,
        lambda actor: actor.model.add(ArrayDataset(_rows(1, 1e6), ["a"], ids=["new"])),
    ),
    "a good sample beside a bad one": (
        DataError,
        lambda actor: actor.model.add(
            ArrayDataset(np.concatenate([_rows(1), _rows(1, np.inf)]), ["a", "a"], ids=["n", "m"])
        ),
    ),
    "an id twice": (
        DataError,
        lambda actor: actor.model.add(ArrayDataset(_rows(2), ["a", "b"], ids=["new", "new"])),
    ),
    "an empty label": (
        DataError,
        lambda actor: actor.model.add(ArrayDataset(_rows(1), [""], ids=["new"])),
    ),
    "images that are not there": (
        ShardgraphError,
        lambda actor: actor.model.add(actor.path.parent / "nowhere"),
    ),
}


def require_one_clear_error(kind: type[ShardgraphError], act: Callable[[], object]) -> None:
    """One line of what is wrong, and what to do."""
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.advice or isinstance(caught.value, UsageError)


@pytest.mark.parametrize("what", FORGETTING)
def test_forgetting_is_refused_and_changes_nothing(what: str, actor: Actor) -> None:
    kind, act = FORGETTING[what]
    with actor.unchanged():
        require_one_clear_error(kind, lambda: act(actor))
    actor.check()


@pytest.mark.parametrize("what", ADDING)
def test_adding_is_refused_and_changes_no_state(what: str, actor: Actor) -> None:
    kind, act = ADDING[what]
    before = all_bytes(actor.path)
    require_one_clear_error(kind, lambda: act(actor))
    after = all_bytes(actor.path)
    begun = {name for name in after if name.startswith("staging/")}
    assert {name: after[name] for name in after.keys() - begun} == {
        name: before[name] for name in before.keys() - begun
    }
    actor.forget(samples=list(actor.live)[:1])  # what was begun goes with the next change
    actor.check()


def test_a_second_writer_is_refused(actor: Actor) -> None:
    with actor.unchanged():
        require_one_clear_error(StoreLockedError, lambda: SafeModel.open(actor.path, write=True))


def test_a_reader_cannot_change_anything(actor: Actor) -> None:
    with SafeModel.open(actor.path) as reader, actor.unchanged():
        request = ForgetRequest.of(samples=list(actor.live)[:1])
        require_one_clear_error(ShardgraphError, lambda: reader.forget(request))
        data = actor.world.dataset(dict.fromkeys(actor.absent()[:1], 0))
        require_one_clear_error(ShardgraphError, lambda: reader.add(data))


def test_another_environment_is_refused_for_writing_and_may_answer(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor.close()
    for name in runtime.environment():
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "environment", lambda *_, name=name: elsewhere(name))
            with actor.unchanged():
                require_one_clear_error(
                    EnvironmentChangedError, lambda: SafeModel.open(actor.path, write=True)
                )
            with SafeModel.open(actor.path) as reader:
                assert len(reader.answer(actor.world.probe()).labels) == 3


ENVIRONMENT = runtime.environment()


def elsewhere(name: str) -> dict[str, str]:
    """The environment of a machine that differs in one thing."""
    return {**ENVIRONMENT, name: "another"}


def test_a_store_is_not_fitted_over(actor: Actor) -> None:
    data = actor.world.dataset(actor.live)
    with actor.unchanged():
        require_one_clear_error(
            StoreExistsError,
            lambda: SafeModel.fit(data, actor.path, settings_for(actor.topology, 0)),
        )


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (GraphError, FitSettings(shards=0)),
        (GraphError, FitSettings(shards=6, graph="cliques:4")),
        (GraphError, FitSettings(shards=6, graph="ring:7")),
        (GraphError, FitSettings(graph="nonsense")),
        (RecipeError, FitSettings(shards=6, recipe={"epochs": 0})),
        (RecipeError, FitSettings(shards=6, recipe={"epoch": 3})),
        (RecipeError, FitSettings(shards=6, epochs=2, recipe={"epochs": 3})),
    ],
)
def test_what_cannot_be_fitted_leaves_no_directory(
    kind: type[ShardgraphError], settings: FitSettings, directory: Path
) -> None:
    world = World(0)
    data = world.dataset(dict.fromkeys(world.ids[:8], 0))
    path = directory / "store"
    require_one_clear_error(kind, lambda: SafeModel.fit(data, path, settings))
    assert not path.exists()


def test_a_sample_without_shards_is_refused_before_anything_is_written(directory: Path) -> None:
    graph = settings_for("custom", 0).graph
    assert not isinstance(graph, str)
    named = [pool for pool in graph.pools if pool.sources]
    other = type(named[0])(tuple(range(5)), ("source-elsewhere",))
    settings = FitSettings(graph=graph.with_pools([other, *named]))
    data = ArrayDataset(_rows(2), ["a", "b"], sources=[None, "source-elsewhere"])
    path = directory / "store"
    require_one_clear_error(GraphError, lambda: SafeModel.fit(data, path, settings))
    assert not path.exists()


def test_foreign_files_are_left_alone(directory: Path) -> None:
    (directory / "letter.txt").write_text("mine")
    world = World(0)
    data = world.dataset(dict.fromkeys(world.ids[:8], 0))
    with unmeasured():
        require_one_clear_error(
            ShardgraphError, lambda: SafeModel.fit(data, directory, settings_for("isolated", 0))
        )
    assert [path.name for path in directory.iterdir()] == ["letter.txt"]


def test_a_store_that_is_not_there(directory: Path) -> None:
    require_one_clear_error(StoreMissingError, lambda: SafeModel.open(directory / "none"))
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["ü" * 200, "a\tb", "a'b\"; --", "\U0001f98a", "e\u0301", "x/../y"]
)
def test_odd_names_are_names_like_others(name: str, directory: Path) -> None:
    data = ArrayDataset(
        np.random.default_rng(0).normal(size=(12, 2, 8)),
        ["a", "b"] * 6,
        ids=[name, *map(str, range(11))],
        owners=[name + "!"] * 3 + [None] * 9,
    )
    with unmeasured():
        model, _ = SafeModel.fit(data, directory / "store", FitSettings(shards=3, recipe=SMALL))
    assert model.forget(ForgetRequest.of(samples=[name])).samples == 1
    assert model.forget(ForgetRequest.of(owners=[name + "!"])).samples == 2
    model.close()


SMALL = {"heads": 1, "value_width": 16, "batch_size": 16, "epochs": 1}
