"""Fit nodes from scratch in a fresh process and compare every byte with what is stored.

Run as ``python -m shardgraph.forgetting.verify STORE [NODES]`` it is that process: it writes one
JSON object a line to standard output, first progress, then the result.

What equality proves: the stored bytes are what a fit of the samples that are in the store now
gives, here and now. It does not prove that the store once held other samples, nor anything about
copies made elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shardgraph.errors import (
    EnvironmentChangedError,
    StoreDamagedError,
    StoreError,
    UnknownIdError,
    UsageError,
)
from shardgraph.forgetting.outcome import Difference, Verification
from shardgraph.forgetting.reading import StoreReader
from shardgraph.forgetting.rebase import check_environment
from shardgraph.forgetting.refit import Fitted, fit_nodes
from shardgraph.identity import NodeId
from shardgraph.store import BlobKind, Store, View

_CHUNK = 32
"""Nodes fitted between two progress reports."""


def parse_nodes(text: str) -> tuple[int, ...]:
    """Node numbers from a list such as ``0,4,10-12``.

    Raises:
        UsageError: the text is not such a list.
    """
    nodes: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(
                f"{text!r} is not a list of nodes.", advice="Write numbers such as 0,4,10-12."
            )
        nodes.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(nodes))


def verify(
    store: Path,
    nodes: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Verify all nodes, or some, in a fresh process.

    Raises:
        UnknownIdError: a node is not in the store.
        StoreDamagedError: activations or records differ from their digest.
        EnvironmentChangedError: a fit here would give other bits, whatever the store holds.
        StoreError: the store changed meanwhile, or the process failed.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", __name__, str(store)]
    if nodes is not None:
        command.append(",".join(str(node) for node in nodes))
    result: dict[str, Any] | None = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            message = json.loads(line)
            if "done" not in message:
                result = message
            elif progress is not None:
                progress(message["done"], message["total"])
        complaint = process.stderr.read() if process.stderr else ""
    if result is None:
        raise StoreError(
            f"The verifying process failed: {complaint.strip()[-400:]}",
            advice="Run shardgraph check on the store.",
        )
    if "unknown" in result:
        raise UnknownIdError(
            f"The store has no node {result['unknown']}.",
            advice="shardgraph status lists how many there are; a node without samples is dropped.",
        )
    if "environment" in result:
        raise EnvironmentChangedError(result["environment"], advice=result["advice"])
    if "error" in result:
        kind = StoreDamagedError if result["damaged"] else StoreError
        raise kind(result["error"], advice=result["advice"])
    return Verification(
        nodes=tuple(result["nodes"]),
        differences=tuple(Difference(**item) for item in result["differences"]),
        bytes_compared=result["bytes_compared"],
        seconds=time.perf_counter() - started,
    )


def verify_here(
    store: Store, nodes: Sequence[int] | None, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The work of the fresh process: the result as a JSON object."""
    view = store.view()
    reader = StoreReader(store, view)
    try:
        check_environment(store)
    except EnvironmentChangedError as error:
        return {"environment": error.message, "advice": error.advice}
    stored = sorted(view.nodes)
    wanted = stored if nodes is None else sorted(set(nodes))
    unknown = sorted(set(wanted) - set(stored))
    if unknown:
        return {"unknown": unknown[0]}
    differences: list[dict[str, Any]] = []
    compared = 0
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        fitted = fit_nodes(chunk, reader.setting, reader.content)
        for node in chunk:
            for kind, fresh in _files(fitted[node]):
                held = _held(store, view, kind, node)
                compared += len(held)
                if held != fresh:
                    what = f"{kind}: {_describe(held, fresh)}"
                    differences.append({"node": node, "what": what})
        report({"done": start + len(chunk), "total": len(wanted)})
    if store.view() != view:
        return {
            "error": "The store changed while it was being verified.",
            "advice": "Run verify again.",
            "damaged": False,
        }
    return {"nodes": wanted, "differences": differences, "bytes_compared": compared}


def _files(fitted: Fitted) -> list[tuple[BlobKind, bytes]]:
    files: list[tuple[BlobKind, bytes]] = [("nodes", fitted.weights)]
    return files if fitted.tally is None else [*files, ("tallies", fitted.tally)]


def _held(store: Store, view: View, kind: BlobKind, node: int) -> bytes:
    """The bytes of a file as they are, empty where there is none."""
    digest = (view.nodes if kind == "nodes" else view.tallies).get(NodeId(node))
    path = None if digest is None else store.path_of(kind, node, digest)
    return b"" if path is None or not path.exists() else path.read_bytes()


def _describe(held: bytes, fitted: bytes) -> str:
    if len(held) != len(fitted):
        return f"{len(held)} bytes stored, {len(fitted)} bytes from a fresh fit"
    different = sum(a != b for a, b in zip(held, fitted, strict=True))
    return f"{different} of {len(held)} bytes differ from a fresh fit"


def _main(arguments: Sequence[str]) -> None:
    def report(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    nodes = parse_nodes(arguments[1]) if len(arguments) > 1 else None
    with Store.open(Path(arguments[0]), mode="read") as store:
        try:
            report(verify_here(store, nodes, report))
        except StoreDamagedError as error:
            report({"error": error.message, "advice": error.advice, "damaged": True})


if __name__ == "__main__":
    _main(sys.argv[1:])
