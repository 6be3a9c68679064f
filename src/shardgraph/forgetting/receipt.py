"""What a finished request leaves behind: a signed statement about the result that names nobody.

    statement   what was done: node numbers, digests of settings, environment, two commitments
    entry       {signature, statement} as canonical JSON (RFC 8785): one entry of the ledger
    head        {day, key, root, size} of the ledger, signed when its newest entry was made
    receipt     a file for whoever asked: entry, opening, place in the ledger, proof, head, keys
    ledger      a file for everybody: a line with head and keys, then one entry a line

Signatures are Ed25519 (RFC 8032) over a purpose, a zero byte and canonical JSON. The commitment is
a hash of 32 random bytes, the *opening*, which only the store and the receipt hold. So the ledger
can be shown to anyone: only those to whom the receipt was given can show whose request an entry is
about. The state that the store was in at the signature is in it as a hash too, with 32 other random
bytes, which only the store holds, and only while it is in that state: samples that are forgotten
later were part of it, and then nobody, with the store or with a receipt, can try out which. No
statement holds a name, path, label, count or hash of one sample, nor a time: the day of
the head says when the newest entry was made, and the order of entries says the rest.

Not guaranteed: that nothing can be guessed. Numbers of nodes tell the shards apart, and whoever
knows the store's seed can work out the shard of a name and rule entries out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shardgraph.errors import StoreError, UsageError
from shardgraph.identity import canonical_json, digest_bytes
from shardgraph.store import Request, Store
from shardgraph.store.ledger import SignHead
from shardgraph.store.signers import fingerprint

RECEIPT_FORMAT = "shardgraph receipt 2"
LEDGER_FORMAT = "shardgraph ledger 2"
KEY_VARIABLE = "SHARDGRAPH_SIGNING_KEY"
"""Environment variable with the path of a signing key that the operator brings."""

_STATEMENT = b"shardgraph statement 2\0"
_HEAD = b"shardgraph ledger head 1\0"
_COMMITMENT = b"shardgraph commitment 1\0"
_STATE = b"shardgraph state 1\0"


def commitment_to(opening: str) -> str:
    """The commitment, in hexadecimal, to 32 random bytes given in hexadecimal."""
    return digest_bytes(_COMMITMENT + bytes.fromhex(opening))


def seal_state(opening: str, digest: str) -> str:
    """The hash, in hexadecimal, of an influence digest and of what alone opens it."""
    return digest_bytes(_STATE + canonical_json([opening, digest]))


def signed_statement(statement: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The bytes that the signature of a statement is over, and the statement's canonical JSON."""
    text = canonical_json(dict(statement))
    return _STATEMENT + text, text


def signed_head(head: Mapping[str, Any]) -> bytes:
    """The bytes that the signature of a head is over."""
    return _HEAD + canonical_json(dict(head))


def entry_bytes(statement: bytes, signature: str) -> bytes:
    """The canonical JSON of an entry, of the canonical JSON of its statement."""
    return b'{"signature":"%s","statement":%s}' % (signature.encode(), statement)


def receipt_entry(store: Store, request: Request, digest: str) -> bytes:
    """The ledger entry of an erased request, signed with the store's key or the operator's.

    ``digest`` is the influence digest of the store as it is.

    Raises:
        UsageError: the operator's key cannot be used, or the request was receipted long ago.
        StoreDamagedError: the store's key is gone.
    """
    config = store.config
    if request.state_opening is None:
        raise UsageError(
            f"Request {request.id} has its receipt, and its state is of the past.",
            advice="Print the receipt that it has: `shardgraph receipt show`.",
        )
    key = _signer(store)
    statement = {
        "commitment": commitment_to(request.commitment),
        "environment": dict(config.environment),
        "generation": request.generation,
        "graph": config.graph_digest,
        "key": fingerprint(key.public_key().public_bytes_raw()),
        "nodes": {name: list(nodes) for name, nodes in asdict(request.changed).items()},
        "recipe": config.recipe_digest,
        "state_after": seal_state(request.state_opening, digest),
    }
    signed, text = signed_statement(statement)
    return entry_bytes(text, key.sign(signed).hex())


def head_signer(store: Store) -> SignHead:
    """What signs the ledger's head when a receipt is issued; see `Store.issue_receipt`."""
    key = _signer(store)

    def sign(size: int, root: bytes) -> bytes:
        head = {
            "day": datetime.now(UTC).date().isoformat(),
            "key": fingerprint(key.public_key().public_bytes_raw()),
            "root": root.hex(),
            "size": size,
        }
        return canonical_json({"head": head, "signature": key.sign(signed_head(head)).hex()})

    return sign


def receipt_file(store: Store, request: Request) -> bytes:
    """The receipt of a request as a file: JSON in the one form that is accepted.

    Raises:
        UsageError: the request has no receipt yet.
        StoreDamagedError: the ledger does not agree with itself.
        StoreError: the ledger has no signed head.
    """
    index = request.receipt
    if index is None:
        raise UsageError(
            f"Request {request.id} is {request.state} and has no receipt yet.",
            advice="Carry it out: `shardgraph requests --resume`.",
        )
    head = _kept_head(store)
    tree = store.ledger.tree()
    entry = json.loads(store.ledger.entry(index))
    keys = store.signers.public_keys()
    named = sorted({entry["statement"]["key"], head["head"]["key"]})
    return receipt_text(
        {
            "entry": entry,
            "format": RECEIPT_FORMAT,
            "head": head,
            "index": index,
            "keys": {name: keys[name].hex() for name in named},
            "opening": request.commitment,
            "proof": [item.hex() for item in tree.inclusion_proof(index, head["head"]["size"])],
        }
    )


def receipt_text(receipt: Mapping[str, Any]) -> bytes:
    """The one form of a receipt file, for people and programs: sorted, indented, ASCII."""
    return (json.dumps(receipt, indent=2, sort_keys=True) + "\n").encode()


def ledger_file(store: Store) -> bytes:
    """A copy of the whole ledger that can be checked without the store.

    Raises:
        StoreError: there is no receipt yet.
    """
    head = _kept_head(store)
    entries = store.ledger.entries()[: head["head"]["size"]]
    keys = {name: key.hex() for name, key in store.signers.public_keys().items()}
    first = {"format": LEDGER_FORMAT, "keys": keys, **head}
    return b"".join(line + b"\n" for line in (canonical_json(first), *entries))


def _kept_head(store: Store) -> dict[str, Any]:
    head = store.ledger.head()
    if head is None:
        raise StoreError(
            "The ledger has no receipts yet.", advice="The first `shardgraph forget` makes one."
        )
    found: dict[str, Any] = json.loads(head)
    return found


def _signer(store: Store) -> Ed25519PrivateKey:
    given = os.environ.get(KEY_VARIABLE)
    return store.signers.signer(Path(given) if given else None)
