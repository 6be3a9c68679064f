"""From the name of an encoder to a backbone."""

from __future__ import annotations

from pathlib import Path

from shardgraph.activations.averaged import Averaged, named_average
from shardgraph.activations.backbone import PRECOMPUTED, Backbone, Precomputed
from shardgraph.activations.efficientnet import (
    DEFAULT_LAYER,
    EFFICIENTNET_LITE0,
    efficientnet_lite0,
)
from shardgraph.activations.hugging import TRANSFORMERS, HuggingModel
from shardgraph.activations.onnx_model import ONNX, OnnxModel
from shardgraph.errors import RecipeError

DEFAULT_BACKBONE = EFFICIENTNET_LITE0


def open_backbone(
    name: str = DEFAULT_BACKBONE,
    layer: str | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> Backbone:
    """Build the backbone called ``name``, tapped at ``layer`` (its default when None).

    ``transformers:FOLDER_OR_NAME`` and ``onnx:FILE`` are encoders of one's own. ``?average=P``
    behind the name of an encoder of images averages its tokens over P x P places.
    ``activations`` takes arrays as they are; it needs their ``shape`` (tokens, width) and has no
    layers to choose from.

    Raises:
        RecipeError: an unknown name or layer, a file or folder that is missing or cannot be used,
            or ``activations`` without a shape.
        UsageError: the encoder needs a package that is not installed.
    """
    bare, side = named_average(name)
    if side is not None:
        return Averaged(open_backbone(bare, layer, shape=shape), side)
    if name == EFFICIENTNET_LITE0:
        return efficientnet_lite0(DEFAULT_LAYER if layer is None else layer)
    if name.startswith(TRANSFORMERS):
        return HuggingModel(name.removeprefix(TRANSFORMERS), layer)
    if name.startswith(ONNX):
        return OnnxModel(Path(name.removeprefix(ONNX)).expanduser(), layer)
    if name == PRECOMPUTED:
        if shape is None:
            raise RecipeError(
                "The backbone 'activations' takes arrays, not images.",
                advice=f"Use {DEFAULT_BACKBONE} for images.",
            )
        if layer not in (None, Precomputed.layer):
            raise RecipeError(
                "The backbone 'activations' has no layers.", advice="Leave out the layer."
            )
        return Precomputed(*shape)
    raise RecipeError(
        f"There is no backbone {name!r}.",
        advice=f"Use {EFFICIENTNET_LITE0}, {TRANSFORMERS}FOLDER_OR_NAME, {ONNX}FILE or "
        f"{PRECOMPUTED}.",
    )
