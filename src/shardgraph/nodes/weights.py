"""One node's weights as an immutable record, and as one deterministic byte string."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from shardgraph.errors import StoreDamagedError, StoreFormatError
from shardgraph.identity import canonical_json
from shardgraph.nodes.recipe import KINDS

FORMAT = "shardgraph-node-2"
"""Format name and version, in the metadata of every weights file."""


@dataclass(frozen=True, eq=False)
class NodeWeights:
    """What a node learnt: unpadded float32 arrays and the classes they answer for.

    Attributes:
        node: number of the node in the shard graph; not part of the bytes.
        kind: the recipe's kind.
        classes: sorted labels in what the node reads; the order of the head's columns.
        arrays: ``attention`` [H, Q, D], ``values`` [H, D, V], ``gain`` and ``offset`` [1, F],
            ``weight`` [F, C] (``open-inca``: [C, F]), ``bias`` [1, C]. Not to be written to.
    """

    node: int
    kind: str
    classes: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            array.flags.writeable = False


def to_bytes(weights: NodeWeights) -> bytes:
    """The weights as a safetensors file; equal weights give equal bytes on every machine."""
    metadata = {
        "classes": canonical_json(list(weights.classes)).decode(),
        "format": FORMAT,
        "kind": weights.kind,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.arrays.items()}
    return _serialise(arrays, metadata)


def _serialise(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Safetensors with its header in one canonical order (the library's own may vary).

    Layout: https://github.com/huggingface/safetensors#format - length of the header (8 bytes,
    little endian), header (JSON, padded with spaces to a multiple of 8), arrays back to back.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name in sorted(arrays):
        size = arrays[name].nbytes
        shape = list(arrays[name].shape)
        header[name] = {
            "data_offsets": [position, position + size],
            "dtype": "F32",
            "shape": shape,
        }
        position += size
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    bodies = [arrays[name].astype("<f4", copy=False).tobytes() for name in sorted(arrays)]
    return b"".join([len(text).to_bytes(8, "little"), text, *bodies])


def from_bytes(node: int, data: bytes) -> NodeWeights:
    """The weights of ``node`` from what `to_bytes` gave.

    Raises:
        StoreFormatError: the bytes have another format version.
        StoreDamagedError: the bytes are cut short, are not weights, or contradict themselves.
    """
    try:
        arrays = safetensors.numpy.load(data)
        metadata = _metadata(data)
        classes = tuple(json.loads(metadata["classes"]))
        kind, found = metadata["kind"], metadata["format"]
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise _damaged(node, "they are not a weights file") from error
    if found != FORMAT:
        raise StoreFormatError(
            f"The weights of node {node} have the format {found!r}, not {FORMAT!r}.",
            advice="Use the version of shardgraph that wrote them.",
        )
    _check(node, kind, classes, arrays)
    return NodeWeights(node, kind, classes, arrays)


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(header["__metadata__"])


def _damaged(node: int, reason: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"The weights of node {node} are damaged: {reason}.",
        advice="Fit the node again from its samples, or restore the store from a backup.",
    )


def _check(
    node: int, kind: str, classes: tuple[str, ...], arrays: Mapping[str, np.ndarray]
) -> None:
    if kind not in KINDS:
        raise _damaged(node, f"unknown kind {kind!r}")
    if not classes or list(classes) != sorted(set(classes)):
        raise _damaged(node, "their class list is empty, unsorted or has doubles")
    if set(arrays) != {"attention", "values", "gain", "offset", "weight", "bias"}:
        raise _damaged(node, "arrays are missing or unknown")
    if any(array.dtype != np.float32 for array in arrays.values()):
        raise _damaged(node, "an array is not float32")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise _damaged(node, "an array holds values that are not finite")
    if arrays["attention"].ndim != 3 or arrays["values"].ndim != 3:
        raise _damaged(node, "an array has the wrong number of axes")
    if {name: array.shape for name, array in arrays.items()} != _shapes(kind, classes, arrays):
        raise _damaged(node, "shapes of arrays contradict each other")


def _shapes(
    kind: str, classes: tuple[str, ...], arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """The shapes that follow from the attention vectors and the value width."""
    count = len(classes)
    heads, queries, width = arrays["attention"].shape
    value_width = arrays["values"].shape[-1]
    open_kind = kind == "open-inca"
    inner = heads * value_width * (1 if open_kind else queries)
    return {
        "attention": (heads, count if open_kind else queries, width),
        "values": (heads, width, value_width),
        "gain": (1, inner),
        "offset": (1, inner),
        "weight": (count, inner) if open_kind else (inner, count),
        "bias": (1, count),
    }
