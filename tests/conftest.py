from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test asks the network

VIT_SIZE = 32
TEXT_ROOM = 24
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a figure that is printed at the end of the run."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random vision transformer: 3 blocks, 17 tokens x 16, images of 32 x 32."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=VIT_SIZE,
        patch_size=8,
    )
    save(transformers.ViTModel, config, folder)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": VIT_SIZE, "width": VIT_SIZE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random text encoder: 3 blocks, width 16, at most 24 tokens."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters)]
    words += ["good", "great", "fine", "bad", "awful", "poor", "film", "book", "the", "was"]
    vocabulary = {word: number for number, word in enumerate(words)}
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=TEXT_ROOM,
    )
    save(transformers.BertModel, config, folder)
    import tokenizers

    model = tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    return folder


def save(model: Any, config: Any, folder: Path) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = model(config)
        for (
            parameter
        ) in network.parameters():  # larger than usual, so that inputs make a difference
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)


ONNX_SIZE = 16


@pytest.fixture(scope="session")
def make_onnx() -> Callable[..., Any]:
    """A model of a convolution, 16 tokens x 6, and a linear layer of 5: float32, or int8 with a
    scale that is found anew for each batch."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, np.random.default_rng(3)
    weights = {
        "kernel": numbers.normal(size=(6, 3, 4, 4)).astype(np.float32),
        "matrix": numbers.normal(size=(96, 5)).astype(np.float32),
        "whole": numbers.integers(-100, 100, (96, 5)).astype(np.int8),
    }

    def make(
        *, quantised: bool = False, batch: int | str = "batch", channels_last: bool = False
    ) -> Any:
        sides = [ONNX_SIZE, ONNX_SIZE]
        shape = [batch, *sides, 3] if channels_last else [batch, 3, *sides]
        image = "moved" if channels_last else "pixels"
        nodes = [
            helper.make_node("Conv", [image, "kernel"], ["mapped"], "stem", strides=[4, 4]),
            helper.make_node("Relu", ["mapped"], ["hidden"], "bend"),
            helper.make_node("Flatten", ["hidden"], ["flat"], "flatten"),
        ]
        if channels_last:
            move = helper.make_node("Transpose", ["pixels"], ["moved"], perm=[0, 3, 1, 2])
            back = helper.make_node("Transpose", ["hidden"], ["last"], perm=[0, 2, 3, 1])
            nodes = [move, *nodes, back]
        if quantised:
            nodes += [
                helper.make_node("DynamicQuantizeLinear", ["flat"], ["small", "scale", "zero"]),
                helper.make_node("MatMulInteger", ["small", "whole", "zero"], ["sums"]),
                helper.make_node("Cast", ["sums"], ["wide"], to=onnx.TensorProto.FLOAT),
                helper.make_node("Mul", ["wide", "scale"], ["out"], "head"),
            ]
        else:
            nodes.append(helper.make_node("MatMul", ["flat", "matrix"], ["out"], "head"))
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [batch, 5])],
            [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=9)

    return make


@pytest.fixture(scope="session")
def write_onnx(make_onnx: Callable[..., Any]) -> Callable[..., Path]:
    """Write such a model, and its preprocessing beside it."""

    def write(folder: Path, **options: Any) -> Path:
        path = folder / "tiny.onnx"
        path.write_bytes(make_onnx(**options).SerializeToString())
        given = {"size": ONNX_SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
        path.with_suffix(".json").write_text(json.dumps(given))
        return path

    return write
