"""An encoder in an ONNX file, tapped at any tensor of its graph, run by onnxruntime.

The format is that of https://onnx.ai; what a file computes is in the file, so any exporter will do.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shardgraph.activations.extras import needs
from shardgraph.activations.image_input import ImageInput
from shardgraph.activations.torch_module import as_tokens, unknown_layer
from shardgraph.data.sample import Kind
from shardgraph.errors import RecipeError
from shardgraph.identity import digest_chunks, digest_json

ONNX = "onnx:"
"""How the name of such an encoder begins; the file follows."""

BATCH_SIZE = 8
_INPUT_KEYS = {"size", "mean", "std"}
_ADVICE = 'Such as {"size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}.'


class OnnxModel:
    """The image encoder in an ONNX file, at one of its tensors.

    The graph is cut in memory: what the tensor does not need is left out, and the tensor becomes
    the only output, whether the file declares it as one or not. One thread runs each call.
    """

    kind: Kind = "images"
    libraries: tuple[str, ...] = ("onnxruntime",)

    def __init__(
        self, path: Path, layer: str | None = None, *, image_input: ImageInput | None = None
    ) -> None:
        """Load the file.

        Args:
            path: the ``.onnx`` file; weights in files beside it are found by its references.
            layer: name of a tensor of the graph, or of a node for its first output; None for the
                first declared output. The output is read as by `as_tokens`.
            image_input: size and preprocessing; None for what `beside` reads.

        Raises:
            UsageError: onnx or onnxruntime is not installed.
            RecipeError: the file is missing or damaged, does not take one image of the size, has
                no such layer, or the layer's output has no tokens for each image.
        """
        with needs("onnx"):
            import onnx
            import onnxruntime  # noqa: F401  (so that its absence shows before any work)
        path = path.resolve()
        model, weights = _loaded(onnx, path)
        self.name = f"{ONNX}{path}"
        self.layer = _tensor(model.graph, layer)
        self._input = beside(path) if image_input is None else image_input
        self._feed, self._channels_last, batch = _image_input_of(model.graph, self._input.size)
        self.batch_size = BATCH_SIZE if batch is None else batch
        _cut(model, self.layer)
        self._session = _session(model, path)
        self.digest = digest_json(
            {
                "network": "onnx",
                "weights": weights,
                "layer": self.layer,
                "input": self._input.to_json(),
            }
        )
        blank = np.zeros((self.batch_size, self._input.size, self._input.size, 3), np.uint8)
        rows, self.tokens, self.width = self.encode(blank).shape
        if rows != self.batch_size:
            raise RecipeError(
                f"The tensor {self.layer!r} has {rows} rows for {self.batch_size} images.",
                advice="Choose one with a row for each image.",
            )

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """One uint8 image, H x W x 3, as uint8 size x size x 3."""
        return self._input.prepare(raw)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """uint8 [B, size, size, 3] to float32 [B, T, D]."""
        pixels = self._input.to_tensor(batch)
        if self._channels_last:
            pixels = pixels.permute(0, 2, 3, 1)
        (output,) = self._session.run(None, {self._feed: pixels.contiguous().numpy()})
        if self._channels_last and output.ndim == 4:
            output = output.transpose(0, 3, 1, 2)
        tokens = as_tokens(torch.from_numpy(np.ascontiguousarray(output)), self.layer)
        result: np.ndarray = tokens.to(torch.float32).contiguous().numpy()
        return result

    def example(self, seed: int) -> np.ndarray:
        """A made-up photograph; see `ImageInput.example`."""
        return self._input.example(seed)


def beside(path: Path) -> ImageInput:
    """The preprocessing in the JSON file beside a model: ``clip.onnx`` has ``clip.json``.

    It holds ``size`` in pixels, and ``mean`` and ``std`` of the three channels for values from 0
    to 1. Images are resized by their short side (bicubic) and cropped at the centre.

    Raises:
        RecipeError: there is no such file, or it holds something else.
    """
    file = path.with_suffix(".json")
    try:
        given = json.loads(file.read_bytes())
        if set(given) != _INPUT_KEYS:
            raise ValueError(f"it must hold {', '.join(sorted(_INPUT_KEYS))} and nothing else")
        mean, std = ([255 * float(value) for value in given[key]] for key in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3:
            raise ValueError("mean and std must have three numbers")
        return ImageInput(int(given["size"]), (*mean,), (*std,))  # type: ignore[arg-type]
    except OSError as error:
        raise RecipeError(
            f"The preprocessing of {path.name} is not known: {file} cannot be read.",
            advice=f"Write it there. {_ADVICE}",
        ) from error
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"The preprocessing in {file} cannot be used: {error}.", advice=_ADVICE
        ) from error


def _loaded(onnx: Any, path: Path) -> tuple[Any, str]:
    """The model, and the SHA-256 of its file and of the files with weights that it refers to."""
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise RecipeError(f"There is no file {path}.", advice="Name an ONNX file: onnx:FILE.")
    try:
        model = onnx.load(path, load_external_data=False)
        beside = {
            entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        files = [path, *(path.parent / name for name in sorted(beside))]
        digest = digest_chunks(itertools.chain.from_iterable(map(_chunks, files)))
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise _unusable(path, error) from error
    return model, digest


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def _tensor(graph: Any, layer: str | None) -> str:
    """The tensor that a layer's name stands for."""
    if layer is None and graph.output:
        return str(graph.output[0].name)
    first_output = {node.name: node.output[0] for node in graph.node if node.name and node.output}
    tensors = [name for node in graph.node for name in node.output if name]
    if layer in tensors:
        return str(layer)
    if layer in first_output:
        return str(first_output[layer])
    computed = [node.output[0] for node in graph.node if node.op_type != "Constant"]
    raise unknown_layer(str(layer), computed[::-1])


def _image_input_of(graph: Any, size: int) -> tuple[str, bool, int | None]:
    """Name of the input, whether its channels come last, and its batch size if that is fixed."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    if len(inputs) == 1 and inputs[0].type.tensor_type.elem_type == 1:  # float32
        dims = [item.dim_value or None for item in inputs[0].type.tensor_type.shape.dim]
        for channels_last, channel, sides in ((False, 1, (2, 3)), (True, 3, (1, 2))):
            if len(dims) == 4 and dims[channel] == 3:
                if any(dims[side] not in (None, size) for side in sides):
                    wanted = " x ".join(str(dims[side]) for side in sides)
                    raise RecipeError(
                        f"The model takes images of {wanted} pixels, not {size}.",
                        advice="Correct the size in its preprocessing.",
                    )
                return str(inputs[0].name), channels_last, dims[0]
    raise RecipeError(
        f"The model takes {', '.join(item.name for item in inputs) or 'nothing'}, not one image.",
        advice="Use a model with one float32 input, B x 3 x H x W or B x H x W x 3.",
    )


def _cut(model: Any, tensor: str) -> None:
    """Make ``tensor`` the only output, and drop what it does not need."""
    needed, nodes = {tensor}, []
    for node in reversed(model.graph.node):
        if not needed.isdisjoint(node.output):
            nodes.append(node)
            needed.update(_used_by(node))
    weights = [item for item in model.graph.initializer if item.name in needed]
    dropped = {item.name for item in model.graph.initializer} - needed
    inputs = [item for item in model.graph.input if item.name not in dropped]
    del model.graph.output[:]
    model.graph.output.add(name=tensor)
    fields = (
        (model.graph.node, nodes[::-1]),
        (model.graph.initializer, weights),
        (model.graph.input, inputs),  # old files declare weights as inputs too
    )
    for field, content in fields:
        copies = [type(item).FromString(item.SerializeToString()) for item in content]
        del field[:]
        field.extend(copies)


def _used_by(node: Any) -> Iterable[str]:
    """The tensors that a node reads, those in its branches and loop bodies included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _used_by(inner)
            yield from (item.name for item in graph.output)


def _session(model: Any, path: Path) -> Any:
    """A session whose result depends on nothing but its input: one thread, in one order."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    failures: tuple[type[Exception], ...] = (
        ValueError,
        *(kind for kind in kinds if issubclass(kind, Exception)),
    )
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except failures as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> RecipeError:
    reason = " ".join(str(error).split()).rstrip(".")
    return RecipeError(f"The ONNX file {path} cannot be used: {reason}.", advice="Export it again.")
