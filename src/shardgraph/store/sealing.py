"""Notes that only a backup can read: what was forgotten since it was made.

A store must not remember whom it forgot, yet whoever restores an older backup must forget the same
samples again. So a backup is made with a key pair. The store keeps the public part, the backup the
private one, and every later request leaves a *box* for it, of digests of the ids it forgot:

    digest  = SHA-256("shardgraph tombstone 1" || 0x00 || backup id || sample id)
    shared  = X25519(one-time private key, the backup's public key)           (RFC 7748)
    key     = HKDF-SHA-256(shared, salt = one-time public key || public key)  (RFC 5869)
    box     = one-time public key || ChaCha20-Poly1305(key, digests)          (RFC 8439)

The store alone can neither open a box nor try out ids on it. The backup can, but learns only which
of the samples *that it holds itself* are meant: ids of others would have to be guessed. Digests
are filled up with random ones to a power of two, so the length of a box gives only the magnitude
of a request. A box is bound to its request and its backup.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shardgraph.errors import StoreDamagedError
from shardgraph.identity import SampleId, digest_bytes

_PURPOSE = b"shardgraph tombstone 1"
_DIGEST_BYTES = 32
_KEY_BYTES = 32
_LEAST = 16
_NONCE = bytes(12)  # each key encrypts one message


def backup_id(public: bytes) -> str:
    """The name of a backup: the SHA-256 of its public key, in hexadecimal."""
    return digest_bytes(public)


def tombstone(backup: str, sample: SampleId) -> bytes:
    """What stands for a sample in a box for this backup."""
    text = sample.encode("utf-8", "surrogatepass")
    return bytes.fromhex(digest_bytes(_PURPOSE + b"\0" + bytes.fromhex(backup) + text))


def seal(public: bytes, request: int, samples: Iterable[SampleId]) -> bytes:
    """A box that says which samples a request forgot, for the backup with this public key."""
    name = backup_id(public)
    stones = [tombstone(name, sample) for sample in samples]
    room = max(_LEAST, 1 << (len(stones) - 1).bit_length())
    stones += [secrets.token_bytes(_DIGEST_BYTES) for _ in range(room - len(stones))]
    once = X25519PrivateKey.generate()
    own = once.public_key().public_bytes_raw()
    shared = once.exchange(X25519PublicKey.from_public_bytes(public))
    cipher = ChaCha20Poly1305(_derive(shared, own + public))
    return own + cipher.encrypt(_NONCE, b"".join(sorted(stones)), _bound(name, request))


def unseal(private: X25519PrivateKey, request: int, box: bytes) -> frozenset[bytes]:
    """The tombstones in a box, with those that only fill it up.

    Raises:
        StoreDamagedError: the box is not one for this backup and request, or was changed.
    """
    public = private.public_key().public_bytes_raw()
    own, sealed = box[:_KEY_BYTES], box[_KEY_BYTES:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(own))
        cipher = ChaCha20Poly1305(_derive(shared, own + public))
        stones = cipher.decrypt(_NONCE, sealed, _bound(backup_id(public), request))
    except (ValueError, InvalidTag) as error:
        raise StoreDamagedError(
            f"What request {request} left for this backup cannot be opened.",
            advice="Make sure that backup and store belong together; run `shardgraph check`.",
        ) from error
    starts = range(0, len(stones), _DIGEST_BYTES)
    return frozenset(stones[start : start + _DIGEST_BYTES] for start in starts)


def _derive(shared: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_PURPOSE).derive(shared)


def _bound(backup: str, request: int) -> bytes:
    """What a box is bound to beside its key."""
    return f"{backup} {request}".encode()
