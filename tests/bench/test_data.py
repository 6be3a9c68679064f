"""The data of a comparison: nothing of the test part may be tuned on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.activations.backbone import Precomputed
from shardgraph.bench.data import (
    BenchData,
    accuracy,
    cache_name,
    encoder_title,
    fewer_tokens,
    load,
    open_parts,
)
from shardgraph.bench.streams import deletion_order, request_rows
from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import DataError, UsageError


class Tiny:
    """A backbone that takes an image's first pixels, and counts its calls."""

    kind, libraries, name, layer, digest = "images", (), "tiny", "all", "0" * 64
    tokens, width, batch_size = 2, 3, 4
    calls = 0

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        return raw[0, :2].astype(np.float32)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        Tiny.calls += 1
        return batch

    def example(self, seed: int) -> np.ndarray:
        return np.full((4, 4, 3), seed, np.uint8)


def silent(*_: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label in ("a", "b"):
            for number in range(3):
                path = tmp_path / "set" / part / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((4, 4, 3), 40 * number + 2 * (part == "test"), np.uint8)
                Image.fromarray(pixels).save(path)
    return tmp_path / "set"


def test_tuning_sees_no_test_sample(data: BenchData) -> None:
    tuning = data.for_tuning()
    fitted = {sample.id for sample in tuning.train.samples}
    scored = {sample.id for sample in tuning.test.samples}
    assert fitted | scored == {sample.id for sample in data.train.samples}
    assert not fitted & scored
    assert len(scored) == len(data.train) // 4
    assert set(tuning.train.labels) == set(tuning.test.labels) == set(data.classes)


def test_a_val_part_is_scored_on_where_there_is_one(data: BenchData) -> None:
    tuning = replace(data, val=data.test.rows(range(5))).for_tuning()
    assert tuning.train is data.train
    assert len(tuning.test) == 5


def test_activations_are_encoded_once(folder: Path, tmp_path: Path) -> None:
    Tiny.calls = 0
    first = load(str(folder), Tiny(), tmp_path / "cache", silent)
    calls = Tiny.calls
    again = load(str(folder), Tiny(), tmp_path / "cache", silent)
    assert calls == Tiny.calls > 0
    np.testing.assert_array_equal(first.train.tokens, again.train.tokens)
    assert first.train.tokens[1].max() == 40
    assert first.test.tokens[1].max() == 42
    assert (first.name, first.encoder) == ("set", "tiny:all")


def test_an_encoder_in_a_file_is_called_by_its_name() -> None:
    encoder = Tiny()
    encoder.name = "onnx:/some/place/clip.int8.onnx"
    assert encoder_title(encoder) == "clip.int8:all"
    encoder.name = "hub/name"
    assert encoder_title(encoder) == "name:all"


def test_fewer_tokens_are_means_of_neighbours() -> None:
    tokens = np.arange(2 * 17 * 1, dtype=np.float16).reshape(2, 17, 1)
    found = fewer_tokens(tokens, 2)
    assert found.shape == (2, 5, 1)
    assert found[0, :, 0].tolist() == [0, 3.5, 5.5, 11.5, 13.5]
    assert fewer_tokens(tokens, 1) is tokens
    with pytest.raises(UsageError):
        fewer_tokens(tokens, 3)


def test_the_name_of_a_cache_covers_what_decides_it() -> None:
    rows = np.zeros((2, 2, 3), np.float16)
    other = rows.copy()
    other[0, 0, 0] = 1
    names = {
        cache_name(ArrayDataset(array, ["a", "b"], ids=ids), Precomputed(2, width))
        for array, ids, width in [
            (rows, ["1", "2"], 3),
            (other, ["1", "2"], 3),
            (rows, ["1", "3"], 3),
            (rows, ["1", "2"], 4),
        ]
    }
    assert len(names) == 4


def test_parts_that_are_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'train'"):
        open_parts(str(tmp_path), None)
    name, parts = open_parts(str(folder / "train"), folder / "test")
    assert (name, set(parts)) == ("train", {"train", "test"})
    assert set(open_parts("digits", None)[1]) == {"train", "test"}


def test_accuracy_counts_the_most_probable_class(data: BenchData) -> None:
    right = np.eye(len(data.classes))[[data.classes.index(label) for label in data.test.labels]]
    assert accuracy(data.test, data.classes, right) == 1
    right[: len(right) // 2] = np.roll(right[: len(right) // 2], 1, axis=1)
    assert accuracy(data.test, data.classes, right) == 0.5


def test_orders_of_deletions(data: BenchData) -> None:
    train = data.train.from_sources(4)
    sources = np.array([sample.source for sample in train.samples])
    assert set(sources) == {f"source-{number}" for number in range(4)}
    for order in ("uniform", "skewed"):
        rows = deletion_order(train, order, 0)
        assert sorted(rows) == list(range(len(train)))
        np.testing.assert_array_equal(rows, deletion_order(train, order, 0))
        assert list(rows) != list(deletion_order(train, order, 1))
    early = np.mean(
        [
            np.argsort(deletion_order(train, "skewed", seed))[sources == "source-0"].mean()
            for seed in range(20)
        ]
    )
    assert early < 0.4 * len(train)
    assert len(set(request_rows(train, 0, 5))) == 5
    with pytest.raises(UsageError):
        deletion_order(train, "backwards", 0)
