"""What a node learnt from what it reads, whatever its kind: one form of bytes for each.

A trained node keeps the weights of its adapter. A discriminant or random node keeps a projection.
Either gives the integer features that a tally is made of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
import torch

from shardgraph.errors import RecipeError, StoreDamagedError
from shardgraph.identity import canonical_json
from shardgraph.nodes import weights as node_weights
from shardgraph.nodes.discriminant import discriminant_projection
from shardgraph.nodes.projection import Projection, random_projection, trained_projection
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tally_recipe import TallyRecipe
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import NodeWeights

FORMAT = "shardgraph-projection-2"
"""Format name and version, in the metadata of every projection file."""

Representation = NodeWeights | Projection


@dataclass(frozen=True, slots=True)
class Settings:
    """What, beside its samples and its seed, decides what a node learns.

    ``stacked`` says whether trained nodes may be trained together, see `train`; ``features`` is the
    type in which integer features are computed, see `tally_all`. Where they may be chosen at all
    they change no bit.
    """

    recipe: Recipe
    tally: TallyRecipe
    stacked: bool = True
    features: torch.dtype = torch.float32


def represent(
    jobs: Sequence[Job],
    kinds: Mapping[int, str],
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Representation]:
    """What each node learns, by node; a function of its job and the settings alone.

    Args:
        jobs: the nodes, with what each reads.
        kinds: the kind of each node, "trained" or "discriminant".
        settings: see `Settings`.
        progress: called with (nodes done, nodes in all).
    """
    trained = [job for job in jobs if kinds[job.node] == "trained"]
    closed = [job for job in jobs if kinds[job.node] == "discriminant"]
    found: dict[int, Representation] = {}

    def report(done: int, _total: int) -> None:
        if progress is not None:
            progress(done, len(jobs))

    if trained:
        fitted = train(trained, settings.recipe, stacked=settings.stacked, progress=report)
        found.update((weights.node, weights) for weights in fitted)
    for job in closed:
        found[job.node] = discriminant_projection(
            job.seed,
            job.rows,
            job.labels,
            heads=settings.tally.heads,
            value_width=settings.tally.value_width,
            sharpness=settings.tally.sharpness,
        )
        report(len(found), len(jobs))
    return found


def without_data(seed: int, width: int, recipe: TallyRecipe) -> Projection:
    """What a random node knows: a function of its seed, for tokens of ``width`` floats."""
    return random_projection(
        seed,
        width=width,
        heads=recipe.heads,
        value_width=recipe.value_width,
        sharpness=recipe.sharpness,
    )


def projection_of(representation: Representation) -> Projection:
    """The projection that gives a node's integer features."""
    if isinstance(representation, Projection):
        return representation
    return trained_projection(representation.arrays["attention"], representation.arrays["values"])


def to_bytes(representation: Representation) -> bytes:
    """The representation as a safetensors file; equal ones give equal bytes."""
    if isinstance(representation, NodeWeights):
        return node_weights.to_bytes(representation)
    arrays = {
        "attention": representation.attention,
        "rate": representation.rate,
        "values": representation.values,
    }
    about = canonical_json({"format": FORMAT}).decode()
    # One metadata entry: the library writes several in an order of its own.
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"projection": about},
    )


def from_bytes(node: int, data: bytes) -> Representation:
    """The representation of ``node`` from what `to_bytes` gave.

    Raises:
        StoreFormatError: the bytes have another format version.
        StoreDamagedError: the bytes are damaged.
    """
    if not _is_projection(data):
        return node_weights.from_bytes(node, data)
    try:
        arrays = safetensors.numpy.load(data)
        return Projection(arrays["attention"], arrays["rate"], arrays["values"])
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RecipeError) as error:
        raise StoreDamagedError(
            f"The projection of node {node} is damaged.",
            advice="Fit the node again from its samples, or restore the store from a backup.",
        ) from error


def _is_projection(data: bytes) -> bool:
    """Whether the bytes say that they are a projection, of this format."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["projection"])
    except (KeyError, ValueError, TypeError):
        return False
    return bool(about == {"format": FORMAT})
