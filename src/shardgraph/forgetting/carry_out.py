"""Carry out changes: the only module that moves a store from one generation to the next.

Forgetting, in durable steps, each of which may be the last before a crash:

1. accept: one transaction records the request *and* fences every influenced node;
2. refit: new shard files and new weights are written and synced under names of their own;
3. publish: one transaction removes the records, moves the pointers and lifts the fence;
4. erase: what was superseded is overwritten, synced and unlinked, then the log is truncated;
5. receipt: the request leaves a receipt that names nobody.

`resume` takes up every unfinished request where it stands. All steps may be repeated, since files
are named by their content and refits are deterministic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.activations.blob import open_blob, write_blob
from shardgraph.forgetting.reading import StoreReader, empty_content
from shardgraph.forgetting.receipt import receipt_entry
from shardgraph.forgetting.refit import ShardContent, fit_nodes
from shardgraph.identity import SampleId, order_key
from shardgraph.store import Change, Record, Request, Store

Rows = Callable[[int], np.ndarray]
"""The activation [T, D], float16, of the i-th added sample."""

NodeProgress = Callable[[int, int], None]
"""Called with (nodes fitted, nodes in all)."""


@dataclass(frozen=True)
class Carried:
    """What one change did: nodes fitted, nodes that ceased to exist, samples read by the former.

    ``published_at`` is the moment (`time.perf_counter`) from which the new generation answered.
    """

    generation: int
    refit: tuple[int, ...]
    dropped: tuple[int, ...]
    samples_refit: int
    published_at: float


def resume(store: Store, progress: NodeProgress | None = None) -> Carried | None:
    """Carry every unfinished request to its receipt, together; None if there was none.

    Requests that were accepted and not published share one refit: a node that several of them
    influence is fitted once.
    """
    waiting = [item for item in store.unfinished() if item.state in ("accepted", "refitted")]
    carried = None
    if waiting:
        carried = _publish_without(store, waiting, progress)
    clean_up(store)
    return carried


def clean_up(store: Store) -> None:
    """Erase what publishing left behind and issue the receipts that are due."""
    store.erase_superseded()
    published = [item.id for item in store.unfinished() if item.state == "published"]
    if published:
        store.finish(published)
    for request in store.unfinished():
        if request.state == "erased":
            store.issue_receipt(request.id, receipt_entry(store, request))


def _publish_without(
    store: Store, requests: Sequence[Request], progress: NodeProgress | None
) -> Carried:
    removed = {sample for request in requests for sample in request.samples}
    ids = tuple(request.id for request in requests)
    shards = {record.shard for record in store.pending_records()}
    return publish_change(store, shards, removed=removed, requests=ids, progress=progress)


def publish_change(
    store: Store,
    touched: Iterable[int],
    *,
    removed: Iterable[SampleId] = (),
    added: Sequence[Record] = (),
    rows: Rows | None = None,
    requests: tuple[int, ...] = (),
    progress: NodeProgress | None = None,
) -> Carried:
    """Write the shards that change, refit the closure of their readers, publish.

    Args:
        store: open for writing.
        touched: the shards that lose or gain samples.
        removed: ids that go; exactly those that ``requests`` name.
        added: new records; ``rows(i)`` is the activation of ``added[i]``.
        rows: see above.
        requests: the requests that this change carries out.
        progress: see `NodeProgress`.
    """
    reader = StoreReader(store, store.view())
    layouts = _layouts(reader, sorted(set(touched)), frozenset(removed), added)
    digests = {shard: _write(reader, shard, layout, rows) for shard, layout in layouts.items()}
    store.sync()
    changed = {shard: _content(reader, shard, digests[shard], layouts[shard]) for shard in layouts}

    def content_of(shard: int) -> ShardContent:
        return changed[shard] if shard in changed else reader.content(shard)

    sizes = reader.sizes
    for shard, layout in layouts.items():
        sizes[shard] = len(layout)
    graph = reader.setting.graph
    readers = sorted({node for shard in layouts for node in graph.readers_of(shard)})
    refit = [node for node in readers if graph.nodes[node].exists(sizes)]
    fitted = fit_nodes(refit, reader.setting, content_of, progress)
    pointers: dict[int, str | None] = {
        node: store.put("nodes", node, data) for node, data in fitted.items()
    }
    dropped = [node for node in readers if node not in pointers and node in reader.view.nodes]
    pointers |= dict.fromkeys(dropped)
    if requests:
        store.mark_refitted(requests)
    generation = store.publish(
        Change(requests=requests, added=tuple(added), activations=digests, nodes=pointers)
    )
    published_at = time.perf_counter()
    samples = sum(sizes[shard] for node in refit for shard in graph.nodes[node].reads)
    return Carried(generation, tuple(refit), tuple(dropped), samples, published_at)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a new shard file: from row ``index`` of the old file, or of what is added."""

    record: Record
    added: bool
    index: int


def _layouts(
    reader: StoreReader,
    shards: Sequence[int],
    removed: frozenset[SampleId],
    added: Sequence[Record],
) -> dict[int, list[_Row]]:
    """The rows of each shard after the change, in shard order."""
    layouts: dict[int, list[_Row]] = {
        shard: [
            _Row(record, added=False, index=row)
            for row, record in enumerate(reader.content(shard).records)
            if record.id not in removed
        ]
        for shard in shards
    }
    for index, record in enumerate(added):
        layouts[record.shard].append(_Row(record, added=True, index=index))
    for layout in layouts.values():
        layout.sort(key=lambda row: (order_key(reader.setting.seed, row.record.id), row.record.id))
    return layouts


def _write(
    reader: StoreReader, shard: int, layout: Sequence[_Row], rows: Rows | None
) -> str | None:
    """Write the file of one shard; its digest, or None for a shard without samples."""
    if not layout:
        return None
    old = reader.content(shard).tokens
    path = reader.store.temporary("activations")
    tokens = (rows(row.index) if row.added and rows else old[row.index] for row in layout)
    digest = write_blob(path, tokens, len(layout), *reader.shape)
    reader.store.adopt("activations", shard, path, digest)
    return digest


def _content(
    reader: StoreReader, shard: int, digest: str | None, layout: Sequence[_Row]
) -> ShardContent:
    if digest is None:
        return empty_content(reader.shape)
    tokens = open_blob(reader.store.path_of("activations", shard, digest))
    return ShardContent([row.record for row in layout], tokens)
