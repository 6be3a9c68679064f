"""Everything on disk: records, blobs, generations, requests, ledger. No torch."""

from shardgraph.store.state import (
    BLOB_KINDS,
    REQUEST_STATES,
    BlobKind,
    Change,
    Finding,
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
    "REQUEST_STATES",
    "BlobKind",
    "Change",
    "Finding",
    "Record",
    "Request",
    "RequestState",
    "ShardState",
    "Status",
    "Store",
    "StoreConfig",
    "View",
]
