from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shardgraph.activations import hugging
from shardgraph.activations.hugging import HuggingModel
from shardgraph.activations.selftest import batch_is_safe
from shardgraph.errors import DataError, RecipeError, UsageError

transformers = pytest.importorskip("transformers")


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def states_of(folder: Path, **inputs: torch.Tensor) -> list[torch.Tensor]:
    """Embedding and outputs of all blocks, then the last hidden state, by the package itself."""
    network = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        found = network.eval()(**inputs, output_hidden_states=True)
    return [*found.hidden_states[:-1], found.last_hidden_state]


def test_blocks_of_an_image_encoder(tiny_vit: Path) -> None:
    backbones = [HuggingModel(str(tiny_vit), layer) for layer in ("1", "2", None)]
    first = backbones[0]
    assert (first.kind, first.tokens, first.width) == ("images", 17, 16)
    batch = np.stack([first.prepare(first.example(seed)) for seed in range(3)])
    _, *expected = states_of(tiny_vit, pixel_values=torch.from_numpy(batch))
    for backbone, state in zip(backbones, [*expected[:2], expected[-1]], strict=True):
        assert np.allclose(backbone.encode(batch), state, atol=1e-5)
    assert not np.allclose(first.encode(batch), expected[1], atol=1e-2)


def test_blocks_of_a_text_encoder(tiny_bert: Path) -> None:
    backbones = [HuggingModel(str(tiny_bert), layer) for layer in ("1", "2", "3", None)]
    first = backbones[0]
    assert (first.kind, first.tokens, first.width) == ("texts", 24, 16)
    batch = first.prepare(np.array("the film was good"))[np.newaxis]
    length = int(batch[0, 1].sum())
    assert length == 6
    ids = torch.from_numpy(batch[:, 0, :length])
    _, *expected = states_of(tiny_bert, input_ids=ids)
    for backbone, state in zip(backbones, [*expected, expected[-1]], strict=True):
        found = backbone.encode(batch)[0]
        assert np.allclose(found[:length], state[0], atol=1e-5)
        assert np.array_equal(found, found[np.arange(24) % length])  # repeated behind its end


def test_a_module_by_name(tiny_vit: Path) -> None:
    by_name, by_number = HuggingModel(str(tiny_vit), "layers.1"), HuggingModel(str(tiny_vit), "2")
    assert by_name.digest == by_number.digest
    assert by_name.layer == by_number.layer == "layers.1"
    assert HuggingModel(str(tiny_vit), "layers.1.mlp.fc1").width == 32


def test_preprocessing_is_that_of_the_model(tiny_vit: Path) -> None:
    backbone = HuggingModel(str(tiny_vit))
    grey = np.full((32, 32, 3), 51, np.uint8)
    assert np.allclose(backbone.prepare(grey), -0.6, atol=1e-6)
    large = np.asarray(Image.fromarray(grey).resize((90, 70)))
    assert backbone.prepare(large).shape == (3, 32, 32)


def test_images_that_stay_of_different_sizes_are_refused(tiny_vit: Path, tmp_path: Path) -> None:
    folder = copied(tiny_vit, tmp_path)
    change_json(folder / "preprocessor_config.json", do_resize=False)
    images = hugging._Images(transformers, str(folder))
    example = images.example(0)
    assert images.prepare(example).shape == (3, *example.shape[:2])
    with pytest.raises(DataError, match="another") as refused:
        images.prepare(np.zeros((32, 40, 3), np.uint8))
    assert refused.value.advice


def test_long_texts_are_cut(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging, "MOST_TOKENS", 10)
    assert HuggingModel(str(tiny_bert)).tokens == 10
    backbone = HuggingModel(f"{tiny_bert}?tokens=8")
    assert backbone.tokens == 8
    texts = ["the film was good " * 9, "the film was good the film bad bad"]
    one, other = (backbone.prepare(np.array(text)) for text in texts)
    assert one[1].sum() == 8
    assert np.array_equal(one, other)


def test_full_rows_beside_short_ones_and_padding(tiny_bert: Path) -> None:
    backbone = HuggingModel(str(tiny_bert), "2")
    long, short = (backbone.prepare(np.array("good " * n)) for n in (40, 1))
    alone = backbone.encode(np.stack([long, long]))[0]
    for neighbour in (short, np.zeros_like(long)):
        found = backbone.encode(np.stack([long, neighbour]))
        assert found[0].tobytes() == alone.tobytes()
        assert np.isfinite(found).all()
    padded = backbone._input.arguments(np.stack([long, np.zeros_like(long)]))
    assert padded["attention_mask"].sum(1).tolist() == [24, 1], "nothing attends to nothing"
    lengths = {int(backbone.prepare(backbone.example(seed))[1].sum()) for seed in range(8)}
    assert 24 in lengths
    assert len(lengths) > 2  # so the self-test sees both


def test_the_digest_covers_all_that_decides_the_numbers(tiny_vit: Path, tmp_path: Path) -> None:
    folder = copied(tiny_vit, tmp_path)
    digests = [HuggingModel(str(tiny_vit)).digest]
    assert HuggingModel(str(folder)).digest == digests[0]
    change_json(folder / "config.json", transformers_version="0", architectures=["Another"])
    assert HuggingModel(str(folder)).digest == digests[0]
    digests.append(HuggingModel(str(folder), "1").digest)
    change_json(folder / "preprocessor_config.json", image_mean=[0.4, 0.5, 0.5])
    digests.append(HuggingModel(str(folder)).digest)
    change_json(folder / "config.json", hidden_act="relu")
    digests.append(HuggingModel(str(folder)).digest)
    change_weights(folder, lambda weights: weights["layernorm.bias"].add_(1e-3))
    digests.append(HuggingModel(str(folder)).digest)
    assert len(set(digests)) == len(digests)


def test_the_digest_of_texts_covers_tokenizer_and_length(tiny_bert: Path, tmp_path: Path) -> None:
    folder = copied(tiny_bert, tmp_path)
    digests = [HuggingModel(f"{folder}{option}").digest for option in ("", "?tokens=8")]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    digests.append(HuggingModel(str(folder)).digest)
    assert len(set(digests)) == 3


def change_weights(folder: Path, change: object) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)  # type: ignore[operator]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_weights_that_the_files_lack(tiny_vit: Path, tmp_path: Path) -> None:
    folder = copied(tiny_vit, tmp_path)
    change_weights(folder, lambda weights: weights.pop("pooler.dense.weight"))
    assert HuggingModel(str(folder)).digest == HuggingModel(str(folder)).digest
    change_weights(folder, lambda weights: weights.pop(next(k for k in weights if ".1." in k)))
    with pytest.raises(RecipeError, match=r"lack 1 weights, such as layers\.1\."):
        HuggingModel(str(folder))


def test_a_model_of_images_and_texts_is_taken_by_its_image_tower(
    tiny_vit: Path, tmp_path: Path
) -> None:
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = transformers.CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 16},
        text_config={**small, "vocab_size": 50, "max_position_embeddings": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    shutil.copy(tiny_vit / "preprocessor_config.json", tmp_path)
    for layer in (None, "1"):
        backbone = HuggingModel(str(tmp_path), layer)
        assert (backbone.kind, backbone.tokens, backbone.width) == ("images", 5, 16)
        assert batch_is_safe(backbone, 3)


def test_a_model_with_a_decoder_is_taken_by_its_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    folder = copied(tiny_bert, tmp_path)
    (folder / "model.safetensors").unlink()
    config = transformers.T5Config(
        vocab_size=100, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    torch.manual_seed(0)
    transformers.T5Model(config).save_pretrained(folder)
    backbone = HuggingModel(f"{folder}?tokens=8")
    assert (backbone.kind, backbone.tokens, backbone.width) == ("texts", 8, 16)
    assert backbone.digest != HuggingModel(f"{folder}?tokens=8", "1").digest
    assert batch_is_safe(backbone, 3)


def test_loading_leaves_the_messages_of_the_package_as_they_were(tiny_vit: Path) -> None:
    log = transformers.utils.logging
    log.enable_progress_bar()
    before = log.get_verbosity()
    HuggingModel(str(tiny_vit))
    assert log.get_verbosity() == before < log.ERROR
    assert log.is_progress_bar_enabled()
    log.disable_progress_bar()


def test_refused(tiny_vit: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no layer 9.*1 to 3"):
        HuggingModel(str(tiny_vit), "9")
    with pytest.raises(RecipeError, match=r"no layer 'layers\.7'.*layers\.2"):
        HuggingModel(str(tiny_vit), "layers.7")
    with pytest.raises(RecipeError, match="no folder"):
        HuggingModel(str(tmp_path / "none"))
    with pytest.raises(RecipeError, match="cannot be loaded"):
        HuggingModel("nobody/nothing")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        HuggingModel(str(tmp_path))
    with pytest.raises(RecipeError, match=r"Leave out \?tokens"):
        HuggingModel(f"{tiny_vit}?tokens=8")
    with pytest.raises(RecipeError, match="at most 24"):
        HuggingModel(f"{tiny_bert}?tokens=25")
    for option in ("size=3", "tokens=", "tokens=-1", "tokens"):
        with pytest.raises(RecipeError, match="not known"):
            HuggingModel(f"{tiny_bert}?{option}")
    folder = copied(tiny_vit, tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(RecipeError, match=r"cannot be loaded.*image processor"):
        HuggingModel(str(folder))


def test_without_the_extra(tiny_vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install '.\[transformers\]'"):
        HuggingModel(str(tiny_vit))
