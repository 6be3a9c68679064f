"""An encoder of the package transformers: a local folder or a name on its hub, images or texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import nn

from shardgraph import runtime
from shardgraph.activations.extras import needs
from shardgraph.activations.image_input import example_image
from shardgraph.activations.torch_module import LayerTap, as_tokens, weights_digest
from shardgraph.data.sample import Kind
from shardgraph.errors import DataError, RecipeError
from shardgraph.identity import digest_json

TRANSFORMERS = "transformers:"
"""How the name of such an encoder begins; a folder or a name on the hub follows."""

LAST = "last_hidden_state"
"""The default layer: what the model itself gives as its last, behind its final normalisation."""

MOST_TOKENS = 128
"""Most tokens of a text that are encoded unless the name says otherwise; the rest is cut off."""

BATCH_SIZE = 8
_VOLATILE = ("transformers_version", "torch_dtype", "dtype", "processor_class", "architectures")
_WORDS = ("a", "frozen", "encoder", "reads", "every", "word", "once", "and", "no", "more")


class _Input(Protocol):
    """How a raw input becomes what the model is called with."""

    kind: Kind
    libraries: tuple[str, ...]

    def prepare(self, raw: np.ndarray) -> np.ndarray: ...
    def arguments(self, batch: np.ndarray) -> dict[str, torch.Tensor]: ...
    def place(self, tokens: torch.Tensor, _batch: np.ndarray, /) -> torch.Tensor: ...
    def example(self, seed: int) -> np.ndarray: ...
    def to_json(self) -> dict[str, Any]: ...


class HuggingModel:
    """A model of the package transformers, tapped at one layer.

    Preprocessing is that of the model's own image processor or tokenizer. Weights are taken as
    float32. A model of both images and texts, such as CLIP, is taken by its image tower; one with
    an encoder and a decoder by its encoder.
    """

    def __init__(self, place: str, layer: str | None = None) -> None:
        """Load a model.

        Args:
            place: a folder, or a name on the hub, which is fetched unless it is in the cache. Where
                the model reads texts, ``?tokens=N`` behind it sets how many tokens of a text are
                encoded, in place of `MOST_TOKENS`.
            layer: a number from 1 to the number of blocks, for the output of that block; the name
                of a module; or None for `LAST`.

        Raises:
            UsageError: transformers is not installed.
            RecipeError: there is no such model, something of it is missing, or it has no such
                layer.
        """
        with needs("transformers"):
            import transformers
        place, tokens = _split(place)
        folder = Path(place).expanduser()
        is_local = folder.is_dir()
        if not is_local and (folder.is_absolute() or place.startswith((".", "~"))):
            raise RecipeError(
                f"There is no folder {place}.",
                advice="Name the folder of a model, or its name on the hub.",
            )
        place = str(folder.resolve()) if is_local else place
        with _loading(transformers, place):
            settings, _ = transformers.PreTrainedConfig.get_config_dict(place)
            network, missing = _network(transformers, place)
            self._input = _input_of(transformers, network, place, tokens)
        self.name = f"{TRANSFORMERS}{place}" + ("" if tokens is None else f"?tokens={tokens}")
        self.kind: Kind = self._input.kind
        self.libraries = self._input.libraries
        self.batch_size = BATCH_SIZE
        self.layer = _module_name(network, layer)
        self._network = network
        self._tap = None if self.layer == LAST else LayerTap(network, self.layer)
        self.digest = digest_json(
            {
                "network": _stable(settings),
                "weights": weights_digest(network, without=missing),
                "layer": self.layer,
                "input": self._input.to_json(),
            }
        )
        runtime.keep_freed_memory()
        with runtime.pinned_threads():
            one = self.encode(self._input.prepare(self._input.example(0))[np.newaxis])
        _, self.tokens, self.width = one.shape

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """One image or text as the model takes it, of a fixed shape.

        Raises:
            DataError: the image processor gives different images different shapes.
        """
        return self._input.prepare(raw)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Encode B prepared inputs to float32 [B, T, D].

        The places of a text behind its end repeat its own tokens from the first on, so that an
        average over places is about one over the text.
        """
        with torch.inference_mode():
            arguments = self._input.arguments(batch)
            if self._tap is None:
                output = as_tokens(self._network(**arguments).last_hidden_state, LAST)
            else:
                output = self._tap(**arguments)
            placed = self._input.place(output, batch)
            tokens: np.ndarray = placed.to(torch.float32).contiguous().numpy()
        return tokens

    def example(self, seed: int) -> np.ndarray:
        """A made-up photograph, or a text that may be shorter or longer than the model takes."""
        return self._input.example(seed)


class _Images:
    """Images, by the model's own processor."""

    kind: Kind = "images"
    libraries: tuple[str, ...] = ("transformers",)

    def __init__(self, transformers: Any, place: str) -> None:
        self._processor = transformers.AutoImageProcessor.from_pretrained(place)
        self._settings = _stable(
            transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(place)[
                0
            ]
        )
        self._shape = self._processed(self.example(0)).shape

    def _processed(self, raw: np.ndarray) -> np.ndarray:
        image = Image.fromarray(raw)
        pixels = self._processor(images=image, return_tensors="np")["pixel_values"]
        return np.asarray(pixels[0], np.float32)

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        pixels = self._processed(raw)
        if pixels.shape != self._shape:
            raise DataError(
                f"The image processor gives an image of {raw.shape[:2]} pixels the shape "
                f"{pixels.shape}, and another {self._shape}.",
                advice="Use a model whose processor gives every image the same size.",
            )
        return pixels

    def arguments(self, batch: np.ndarray) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.from_numpy(np.require(batch, requirements=["C", "W"]))}

    def place(self, tokens: torch.Tensor, _batch: np.ndarray) -> torch.Tensor:
        return tokens

    def example(self, seed: int) -> np.ndarray:
        return example_image(224, seed)

    def to_json(self) -> dict[str, Any]:
        return {"processor": self._settings, "shape": list(self._shape)}


class _Texts:
    """Texts, by the model's own tokenizer, padded or cut to a fixed number of tokens."""

    kind: Kind = "texts"
    libraries: tuple[str, ...] = ("transformers", "tokenizers")

    def __init__(self, transformers: Any, place: str, config: Any, tokens: int | None) -> None:
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(place, padding_side="right")
        if not hasattr(self._tokenizer, "backend_tokenizer"):
            raise RecipeError(
                f"The tokenizer of {place} has no tokenizer.json.",
                advice="Save it as a fast tokenizer first.",
            )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._settings = self._tokenizer.backend_tokenizer.to_str()
        room = [self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
        most = min(size for size in room if size is not None)
        self._tokens = min(MOST_TOKENS, most) if tokens is None else tokens
        if not 1 <= self._tokens <= most:
            raise RecipeError(
                f"The model takes at most {most} tokens of a text, not {self._tokens}.",
                advice="Choose fewer.",
            )

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        found = self._tokenizer(
            str(raw), padding="max_length", truncation=True, max_length=self._tokens
        )
        return np.array([found["input_ids"], found["attention_mask"]], np.int64)

    def arguments(self, batch: np.ndarray) -> dict[str, torch.Tensor]:
        ids, mask = torch.from_numpy(batch.copy()).unbind(1)
        mask[mask.sum(1) == 0, 0] = 1  # rows that pad a batch; attention to nothing is not finite
        return {"input_ids": ids, "attention_mask": mask}

    def place(self, tokens: torch.Tensor, batch: np.ndarray) -> torch.Tensor:
        if tokens.shape[1] != self._tokens:
            return tokens
        used = torch.from_numpy(batch[:, 1].sum(-1).clip(1))
        places = torch.arange(self._tokens).remainder(used.unsqueeze(1))
        return tokens.gather(1, places.unsqueeze(2).expand_as(tokens))

    def example(self, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        length = int(random.integers(1, 2 + self._tokens // 8)) if seed % 4 else 2 * self._tokens
        return np.array(" ".join(random.choice(_WORDS, length)))

    def to_json(self) -> dict[str, Any]:
        return {"tokenizer": self._settings, "tokens": self._tokens, "padding": "repeat"}


def _split(place: str) -> tuple[str, int | None]:
    """A place without ``?tokens=N``, and N."""
    bare, sign, option = place.partition("?")
    if not sign:
        return place, None
    name, _, number = option.partition("=")
    if name != "tokens" or not (number.isascii() and number.isdigit()):
        raise RecipeError(
            f"{place!r} has an option that is not known.", advice="Write it like ?tokens=256."
        )
    return bare, int(number)


@contextmanager
def _loading(transformers: Any, place: str) -> Iterator[None]:
    """Load quietly, with one line for whatever is wrong with the files."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        if isinstance(error, RecipeError):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise RecipeError(
            f"The encoder {place} cannot be loaded: {reason}.",
            advice="Name a folder with config.json, weights, and the files of the model's image "
            "processor or tokenizer, or a name on the hub while there is a network.",
        ) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _network(transformers: Any, place: str) -> tuple[nn.Module, frozenset[str]]:
    """The encoder in evaluation mode, and the names of weights that the files do not hold.

    Those can only be a pooler's, which no layer before it uses.
    """
    whole, report = transformers.AutoModel.from_pretrained(
        place, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    needed = [name for name in missing if "pooler" not in name]
    if needed:
        raise RecipeError(
            f"The files of {place} lack {len(needed)} weights, such as {needed[0]}.",
            advice="Name the folder of the encoder itself, with all its weights.",
        )
    network = getattr(whole, "vision_model", whole)
    if getattr(whole.config, "is_encoder_decoder", False):
        network = whole.get_encoder()
    return network.eval(), frozenset(missing)


def _input_of(transformers: Any, network: Any, place: str, tokens: int | None) -> _Input:
    wanted = network.main_input_name
    if wanted == "pixel_values" and tokens is None:
        return _Images(transformers, place)
    if wanted == "input_ids":
        return _Texts(transformers, place, network.config, tokens)
    raise RecipeError(
        f"{place} takes {wanted}, and an encoder of images has no number of tokens to choose."
        if tokens is not None
        else f"{place} takes {wanted}, neither images nor texts.",
        advice="Leave out ?tokens." if tokens is not None else "Choose another encoder.",
    )


def _module_name(network: nn.Module, layer: str | None) -> str:
    """The name under which the tap finds a layer."""
    if layer is None or layer == LAST:
        return LAST
    if not layer.isdigit():
        return layer
    blocks = _blocks(network)
    if not 1 <= int(layer) <= len(blocks):
        raise RecipeError(
            f"There is no layer {layer}.",
            advice=f"Layers are 1 to {len(blocks)}, {LAST}, or modules such as {blocks[-1]}."
            if blocks
            else "This model has no numbered layers: name one of its modules.",
        )
    return blocks[int(layer) - 1]


def _blocks(network: nn.Module) -> list[str]:
    """The names of the blocks, from the first to the last."""
    number = getattr(network.config, "num_hidden_layers", None)
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return [f"{name}.{place}" for place in range(len(module))]
    return []


def _stable(settings: dict[str, Any]) -> dict[str, Any]:
    """The entries of a configuration file that may decide numbers."""
    return {
        name: value
        for name, value in settings.items()
        if not name.startswith("_") and name not in _VOLATILE
    }
