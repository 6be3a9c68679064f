"""What raises the accuracy of tallies at no cost of forgetting, and what does not: on tuning sets.

    python benchmarks/further.py [--parts nodes head layers bilinear test]

Nodes of the kind ``random`` tally everything, so neither shards nor requests matter: heads are
solved from the sums of a training part and scored on a tuning part. cub100: a quarter of the
training set of each class is held out; grocery81: its validation folder (one image is 0.34
points). Only the part ``test`` looks at test sets, once, at the settings before and after.

Encoders: the default one, and CLIP ViT-B/16 (``assets.py``) after block 9 and after the last one,
its 14 x 14 patches averaged two by two, so that a sample has 50 tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import assets
import numpy as np
import torch
from common import RESULTS, activations, data_folder, record

from shardgraph.activations.averaged import fewer_tokens
from shardgraph.activations.open import open_backbone
from shardgraph.nodes.closed_form import HeadRule, solve
from shardgraph.nodes.projection import (
    FEATURE_LIMIT,
    FEATURE_UNIT,
    Projections,
    integer_tokens,
    random_projection,
)
from shardgraph.nodes.tally import Tally

ENCODERS = {"default": None, "clip block 9": 9, "clip block 12": 12}
DATA = ("cub100", "grocery81")
HELD_OUT = 4


@dataclass(frozen=True)
class Nodes:
    """Random nodes of one shape; ``counts`` are the sizes of ensembles that are scored."""

    counts: tuple[int, ...]
    value_width: int
    sharpness: float
    robust: bool = True
    heads: int = 32


BEFORE = Nodes((8, 16), 16, 1.5, robust=False)
TRIED = {
    "512 features, sharpness 1.5, scaled by all": BEFORE,
    "512 features, sharpness 1.5": replace(BEFORE, robust=True),
    "1,024 features, sharpness 1, scaled by all": Nodes((2, 8, 16), 32, 1.0, robust=False),
    "1,024 features, sharpness 1": Nodes((2, 8, 16), 32, 1.0),
    "2,048 features, sharpness 1": Nodes((2, 4), 64, 1.0),
}
WIDE = TRIED["1,024 features, sharpness 1"]
RULES = [
    HeadRule(),
    *(HeadRule(shrinkage=value) for value in (0.005, 0.08)),
    *(HeadRule(prior_count=value) for value in (2.0, 18.0)),
    *(HeadRule(spread=value) for value in (11.0, 44.0)),
]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples that are tallied, and samples that are asked about."""

    tokens: np.ndarray
    labels: np.ndarray
    asked: np.ndarray
    right: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = RESULTS / "further.json"  # parts that are not asked for stay as they are
    results: dict[str, Any] = json.loads(kept.read_text())["results"] if kept.exists() else {}
    for part in options.parts:
        results[part] = {}
        for name, found in PARTS[part]():
            print(part, name, found, flush=True)
            results[part][name] = found
            record("further", vars(options), results)


def nodes() -> Iterator[tuple[str, Any]]:
    for encoder in ("default", "clip block 9"):
        for data in DATA:
            split = tuning(encoder, data)
            for name, chosen in TRIED.items():
                yield f"{encoder}, {data}, {name}", scored(split, chosen)


def head() -> Iterator[tuple[str, Any]]:
    for encoder in ("default", "clip block 9"):
        split = tuning(encoder, "cub100")
        features = attended(split, replace(WIDE, counts=(4,)))
        for rule in RULES:
            yield f"{encoder}, cub100, {rule}", ensembles(split, said(split, features, rule), (4,))


def layers() -> Iterator[tuple[str, Any]]:
    """Nodes on one layer, nodes on another, and as many nodes on both."""
    for data in DATA:
        each = {}
        for encoder in ("clip block 9", "clip block 12"):
            split = tuning(encoder, data)
            each[encoder] = said(split, attended(split, replace(WIDE, counts=(8,))), HeadRule())
            yield f"{encoder}, {data}", ensembles(split, each[encoder], (4, 8))
        both = [votes for pair in zip(*each.values(), strict=True) for votes in pair]
        yield f"both, half of the nodes each, {data}", ensembles(split, both, (4, 8))


def bilinear() -> Iterator[tuple[str, Any]]:
    """Means over tokens of products of two random projections, in place of attention."""
    for data in DATA:
        split = tuning("default", data)
        attention = said(split, attended(split, replace(WIDE, counts=(4,))), HeadRule())
        yield f"{data}, attention", ensembles(split, attention, (2, 4))
        for name, root in (("products", False), ("their signed roots", True)):
            features = [products_of(split, seed, root=root) for seed in range(2)]
            votes = said(split, features, HeadRule())
            yield f"{data}, {name}", ensembles(split, votes, (2,))
            yield f"{data}, {name} and attention", ensembles(split, [*attention[:2], *votes], (4,))


def test() -> Iterator[tuple[str, Any]]:
    for encoder in ("default", "clip block 9"):
        for data in DATA:
            train, asked = (read(encoder, data, folder) for folder in ("train", "test"))
            split = Split(*train, *asked)
            for name, chosen in (
                ("before", replace(BEFORE, counts=(16,))),
                ("scale of the bulk", replace(BEFORE, counts=(16,), robust=True)),
                ("scale of the bulk and 1,024 features", replace(WIDE, counts=(16,))),
            ):
                yield f"{encoder}, {data}, {name}", scored(split, chosen)


PARTS = {"nodes": nodes, "head": head, "layers": layers, "bilinear": bilinear, "test": test}


@cache
def read(encoder: str, data: str, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and labels; class names are the same in all folders."""
    block = ENCODERS[encoder]
    backbone = open_backbone() if block is None else assets.clip(block)
    tokens, labels, _ = activations(data_folder() / data / folder, backbone)
    return np.asarray(tokens) if block is None else fewer_tokens(tokens, 2), np.array(labels)


def tuning(encoder: str, data: str) -> Split:
    tokens, labels = read(encoder, data, "train")
    if data == "grocery81":
        return Split(tokens, labels, *read(encoder, data, "val"))
    generator, place = np.random.default_rng(0), np.zeros(len(labels), int)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        place[generator.permutation(own)] = np.arange(len(own)) % HELD_OUT
    out = place == 0
    return Split(tokens[~out], labels[~out], tokens[out], labels[out])


def scored(split: Split, chosen: Nodes) -> dict[str, float]:
    return ensembles(split, said(split, attended(split, chosen), HeadRule()), chosen.counts)


Features = Sequence[tuple[np.ndarray, np.ndarray]]
"""By node: integers of the samples that are tallied, and of those asked about."""


def attended(split: Split, chosen: Nodes) -> Features:
    projections = [
        replace(
            random_projection(
                seed,
                width=split.tokens.shape[2],
                heads=chosen.heads,
                value_width=chosen.value_width,
                sharpness=chosen.sharpness,
            ),
            robust=chosen.robust,
        )
        for seed in range(max(chosen.counts))
    ]
    stack = Projections(projections)
    parts = (stack(split.tokens).numpy(), stack(split.asked).numpy())
    return list(zip(*parts, strict=True))


def products_of(split: Split, seed: int, *, root: bool) -> tuple[np.ndarray, np.ndarray]:
    """Compact bilinear features, as many and as fine as those of `WIDE`."""
    count, width = WIDE.heads * WIDE.value_width, split.tokens.shape[2]
    signs = np.random.default_rng(seed).integers(0, 2, (width, 2 * count)) * 2.0 - 1
    turned = torch.from_numpy(signs.astype(np.float32))

    def integers(tokens: np.ndarray) -> np.ndarray:
        out = []
        for start in range(0, len(tokens), 64):
            scores = integer_tokens(tokens[start : start + 64], robust=True) @ turned
            found = (scores[..., :count] * scores[..., count:]).mean(dim=1)
            found = found.sign() * found.abs().sqrt() if root else found
            found -= found.mean(dim=1, keepdim=True)
            found *= FEATURE_UNIT / found.std(dim=1, keepdim=True)
            out.append(found.round().clamp(-FEATURE_LIMIT, FEATURE_LIMIT).to(torch.int8))
        return torch.cat(out).numpy()

    return integers(split.tokens), integers(split.asked)


def said(split: Split, features: Features, rule: HeadRule) -> list[np.ndarray]:
    """What each node says of the samples that are asked about."""
    votes = []
    for tallied, asked in features:
        tally = Tally.empty(tallied.shape[1]).add(tallied, split.labels.tolist())
        solved = solve(tally, rule)
        scores = asked.astype(np.float64) @ solved.weight + solved.bias
        votes.append(torch.softmax(torch.from_numpy(scores), dim=1).numpy())
    return votes


def ensembles(split: Split, votes: list[np.ndarray], counts: Sequence[int]) -> dict[str, float]:
    """Accuracy in % of one node on average, and of the plain mean of the first so many nodes."""
    classes = np.unique(split.labels)

    def accuracy(found: np.ndarray) -> float:
        return 100 * float(np.mean(classes[found.argmax(axis=1)] == split.right))

    each = {"one": float(np.mean([accuracy(vote) for vote in votes]))}
    return each | {str(count): accuracy(sum(votes[:count])) for count in counts}


if __name__ == "__main__":
    main()
