"""Hold a store's finished requests and its ledger against each other: what `Store.check` cannot.

The store gives the entries of its ledger no meaning. Here each is read as the statement that it is:
its signature must hold, and it must say what the row of its request says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from shardgraph.errors import ShardgraphError
from shardgraph.forgetting.proof import LedgerCopy, verify_ledger
from shardgraph.forgetting.receipt import commitment_to, ledger_file, seal_state
from shardgraph.store import Finding, Request, Store

_ADVICE = "Answers are right. Keep a copy of the ledger and of receipts; restore from a backup."


def examine_ledger(store: Store) -> tuple[Finding, ...]:
    """What is wrong with the ledger, its signatures, and the finished requests; kind ``ledger``.

    Verifies every signature: two seconds for ten thousand entries. Never raises for damage.
    """
    try:
        requests = [one for one in store.requests() if one.receipt is not None]
        if not requests and not len(store.ledger):
            return ()
        ledger = verify_ledger(ledger_file(store))
        digest = store.digest()
    except ShardgraphError as error:
        return (Finding("ledger", error.message, _ADVICE),)
    return tuple(_differences(requests, ledger, digest))


def _differences(requests: list[Request], ledger: LedgerCopy, digest: str) -> Iterator[Finding]:
    known = {request.receipt for request in requests}
    for index in range(len(ledger.entries)):
        if index not in known:
            yield Finding("ledger", f"No request has receipt {index}.", _ADVICE)
    for request in requests:
        if not _agree(request, ledger, digest):
            what = f"The row of request {request.id} differs from its receipt {request.receipt}."
            yield Finding("ledger", what, _ADVICE)


def _agree(request: Request, ledger: LedgerCopy, digest: str) -> bool:
    index = request.receipt
    if index is None or not 0 <= index < len(ledger.entries):
        return False
    statement = json.loads(ledger.entries[index])["statement"]
    opening = request.state_opening
    try:
        commitment = commitment_to(request.commitment)
        state = statement["state_after"] if opening is None else seal_state(opening, digest)
    except ValueError:
        return False
    return (commitment, request.generation, state) == (
        statement["commitment"],
        statement["generation"],
        statement["state_after"],
    )
