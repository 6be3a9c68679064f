from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shardgraph import runtime
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.encode import Encoded, Unreadable, encode
from shardgraph.activations.torch_module import TorchModule
from shardgraph.data.arrays import ArrayDataset
from shardgraph.data.folder import FolderDataset
from shardgraph.errors import BadFileError, DataError, RecipeError

BAD = 4


@pytest.fixture
def damaged(folder: FolderDataset) -> FolderDataset:
    """The folder with one file cut short."""
    path = folder.root / folder.samples[BAD].id
    path.write_bytes(path.read_bytes()[:100])
    return folder


def encoded(results: list[Encoded | Unreadable]) -> list[Encoded]:
    return [result for result in results if isinstance(result, Encoded)]


def test_results_come_in_the_order_asked_for(folder: FolderDataset, tiny: TorchModule) -> None:
    order = [7, 0, 10, 3, 3, 9, 1]
    results = encoded(list(encode(folder, order, tiny)))
    assert [result.index for result in results] == order
    for result in results:
        alone = tiny.encode(tiny.prepare(folder.read(result.index))[np.newaxis])[0]
        assert result.tokens.dtype == np.float16
        assert np.allclose(result.tokens, alone, atol=1e-2)
        assert result.fingerprint == folder.fingerprint(result.index)


def test_neither_workers_nor_company_change_a_bit(folder: FolderDataset, tiny: TorchModule) -> None:
    everything = range(len(folder.samples))
    expected = {r.index: r.tokens.tobytes() for r in encoded(list(encode(folder, [5], tiny)))}
    for workers in (1, 2, 5):
        for order in (everything, list(reversed(everything))):
            results = encoded(list(encode(folder, order, tiny, workers=workers)))
            assert results[order.index(5)].tokens.tobytes() == expected[5]


def test_activations_as_given_are_read_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "worker_count", lambda: 8)
    readers = set()

    class Watched(ArrayDataset):
        def read(self, index: int) -> np.ndarray:
            readers.add(threading.get_ident())
            return super().read(index)

    data = Watched(np.ones((600, 1, 4)), ["a"] * 600)
    assert len(list(encode(data, range(600), Precomputed(1, 4), batch_size=8))) == 600
    assert len(readers) == 1


def test_one_thread_inside_operators_and_restored_after(
    folder: FolderDataset, tiny: TorchModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    prepare = tiny.prepare

    def watch(raw: np.ndarray) -> np.ndarray:
        seen.add((torch.get_num_threads(), threading.current_thread().name.split("_")[0]))
        return prepare(raw)

    monkeypatch.setattr(tiny, "prepare", watch)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(encode(folder, range(8), tiny))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {(1, "shardgraph-encode")}


def test_a_bad_file_stops_after_what_came_before(damaged: FolderDataset, tiny: TorchModule) -> None:
    results = encode(damaged, range(11), tiny)
    got = [next(results).index for _ in range(BAD)]
    assert got == list(range(BAD))
    with pytest.raises(BadFileError, match=damaged.samples[BAD].id):
        next(results)


def test_a_bad_file_is_skipped_in_its_place(damaged: FolderDataset, tiny: TorchModule) -> None:
    results = list(encode(damaged, range(11), tiny, on_bad_file="skip"))
    assert [result.index for result in results] == list(range(11))
    assert isinstance(results[BAD], Unreadable)
    assert len(encoded(results)) == 10
    only_bad = list(encode(damaged, [BAD], tiny, on_bad_file="skip"))
    assert [type(result) for result in only_bad] == [Unreadable]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0, 1e39])
def test_what_float16_cannot_hold_names_the_sample(value: float) -> None:
    array = np.zeros((5, 2, 3))
    array[3, 1, 2] = value
    data = ArrayDataset(array, list("abcde"), ids=list("vwxyz"))
    with pytest.raises(DataError, match="'y' is not finite") as caught:
        list(encode(data, range(5), Precomputed(2, 3)))
    assert caught.value.advice


def test_the_largest_float16_is_kept() -> None:
    data = ArrayDataset(np.full((1, 2), 65504.0), ["a"])
    (result,) = encoded(list(encode(data, [0], Precomputed(1, 2))))
    assert result.tokens.tolist() == [[65504, 65504]]


class Counting(Precomputed):
    """Counts batches that were encoded, to see how far encoding runs ahead."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.batch_size = 2
        self.batches = 0
        self._lock = threading.Lock()

    def encode(self, batch: np.ndarray) -> np.ndarray:
        with self._lock:
            self.batches += 1
        return super().encode(batch)


def test_a_slow_consumer_holds_encoding_back() -> None:
    backbone = Counting()
    data = ArrayDataset(np.zeros((400, 1)), ["a"] * 400)
    results = encode(data, range(400), backbone, workers=2)
    next(results)
    time.sleep(0.2)
    assert backbone.batches <= 4
    results.close()  # type: ignore[attr-defined]
    assert backbone.batches <= 4


def test_every_forward_pass_has_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Precomputed(1, 1)
    shapes = set()
    forward: Callable[[np.ndarray], np.ndarray] = backbone.encode

    def watch(batch: np.ndarray) -> np.ndarray:
        shapes.add(batch.shape)
        return forward(batch)

    monkeypatch.setattr(backbone, "encode", watch)
    data = ArrayDataset(np.zeros((7, 1)), ["a"] * 7)
    assert len(list(encode(data, range(7), backbone, batch_size=3))) == 7
    assert shapes == {(3, 1, 1)}


def test_nothing_to_encode(tiny: TorchModule, folder: FolderDataset) -> None:
    assert list(encode(folder, [], tiny)) == []


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"workers": 0}])
def test_impossible_sizes(tiny: TorchModule, folder: FolderDataset, sizes: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        encode(folder, [0], tiny, **sizes)


def test_an_image_backbone_refuses_arrays(tiny: TorchModule, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="activations, and the encoder 'tiny' takes images"):
        list(encode(ArrayDataset(np.zeros((1, 4)), ["a"]), [0], tiny))
