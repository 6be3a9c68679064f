"""Check receipts and copies of the ledger, offline: nothing here needs a store.

Everything is parsed strictly, and must be written in the one form that `receipt` writes, so no two
files pass for one receipt. What is wrong raises `VerificationError`; nothing returns a flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shardgraph.errors import VerificationError
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
from shardgraph.store.merkle import Tree, leaf_hash, verify_inclusion
from shardgraph.store.signers import fingerprint

MOST_BYTES = 16 << 20
"""A receipt is a few kilobytes; what is larger than this is not read."""

_HASH, _SIGNATURE, _KEY = 32, 64, 32
_HEX = re.compile("(?:[0-9a-f]{2})+")
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = re.compile("[ -~]+")
_TEXT = re.compile("[^\ud800-\udfff]*")  # lone surrogates have no canonical form
_SAFE_INTEGER = 2**53 - 1  # RFC 8785 knows no larger one
_STATEMENT = {
    "commitment",
    "environment",
    "generation",
    "graph",
    "key",
    "nodes",
    "recipe",
    "state_after",
}
_NODES = {"dropped", "refitted", "subtracted"}
_RECEIPT = {"entry", "format", "head", "index", "keys", "opening", "proof"}
_FIRST_LINE = {"format", "head", "keys", "signature"}


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a ledger, as somebody signed it on a day (UTC)."""

    size: int
    root: bytes
    day: str
    key: str


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """A copy of a ledger in which everything has been checked."""

    head: Head
    entries: tuple[bytes, ...]
    keys: Mapping[str, bytes]
    tree: Tree


@dataclass(frozen=True, slots=True)
class Verified:
    """A receipt that holds, with what that proves and what it does not."""

    entry: bytes
    statement: Mapping[str, Any]
    index: int
    head: Head
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]


ALWAYS_OPEN = (
    "Whose data it was: the statement names nobody. That is between you and whoever gave you "
    "this receipt.",
    "That the bytes are gone from the disk: the signer says so, as the last step before signing.",
    "Anything about copies outside the store: backups, exports, published models, answers given "
    "before.",
    "Anything about the data that the frozen encoder itself was trained on.",
    "That the operator shows everyone the same ledger: compare heads with others.",
)
_WHOSE_KEY = "That the key is the operator's: give it with --public-key, or a copy of the ledger."
NOT_FITTED = "That the nodes are what a fit without the data gives: use --replay with the store."


def verify_receipt(
    data: bytes,
    *,
    ledger: LedgerCopy | None = None,
    public_keys: Sequence[bytes] = (),
) -> Verified:
    """Check a receipt by itself, against a copy of the ledger, and against known keys.

    Args:
        data: the file.
        ledger: a copy from `verify_ledger`, as old as the receipt or newer.
        public_keys: raw keys of the operator, 32 bytes each. Given, no others are accepted.

    Raises:
        VerificationError: something does not hold.
    """
    found = _parsed(data, receipt_text)
    _object(found, _RECEIPT, "receipt")
    _equal(found["format"], RECEIPT_FORMAT, "format")
    keys = _keys(found["keys"])
    statement, entry = _entry(found["entry"], keys)
    head = _head(found["head"], keys)
    if set(keys) != {statement["key"], head.key}:
        _refuse("The receipt holds keys that it does not use.")
    _trusted(keys, public_keys)
    index = _integer(found["index"], "index")
    proof = [_hex(item, _HASH, "proof") for item in _list(found["proof"], "proof")]
    verify_inclusion(leaf_hash(entry), index, head.size, proof, head.root)
    if commitment_to(_hex(found["opening"], _HASH, "opening").hex()) != statement["commitment"]:
        _refuse("The opening is not that of the commitment.")
    proved = [
        f"The statement was signed with key {statement['key']}, and has not been changed.",
        f"It is entry {index} of a ledger of {head.size}, whose head was signed on {head.day}.",
        "You hold the opening of its commitment, which the ledger does not show.",
    ]
    verified = Verified(entry, statement, index, head, tuple(proved), (NOT_FITTED, *ALWAYS_OPEN))
    if ledger is not None:
        verified = _in_ledger(verified, keys, ledger)
    if public_keys:
        return replace(verified, proved=(*verified.proved, "The key is one that you named."))
    if ledger is None:
        return replace(verified, not_proved=(_WHOSE_KEY, *verified.not_proved))
    return verified


def _in_ledger(verified: Verified, keys: Mapping[str, bytes], ledger: LedgerCopy) -> Verified:
    """The same receipt, checked against a copy of the ledger as well."""
    head = verified.head
    _require_extension(ledger, head)
    if ledger.entries[verified.index] != verified.entry:
        _refuse(f"Entry {verified.index} of the ledger is not that of the receipt.")
    if not set(keys) <= set(ledger.keys):
        _refuse("The ledger does not know the key of the receipt.")
    shown = (
        f"The copy of the ledger holds it as entry {verified.index} of {len(ledger.entries)}, "
        "each signed by a key of the ledger.",
        f"The copy begins with the {head.size} entries that the receipt's head was signed for: "
        "nothing was removed or changed since.",
    )
    return replace(verified, proved=(*verified.proved, *shown))


def _require_extension(ledger: LedgerCopy, head: Head) -> None:
    """Check that a ledger begins with the one that a head was signed for."""
    if len(ledger.entries) < head.size:
        raise VerificationError(
            f"The copy of the ledger has {len(ledger.entries)} entries, fewer than the "
            f"{head.size} that were signed on {head.day}.",
            advice="Get a newer copy; if there is none, entries have been taken away.",
        )
    if ledger.tree.root(head.size) != head.root:
        _refuse(
            f"Two different ledgers of {head.size} entries have been signed: "
            "history has been rewritten."
        )


def verify_ledger(
    data: bytes, *, older: LedgerCopy | None = None, public_keys: Sequence[bytes] = ()
) -> LedgerCopy:
    """Check a copy of the ledger: form, every signature, the root, and that it extends ``older``.

    Raises:
        VerificationError: something does not hold.
    """
    lines = data.split(b"\n")
    if lines.pop() != b"":
        _refuse("The ledger does not end with a whole line.")
    first = _parsed(lines[0] if lines else b"", canonical_json)
    _object(first, _FIRST_LINE, "first line")
    _equal(first["format"], LEDGER_FORMAT, "format")
    keys = _keys(first["keys"])
    _trusted(keys, public_keys)
    head = _head({name: first[name] for name in ("head", "signature")}, keys)
    entries = tuple(lines[1:])
    if len(entries) != head.size:
        _refuse(f"The ledger has {len(entries)} entries; its head was signed for {head.size}.")
    signers = {name: Ed25519PublicKey.from_public_bytes(key) for name, key in keys.items()}
    for line in entries:
        _, written = _entry(_loads(line), keys, signers)
        if written != line:
            _refuse("An entry of the ledger is not in canonical form.")
    tree = Tree([leaf_hash(line) for line in entries])
    if tree.root() != head.root:
        _refuse("The entries of the ledger do not give the root that was signed.")
    copy = LedgerCopy(head, entries, keys, tree)
    if older is not None:
        _require_extension(copy, older.head)
    return copy


def is_ledger(data: bytes) -> bool:
    """Whether a file says of itself that it is a copy of a ledger; nothing is checked."""
    return f'{{"format":"{LEDGER_FORMAT}"'.encode() == data[: len(LEDGER_FORMAT) + 12]


# -- forms ----------------------------------------------------------------------------------------


def _refuse(message: str) -> NoReturn:
    raise VerificationError(message, advice="Do not rely on it; ask the operator for a new copy.")


def _loads(data: bytes) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        _refuse("The file is not a receipt, nor a ledger.")


def _parsed(data: bytes, write: Any) -> Any:
    """The value of a file that is exactly as ``write`` would have written it."""
    if len(data) > MOST_BYTES:
        _refuse("The file is too large for a receipt.")
    found = _loads(data)
    try:
        same = write(found) == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        _refuse("The file is not in the form in which it was written.")
    return found


def _object(value: Any, names: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != names:
        _refuse(f"The {what} has not the fields that it must have.")


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"The {what} is not a list.")
    return value


def _equal(value: Any, wanted: str, what: str) -> None:
    if value != wanted:
        _refuse(f"The {what} is not {wanted!r}.")


def _integer(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= _SAFE_INTEGER:
        _refuse(f"The {what} is not a number that it can be.")
    return value


def _hex(value: Any, size: int, what: str) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        _refuse(f"The {what} is not {size} bytes in hexadecimal.")
    return bytes.fromhex(value)


def _keys(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict) or not value:
        _refuse("The keys are missing.")
    keys = {name: _hex(key, _KEY, "key") for name, key in value.items()}
    for name, key in keys.items():
        if fingerprint(key) != name:
            _refuse("A key is not the one that its fingerprint names.")
    return keys


def _trusted(keys: Mapping[str, bytes], public_keys: Sequence[bytes]) -> None:
    if public_keys and not set(keys.values()) <= set(public_keys):
        _refuse("It is signed with a key that is not among those you named.")


def _check(signature: Any, signed: bytes, key: Ed25519PublicKey) -> None:
    try:
        key.verify(_hex(signature, _SIGNATURE, "signature"), signed)
    except InvalidSignature:
        _refuse("A signature does not hold.")


def _signer(name: Any, keys: Mapping[str, bytes]) -> str:
    if not isinstance(name, str) or name not in keys:
        _refuse("The key that it was signed with is missing.")
    return name


def _entry(
    value: Any,
    keys: Mapping[str, bytes],
    signers: Mapping[str, Ed25519PublicKey] | None = None,
) -> tuple[dict[str, Any], bytes]:
    """The statement of an entry whose form and signature hold, and the entry's bytes."""
    _object(value, {"signature", "statement"}, "entry")
    statement = value["statement"]
    _statement(statement)
    name = _signer(statement["key"], keys)
    key = signers[name] if signers else Ed25519PublicKey.from_public_bytes(keys[name])
    signed, text = signed_statement(statement)
    _check(value["signature"], signed, key)
    return statement, entry_bytes(text, value["signature"])


def _statement(value: Any) -> None:
    _object(value, _STATEMENT, "statement")
    for name in ("commitment", "graph", "recipe", "state_after", "key"):
        _hex(value[name], _HASH, name)
    _integer(value["generation"], "generation")
    _object(value["nodes"], _NODES, "list of nodes")
    for name, nodes in value["nodes"].items():
        numbers = [_integer(node, "node") for node in _list(nodes, name)]
        if numbers != sorted(set(numbers)):
            _refuse("The nodes are not in order.")
    environment = value["environment"]
    if not isinstance(environment, dict):
        _refuse("The environment is not an object.")
    for name, text in environment.items():
        if not (_NAME.fullmatch(name) and isinstance(text, str) and _TEXT.fullmatch(text)):
            _refuse("The environment is not a list of names and texts.")


def _head(value: Any, keys: Mapping[str, bytes]) -> Head:
    """A head whose form and signature hold."""
    _object(value, {"head", "signature"}, "head")
    head = value["head"]
    _object(head, {"day", "key", "root", "size"}, "head")
    size, root = _integer(head["size"], "size"), _hex(head["root"], _HASH, "root")
    if not isinstance(head["day"], str) or not _DAY.fullmatch(head["day"]):
        _refuse("The day is not a date.")
    name = _signer(head["key"], keys)
    _check(value["signature"], signed_head(head), Ed25519PublicKey.from_public_bytes(keys[name]))
    return Head(size, root, head["day"], name)
