"""Receipts and ledgers made from their parts, so that every part can be forged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shardgraph.forgetting.receipt import (
    LEDGER_FORMAT,
    RECEIPT_FORMAT,
    commitment_to,
    entry_bytes,
    receipt_text,
    signed_head,
    signed_statement,
)
from shardgraph.identity import canonical_json
from shardgraph.store.merkle import Tree, leaf_hash
from shardgraph.store.signers import fingerprint


class Office:
    """Somebody with a key who keeps a ledger. Keys are drawn from a name, so runs repeat."""

    def __init__(self, name: str = "operator", entries: int = 0) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public = self.key.public_key().public_bytes_raw()
        self.name = fingerprint(self.public)
        self.entries = [self.entry(number) for number in range(entries)]

    def opening(self, number: int) -> str:
        return hashlib.sha256(b"opening %d" % number).hexdigest()

    def statement(self, number: int) -> dict[str, Any]:
        return {
            "commitment": commitment_to(self.opening(number)),
            "environment": {"cpu": "a processor", "threads": "1", "torch": "2.13.0"},
            "generation": number + 2,
            "graph": "a" * 64,
            "key": self.name,
            "nodes": {"dropped": [], "refitted": [number % 8, 9], "subtracted": [10, 12]},
            "recipe": "b" * 64,
            "state_after": hashlib.sha256(b"state %d" % number).hexdigest(),
        }

    def entry(self, number: int) -> bytes:
        return self.sign(self.statement(number))

    def sign(self, statement: Mapping[str, Any]) -> bytes:
        signed, text = signed_statement(statement)
        return entry_bytes(text, self.key.sign(signed).hex())

    def tree(self) -> Tree:
        return Tree([leaf_hash(entry) for entry in self.entries])

    def head(self, **other: Any) -> dict[str, Any]:
        size = len(self.entries)
        head = {"day": "2026-01-31", "key": self.name, "root": self.tree().root().hex(),
                "size": size, **other}  # fmt: skip
        return {"head": head, "signature": self.key.sign(signed_head(head)).hex()}

    def ledger(self, **other: Any) -> bytes:
        first = {"format": LEDGER_FORMAT, "keys": {self.name: self.public.hex()}, **self.head()}
        lines = [canonical_json({**first, **other}), *self.entries]
        return b"".join(line + b"\n" for line in lines)

    def receipt(self, index: int) -> dict[str, Any]:
        proof = self.tree().inclusion_proof(index)
        return {
            "entry": json.loads(self.entries[index]),
            "format": RECEIPT_FORMAT,
            "head": self.head(),
            "index": index,
            "keys": {self.name: self.public.hex()},
            "opening": self.opening(index),
            "proof": [item.hex() for item in proof],
        }

    def file(self, index: int) -> bytes:
        return receipt_text(self.receipt(index))


@pytest.fixture(scope="session")
def office() -> Office:
    """A ledger of eleven entries; do not change it."""
    return Office(entries=11)


@pytest.fixture(scope="session")
def make_office() -> type[Office]:
    return Office
