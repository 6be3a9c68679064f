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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardgraph.activations.blob import open_blob, write_blob
from shardgraph.forgetting.answer import Answerer
from shardgraph.forgetting.reading import StoreReader, empty_content
from shardgraph.forgetting.receipt import head_signer, receipt_entry
from shardgraph.forgetting.refit import NodeProgress, ShardContent, fit_nodes
from shardgraph.forgetting.retally import ShardChange, retally
from shardgraph.identity import SampleId, order_key
from shardgraph.nodes.tally import Tally, to_bytes
from shardgraph.store import Change, Record, Request, Store

Rows = Callable[[int], np.ndarray]
"""The activation [T, D], float16, of the i-th added sample."""


@dataclass(frozen=True)
class Carried:
    """What one change did.

    ``refit`` nodes were fitted on ``samples_refit`` samples, ``dropped`` nodes ceased to exist,
    ``subtracted`` nodes only had their tallies brought up to date. ``published_at`` is the moment
    (`time.perf_counter`) from which the new generation answered.
    """

    generation: int
    refit: tuple[int, ...]
    dropped: tuple[int, ...]
    subtracted: tuple[int, ...]
    samples_refit: int
    published_at: float


def resume(
    store: Store, progress: NodeProgress | None = None, answerer: Answerer | None = None
) -> Carried | None:
    """Carry every unfinished request to its receipt, together; None if there was none.

    Requests that were accepted and not published share one refit: a node that several of them
    influence is fitted once.
    """
    waiting = [item for item in store.unfinished() if item.state in ("accepted", "refitted")]
    carried = None
    if waiting:
        carried = _publish_without(store, waiting, progress, answerer)
    clean_up(store)
    return carried


def clean_up(store: Store) -> None:
    """Erase what publishing left behind and issue the receipts that are due."""
    store.erase_superseded()
    published = [item.id for item in store.unfinished() if item.state == "published"]
    if published:
        store.finish(published)
    due = [item for item in store.unfinished() if item.state == "erased"]
    digest = store.digest() if due else ""
    for request in due:
        store.issue_receipt(request.id, receipt_entry(store, request, digest), head_signer(store))


def _publish_without(
    store: Store,
    requests: Sequence[Request],
    progress: NodeProgress | None,
    answerer: Answerer | None,
) -> Carried:
    removed = {sample for request in requests for sample in request.samples}
    ids = tuple(request.id for request in requests)
    shards = {record.shard for record in store.pending_records()}
    return publish_change(
        store, shards, removed=removed, requests=ids, progress=progress, answerer=answerer
    )


def publish_change(
    store: Store,
    touched: Iterable[int],
    *,
    removed: Iterable[SampleId] = (),
    added: Sequence[Record] = (),
    rows: Rows | None = None,
    requests: tuple[int, ...] = (),
    progress: NodeProgress | None = None,
    answerer: Answerer | None = None,
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
        answerer: who answers from this process. It gets the head of each new tally ready while
            other files become durable, and loads the new generation as soon as there is one.
    """
    reader = StoreReader(store, store.view(), answerer.cache if answerer else None)
    layouts = _layouts(reader, sorted(set(touched)), frozenset(removed), added)
    digests = {shard: _write(reader, shard, layout, rows) for shard, layout in layouts.items()}
    closure = _closure(reader, layouts)
    changed: dict[int, ShardContent] = {}
    if closure.refit:
        store.sync()  # refits read the new files
        changed = {it: _content(reader, it, digests[it], layouts[it]) for it in layouts}

    def content_of(shard: int) -> ShardContent:
        return changed[shard] if shard in changed else reader.content(shard)

    fitted = fit_nodes(closure.refit, reader.setting, content_of, progress)
    retallied = _retallied(reader, closure.subtract, layouts, rows, answerer)
    nodes: dict[int, str | None] = dict.fromkeys(closure.dropped)
    nodes |= {node: store.put("nodes", node, data.weights) for node, data in fitted.items()}
    tallied: dict[int, str | None] = {
        node: None for node in closure.dropped if node in reader.view.tallies
    }
    tallied |= retallied
    for node, data in fitted.items():
        if data.tally is not None:
            tallied[node] = store.put("tallies", node, data.tally)
    if requests:
        store.mark_refitted(requests)
    generation = store.publish(
        Change(
            requests=requests,
            added=tuple(added),
            activations=digests,
            nodes=nodes,
            tallies=tallied,
        )
    )
    if answerer is not None:
        answerer.refresh()
    return Carried(
        generation,
        closure.refit,
        closure.dropped,
        closure.subtract,
        closure.samples_refit,
        time.perf_counter(),
    )


@dataclass(frozen=True, slots=True)
class _Closure:
    """Which nodes a change concerns, and how."""

    refit: tuple[int, ...]
    dropped: tuple[int, ...]
    subtract: tuple[int, ...]
    samples_refit: int


def _closure(reader: StoreReader, layouts: Mapping[int, Sequence[_Row]]) -> _Closure:
    """The nodes that read a touched shard, and those that only tally one."""
    graph = reader.setting.graph
    sizes = reader.sizes
    for shard, layout in layouts.items():
        sizes[shard] = len(layout)
    influenced = sorted(graph.influenced_by(layouts))
    readers = {node for shard in layouts for node in graph.readers_of(shard)}
    alive = [node for node in influenced if graph.nodes[node].exists(sizes)]
    held = reader.view.nodes
    refit = tuple(node for node in alive if node in readers or node not in held)
    return _Closure(
        refit=refit,
        dropped=tuple(node for node in influenced if node in held and node not in set(alive)),
        subtract=tuple(node for node in alive if node not in set(refit)),
        samples_refit=sum(sizes[shard] for node in refit for shard in graph.nodes[node].reads),
    )


def _retallied(
    reader: StoreReader,
    nodes: Sequence[int],
    layouts: Mapping[int, Sequence[_Row]],
    rows: Rows | None,
    answerer: Answerer | None,
) -> dict[int, str]:
    """Write the new tallies of nodes that only tally what changed; the digest of each."""
    if not nodes:
        return {}
    changes = {
        shard: _shard_change(reader.content(shard), layout, rows)
        for shard, layout in layouts.items()
    }

    def keep(node: int, tally: Tally) -> str:
        digest = reader.store.put("tallies", node, to_bytes(tally))
        if answerer is not None:
            answerer.prepare(digest, tally, reader)
        return digest

    tallying = (reader.tally_node(node) for node in nodes)
    return retally(tallying, changes, keep, reader.setting.nodes.features)


def _shard_change(old: ShardContent, layout: Sequence[_Row], rows: Rows | None) -> ShardChange:
    kept = {row.index for row in layout if not row.added}
    lost = [row for row in range(len(old.records)) if row not in kept]
    gained = [row for row in layout if row.added]
    tokens = [rows(row.index) for row in gained] if rows else []
    return ShardChange(
        lost=[old.records[row] for row in lost],
        lost_tokens=old.tokens[lost],
        gained=[row.record for row in gained],
        gained_tokens=np.stack(tokens) if tokens else old.tokens[:0],
    )


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
