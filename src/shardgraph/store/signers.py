"""Who signs receipts: the store's own private key, and every public key that has signed one.

The private key is a file of its own, readable by its owner only. It is accountability state: it
decides no answer, and neither copies nor backups hold it, so that no two ledgers which have
parted are ever signed with one key. Public keys are rows, and go wherever the ledger goes.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shardgraph import files
from shardgraph.errors import StoreDamagedError, StoreError, UsageError
from shardgraph.identity import digest_bytes
from shardgraph.store.database import Database
from shardgraph.store.layout import Layout

OWN_KEY = "signing-key"
"""Row of ``meta`` with the fingerprint of the store's own key, once it has one."""

_PRIVATE = 0o600


def fingerprint(public: bytes) -> str:
    """The name of a public key: the SHA-256 of its 32 raw bytes, in hexadecimal."""
    return digest_bytes(public)


class Signers:
    """The keys of one store."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._path = layout.signing_key
        self._database = database

    def public_keys(self) -> dict[str, bytes]:
        """Every public key that has signed a receipt of this store: 32 raw bytes by fingerprint."""
        return dict(self._database.rows("SELECT fingerprint, public FROM signers ORDER BY 1"))

    def own_fingerprint(self) -> str | None:
        """The fingerprint of the store's own key, None before its first receipt."""
        found = self._database.rows("SELECT value FROM meta WHERE name = ?", (OWN_KEY,))
        return str(found[0][0]) if found else None

    def signer(self, given: Path | None = None) -> Ed25519PrivateKey:
        """The key to sign with: a given one, or the store's own, drawn when first needed.

        Its public part is durably recorded before it is returned.

        Raises:
            UsageError: ``given`` is not a private Ed25519 key.
            StoreDamagedError: the store's own key is gone, or is not the one it had.
        """
        if given is not None:
            key = read_private_key(given)
        elif self.own_fingerprint() is None:
            key = self._draw()
        else:
            key = self.own()
        self._record(key)
        return key

    def own(self) -> Ed25519PrivateKey:
        """The store's own key, which it must have.

        Raises:
            StoreDamagedError: it is gone, or is not the one it had.
        """
        try:
            key = read_private_key(self._path)
        except UsageError as error:
            raise _lost(self._path, error.message) from error
        if fingerprint(key.public_key().public_bytes_raw()) != self.own_fingerprint():
            raise _lost(self._path, f"{self._path} is not the key of this store.")
        return key

    def _draw(self) -> Ed25519PrivateKey:
        """A new key, written durably before anything names it."""
        folder = self._path.parent
        files.make_directory(folder)
        files.erase_files(folder.iterdir())  # of a process that was killed right here
        key = Ed25519PrivateKey.generate()
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        partial = files.temporary_name(self._path)
        files.write_new(partial, text, mode=_PRIVATE)
        files.rename(partial, self._path)
        files.sync_directory(folder)
        name = fingerprint(key.public_key().public_bytes_raw())
        with self._database.transaction():
            self._database.rows("INSERT INTO meta VALUES (?, ?)", (OWN_KEY, name))
        return key

    def _record(self, key: Ed25519PrivateKey) -> None:
        public = key.public_key().public_bytes_raw()
        if fingerprint(public) not in self.public_keys():
            with self._database.transaction():
                self._database.rows(
                    "INSERT INTO signers VALUES (?, ?)", (fingerprint(public), public)
                )


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A private Ed25519 key from a PEM file without a pass phrase.

    Raises:
        UsageError: there is none.
    """
    advice = "Make one with `openssl genpkey -algorithm ed25519 -out FILE`."
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(
            f"The signing key {path} cannot be read ({error.strerror}).", advice=advice
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a private key in PEM form.", advice=advice) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key.", advice=advice)
    return key


def _lost(path: Path, message: str) -> StoreError:
    return StoreDamagedError(
        message,
        advice=f"Put the store's key back at {path}, or name another: SHARDGRAPH_SIGNING_KEY.",
    )
