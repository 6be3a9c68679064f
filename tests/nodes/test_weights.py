"""Weights survive their bytes exactly; damaged bytes never become weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from shardgraph.errors import StoreDamagedError, StoreFormatError
from shardgraph.nodes import adapter
from shardgraph.nodes.recipe import KINDS, Recipe
from shardgraph.nodes.weights import NodeWeights, from_bytes, to_bytes

CLASSES = ("ant", "bee", 'größe "q"', "日本")


def _weights(kind: str = "inca") -> NodeWeights:
    arrays = adapter.initialise(Recipe(kind=kind, heads=2, value_width=16), 5, 7, len(CLASSES))
    return NodeWeights(3, kind, CLASSES, arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str) -> None:
    weights = _weights(kind)
    again = from_bytes(9, to_bytes(weights))
    assert (again.node, again.kind, again.classes) == (9, kind, CLASSES)
    assert set(again.arrays) == set(weights.arrays)
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    assert to_bytes(again) == to_bytes(weights)


def test_bytes_do_not_depend_on_node_number_or_order_of_arrays() -> None:
    weights = _weights()
    turned = NodeWeights(4, "inca", CLASSES, dict(reversed(list(weights.arrays.items()))))
    assert to_bytes(turned) == to_bytes(weights)


def test_bytes_are_plain_safetensors() -> None:
    weights = _weights()
    loaded = safetensors.numpy.load(to_bytes(weights))
    np.testing.assert_array_equal(loaded["values"], weights.arrays["values"])


def test_arrays_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        _weights().arrays["values"][0] = 1


def test_every_cut_is_refused() -> None:
    data = to_bytes(_weights())
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        with pytest.raises(StoreDamagedError, match="node 3 are damaged"):
            from_bytes(3, data[:length])
    with pytest.raises(StoreDamagedError):
        from_bytes(3, data + b"\0")


def _edited(**metadata: str) -> bytes:
    data = to_bytes(_weights())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"].update(metadata)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def test_another_format_is_named() -> None:
    with pytest.raises(StoreFormatError, match="shardgraph-node-1"):
        from_bytes(3, _edited(format="shardgraph-node-1"))


@pytest.mark.parametrize(
    "metadata",
    [
        {"kind": "mlp"},
        {"kind": "open-inca"},
        {"classes": '["ant"]'},
        {"classes": '["bee","ant","c","d"]'},
        {"classes": '["ant","ant","c","d"]'},
        {"classes": "[]"},
        {"classes": "{"},
    ],
)
def test_contradictions_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(StoreDamagedError):
        from_bytes(3, _edited(**metadata))


def test_weights_that_are_not_numbers_are_refused() -> None:
    weights = _weights()
    arrays = {name: array.copy() for name, array in weights.arrays.items()}
    arrays["bias"][0, 0] = np.nan
    with pytest.raises(StoreDamagedError, match="not finite"):
        from_bytes(3, to_bytes(NodeWeights(3, "inca", CLASSES, arrays)))


def test_missing_or_strange_arrays_are_refused() -> None:
    weights = _weights()
    arrays = dict(weights.arrays)
    del arrays["bias"]
    with pytest.raises(StoreDamagedError):
        from_bytes(3, to_bytes(NodeWeights(3, "inca", CLASSES, arrays)))
    flat = {**weights.arrays, "values": weights.arrays["values"].reshape(-1)}
    with pytest.raises(StoreDamagedError, match="axes"):
        from_bytes(3, to_bytes(NodeWeights(3, "inca", CLASSES, flat)))
