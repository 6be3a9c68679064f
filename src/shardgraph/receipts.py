"""The commands ``shardgraph receipt``: show, export and verify what names nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shardgraph.errors import UsageError
from shardgraph.options import file_option, json_option, store_option
from shardgraph.report import Report, count, progress_bar, size, some

if TYPE_CHECKING:
    from shardgraph.forgetting.proof import LedgerCopy, Verified
    from shardgraph.store import Request, Store

_KEY_ADVICE = "Ask the operator for the file that `shardgraph receipt key --save` writes."


@click.group()
def receipt() -> None:
    """Show, export and verify receipts, which name nobody.

    Every command below takes --json.

    \b
    Examples:
      shardgraph receipt show 3 --store my.store --save receipt.json
      shardgraph receipt verify receipt.json --ledger ledger.jsonl
    """


@receipt.command("show")
@click.argument("request")
@store_option
@file_option("--save", "Write the receipt to a file, for whoever asked.")
@json_option
def show_receipt(request: str, store: Path, save: Path | None, as_json: bool) -> None:
    """Show the receipt of a request.

    REQUEST is a number from `shardgraph requests` or a request key.

    \b
    Example:
      shardgraph receipt show 3 --store my.store --save receipt.json
    """
    from shardgraph.forgetting.proof import verify_receipt
    from shardgraph.forgetting.receipt import receipt_file
    from shardgraph.store import Store

    with Store.open(store) as held:
        text = receipt_file(held, _request(held, request))
    verified = verify_receipt(text)
    if save is not None:
        save.write_bytes(text)
    shown = _receipt_report(verified, public_data=_loaded(text), saved=save)
    shown.print(as_json=as_json)


@receipt.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@file_option("--ledger", "A copy of the ledger, as old as FILE or newer.")
@click.option(
    "--public-key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The operator's public key (PEM). May be repeated; no other key is then accepted.",
)
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), help="For --replay.")
@click.option("--replay", "replaying", is_flag=True, help="Fit the touched nodes again.")
@json_option
def verify_receipt_file(
    file: Path,
    ledger: Path | None,
    key_files: tuple[Path, ...],
    store: Path | None,
    replaying: bool,
    as_json: bool,
) -> None:
    """Verify a receipt or a copy of a ledger.

    Says what that proves and what not.

    Needs no store, unless the nodes are to be fitted again. With a ledger as FILE, --ledger is a
    newer copy, which must begin with the older one. Leaves with exit code 1 if anything is wrong.

    \b
    Examples:
      shardgraph receipt verify receipt.json --ledger ledger.jsonl --public-key operator.pem
      shardgraph receipt verify old-ledger.jsonl --ledger new-ledger.jsonl
      shardgraph receipt verify receipt.json --store my.store --replay
    """
    from shardgraph.forgetting.proof import is_ledger, verify_ledger, verify_receipt

    if replaying != (store is not None):
        raise UsageError(
            "--replay and --store go together.", advice="Give both, or neither of them."
        )
    data, keys = _read(file), [_public_key(path) for path in key_files]
    if is_ledger(data):
        older = verify_ledger(data, public_keys=keys)
        newest = older
        if ledger is not None:
            newest = verify_ledger(_read(ledger), older=older, public_keys=keys)
        _ledger_report(older, newest).print(as_json=as_json)
        return
    copy = None if ledger is None else verify_ledger(_read(ledger), public_keys=keys)
    verified = verify_receipt(data, ledger=copy, public_keys=keys)
    if store is not None:
        verified = _replayed(store, verified)
    _receipt_report(verified).print(as_json=as_json)


@receipt.command("ledger")
@store_option
@file_option("--save", "Where to write the copy.")
@json_option
def save_ledger(store: Path, save: Path | None, as_json: bool) -> None:
    """Check the ledger; export a copy that anyone can verify.

    \b
    Example:
      shardgraph receipt ledger --store my.store --save ledger.jsonl
    """
    from shardgraph.forgetting.proof import verify_ledger
    from shardgraph.forgetting.receipt import ledger_file
    from shardgraph.store import Store

    with Store.open(store) as held:
        text = ledger_file(held)
    copy = verify_ledger(text)
    if save is not None:
        save.write_bytes(text)
    _ledger_report(copy, copy, saved=save).print(as_json=as_json)


@receipt.command("key")
@store_option
@file_option("--save", "Write the newest public key as PEM, to be published.")
@json_option
def public_key(store: Path, save: Path | None, as_json: bool) -> None:
    """Show which keys signed the ledger; export the newest.

    \b
    Example:
      shardgraph receipt key --store my.store --save operator.pem
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from shardgraph.forgetting.proof import verify_ledger
    from shardgraph.forgetting.receipt import ledger_file
    from shardgraph.store import Store

    with Store.open(store) as held:
        copy = verify_ledger(ledger_file(held))
    newest = Ed25519PublicKey.from_public_bytes(copy.keys[copy.head.key])
    if save is not None:
        save.write_bytes(newest.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    keys = sorted(copy.keys)
    data = {"key": copy.head.key, "keys": keys, "saved": str(save) if save else None}
    lines = [f"{name}{'  (signs now)' if name == copy.head.key else ''}" for name in keys]
    Report(data, "\n".join([*lines, *_saved(save)])).print(as_json=as_json)


def _replayed(store: Path, verified: Verified) -> Verified:
    from shardgraph.forgetting.proof import NOT_FITTED
    from shardgraph.forgetting.replay import replay

    with progress_bar() as progress:
        replayed = replay(store, verified, progress)
    still = (
        "The store is still in the state that the receipt speaks of."
        if replayed.same_state
        else "The store has changed since; the nodes are those that its samples of today give."
    )
    shown = f"{count(len(replayed.nodes), 'node')} fitted again in a fresh process: all bytes equal"
    return replace(
        verified,
        proved=(*verified.proved, f"{shown} ({size(replayed.bytes_compared)}). {still}"),
        not_proved=tuple(item for item in verified.not_proved if item != NOT_FITTED),
    )


def _receipt_report(
    verified: Verified, *, public_data: dict[str, Any] | None = None, saved: Path | None = None
) -> Report:
    statement = verified.statement
    nodes = statement["nodes"]
    data = {
        "valid": True,
        "statement": dict(statement),
        "index": verified.index,
        "ledger_size": verified.head.size,
        "day": verified.head.day,
        "proved": list(verified.proved),
        "not_proved": list(verified.not_proved),
        **({"receipt": public_data} if public_data is not None else {}),
        **({"saved": str(saved)} if saved is not None else {}),
    }
    lines = [
        f"Entry {verified.index} of the ledger, generation {statement['generation']}.",
        f"Refitted nodes: {some(nodes['refitted'])}; by subtraction: {some(nodes['subtracted'])}; "
        f"dropped: {some(nodes['dropped'])}.",
        f"State after, sealed: {statement['state_after'][:16]}.",
        "",
        "Proved:",
        *(f"  + {item}" for item in verified.proved),
        "Not proved:",
        *(f"  - {item}" for item in verified.not_proved),
        *_saved(saved),
    ]
    return Report(data, "\n".join(lines))


def _ledger_report(older: LedgerCopy, newest: LedgerCopy, saved: Path | None = None) -> Report:
    data = {
        "valid": True,
        "entries": len(newest.entries),
        "older_entries": len(older.entries),
        "root": newest.head.root.hex(),
        "day": newest.head.day,
        "keys": sorted(newest.keys),
        "saved": str(saved) if saved else None,
    }
    lines = [
        f"Entries: {len(newest.entries)}. Every signature and the root hold.",
        f"Head signed on {newest.head.day} with key {newest.head.key}.",
    ]
    if older is not newest:
        lines.append(f"It begins with the {len(older.entries)} entries of the older copy.")
    return Report(data, "\n".join([*lines, *_saved(saved)]))


def _saved(path: Path | None) -> list[str]:
    return [] if path is None else [f"Saved {path}."]


def _request(store: Store, name: str) -> Request:
    found = store.request_of(name)
    if found is not None:
        return found
    for item in store.requests():
        if str(item.id) == name:
            return item
    raise UsageError(f"There is no request {name!r}.", advice="List them: `shardgraph requests`.")


def _loaded(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}).", advice="Check the path."
        ) from error


def _public_key(path: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a public key in PEM form.", advice=_KEY_ADVICE) from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 key.", advice=_KEY_ADVICE)
    return key.public_bytes_raw()
