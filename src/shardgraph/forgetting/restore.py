"""Make a store of a backup: fence first, then serve, then refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardgraph.errors import UsageError
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.store import Inherited, Record, Store, StoreConfig, restore_store


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did; ``samples`` are forgotten again once the requests are carried out."""

    requests: int
    samples: int
    generation: int
    replayed: bool


def restore_backup(
    backup: Path, target: Path, *, since: Path | None, without_replay: bool = False
) -> Restored:
    """Make a store of a backup, in which every request made since is accepted again.

    It is fenced and may answer; `carry_out.resume` then carries the requests out.

    Args:
        backup: the backup.
        target: the new store.
        since: the live store, or a file of its requests.
        without_replay: make a store **in which forgotten samples are back**, since nothing is
            known of the requests made after the backup.

    Raises:
        UsageError: neither or both of ``since`` and ``without_replay``, or another store's.
        StoreError: see `restore_store`.
    """
    if (since is None) != without_replay:
        raise UsageError(
            "A restore must know which requests were made since the backup.",
            advice="Name the live store or a file of its requests with --since; where both are "
            "lost, --without-replay brings back everything forgotten since.",
        )
    inherited: Inherited = restore_store(backup, target, since, _fence)
    with Store.open(target) as store:
        generation = store.view().generation
    return Restored(inherited.requests, inherited.samples, generation, replayed=since is not None)


def _fence(config: StoreConfig, records: Sequence[Record]) -> frozenset[int]:
    graph = ShardGraph.from_json(config.graph)
    return graph.influenced_by({record.shard for record in records})
