"""What every frozen encoder provides, and the one for activations that exist already."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from shardgraph.data.sample import Dataset, Kind
from shardgraph.errors import DataError, RecipeError
from shardgraph.identity import digest_json

PRECOMPUTED = "activations"
"""Name of the backbone for data that are activations already."""


_ENCODERS: dict[Kind, str] = {
    "activations": PRECOMPUTED,
    "images": "efficientnet-lite0",
    "texts": "transformers:FOLDER_OR_NAME",
}


class Backbone(Protocol):
    """A frozen encoder: one raw input in, ``tokens`` x ``width`` numbers out.

    Several threads call `prepare` and `encode` at once, so neither may change the object.
    A new kind of encoder is a new file with a class that keeps this protocol; the tests in
    ``tests/activations/test_conformance.py`` take any of them.
    """

    @property
    def name(self) -> str:
        """What the user calls it, such as ``efficientnet-lite0``."""
        ...

    @property
    def kind(self) -> Kind:
        """What it takes: ``prepare`` is given what a dataset of this kind reads."""
        ...

    @property
    def libraries(self) -> tuple[str, ...]:
        """Installed packages beside torch and numpy whose version may change the numbers."""
        ...

    @property
    def layer(self) -> str:
        """The layer whose output is the activation, in the one spelling kept in a store."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the numbers, except the machine.

        It covers the weights' bytes, the preprocessing constants, the layer and the input size.
        """
        ...

    @property
    def tokens(self) -> int:
        """T, the tokens of one sample."""
        ...

    @property
    def width(self) -> int:
        """D, the width of one token."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples per call of `encode` at which it is fastest."""
        ...

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """One raw input as an array of a fixed shape and type."""
        ...

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Encode B prepared inputs, [B, ...], to float32 [B, T, D].

        Guaranteed only as far as `shardgraph.activations.selftest` finds: that a row depends
        neither on its neighbours nor on its place in the batch.
        """
        ...

    def example(self, seed: int) -> np.ndarray:
        """A made-up raw input that looks like a real one; the same for the same seed."""
        ...


class Precomputed:
    """The backbone of data that are activations already: it only checks their shape."""

    kind: Kind = "activations"
    libraries: tuple[str, ...] = ()
    batch_size = 256
    layer = "as-given"
    name = PRECOMPUTED

    def __init__(self, tokens: int, width: int) -> None:
        """Take samples of ``tokens`` x ``width`` numbers.

        Raises:
            RecipeError: a size is not positive.
        """
        if tokens < 1 or width < 1:
            raise RecipeError(
                f"Activations of {tokens} x {width} numbers hold nothing.",
                advice="Both sizes must be at least 1.",
            )
        self.tokens = tokens
        self.width = width
        self.digest = digest_json({"network": self.name, "tokens": tokens, "width": width})

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """Round a T x D array to float16; what does not fit becomes infinite.

        Raises:
            DataError: it has another shape.
        """
        if raw.shape != (self.tokens, self.width):
            raise DataError(
                f"An activation has the shape {raw.shape}, not {(self.tokens, self.width)}.",
                advice="All samples of a store must have the same tokens and width.",
            )
        with np.errstate(over="ignore"):
            return raw.astype(np.float16)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """The batch itself, as float32."""
        return batch.astype(np.float32)

    def example(self, seed: int) -> np.ndarray:
        """Normally distributed numbers, T x D."""
        return np.random.default_rng(seed).standard_normal((self.tokens, self.width))


def require_kind(dataset: Dataset, backbone: Backbone) -> None:
    """Check that the backbone takes what the dataset holds.

    Raises:
        DataError: it does not.
    """
    if dataset.kind != backbone.kind:
        raise DataError(
            f"The data are {dataset.kind}, and the encoder {backbone.name!r} takes "
            f"{backbone.kind}.",
            advice=f"Give it {backbone.kind}, or fit {dataset.kind} with an encoder for them, "
            f"such as --backbone {_ENCODERS[dataset.kind]}.",
        )
