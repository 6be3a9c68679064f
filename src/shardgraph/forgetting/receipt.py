"""What a finished request leaves behind: a statement about the result that names nobody."""

from __future__ import annotations

from shardgraph.identity import canonical_json, digest_json
from shardgraph.store import Request, Store

RECEIPT_FORMAT = 1


def receipt_entry(store: Store, request: Request) -> bytes:
    """The ledger entry of an erased request: canonical JSON.

    It holds the generation that no longer knows the samples, the influence digests before and
    after, digests of graph and recipe, the environment and a random commitment. It holds no id,
    path, label, count or content hash.
    """
    config = store.config
    return canonical_json(
        {
            "commitment": request.commitment,
            "digest_after": request.digest_after,
            "digest_before": request.digest_before,
            "environment": dict(config.environment),
            "format": RECEIPT_FORMAT,
            "generation": request.generation,
            "graph": digest_json(dict(config.graph)),
            "recipe": digest_json(dict(config.recipe)),
        }
    )
