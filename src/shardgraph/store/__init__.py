"""Everything on disk: records, blobs, generations, requests, ledger. No torch."""

from shardgraph.store.check import HARMLESS
from shardgraph.store.inherit import Inherited
from shardgraph.store.restore import restore_store
from shardgraph.store.state import (
    BLOB_KINDS,
    REQUEST_STATES,
    Backup,
    BlobKind,
    Change,
    Finding,
    NodesChanged,
    Record,
    Request,
    RequestState,
    ShardState,
    Status,
    StoreConfig,
    View,
)
from shardgraph.store.store import Store

__all__ = [
    "BLOB_KINDS",
    "HARMLESS",
    "REQUEST_STATES",
    "Backup",
    "BlobKind",
    "Change",
    "Finding",
    "Inherited",
    "NodesChanged",
    "Record",
    "Request",
    "RequestState",
    "ShardState",
    "Status",
    "Store",
    "StoreConfig",
    "View",
    "restore_store",
]
