"""The append-only list of receipts, and proofs about it."""

from __future__ import annotations

from collections.abc import Callable

from shardgraph.errors import StoreDamagedError, UsageError
from shardgraph.store.database import Database
from shardgraph.store.merkle import HASH_BYTES, Frontier, Tree, leaf_hash

SignHead = Callable[[int, bytes], bytes]
"""Signs the ledger's size and root; what it returns is kept beside the ledger."""

_HEAD = "ledger-head"


class Ledger:
    """Entries are bytes; the store gives them no meaning. See `merkle` for roots and proofs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __len__(self) -> int:
        return int(self._database.value("SELECT ledger_size FROM state"))

    def entries(self) -> tuple[bytes, ...]:
        """All entries, oldest first."""
        return tuple(
            row[0] for row in self._database.rows("SELECT entry FROM ledger ORDER BY position")
        )

    def entry(self, index: int) -> bytes:
        """One entry.

        Raises:
            UsageError: there is no such entry.
        """
        rows = self._database.rows("SELECT entry FROM ledger WHERE position = ?", (index,))
        if not rows:
            raise UsageError(f"The ledger has no entry {index}.")
        return bytes(rows[0][0])

    def root(self) -> bytes:
        """The root over all entries, from the kept frontier (no entry is read)."""
        return self._frontier().root()

    def head(self) -> bytes | None:
        """The signed head that was kept with the newest receipt, None if there is none."""
        found = self._database.rows("SELECT value FROM meta WHERE name = ?", (_HEAD,))
        return str(found[0][0]).encode() if found else None

    def set_head(self, head: bytes) -> None:
        """Keep a signed head, text in UTF-8, inside a transaction of the caller's."""
        self._database.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_HEAD, head.decode()))

    def tree(self) -> Tree:
        """The tree over all entries, for proofs: hashes every entry.

        Raises:
            StoreDamagedError: the entries do not give the root that was kept.
        """
        with self._database.snapshot():
            tree = Tree([leaf_hash(entry) for entry in self.entries()])
            root = self.root()
        if tree.root() != root:
            raise StoreDamagedError(
                "The ledger's entries do not give its root.",
                advice="Restore the store from a backup; receipts in hand stay valid.",
            )
        return tree

    def append(self, entry: bytes) -> int:
        """Add an entry inside a transaction of the caller's; returns its index."""
        frontier = self._frontier()
        index = frontier.size
        self._database.rows("INSERT INTO ledger VALUES (?, ?)", (index, entry))
        frontier.append(leaf_hash(entry))
        self._database.rows(
            "UPDATE state SET ledger_size = ?, ledger_peaks = ?",
            (frontier.size, b"".join(frontier.peaks).hex()),
        )
        return index

    def _frontier(self) -> Frontier:
        size, text = self._database.rows("SELECT ledger_size, ledger_peaks FROM state")[0]
        peaks = bytes.fromhex(text)
        starts = range(0, len(peaks), HASH_BYTES)
        return Frontier(size, [peaks[start : start + HASH_BYTES] for start in starts])
