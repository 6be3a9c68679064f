"""An encoder with fewer tokens: those of neighbouring places of an image are averaged."""

from __future__ import annotations

import math

import numpy as np

from shardgraph.activations.backbone import Backbone
from shardgraph.data.sample import Kind
from shardgraph.errors import RecipeError
from shardgraph.identity import digest_json

AVERAGE = "?average="
"""Stands between the name of an encoder and P, the side of the squares that are averaged."""

_RULE = 1  # goes up when averages become other numbers
_MOST_DIGITS = 4


class Averaged:
    """An encoder whose tokens are averaged over P x P places (`fewer_tokens`)."""

    kind: Kind = "images"

    def __init__(self, backbone: Backbone, side: int) -> None:
        """Average the tokens of ``backbone`` over ``side`` x ``side`` places.

        Raises:
            RecipeError: it does not take images, or its tokens do not divide into such squares.
        """
        if backbone.kind != "images":
            raise RecipeError(
                f"Tokens of {backbone.kind} lie in no grid.", advice=f"Leave out {AVERAGE}{side}."
            )
        _, self.tokens = _grid(backbone.tokens, side)
        self.backbone, self.side = backbone, side
        self.name = f"{backbone.name}{AVERAGE}{side}"
        self.layer, self.width = backbone.layer, backbone.width
        self.libraries, self.batch_size = backbone.libraries, backbone.batch_size
        self.digest = digest_json({"encoder": backbone.digest, "average": side, "rule": _RULE})

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        """As the encoder prepares it."""
        return self.backbone.prepare(raw)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Encode B prepared images to float32 [B, T, D].

        Averages are of tokens in float16, as a store keeps them, so that they can also be made from
        activations that were kept before. A token beyond float16 makes its average infinite, or no
        number at all.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            whole = self.backbone.encode(batch).astype(np.float16)
            return fewer_tokens(whole, self.side).astype(np.float32)

    def example(self, seed: int) -> np.ndarray:
        """As the encoder makes one."""
        return self.backbone.example(seed)


def named_average(name: str) -> tuple[str, int | None]:
    """The name of an encoder without its average, and P; None where the name has none.

    Raises:
        RecipeError: what stands behind ``?average=`` is no positive number.
    """
    bare, sign, number = name.rpartition(AVERAGE)
    if not sign:
        return name, None
    if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS and int(number)):
        raise RecipeError(
            f"Tokens cannot be averaged over {number[:40]!r} places.",
            advice=f"Write a number, at the end of the name, as in onnx:clip.onnx{AVERAGE}2.",
        )
    return bare, int(number)


def fewer_tokens(tokens: np.ndarray, side: int) -> np.ndarray:
    """Activations, float16 [N, T, D], with the tokens of each P x P places averaged, P = ``side``.

    Of T tokens the last s * s, s being the largest integer that fits, are taken for a square grid,
    row by row; those before them (a class token) stay as they are. Sums are formed in float32.

    Raises:
        RecipeError: s is not a multiple of P.
    """
    ahead, length = _grid(tokens.shape[1], side)
    fewer, width = math.isqrt(length - ahead), tokens.shape[2]
    found = np.empty((len(tokens), length, width), np.float16)
    found[:, :ahead] = tokens[:, :ahead]
    for row, sample in enumerate(tokens):
        grid = sample[ahead:].reshape(fewer, side, fewer, side, width)
        found[row, ahead:] = grid.mean(axis=(1, 3), dtype=np.float32).reshape(-1, width)
    return found


def _grid(tokens: int, side: int) -> tuple[int, int]:
    """How many of the tokens lie before the grid, and how many tokens are left in the end."""
    whole = math.isqrt(tokens)
    if side < 1 or whole % side:
        raise RecipeError(
            f"A grid of {whole} x {whole} tokens does not divide into squares of {side} x {side}.",
            advice=f"Use a number that divides {whole}.",
        )
    ahead = tokens - whole * whole
    return ahead, ahead + (whole // side) ** 2
