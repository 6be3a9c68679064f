from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shardgraph.activations.image_input import ImageInput
from shardgraph.activations.onnx_model import OnnxModel
from shardgraph.activations.selftest import check_batches
from shardgraph.errors import RecipeError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Write = Callable[..., Path]


@pytest.fixture
def file(write_onnx: Write, tmp_path: Path) -> Path:
    return write_onnx(tmp_path)


def batch_of(backbone: OnnxModel, count: int) -> np.ndarray:
    return np.stack([backbone.prepare(backbone.example(seed)) for seed in range(count)])


def reference(file: Path, batch: np.ndarray) -> torch.Tensor:
    """The tensor ``hidden`` by PyTorch, from the preprocessing that stands beside the model."""
    kernel = onnx.numpy_helper.to_array(onnx.load(file).graph.initializer[0])
    pixels = (torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    mapped = torch.nn.functional.conv2d(pixels, torch.from_numpy(kernel.copy()), stride=4)
    return mapped.relu().flatten(2).transpose(1, 2)


@pytest.mark.parametrize("layer", ["hidden", "bend"])
def test_a_tensor_that_is_no_declared_output(file: Path, layer: str) -> None:
    backbone = OnnxModel(file, layer)
    assert (backbone.layer, backbone.tokens, backbone.width) == ("hidden", 16, 6)
    batch = batch_of(backbone, 3)
    assert np.allclose(backbone.encode(batch), reference(file, batch), atol=1e-4)


def test_the_first_output_is_the_default(file: Path) -> None:
    backbone = OnnxModel(file)
    assert (backbone.layer, backbone.tokens, backbone.width) == ("out", 1, 5)


def test_channels_last(write_onnx: Write, tmp_path: Path) -> None:
    file = write_onnx(tmp_path, channels_last=True)
    backbone = OnnxModel(file, "last")
    assert (backbone.tokens, backbone.width) == (16, 6)
    batch = batch_of(backbone, 2)
    assert np.allclose(backbone.encode(batch), reference(file, batch), atol=1e-4)


def test_what_the_layer_does_not_need_is_not_even_loaded(file: Path) -> None:
    model = onnx.load(file)
    model.graph.node.append(onnx.helper.make_node("NoSuchOperator", ["out"], ["beyond"]))
    model.graph.output[0].name = "beyond"
    file.write_bytes(model.SerializeToString())
    assert OnnxModel(file, "hidden").tokens == 16
    with pytest.raises(RecipeError, match="cannot be used"):
        OnnxModel(file)


def test_weights_may_be_declared_as_inputs_too(file: Path) -> None:
    plain = OnnxModel(file, "hidden")
    model = onnx.load(file)
    for weight in model.graph.initializer:
        declared = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        model.graph.input.append(declared)
    file.write_bytes(model.SerializeToString())
    backbone, batch = OnnxModel(file, "hidden"), batch_of(plain, 2)
    assert np.allclose(backbone.encode(batch), plain.encode(batch), atol=1e-5)


def test_what_a_branch_reads_from_outside_is_kept(file: Path) -> None:
    model = onnx.load(file)
    value = onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["hidden"], ["inner"])], "branch", [], [value]
    )
    always = onnx.helper.make_tensor("always", onnx.TensorProto.BOOL, [], [True])
    choose = {"then_branch": branch, "else_branch": branch}
    model.graph.initializer.append(always)
    model.graph.node.append(onnx.helper.make_node("If", ["always"], ["chosen"], **choose))
    file.write_bytes(model.SerializeToString())
    chosen, hidden = OnnxModel(file, "chosen"), OnnxModel(file, "hidden")
    batch = batch_of(hidden, 2)
    assert np.array_equal(chosen.encode(batch), -hidden.encode(batch))


def test_the_self_test_finds_a_scale_that_the_whole_batch_shares(
    write_onnx: Write, tmp_path: Path
) -> None:
    backbone = OnnxModel(write_onnx(tmp_path, quantised=True), "out")
    finding = check_batches(backbone)
    assert not finding.safe
    assert finding.batch_size == 1
    assert check_batches(OnnxModel(tmp_path / "tiny.onnx", "hidden")).safe  # before the scale


def test_a_fixed_batch_size_is_kept(write_onnx: Write, tmp_path: Path) -> None:
    backbone = OnnxModel(write_onnx(tmp_path, batch=1), "hidden")
    assert backbone.batch_size == 1
    assert check_batches(backbone).safe


def test_the_digest_covers_bytes_layer_and_preprocessing(file: Path) -> None:
    before = OnnxModel(file, "hidden").digest
    assert OnnxModel(file, "bend").digest == before
    assert OnnxModel(file, "mapped").digest != before
    other = ImageInput(16, mean=(1.0,) * 3, scale=(64.0,) * 3)
    assert OnnxModel(file, "hidden", image_input=other).digest != before
    moved = file.parent / "elsewhere"
    moved.mkdir()
    for name in ("tiny.onnx", "tiny.json"):
        (moved / name).write_bytes((file.parent / name).read_bytes())
    assert OnnxModel(moved / "tiny.onnx", "hidden").digest == before
    model = onnx.load(file)
    model.doc_string = "changed"
    file.write_bytes(model.SerializeToString())
    assert OnnxModel(file, "hidden").digest != before


def test_weights_in_a_file_beside_the_model_count(file: Path) -> None:
    big = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(file), file, **big)
    one = OnnxModel(file, "hidden")
    weights = bytearray((file.parent / "weights.bin").read_bytes())
    weights[3] ^= 1
    (file.parent / "weights.bin").write_bytes(weights)
    other = OnnxModel(file, "hidden")
    batch = batch_of(one, 1)
    assert one.digest != other.digest
    assert not np.array_equal(one.encode(batch), other.encode(batch))
    (file.parent / "weights.bin").unlink()
    with pytest.raises(RecipeError, match="cannot be used"):
        OnnxModel(file, "hidden")


def test_refused(file: Path, make_onnx: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=r"no layer 'hiden'.*hidden"):
        OnnxModel(file, "hiden")
    with pytest.raises(RecipeError, match=r"no layer '9'.*out"):
        OnnxModel(file, "9")
    with pytest.raises(RecipeError, match="no file"):
        OnnxModel(file.with_name("none.onnx"))
    with pytest.raises(RecipeError, match="16 x 16 pixels, not 32"):
        OnnxModel(file, image_input=ImageInput(32, mean=(0.0,) * 3, scale=(1.0,) * 3))
    model = make_onnx()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    file.write_bytes(model.SerializeToString())
    with pytest.raises(RecipeError, match="takes pixels, not one image"):
        OnnxModel(file)
    file.write_bytes(b"not a model")
    with pytest.raises(RecipeError, match="cannot be used"):
        OnnxModel(file)


def test_a_tensor_without_a_row_for_each_image(file: Path) -> None:
    model = onnx.load(file)
    model.graph.node.append(onnx.helper.make_node("Transpose", ["flat"], ["turned"], perm=[1, 0]))
    model.graph.node.append(onnx.helper.make_node("Shape", ["flat"], ["sizes"]))
    file.write_bytes(model.SerializeToString())
    with pytest.raises(RecipeError, match="96 rows for 8 images"):
        OnnxModel(file, "turned")
    with pytest.raises(RecipeError, match="cannot be read as tokens"):
        OnnxModel(file, "sizes")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "nonsense",
        "[]",
        json.dumps({"size": 16, "mean": [0.5] * 3}),
        json.dumps({"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3, "extra": 1}),
        json.dumps({"size": 16, "mean": [0.5] * 2, "std": [0.5] * 3}),
        json.dumps({"size": 16, "mean": [0.5] * 3, "std": [0.0] * 3}),
        json.dumps({"size": "large", "mean": [0.5] * 3, "std": [0.5] * 3}),
    ],
)
def test_preprocessing_that_is_missing_or_wrong(file: Path, content: str | None) -> None:
    beside = file.with_suffix(".json")
    beside.unlink() if content is None else beside.write_text(content)
    with pytest.raises(RecipeError, match=r"preprocessing.*tiny\.json"):
        OnnxModel(file)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra(file: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package}.*pip install '.\[onnx\]'"):
        OnnxModel(file)
