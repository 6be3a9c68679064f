"""Planted faults of requests, fences, durability and erasure; see ``faults.py``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults import Patch, fault, wrap

from shardgraph import files, model
from shardgraph.activations import blob, journal
from shardgraph.errors import StoreError
from shardgraph.forgetting import carry_out
from shardgraph.forgetting.plan import Plan
from shardgraph.store import database, publish, rows
from shardgraph.store.blobs import Blobs
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout
from shardgraph.store.lock import WriterLock
from shardgraph.store.publish import Publisher
from shardgraph.store.requests import Requests
from shardgraph.store.samples import Samples
from shardgraph.store.state import View
from shardgraph.store.store import Store

# -- what a request names ----------------------------------------------------------------------


@fault("a sample of an owner is missed")
def _(patch: Patch) -> None:
    wrap(patch, Store, "owned_by", lambda real, *given: real(*given)[:-1] or real(*given))


@fault("a sample of a source is missed")
def _(patch: Patch) -> None:
    wrap(patch, Store, "from_source", lambda real, *given: real(*given)[:-1] or real(*given))


@fault("unknown names in a request are passed over")
def _(patch: Patch) -> None:
    def lenient(real: Any, self: Samples, ids: Any) -> Any:
        known = {record.id for record in self.lookup(ids)}
        return real(self, [name for name in ids if name in known])

    wrap(patch, Samples, "find", lenient)


@fault("the key of a request is not looked at")
def _(patch: Patch) -> None:
    patch.setattr(Store, "request_of", lambda self, key: None)


@fault("a sample with another label is passed over as known")
def _(patch: Patch) -> None:
    def passed_over(real: Any, held: Store, dataset: Any, *more: Any) -> Any:
        known = {record.id for record in held.lookup([item.id for item in dataset.samples])}
        if known.issuperset(item.id for item in dataset.samples):
            return model.Added(None, 0, len(known), ())
        return real(held, dataset, *more)

    wrap(patch, model, "add_samples", passed_over)


@fault("another environment is not noticed")
def _(patch: Patch) -> None:
    patch.setattr(model, "check_environment", lambda store: None)


@fault("two writers at once")
def _(patch: Patch) -> None:
    patch.setattr(WriterLock, "_acquire", lambda self, path, operation, wait: None)


# -- the fence ---------------------------------------------------------------------------------


@fault("no node is fenced")
def _(patch: Patch) -> None:
    patch.setattr(Plan, "fenced", property(lambda self: ()))


@fault("only the node of the sample's own shard is fenced")
def _(patch: Patch) -> None:
    patch.setattr(Plan, "fenced", property(lambda self: self.shards))


@fault("every node is fenced")
def _(patch: Patch) -> None:
    patch.setattr(Plan, "fenced", property(lambda self: tuple(range(8))))


@fault("the fence falls when the refit is done, before it is published")
def _(patch: Patch) -> None:
    patch.setattr(rows, "_FENCING_SQL", "state = 'accepted'")


@fault("answers come from what was loaded before the request")
def _(patch: Patch) -> None:
    patch.setattr(Store, "changed", lambda self, view: False)


@fault("the label of a pending sample can still be answered")
def _(patch: Patch) -> None:
    patch.setattr(
        View,
        "labels",
        lambda self: tuple(
            sorted({label for shard in self.shards.values() for label in shard.labels})
        ),
    )


# -- durability --------------------------------------------------------------------------------


@fault("SQLite commits with synchronous=NORMAL")
def _(patch: Patch) -> None:
    patch.setitem(database._WRITER, "synchronous", 1)


@fault("blobs are not synced")
def _(patch: Patch) -> None:
    patch.setattr(files, "sync_file", lambda path: None)


@fault("the names of blobs are not synced")
def _(patch: Patch) -> None:
    patch.setattr(files, "sync_directory", lambda path: None)


@fault("a generation is published before its blobs are there")
def _(patch: Patch) -> None:
    def early(real: Any, self: Publisher, change: Any) -> int:
        with patch.context() as inner:
            inner.setattr(Blobs, "sync", lambda blobs: None)
            inner.setattr(Blobs, "require", lambda blobs, addresses: None)
            generation: int = real(self, change)
        self._blobs.sync()
        return generation

    wrap(patch, Publisher, "publish", early)


@fault("superseded files are erased before the pointer moves")
def _(patch: Patch) -> None:
    def early(real: Any, self: Publisher, change: Any) -> int:
        kinds = (("activations", change.activations), ("nodes", change.nodes))
        files.erase_files(
            self._blobs._layout.blob(kind, key, old)
            for kind, targets in kinds
            for key, old in self._rows.pointers(kind).items()
            if targets.get(key, old) != old
        )
        return int(real(self, change))

    wrap(patch, Publisher, "publish", early)


@fault("a sync that failed is tried again")
def _(patch: Patch) -> None:
    def stubborn(real: Any, *given: Any) -> None:
        try:
            real(*given)
        except StoreError:
            real(*given)

    for module in (files, blob, journal):
        wrap(patch, module, "sync_descriptor", stubborn)


@fault("a start does not look for unfinished requests")
def _(patch: Patch) -> None:
    real = model.SafeModel.open.__func__  # type: ignore[attr-defined]

    @contextmanager
    def forgetful() -> Any:
        with patch.context() as inner:
            inner.setattr(model, "resume", lambda store: None)
            yield

    def opened(cls: Any, path: Any, *, write: bool = False) -> Any:
        with forgetful():
            return real(cls, path, write=write)

    patch.setattr(model.SafeModel, "open", classmethod(opened))


@fault("a request that was refitted is not taken up again")
def _(patch: Patch) -> None:
    wrap(
        patch,
        Store,
        "unfinished",
        lambda real, self: tuple(request for request in real(self) if request.state != "refitted"),
    )


@fault("the digest of a shard's records is not renewed")
def _(patch: Patch) -> None:
    seen: dict[str, str] = {}

    def stale(real: Any, records: Any) -> str:
        return seen.setdefault(str(records[0].shard), real(records))

    wrap(patch, publish, "records_digest", stale)


@fault("the number of a shard's samples is not renewed")
def _(patch: Patch) -> None:
    seen: dict[int, int] = {}

    def stale(real: Any, self: Publisher, shards: set[int]) -> None:
        real(self, shards)
        for shard, count in self._database.rows("SELECT shard, samples FROM shards"):
            kept = seen.setdefault(shard, count)
            self._database.rows("UPDATE shards SET samples = ? WHERE shard = ?", (kept, shard))

    wrap(patch, Publisher, "_describe", stale)


# -- erasure -----------------------------------------------------------------------------------


@fault("nothing is erased")
def _(patch: Patch) -> None:
    patch.setattr(Blobs, "erase", lambda self, paths: 0)


def _kept(patch: Patch, kind: str) -> None:
    wrap(
        patch,
        Blobs,
        "orphans",
        lambda real, *given: tuple(path for path in real(*given) if path.parent.name != kind),
    )


@fault("superseded weights stay")
def _(patch: Patch) -> None:
    _kept(patch, "nodes")


@fault("superseded activations stay")
def _(patch: Patch) -> None:
    _kept(patch, "activations")


@fault("staged files stay")
def _(patch: Patch) -> None:
    patch.setattr(Layout, "staged_files", lambda self: ())
    patch.setattr(Layout, "staged_folders", lambda self: ())


@fault("files are unlinked and not overwritten")
def _(patch: Patch) -> None:
    patch.setattr(files, "_overwrite", lambda path: "regular" if path.exists() else "missing")


@fault("zeros are not durable before the unlink")
def _(patch: Patch) -> None:
    real = files.sync_file

    def lazy(path: Path) -> None:
        if any(path.read_bytes()):
            real(path)

    patch.setattr(files, "sync_file", lazy)


@fault("deleted rows keep their bytes")
def _(patch: Patch) -> None:
    patch.setitem(database._WRITER, "secure_delete", 0)


@fault("the database is not rebuilt")
def _(patch: Patch) -> None:
    patch.setattr(Database, "scrub", Database.empty_log)
    patch.setitem(database._WRITER, "secure_delete", 0)
    patch.setattr(Database, "_require", lambda self, name, value: None)


@fault("the log keeps what it held")
def _(patch: Patch) -> None:
    patch.setattr(Database, "empty_log", lambda self: None)


@fault("the receipt is issued before the erasure")
def _(patch: Patch) -> None:
    def hasty(real: Any, store: Store, *more: Any) -> None:
        published = [item.id for item in store.unfinished() if item.state == "published"]
        with store._database.transaction():
            store._requests.move(published, ["published"], "erased")
            store._rows.seal()
        for request in store.unfinished():
            if request.state == "erased":
                store.issue_receipt(
                    request.id, carry_out.receipt_entry(store, request, store.digest())
                )
        store.erase_superseded()
        store.compact()

    wrap(patch, carry_out, "clean_up", hasty)


@fault("the receipt names the samples")
def _(patch: Patch) -> None:
    asked: list[str] = []

    def noted(real: Any, self: Store, key: str, kind: str, samples: Any, *more: Any) -> Any:
        asked[:] = samples
        return real(self, key, kind, samples, *more)

    wrap(patch, Store, "accept", noted)
    wrap(patch, carry_out, "receipt_entry", lambda real, *given: real(*given) + str(asked).encode())


@fault("the key of a request is kept in clear")
def _(patch: Patch) -> None:
    patch.setattr(Requests, "_hidden", lambda self, key: key)


@fault("the labels of a request stay with it")
def _(patch: Patch) -> None:
    def kept(real: Any, self: Requests, ids: Any, *more: Any) -> None:
        labels = self._database.rows("SELECT id, labels FROM requests")
        real(self, ids, *more)
        for number, text in labels:
            self._database.rows("UPDATE requests SET labels = ? WHERE id = ?", (text, number))

    wrap(patch, Requests, "published", kept)
