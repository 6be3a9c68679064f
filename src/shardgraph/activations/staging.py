"""Encode many samples so that nothing finished is lost, whenever the process dies.

A staging directory holds two files: ``rows.bin``, activations of equal size one after the other,
and ``journal.jsonl``. The journal's first line says what the rows depend on (backbone, batch size,
environment); every further line claims one row: its number, the sample's id, the SHA-256 of the
raw input and that of the row. Rows are synced before the lines that claim them, every two seconds.
So a rerun may trust every complete line, and does not: it compares the row's digest too.

A staging directory belongs to one process at a time; the caller holds the lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardgraph.activations.backbone import Backbone
from shardgraph.activations.encode import Encoded, OnBadFile, Unreadable, encode
from shardgraph.activations.journal import Journal
from shardgraph.activations.progress import Progress
from shardgraph.data.sample import Dataset, Sample
from shardgraph.errors import BadFileError, UnknownIdError
from shardgraph.files import erase_tree
from shardgraph.identity import SampleId

SYNC_SECONDS = 2.0
"""Seconds of finished work that a kill may cost, at most (and the batches under way)."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sample that was left out because its file is bad."""

    sample: Sample
    reason: str


class Staged:
    """The rows of a finished staging, shard by shard."""

    def __init__(
        self,
        journal: Journal,
        placed: Sequence[tuple[Sample, int]],
        skipped: tuple[Skipped, ...],
        reused: int,
    ) -> None:
        """Made by `stage`."""
        self._journal = journal
        self._shards: dict[int, list[Sample]] = {}
        for sample, shard in placed:
            self._shards.setdefault(shard, []).append(sample)
        self.skipped = skipped
        self.reused = reused
        self.encoded = len(placed) - reused

    def close(self) -> None:
        """Close the staging files; they stay on disk until `erase_staging`."""
        self._journal.close()

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shards(self) -> tuple[int, ...]:
        """Shards that have at least one row, ascending."""
        return tuple(sorted(self._shards))

    def samples(self, shard: int) -> tuple[Sample, ...]:
        """The samples of one shard, in the order in which they were asked for."""
        return tuple(self._shards.get(shard, ()))

    def rows(self, shard: int) -> Iterator[np.ndarray]:
        """The activations of `samples`, one by one, each float16 [T, D]; for `blob.write_blob`."""
        return (self._journal.read(sample.id) for sample in self.samples(shard))

    def row(self, sample: SampleId) -> np.ndarray:
        """The activation of one sample, float16 [T, D]."""
        return self._journal.read(sample)


def stage(
    wanted: Sequence[tuple[Sample, int]],
    dataset: Dataset,
    backbone: Backbone,
    directory: Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    on_bad_file: OnBadFile = "stop",
    progress: Progress | None = None,
) -> Staged:
    """Encode every sample of ``wanted`` that the staging directory does not hold yet.

    A row is reused only if sample id, raw input, backbone, batch size and environment are the same
    and its bytes are intact. Rows of samples that are no longer wanted stay until `erase_staging`.

    Args:
        wanted: samples of ``dataset`` with the shard of each, in the order that the rows of a
            shard shall have.
        dataset: where the samples are read from.
        backbone: the encoder.
        directory: made if it is missing.
        batch_size: see `encode`; use the one that `selftest.check_batches` found.
        workers: see `encode`.
        on_bad_file: "skip" leaves bad files out and reports them.
        progress: called after every sample.

    Raises:
        BadFileError: a file is bad and ``on_bad_file`` is "stop". File names and headers are
            looked at before the first sample is encoded.
        DataError: an activation is not finite or exceeds float16.
        UnknownIdError: a wanted sample is not in ``dataset``.
        StoreError: the directory cannot be written.

    After any of these, after Ctrl-C and after a kill, the same call goes on where it stopped.
    """
    size = backbone.batch_size if batch_size is None else batch_size
    with ExitStack() as on_failure:
        journal = Journal.open(directory, backbone, size)
        on_failure.callback(journal.close)
        indices = _indices(wanted, dataset)
        missing = [index for index in indices if not _is_staged(journal, dataset, index)]
        if on_bad_file == "stop":
            for index in missing:
                dataset.inspect(index)
        reused = len(indices) - len(missing)
        run = _Run(journal, dataset, len(indices), reused, progress)
        results = encode(
            dataset, missing, backbone, batch_size=size, workers=workers, on_bad_file=on_bad_file
        )
        skipped = run.keep(results)
        on_failure.pop_all()
    left_out = {item.sample.id for item in skipped}
    placed = [(sample, shard) for sample, shard in wanted if sample.id not in left_out]
    return Staged(journal, placed, tuple(skipped), reused)


def erase_staging(directory: Path) -> None:
    """Overwrite and remove a staging directory; a missing one is fine.

    A `Staged` of the directory must not be used afterwards.
    """
    erase_tree(directory)


@dataclass(slots=True)
class _Run:
    journal: Journal
    dataset: Dataset
    total: int
    reused: int
    progress: Progress | None

    def keep(self, results: Iterable[Encoded | Unreadable]) -> list[Skipped]:
        """Write results as they come; whatever ends them, finished rows are claimed."""
        skipped: list[Skipped] = []
        self._report(self.reused)
        synced = time.monotonic()
        try:
            for done, result in enumerate(results, start=self.reused + 1):
                sample = self.dataset.samples[result.index]
                if isinstance(result, Encoded):
                    self.journal.append(sample.id, result.fingerprint, result.tokens)
                else:
                    skipped.append(Skipped(sample, result.error.message))
                self._report(done)
                if time.monotonic() - synced > SYNC_SECONDS:
                    self.journal.sync()
                    synced = time.monotonic()
        finally:
            self.journal.sync()
        return skipped

    def _report(self, done: int) -> None:
        if self.progress is not None:
            self.progress(done, self.total, self.reused)


def _indices(wanted: Sequence[tuple[Sample, int]], dataset: Dataset) -> list[int]:
    index_of = {sample.id: index for index, sample in enumerate(dataset.samples)}
    unknown = [sample.id for sample, _ in wanted if sample.id not in index_of]
    if unknown:
        raise UnknownIdError(
            f"The data hold no sample {unknown[0]!r}.", advice="Name the data it came from."
        )
    return [index_of[sample.id] for sample, _ in wanted]


def _is_staged(journal: Journal, dataset: Dataset, index: int) -> bool:
    row = journal.find(dataset.samples[index].id)
    if row is None:
        return False
    try:
        return row.fingerprint == dataset.fingerprint(index)
    except BadFileError:
        return False  # the file is gone or unreadable now: encoding it will say so
