"""The data of a comparison: nothing of the test part may be tuned on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.activations.averaged import Averaged
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.encode import encode
from shardgraph.activations.selftest import check_batches
from shardgraph.bench.data import (
    BenchData,
    accuracy,
    activations,
    cache_name,
    encoder_title,
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


def test_averaged_activations_are_made_from_all_of_them(folder: Path, tmp_path: Path) -> None:
    encoder, cache = efficientnet_lite0("blocks.2", image_size=64), tmp_path / "cache"
    averaged = Averaged(encoder, 4)
    dataset = open_parts(str(folder), None)[1]["test"]
    found = np.load(activations(dataset, averaged, cache, silent))
    assert found.shape == (len(dataset.samples), averaged.tokens, averaged.width)
    size = check_batches(averaged).batch_size
    said = [item.tokens for item in encode(dataset, range(6), averaged, batch_size=size)]
    assert found.tobytes() == np.stack(said).tobytes()
    assert encoder_title(averaged) == f"{encoder_title(encoder)}, tokens averaged 4 x 4"
    whole = activations(dataset, encoder, cache, silent)
    assert len(np.load(whole)[0]) == 16 * averaged.tokens


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
