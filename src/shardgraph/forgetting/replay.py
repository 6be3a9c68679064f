"""Put a receipt to the test: fit the nodes that it names again, from what the store holds now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shardgraph.errors import EnvironmentChangedError, VerificationError
from shardgraph.forgetting.progress import Progress, silent
from shardgraph.forgetting.proof import Verified
from shardgraph.forgetting.rebase import environment_changes
from shardgraph.forgetting.receipt import seal_state
from shardgraph.forgetting.verify import verify
from shardgraph.identity import digest_json
from shardgraph.store import Store

_ADVICE = "Name the store that issued the receipt."


@dataclass(frozen=True, slots=True)
class Replayed:
    """Nodes that a receipt names, fitted again with equal bytes.

    ``same_state``: the store is still in the very state that the receipt speaks of, and holds what
    opens it; if not, the nodes are those that the samples of today give.
    """

    nodes: tuple[int, ...]
    bytes_compared: int
    same_state: bool


def replay(path: Path, verified: Verified, progress: Progress = silent) -> Replayed:
    """Fit the nodes that a verified receipt names in a fresh process, and compare every byte.

    Raises:
        VerificationError: the store did not issue the receipt, has another graph or recipe than it
            says, or a node differs.
        EnvironmentChangedError: fits here would give other bits.
    """
    statement = verified.statement
    with Store.open(path) as store:
        _require_issuer(store, verified)
        changes = environment_changes(store)
        if changes:
            raise EnvironmentChangedError(
                f"Fits here would give other bits: {', '.join(changes)} differ.",
                advice="Replay it where the store was fitted.",
            )
        view = store.view()
        openings = {item.receipt: item.state_opening for item in store.requests()}
    touched = {*statement["nodes"]["refitted"], *statement["nodes"]["subtracted"]}
    nodes = tuple(sorted(touched & set(view.nodes)))
    compared = 0
    if nodes:
        result = verify(
            path, nodes, lambda done, total: progress("replaying", done, total, "nodes")
        )
        if result.differences:
            raise VerificationError(
                f"Node {result.differences[0].node} is not what a fit gives: "
                f"{result.differences[0].what}.",
                advice="Run `shardgraph verify` and `shardgraph check` on the store.",
            )
        compared = result.bytes_compared
    opening = openings.get(verified.index)
    same = opening is not None and seal_state(opening, view.digest) == statement["state_after"]
    return Replayed(nodes, compared, same)


def _require_issuer(store: Store, verified: Verified) -> None:
    held = verified.index < len(store.ledger)
    if not held or store.ledger.entry(verified.index) != verified.entry:
        raise VerificationError("The store's ledger does not hold this receipt.", advice=_ADVICE)
    for name in ("graph", "recipe"):
        if digest_json(dict(getattr(store.config, name))) != verified.statement[name]:
            raise VerificationError(
                f"The store has another {name} than the receipt says.", advice=_ADVICE
            )
