"""Tallies: exact sums over samples that can be taken back one by one.

A node's tally of samples with integer features f and classes y is

    gram = sum f f^T        moment_c = sum of f over class c        count_c

Sums of integers do not depend on order, grouping or threads, so adding a sample and subtracting
it again leaves the bits of never having added it, and any history that ends in the same samples
ends in the same bytes. No step here rounds: products are formed and added up in float64, where
every partial sum is an integer below 2**53, and kept as integers of a type that cannot overflow.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import safetensors
import safetensors.numpy
import torch

from shardgraph import runtime
from shardgraph.errors import StoreDamagedError, StoreFormatError, UsageError
from shardgraph.identity import canonical_json
from shardgraph.nodes.projection import (
    EXACT_FLOAT64,
    FEATURE_LIMIT,
    ROWS_AT_ONCE,
    Projection,
    Projections,
)
from shardgraph.nodes.tokens import TokenRows

FORMAT = "shardgraph-tally-2"
"""Format name and version, in the metadata of every tally file."""

BLOCK_ROWS = 1024
"""Most samples in one product. Bounds the memory; changes no bit."""

BLOCK_BYTES, SUMS_BYTES = 1 << 24, 1 << 29
"""Most bytes of the features of one thread's block, and of the sums that grow at once."""

LARGEST_SUM = FEATURE_LIMIT**2
"""Most that one sample can add to any entry of a tally."""

MOST_SAMPLES = (EXACT_FLOAT64 - 1) // LARGEST_SUM
"""Samples up to which every entry is also exact in float64, in which heads are solved."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over the samples that one node tallies. Immutable: operations return a new tally.

    Attributes:
        classes: sorted labels with at least one sample.
        gram: [F * (F + 1) / 2], upper triangle of sum f f^T, row by row.
        moment: [C, F], sum of f per class.
        counts: int64 [C], samples per class.

    ``gram`` and ``moment`` have the type that `entry_dtype` gives for the samples held, so that no
    entry can overflow and the bytes remember no larger tally of before.
    """

    classes: tuple[str, ...]
    gram: np.ndarray
    moment: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.gram, self.moment, self.counts):
            array.flags.writeable = False

    @classmethod
    def empty(cls, features: int) -> Tally:
        """The tally of no samples, for ``features`` integers per sample."""
        dtype = entry_dtype(0)
        triangle = np.zeros(features * (features + 1) // 2, dtype)
        return cls((), triangle, np.zeros((0, features), dtype), np.zeros(0, np.int64))

    @property
    def features(self) -> int:
        """Integers per sample, F."""
        return int(self.moment.shape[1])

    @property
    def samples(self) -> int:
        """Samples in the tally."""
        return int(self.counts.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the sums; `bytes_needed` says it before there is a tally."""
        return int(self.gram.nbytes + self.moment.nbytes + self.counts.nbytes)

    def add(self, features: np.ndarray, labels: Sequence[str]) -> Tally:
        """With the samples of int8 features [n, F] and their labels.

        Raises:
            UsageError: shapes do not fit, or there are more samples than `MOST_SAMPLES`.
        """
        return self.merge(self._of(features, labels))

    def subtract(self, features: np.ndarray, labels: Sequence[str]) -> Tally:
        """Without the samples of int8 features [n, F], which are in it, and their labels.

        Raises:
            UsageError: shapes do not fit.
            StoreDamagedError: the samples cannot all have been in the tally.
        """
        return self.without(self._of(features, labels))

    def without(self, other: Tally) -> Tally:
        """Without the samples of ``other``; a class whose last sample goes disappears.

        Raises:
            UsageError: the tallies differ in features.
            StoreDamagedError: the samples cannot all have been in the tally. Not every such
                mistake can be seen.
        """
        self._check_alike(other)
        number = {label: i for i, label in enumerate(self.classes)}
        if not number.keys() >= set(other.classes):
            raise _damaged("it has no samples of a label to subtract")
        places = [number[label] for label in other.classes]
        wide = np.promote_types(self.moment.dtype, other.moment.dtype)
        counts, moment = self.counts.copy(), self.moment.astype(wide)
        counts[places] -= other.counts
        moment[places] -= other.moment
        gram = self.gram - other.gram
        live = counts > 0
        if (counts < 0).any() or moment[~live].any() or (gram[_diagonal(self.features)] < 0).any():
            raise _damaged("it does not hold the samples to subtract")
        classes = tuple(label for label, keep in zip(self.classes, live, strict=True) if keep)
        dtype = entry_dtype(int(counts.sum()))
        gram, moment = gram.astype(dtype, copy=False), moment[live].astype(dtype, copy=False)
        return Tally(classes, gram, moment, counts[live])

    def merge(self, other: Tally) -> Tally:
        """The tally of both tallies' samples.

        Raises:
            UsageError: the tallies differ in features, or hold more samples than `MOST_SAMPLES`.
        """
        self._check_alike(other)
        dtype = entry_dtype(self.samples + other.samples)
        classes = tuple(sorted({*self.classes, *other.classes}))
        mine, theirs = self._aligned(classes), other._aligned(classes)
        gram = np.add(self.gram, other.gram, dtype=dtype)
        moment = np.add(mine[0], theirs[0], dtype=dtype)
        return Tally(classes, gram, moment, mine[1] + theirs[1])

    def _check_alike(self, other: Tally) -> None:
        if self.features != other.features:
            raise UsageError("Tallies of different features cannot be combined.")

    def _aligned(self, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Moment and counts with a row for each of ``classes``, which include its own."""
        if classes == self.classes:
            return self.moment, self.counts
        number = {label: i for i, label in enumerate(classes)}
        places = [number[label] for label in self.classes]
        moment = np.zeros((len(classes), self.features), self.moment.dtype)
        counts = np.zeros(len(classes), np.int64)
        moment[places], counts[places] = self.moment, self.counts
        return moment, counts

    def _of(self, features: np.ndarray, labels: Sequence[str]) -> Tally:
        """The tally of these samples alone."""
        if features.dtype != np.int8 or features.shape != (len(labels), self.features):
            raise UsageError(
                f"Features of shape {features.shape} and type {features.dtype} do not fit.",
                advice=f"Give int8 features [{len(labels)}, {self.features}].",
            )
        classes, targets = _numbered(labels)
        sums = _Sums(self.features, len(classes))
        sums.add(features, targets)
        return sums.tally(classes, targets)


def entry_dtype(samples: int) -> np.dtype[np.signedinteger]:
    """The smallest integer type in which no sum over so many samples can overflow.

    int32 up to 133,144 samples, int64 up to `MOST_SAMPLES`.

    Raises:
        UsageError: there are more.
    """
    if samples > MOST_SAMPLES:
        raise UsageError(f"{samples} samples are more than a tally can sum exactly.")
    small = samples * LARGEST_SUM <= np.iinfo(np.int32).max
    return np.dtype(np.int32 if small else np.int64)


def bytes_needed(features: int, classes: int, samples: int) -> int:
    """Bytes of the sums of one tally: gram once, and a row of F and a count for each class."""
    size = entry_dtype(samples).itemsize
    return size * (features * (features + 1) // 2 + classes * features) + 8 * classes


def tally_all(
    projections: Sequence[Projection],
    rows: TokenRows,
    labels: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    workers: int | None = None,
) -> list[Tally]:
    """Tallies of the same samples at several nodes of one shape, in the order of the nodes.

    Each node's tally is a function of its projection and the set of samples alone: not of their
    order, of the other nodes, or of how the work is cut. To forget, subtract the tallies of what
    goes (`Tally.without`).

    Args:
        projections: one per node.
        rows: activations of the samples, in any order.
        labels: their labels, in the same order.
        dtype: in which features are computed; float64 is for machines whose float32 products are
            not exact (`shardgraph.nodes.exactness`), and gives the same bits.
        workers: threads that share the samples, by default one per core. Changes no bit.

    While it runs, torch uses `runtime.TRAINING_THREADS` threads per operator in this process.
    Beside the result it takes about `SUMS_BYTES`, and for each thread `BLOCK_BYTES` and the
    activations of a block.

    Raises:
        UsageError: rows and labels differ in number.
    """
    if len(rows) != len(labels):
        raise UsageError(f"There are {len(rows)} samples but {len(labels)} labels.")
    if not projections:
        return []
    runtime.keep_freed_memory()
    threads = workers or runtime.worker_count()
    classes, targets = _numbered(labels)
    features = projections[0].features
    together = max(1, SUMS_BYTES // (8 * features * (features + len(classes))))
    found = []
    with runtime.pinned_threads(), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(projections), together):
            stack = Projections(projections[start : start + together], dtype)
            sums = _summed(stack, rows, targets, len(classes), pool, threads)
            while sums:
                found.append(sums.pop(0).tally(classes, targets))
    return found


def _summed(
    stack: Projections,
    rows: TokenRows,
    targets: np.ndarray,
    classes: int,
    pool: Executor,
    threads: int,
) -> list[_Sums]:
    """The sums of every node of a stack over all samples."""
    sums = [_Sums(stack.features, classes) for _ in range(stack.count)]

    def add(number: int, block: slice) -> None:
        features = stack(rows.gather(np.arange(block.start, block.stop))).numpy()
        first = number % threads * len(sums) // threads  # so that threads are at different nodes
        for place in (*range(first, len(sums)), *range(first)):
            sums[place].add(features[place], targets[block])

    blocks = _blocks(len(targets), threads, stack.count * stack.features)
    for _ in pool.map(add, range(len(blocks)), blocks):
        pass
    return sums


def _blocks(samples: int, threads: int, features: int) -> list[slice]:
    """Cuts of about equal size, as many for each thread.

    None is longer than `BLOCK_ROWS` and, for ``features`` bytes a sample, `BLOCK_BYTES`; there are
    no more than cuts of `ROWS_AT_ONCE` would be, the rows of one product of a projection.
    """
    most = min(BLOCK_ROWS, max(ROWS_AT_ONCE, BLOCK_BYTES // features))
    even = -(-samples // (most * threads)) * threads
    count = min(even, -(-samples // ROWS_AT_ONCE))
    cuts = [samples * place // count for place in range(count + 1)] if count else [0]
    return [slice(begin, end) for begin, end in pairwise(cuts)]


def _numbered(labels: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes, sorted, and the place of each label among them, int64."""
    classes = tuple(sorted(set(labels)))
    number = {label: place for place, label in enumerate(classes)}
    return classes, np.fromiter((number[label] for label in labels), np.int64, len(labels))


class _Sums:
    """Sums of one node while they are formed, in float64; threads may add at the same time."""

    def __init__(self, features: int, classes: int) -> None:
        self._gram = torch.zeros((features, features), dtype=torch.float64)
        self._moment = torch.zeros((classes, features), dtype=torch.float64)
        self._turn = threading.Lock()

    def add(self, features: np.ndarray, targets: np.ndarray) -> None:
        """Add samples: int8 [n, F], and the number of the class of each."""
        exact = torch.from_numpy(features).to(torch.float64)
        with self._turn:
            self._gram.addmm_(exact.T, exact)
            self._moment.index_add_(0, torch.from_numpy(targets), exact)

    def tally(self, classes: tuple[str, ...], targets: np.ndarray) -> Tally:
        """The tally, once all samples, whose classes are ``targets``, have been added."""
        dtype = entry_dtype(len(targets))
        gram, moment = self._gram.numpy(), self._moment.numpy()
        counts = np.bincount(targets, minlength=len(classes)).astype(np.int64)
        packed = gram[upper_triangle(len(gram))].astype(dtype)
        return Tally(classes, packed, moment.astype(dtype), counts)


@functools.cache
def upper_triangle(width: int) -> np.ndarray:
    """Which entries of a [width, width] matrix are packed, row by row: bool of its shape."""
    return np.triu(np.ones((width, width), bool))


@functools.cache
def _diagonal(width: int) -> np.ndarray:
    """Positions of the diagonal in the packed upper triangle."""
    return np.cumsum(np.concatenate([[0], np.arange(width, 1, -1)]))


def to_bytes(tally: Tally) -> bytes:
    """The tally as a safetensors file; equal tallies give equal bytes on every machine."""
    about = {"classes": list(tally.classes), "format": FORMAT}
    arrays = {"gram": tally.gram, "moment": tally.moment, "counts": tally.counts}
    # One metadata entry: the library writes several in an order of its own.
    return safetensors.numpy.save(arrays, {"tally": canonical_json(about).decode()})


def from_bytes(data: bytes) -> Tally:
    """The tally in a file that `to_bytes` wrote.

    Raises:
        StoreFormatError: another format.
        StoreDamagedError: the bytes are cut short, are no tally, or contradict themselves.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tally"])
        arrays = safetensors.numpy.load(data)
        found, classes = about["format"], tuple(about["classes"])
        tally = Tally(classes, arrays["gram"], arrays["moment"], arrays["counts"])
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged("the bytes are not a tally") from error
    if found != FORMAT:
        raise StoreFormatError(
            f"A tally has the format {found!r}, not {FORMAT!r}.",
            advice="Use the version of shardgraph that wrote it.",
        )
    _check(tally)
    return tally


def _check(tally: Tally) -> None:
    if tally.moment.ndim != 2 or tally.counts.ndim != 1 or tally.counts.dtype != np.int64:
        raise _damaged("its arrays have the wrong type")
    if (tally.counts < 1).any() or (tally.counts > MOST_SAMPLES).any():
        raise _damaged("it holds an impossible number of samples")
    if {tally.gram.dtype, tally.moment.dtype} != {entry_dtype(tally.samples)}:
        raise _damaged("its arrays have the wrong type")
    classes, features = tally.moment.shape
    if tally.gram.shape != (features * (features + 1) // 2,):
        raise _damaged("shapes of its arrays contradict each other")
    if tally.counts.shape != (len(tally.classes),):
        raise _damaged("its counts do not fit its classes")
    if len(tally.classes) != classes or list(tally.classes) != sorted(set(tally.classes)):
        raise _damaged("its class list is unsorted, has doubles or the wrong length")


def _damaged(reason: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"A tally is damaged: {reason}.",
        advice="Tally the node again from its samples, or restore the store from a backup.",
    )
