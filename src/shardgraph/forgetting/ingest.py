"""From a dataset to records and activations: what fit and add have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardgraph.activations.backbone import Backbone
from shardgraph.activations.encode import OnBadFile, Unreadable, encode
from shardgraph.activations.staging import stage
from shardgraph.data.sample import Dataset, Sample
from shardgraph.graph.assignment import Assignment
from shardgraph.identity import ShardId, order_key
from shardgraph.store import Record

EncodeProgress = Callable[[int, int], None]
"""Called with (samples encoded, samples in all)."""


@dataclass(frozen=True)
class Ingested:
    """New samples with their records, their activations, and the files that were left out."""

    records: tuple[Record, ...]
    rows: Callable[[int], np.ndarray]
    bad_files: tuple[str, ...]


@contextmanager
def ingest(
    dataset: Dataset,
    samples: Sequence[Sample],
    backbone: Backbone,
    assignment: Assignment,
    staging: Path,
    *,
    batch_size: int,
    on_bad_file: OnBadFile = "stop",
    progress: EncodeProgress | None = None,
) -> Iterator[Ingested]:
    """Encode ``samples`` of ``dataset`` into ``staging``, resuming what is there already.

    Raises:
        BadFileError: a file is bad and ``on_bad_file`` is "stop".
        GraphError: a sample's source has no shards in the graph.
    """
    placed = [(sample, assignment.shard_of(sample)) for sample in samples]
    placed.sort(key=lambda item: (item[1], order_key(assignment.seed, item[0].id), item[0].id))

    def report(done: int, total: int, _reused: int) -> None:
        if progress is not None:
            progress(done, total)

    with stage(
        placed,
        dataset,
        backbone,
        staging,
        batch_size=batch_size,
        on_bad_file=on_bad_file,
        progress=report,
    ) as staged:
        kept = [(sample, shard) for shard in staged.shards for sample in staged.samples(shard)]
        records = tuple(
            Record(sample.id, sample.label, sample.owner, sample.source, ShardId(shard))
            for sample, shard in kept
        )
        yield Ingested(
            records,
            lambda index: staged.row(records[index].id),
            tuple(item.reason for item in staged.skipped),
        )


def encode_batches(
    dataset: Dataset,
    backbone: Backbone,
    *,
    batch_size: int,
    on_bad_file: OnBadFile = "stop",
    progress: EncodeProgress | None = None,
    at_once: int = 256,
) -> Iterator[tuple[list[int], np.ndarray, list[str]]]:
    """Activations of samples that are only asked about; nothing is stored.

    Yields:
        Up to ``at_once`` samples: their positions in ``dataset.samples``, their activations
        [b, T, D] (float16), and a line for each bad file among them.
    """
    indices: list[int] = []
    tokens: list[np.ndarray] = []
    bad_files: list[str] = []
    total = len(dataset.samples)
    results = encode(
        dataset, range(total), backbone, batch_size=batch_size, on_bad_file=on_bad_file
    )
    if progress is not None:
        progress(0, total)
    for done, result in enumerate(results, start=1):
        if isinstance(result, Unreadable):
            bad_files.append(result.error.message)
        else:
            indices.append(result.index)
            tokens.append(result.tokens)
        if progress is not None:
            progress(done, total)
        if (len(tokens) == at_once or done == total) and tokens:
            yield indices, np.stack(tokens), bad_files
            indices, tokens, bad_files = [], [], []
    if bad_files:
        yield [], np.empty((0, backbone.tokens, backbone.width), np.float16), bad_files
