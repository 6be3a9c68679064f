"""Any PyTorch module as a backbone: the output of one named layer, and nothing behind it."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from shardgraph import runtime
from shardgraph.activations.image_input import ImageInput
from shardgraph.data.sample import Kind
from shardgraph.errors import RecipeError
from shardgraph.identity import digest_chunks, digest_json

_NAMES_SHOWN = 8


class _LayerReachedError(Exception):
    """Carries a layer's output out of the forward pass, so that nothing behind it is computed."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class LayerTap:
    """Runs a module up to one named layer and returns that layer's output as tokens.

    A layer that runs several times in one pass is tapped at its first time. The module itself
    can still be used as before. Threads may call the tap at the same time.
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        """Tap ``layer``, one of the names in ``module.named_modules()``.

        Raises:
            RecipeError: there is no layer of that name; some valid names are listed.
        """
        found = dict(module.named_modules())
        if layer not in found or not layer:
            raise unknown_layer(layer, [name for name in found if name])
        self._module = module
        self._layer = layer
        self._calling = threading.local()
        found[layer].register_forward_hook(self._on_output)

    def __call__(self, *inputs: Any, **named_inputs: Any) -> torch.Tensor:
        """The layer's output as [B, T, D]; see `as_tokens`.

        Raises:
            RecipeError: the forward pass does not use the layer, or its output has no tokens.
        """
        self._calling.active = True
        try:
            with torch.inference_mode():
                self._module(*inputs, **named_inputs)
        except _LayerReachedError as reached:
            return as_tokens(reached.output, self._layer)
        finally:
            self._calling.active = False
        raise RecipeError(
            f"The forward pass does not use the layer {self._layer!r}.",
            advice="Choose another layer.",
        )

    def _on_output(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if getattr(self._calling, "active", False):
            raise _LayerReachedError(output)


class TorchModule:
    """A frozen module that takes images, tapped at one layer.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())
        >>> images = ImageInput(size=8, mean=(0.0, 0.0, 0.0), scale=(255.0, 255.0, 255.0))
        >>> backbone = TorchModule(network, "1", name="tiny", image_input=images)
        >>> backbone.tokens, backbone.width
        (4, 8)
    """

    kind: Kind = "images"
    libraries: tuple[str, ...] = ()

    def __init__(
        self,
        module: nn.Module,
        layer: str,
        *,
        name: str,
        image_input: ImageInput,
        batch_size: int = 8,
        identity: dict[str, Any] | None = None,
    ) -> None:
        """Wrap ``module``, which is put in evaluation mode and must not be changed afterwards.

        Args:
            module: called with float32 [B, 3, size, size] in channels-last memory format.
            layer: a name in ``module.named_modules()``; its output may be B x C x H x W (becomes
                H*W tokens of width C), B x T x D, or B x D (one token); the first of a tuple.
            name: must tell this architecture from others: the digest covers the name and the
                weights, not the code of ``forward``.
            image_input: size and preprocessing.
            batch_size: samples per forward pass.
            identity: what decides the numbers, in place of layer, input and a digest of the
                module's weights.

        Raises:
            RecipeError: there is no such layer, or its output cannot be read as tokens.
        """
        runtime.keep_freed_memory()
        self.name = name
        self.layer = layer
        self.batch_size = batch_size
        self._input = image_input
        self._tap = LayerTap(module.eval(), layer)
        if identity is None:
            identity = {
                "network": name,
                "weights": weights_digest(module),
                "layer": layer,
                "input": image_input.to_json(),
            }
        self.digest = digest_json(identity)
        blank = np.zeros((1, image_input.size, image_input.size, 3), np.uint8)
        with runtime.pinned_threads():
            _, self.tokens, self.width = self.encode(blank).shape

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """One uint8 image, H x W x 3, as uint8 size x size x 3."""
        return self._input.prepare(raw)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """uint8 [B, size, size, 3] to float32 [B, T, D]."""
        with torch.inference_mode():
            output = self._tap(self._input.to_tensor(batch))
            tokens: np.ndarray = output.to(torch.float32).contiguous().numpy()
        return tokens

    def example(self, seed: int) -> np.ndarray:
        """A made-up photograph; see `ImageInput.example`."""
        return self._input.example(seed)


def as_tokens(output: Any, layer: str) -> torch.Tensor:
    """A layer's output as [B, T, D].

    B x C x H x W becomes H*W tokens of width C, B x D becomes one token, B x T x D stays.

    Raises:
        RecipeError: it is not a tensor (or a tuple that begins with one) of 2 to 4 dimensions.
    """
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(first, torch.Tensor):
        if first.ndim == 4:
            return first.flatten(2).transpose(1, 2)
        if first.ndim == 3:
            return first
        if first.ndim == 2:
            return first.unsqueeze(1)
    shape = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
    raise RecipeError(
        f"The output of the layer {layer!r} cannot be read as tokens: {shape}.",
        advice="Choose a layer whose output has two, three or four dimensions.",
    )


def weights_digest(module: nn.Module, without: Collection[str] = ()) -> str:
    """SHA-256 of a module's state: names, types, shapes and bytes, in the order of the names.

    Entries named in ``without`` do not count.
    """

    def chunks() -> Iterable[bytes]:
        for name, value in sorted(module.state_dict().items()):
            if name in without:
                continue
            tensor = value.detach().contiguous().cpu()
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
            yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes()

    return digest_chunks(chunks())


def unknown_layer(layer: str, names: list[str]) -> RecipeError:
    """The error for a layer that is not among ``names``, with the nearest of them as advice."""
    shown = difflib.get_close_matches(layer, names, n=_NAMES_SHOWN, cutoff=0.5)
    if not shown:
        shown = [name for name in names if layer in name][:_NAMES_SHOWN]
    if not shown:
        shown = names[:: max(1, len(names) // _NAMES_SHOWN)][:_NAMES_SHOWN]
    return RecipeError(
        f"There is no layer {layer!r}.", advice=f"Layers are, for example, {', '.join(shown)}."
    )
