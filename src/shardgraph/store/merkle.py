"""Merkle trees over a growing list: the mathematics of RFC 9162, section 2.1, and nothing else.

    MTH({})  = SHA-256()
    MTH({e}) = SHA-256(0x00 || e)
    MTH(D_n) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two < n

All hashes are 32 bytes. What is *not* shown by any proof here: who wrote the entries, or that a
root which somebody holds is the newest one; sign roots for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shardgraph.errors import VerificationError
from shardgraph.identity import digest_bytes

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return bytes.fromhex(digest_bytes(b"\x00" + entry))


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return bytes.fromhex(digest_bytes(b"\x01" + left + right))


class Frontier:
    """The roots of the perfect subtrees of a list: all that appending needs, log2(size) hashes.

    Example:
        >>> frontier = Frontier()
        >>> frontier.append(leaf_hash(b"first"))
        >>> frontier.root() == leaf_hash(b"first")
        True
    """

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Go on with a list of ``size`` entries whose peaks, largest subtree first, are known.

        Raises:
            VerificationError: there is not one peak of 32 bytes per bit set in ``size``.
        """
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count():
            raise VerificationError(f"{len(self.peaks)} peaks cannot stand for {size} entries.")
        if any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise VerificationError("A peak has not 32 bytes.")

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        merges = (~self.size & self.size + 1).bit_length() - 1  # trailing ones of size
        for _ in range(merges):
            leaf = node_hash(self.peaks.pop(), leaf)
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """MTH of the list."""
        if not self.peaks:
            return bytes.fromhex(digest_bytes(b""))
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


class Tree:
    """All perfect subtrees of a fixed list of leaf hashes: proofs in O(log^2 size)."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Hash the tree over ``leaves`` once, size - 1 hashes at most."""
        self.size = len(leaves)
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = zip(below[0::2], below[1::2], strict=False)
            self._levels.append([node_hash(left, right) for left, right in pairs])

    def root(self, size: int | None = None) -> bytes:
        """MTH of the first ``size`` leaves, by default of all.

        Raises:
            VerificationError: the tree has not so many leaves.
        """
        size = self.size if size is None else size
        self._require(0 <= size <= self.size, f"a tree of {size} entries")
        return self._hash(0, size) if size else Frontier().root()

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """PATH(index, D[0:size]) of RFC 9162, section 2.1.3.1, from the leaf upwards.

        Raises:
            VerificationError: there is no such entry.
        """
        size = self.size if size is None else size
        self._require(0 <= index < size <= self.size, f"entry {index} of {size}")
        proof = []
        start = 0
        while size > 1:
            half = _half(size)
            if index < half:
                proof.append(self._hash(start + half, size - half))
                size = half
            else:
                proof.append(self._hash(start, half))
                start, index, size = start + half, index - half, size - half
        return tuple(reversed(proof))

    def consistency_proof(self, old: int, size: int | None = None) -> tuple[bytes, ...]:
        """PROOF(old, D[0:size]) of RFC 9162, section 2.1.4.1.

        Raises:
            VerificationError: there are not so many entries, or ``old`` is 0.
        """
        size = self.size if size is None else size
        self._require(0 < old <= size <= self.size, f"sizes {old} and {size}")
        proof = []
        start, whole = 0, True
        while old != size:
            half = _half(size)
            if old <= half:
                proof.append(self._hash(start + half, size - half))
                size = half
            else:
                proof.append(self._hash(start, half))
                start, old, size, whole = start + half, old - half, size - half, False
        if not whole:
            proof.append(self._hash(start, size))
        return tuple(reversed(proof))

    def _hash(self, start: int, size: int) -> bytes:
        """MTH(D[start:start+size]) where start is a multiple of the largest subtree within."""
        if size & (size - 1) == 0:
            level = size.bit_length() - 1
            return self._levels[level][start >> level]
        half = _half(size)
        return node_hash(self._hash(start, half), self._hash(start + half, size - half))

    def _require(self, condition: bool, what: str) -> None:
        if not condition:
            raise VerificationError(f"The ledger has {self.size} entries, not {what}.")


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf`` is entry ``index`` of the list of ``size`` entries with this root.

    The algorithm of RFC 9162, section 2.1.3.2.

    Raises:
        VerificationError: it is not, or the proof is not of the right form.
    """
    if not 0 <= index < size:
        raise VerificationError(f"Entry {index} cannot be in a ledger of {size} entries.")
    first, second, running = index, size - 1, leaf
    for sibling in proof:
        if second == 0:
            raise VerificationError("The inclusion proof is too long.")
        if first & 1 or first == second:
            running = node_hash(sibling, running)
            while first and not first & 1:
                first, second = first >> 1, second >> 1
        else:
            running = node_hash(running, sibling)
        first, second = first >> 1, second >> 1
    if second != 0 or running != root:
        raise VerificationError("The entry is not in the ledger that has this root.")


def verify_consistency(
    old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the list with ``root`` begins with the list of ``old`` entries and ``old_root``.

    The algorithm of RFC 9162, section 2.1.4.2. ``old`` must be at least 1.

    Raises:
        VerificationError: it does not, or the proof is not of the right form.
    """
    if not 0 < old <= size:
        raise VerificationError(f"A ledger of {size} entries cannot extend one of {old}.")
    if old == size:
        if proof or old_root != root:
            raise VerificationError("Two ledgers of one size have different roots.")
        return
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise VerificationError("The consistency proof is too short.")
    first, second = old - 1, size - 1
    while first & 1:
        first, second = first >> 1, second >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if second == 0:
            raise VerificationError("The consistency proof is too long.")
        if first & 1 or first == second:
            before, after = node_hash(step, before), node_hash(step, after)
            while first and not first & 1:
                first, second = first >> 1, second >> 1
        else:
            after = node_hash(after, step)
        first, second = first >> 1, second >> 1
    if second != 0 or before != old_root or after != root:
        raise VerificationError("The ledger does not extend the one that has the old root.")


def _half(size: int) -> int:
    """The largest power of two smaller than ``size``, for size > 1."""
    return 1 << (size - 1).bit_length() - 1
