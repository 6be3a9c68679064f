"""What every method is given: the activations and labels of one data set, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from shardgraph.activations.averaged import Averaged, fewer_tokens
from shardgraph.activations.backbone import Backbone
from shardgraph.activations.encode import Encoded, encode
from shardgraph.activations.selftest import check_batches
from shardgraph.data.open import open_dataset
from shardgraph.data.sample import Dataset, Sample
from shardgraph.errors import DataError
from shardgraph.files import make_directory, rename, temporary_name
from shardgraph.forgetting.progress import Progress
from shardgraph.identity import SourceName, derived_seed, digest_json

HELD_OUT = 4
"""Where a data set has no ``val`` folder, one training sample in so many is held out to tune on."""

DIGITS = "digits"


@dataclass(frozen=True, eq=False)
class Part:
    """Samples and their activations [N, T, D], float16 or float32, row by row.

    ``file`` is where the activations lie, if all of a file's are these: another process is then
    given the file in place of a copy.
    """

    samples: tuple[Sample, ...]
    tokens: np.ndarray
    file: Path | None = None

    @classmethod
    def stored(cls, samples: tuple[Sample, ...], file: Path) -> Part:
        """Samples whose activations are those of a file, which is mapped into memory."""
        return cls(samples, np.load(file, mmap_mode="r"), file)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.file is not None:
            return Part.stored, (self.samples, self.file)
        return Part, (self.samples, self.tokens)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each row."""
        return tuple(sample.label for sample in self.samples)

    def rows(self, chosen: Sequence[int] | np.ndarray) -> Part:
        """These rows only."""
        return Part(tuple(self.samples[row] for row in chosen), self.tokens[np.asarray(chosen)])

    def from_sources(self, count: int) -> Part:
        """The same samples, each in one of ``count`` **made-up** sources, by a hash of its id."""
        named = [
            replace(sample, source=SourceName(f"source-{_source_of(sample, count)}"))
            for sample in self.samples
        ]
        return replace(self, samples=tuple(named))


@dataclass(frozen=True, eq=False)
class BenchData:
    """One data set seen through one encoder.

    Attributes:
        name: what tables call it.
        encoder: name and layer of the encoder.
        train: what methods are fitted on.
        test: what they are scored on, and nothing else.
        val: labelled data for tuning that is neither, where the data set has some.
    """

    name: str
    encoder: str
    train: Part
    test: Part
    val: Part | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The sorted labels of the training samples: the columns of every prediction."""
        return tuple(sorted({sample.label for sample in self.train.samples}))

    def for_tuning(self) -> BenchData:
        """The data that settings are chosen on: no test sample is in it.

        Fitted on ``train`` and scored on ``val`` where there is one. Otherwise one training
        sample in `HELD_OUT` of every class, by a hash of its id, is scored on, and the rest is
        fitted on.
        """
        if self.val is not None:
            return replace(self, test=self.val, val=None)
        held = _held_out(self.train.samples)
        rest = [row for row in range(len(self.train)) if row not in held]
        test = self.train.rows(sorted(held))
        return replace(self, train=self.train.rows(rest), test=test)


def accuracy(part: Part, classes: Sequence[str], probabilities: np.ndarray) -> float:
    """The share of rows whose most probable class, [B, C], is their label."""
    found = probabilities.argmax(axis=1)
    hits = [classes[c] == label for c, label in zip(found, part.labels, strict=True)]
    return float(np.mean(hits))


def open_parts(spec: str, test: Path | None) -> tuple[str, dict[str, Dataset]]:
    """The name of a data set, and its parts ``train``, ``test`` and perhaps ``val``.

    Args:
        spec: a folder with ``train`` and ``test`` below it, ``digits``, or, with ``test``, any
            training data that `open_dataset` takes.
        test: the test data, where it lies elsewhere.

    Raises:
        DataError: a part is missing or cannot be opened.
    """
    if test is not None:
        return Path(spec).stem, {"train": open_dataset(spec), "test": open_dataset(test)}
    if spec == DIGITS:
        return spec, {part: open_dataset(f"{DIGITS}:{part}") for part in ("train", "test")}
    folder = Path(spec)
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise DataError(
                f"{folder} has no folder {part!r}.",
                advice="Give a folder with train and test below it, or name the test data: --test.",
            )
    names = [part for part in ("train", "test", "val") if (folder / part).is_dir()]
    return folder.resolve().name, {part: open_dataset(folder / part) for part in names}


def load(
    spec: str,
    backbone: Backbone,
    cache: Path,
    progress: Progress,
    test: Path | None = None,
) -> BenchData:
    """A data set with its activations, encoded now or taken from ``cache``.

    Raises:
        DataError: as `open_parts` says, or a training label has no sample in common with the test.
        BadFileError: a file cannot be read as an image.
    """
    name, datasets = open_parts(spec, test)
    parts = {}
    for part, dataset in datasets.items():
        file = activations(dataset, backbone, cache, progress)
        parts[part] = Part.stored(tuple(dataset.samples), file)
    data = BenchData(name, encoder_title(backbone), parts["train"], parts["test"], parts.get("val"))
    if not set(data.classes) & set(data.test.labels):
        raise DataError(f"No class of {name} is in both training and test data.")
    return data


def encoder_title(backbone: Backbone) -> str:
    """Name and layer of an encoder, without the directories of a file."""
    if isinstance(backbone, Averaged):
        squares = f"{backbone.side} x {backbone.side}"
        return f"{encoder_title(backbone.backbone)}, tokens averaged {squares}"
    return f"{PurePath(backbone.name).name.removesuffix('.onnx')}:{backbone.layer}"


def cache_name(dataset: Dataset, backbone: Backbone) -> str:
    """The file of a data set's activations: its name covers encoder, ids and raw inputs."""
    rows = [[sample.id, dataset.fingerprint(row)] for row, sample in enumerate(dataset.samples)]
    key = digest_json({"backbone": backbone.digest, "batch": backbone.batch_size, "rows": rows})
    return f"{key[:32]}.npy"


def activations(dataset: Dataset, backbone: Backbone, cache: Path, progress: Progress) -> Path:
    """The file of a data set's activations, float16 [N, T, D]; encoded unless ``cache`` has it.

    Those whose tokens are averaged are made from all tokens, which are kept too.
    """
    path = cache / cache_name(dataset, backbone)
    if path.exists():
        return path
    make_directory(cache)
    temporary = temporary_name(path)
    if isinstance(backbone, Averaged):
        whole = np.load(activations(dataset, backbone.backbone, cache, progress), mmap_mode="r")
        with temporary.open("xb") as half:
            np.save(half, fewer_tokens(whole, backbone.side))
    else:
        _encode_into(temporary, dataset, backbone, progress)
    rename(temporary, path)
    return path


def _encode_into(path: Path, dataset: Dataset, backbone: Backbone, progress: Progress) -> None:
    count = len(dataset.samples)
    shape = (count, backbone.tokens, backbone.width)
    found = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    size = check_batches(backbone).batch_size
    for item in encode(dataset, range(count), backbone, batch_size=size):
        if isinstance(item, Encoded):
            found[item.index] = item.tokens
            progress("encoding", item.index + 1, count, dataset.kind)
    found.flush()


def _held_out(samples: Sequence[Sample]) -> set[int]:
    by_label: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        by_label.setdefault(sample.label, []).append(row)
    held: set[int] = set()
    for rows in by_label.values():
        rows.sort(key=lambda row: derived_seed(0, f"bench held out {samples[row].id}"))
        held.update(rows[: len(rows) // HELD_OUT])
    return held


def _source_of(sample: Sample, count: int) -> int:
    return derived_seed(0, f"bench source {sample.id}") % count
