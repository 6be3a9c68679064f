"""Run a backbone over many samples: in order, in parallel, in constant memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shardgraph import runtime
from shardgraph.activations.backbone import Backbone, require_kind
from shardgraph.data.sample import Dataset
from shardgraph.errors import BadFileError, DataError, RecipeError

OnBadFile = Literal["stop", "skip"]

_WAITING_BATCHES = 2  # encoded ahead of the consumer, beyond one per worker


@dataclass(frozen=True, slots=True)
class Encoded:
    """The activation of one sample.

    ``tokens`` is float16 [T, D], all finite; ``fingerprint`` is that of the raw input, taken just
    before it was read.
    """

    index: int
    tokens: np.ndarray
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sample left out because its file is bad."""

    index: int
    error: BadFileError


def encode(
    dataset: Dataset,
    indices: Iterable[int],
    backbone: Backbone,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    on_bad_file: OnBadFile = "stop",
) -> Iterator[Encoded | Unreadable]:
    """Encode ``dataset.samples[i]`` for every i in ``indices``, in that order.

    Each worker thread reads, prepares and encodes one batch at a time, with one thread inside
    each operator; batches are padded to ``batch_size``, so every forward pass has one shape. At
    most ``workers`` + 2 batches are in memory, whatever the number of samples. The number of
    workers does not change the result; ``batch_size`` may, so a store keeps to one.

    While the iterator is alive, torch uses one thread per operator in the whole process.

    Args:
        dataset: where the samples are read from.
        indices: positions in ``dataset.samples``.
        backbone: the encoder.
        batch_size: samples per forward pass; the backbone's own when None.
        workers: threads; when None, one per core, or a single one where the data are activations
            already: there is next to nothing that Python's lock lets others do meanwhile.
        on_bad_file: with "skip", a bad file yields an `Unreadable` in its place.

    Raises:
        BadFileError: a file is bad and ``on_bad_file`` is "stop"; what came before it has been
            yielded.
        DataError: an activation is not finite or exceeds float16; the message names the sample. Or
            the backbone takes another kind of data.
        RecipeError: ``batch_size`` or ``workers`` is not positive.
    """
    require_kind(dataset, backbone)
    size = backbone.batch_size if batch_size is None else batch_size
    usual = 1 if backbone.kind == "activations" else runtime.worker_count()
    threads = usual if workers is None else workers
    if size < 1 or threads < 1:
        raise RecipeError(
            f"A batch of {size} with {threads} workers cannot be encoded.",
            advice="Both must be at least 1.",
        )
    return _in_order(dataset, indices, backbone, size, threads, on_bad_file)


def _in_order(
    dataset: Dataset,
    indices: Iterable[int],
    backbone: Backbone,
    size: int,
    threads: int,
    on_bad_file: OnBadFile,
) -> Iterator[Encoded | Unreadable]:
    pending: deque[Future[list[Encoded | Unreadable]]] = deque()
    remaining = iter(indices)
    with (
        runtime.pinned_threads(),
        ThreadPoolExecutor(threads, thread_name_prefix="shardgraph-encode") as pool,
    ):
        try:
            while batch := list(itertools.islice(remaining, size)):
                pending.append(pool.submit(_encode_batch, dataset, batch, backbone, size))
                if len(pending) >= threads + _WAITING_BATCHES:
                    yield from _delivered(pending.popleft().result(), on_bad_file)
            while pending:
                yield from _delivered(pending.popleft().result(), on_bad_file)
        finally:
            for future in pending:
                future.cancel()


def _delivered(
    results: Sequence[Encoded | Unreadable], on_bad_file: OnBadFile
) -> Iterator[Encoded | Unreadable]:
    for result in results:
        if isinstance(result, Unreadable) and on_bad_file == "stop":
            raise result.error
        yield result


def _encode_batch(
    dataset: Dataset, indices: Sequence[int], backbone: Backbone, size: int
) -> list[Encoded | Unreadable]:
    prepared: dict[int, tuple[np.ndarray, str]] = {}
    unreadable: dict[int, Unreadable] = {}
    for index in indices:
        try:
            fingerprint = dataset.fingerprint(index)
            prepared[index] = (backbone.prepare(dataset.read(index)), fingerprint)
        except BadFileError as error:
            unreadable[index] = Unreadable(index, error)
    encoded: dict[int, Encoded] = {}
    if prepared:
        tokens = _forward([array for array, _ in prepared.values()], backbone, size)
        for row, (index, (_, fingerprint)) in zip(tokens, prepared.items(), strict=True):
            _check_finite(row, dataset, index)
            encoded[index] = Encoded(index, row, fingerprint)
    return [unreadable[index] if index in unreadable else encoded[index] for index in indices]


def _forward(inputs: Sequence[np.ndarray], backbone: Backbone, size: int) -> np.ndarray:
    """One forward pass of exactly ``size`` rows; float16 [len(inputs), T, D]."""
    batch = np.zeros((size, *inputs[0].shape), inputs[0].dtype)
    np.stack(inputs, out=batch[: len(inputs)])
    with np.errstate(over="ignore"):
        return backbone.encode(batch)[: len(inputs)].astype(np.float16)


def _check_finite(row: np.ndarray, dataset: Dataset, index: int) -> None:
    if not np.isfinite(row).all():
        largest = float(np.finfo(np.float16).max)
        raise DataError(
            f"The activation of sample {dataset.samples[index].id!r} is not finite, or exceeds "
            f"what float16 holds ({largest:,.0f}).",
            advice="Remove the sample, scale the activations down, or choose another layer.",
        )
