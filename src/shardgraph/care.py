"""Commands for those who look after a store: samples, requests, checks, backups, environment."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shardgraph import runtime
from shardgraph.errors import StoreDamagedError, StoreLockedError, UsageError
from shardgraph.options import file_option, json_option, names_options, request_of, store_option
from shardgraph.receipts import receipt
from shardgraph.report import Report, count, duration, progress_bar, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardgraph.forgetting.rebase import RebasePlan
    from shardgraph.store import Finding, Request, Store

_DAY = 86_400.0
_PATIENCE = 60.0


@click.command()
@store_option
@names_options
@json_option
def samples(store: Path, as_json: bool, **names: Any) -> None:
    """List what is recorded of a person's samples.

    What a request to forget would name, before or in place of it. One line for each sample: id,
    label, owner, source, shard and how many nodes it influences, with tabs between them.

    \b
    Examples:
      shardgraph samples --store my.store --owner alice
      shardgraph samples --store my.store --from people.csv --json
    """
    from shardgraph.forgetting.request import records_named
    from shardgraph.graph.shard_graph import ShardGraph
    from shardgraph.store import Store

    with Store.open(store) as held:
        found = records_named(held, request_of(**names))
        graph = ShardGraph.from_json(held.config.graph)
    nodes = {shard: len(graph.influenced_by([shard])) for shard in {item.shard for item in found}}
    rows = [{**asdict(item), "nodes": nodes[item.shard]} for item in found]
    columns = ("id", "label", "owner", "source", "shard", "nodes")
    lines = ["\t".join("" if row[it] is None else str(row[it]) for it in columns) for row in rows]
    Report({"samples": rows}, "\n".join(["\t".join(columns), *lines])).print(as_json=as_json)


@click.command()
@store_option
@click.option("--resume", "resuming", is_flag=True, help="Carry on with unfinished requests.")
@click.option("--stop", "stopping", is_flag=True, help="Stop the command that is at work on them.")
@json_option
def requests(store: Path, resuming: bool, stopping: bool, as_json: bool) -> None:
    """List requests with state and age; stop and resume them.

    A request is late when two thirds of its time have passed, and overdue after its deadline.

    \b
    Examples:
      shardgraph requests --store my.store
      shardgraph requests --store my.store --stop
      shardgraph requests --store my.store --resume
    """
    from shardgraph.store import Store

    if resuming and stopping:
        raise UsageError("Stop and resume are two commands.", advice="Give one of the two.")
    if stopping:
        _stop(store)
    with Store.open(store, "write" if resuming else "read") as held:
        if resuming:
            _carry_on(held)
        listed = held.requests()
    _requests_report(listed, datetime.now(UTC).timestamp()).print(as_json=as_json)


def _stop(store: Path) -> None:
    """Interrupt, as Ctrl-C would, the process that is writing to a store, and wait for its end.

    Raises:
        StoreLockedError: it does not stop, or cannot be made out.
    """
    from shardgraph.store.layout import Layout
    from shardgraph.store.lock import holder_of

    lock = Layout(store).lock
    process = holder_of(lock)
    if process is None:
        raise UsageError(
            "Nobody is writing to the store.", advice="List its requests without --stop."
        )
    os.kill(process, signal.SIGINT)
    end = time.monotonic() + _PATIENCE
    while holder_of(lock) == process:
        if time.monotonic() > end:
            raise StoreLockedError(
                f"Process {process} has not stopped yet.", advice="Look again in a moment."
            )
        time.sleep(0.05)


def _carry_on(store: Store) -> None:
    from shardgraph.forgetting.carry_out import resume
    from shardgraph.forgetting.rebase import check_environment

    check_environment(store)
    with progress_bar() as progress:
        resume(store, lambda done, total: progress("fitting", done, total, "nodes"))


def _requests_report(listed: Sequence[Request], now: float) -> Report:
    rows = [
        {
            "id": item.id,
            "kind": item.kind,
            "state": item.state,
            "accepted": _date(item.accepted),
            "deadline": _date(item.deadline),
            "age_days": round((now - item.accepted) / _DAY, 3),
            "late": item.late(now),
            "overdue": item.overdue(now),
            "receipt": item.receipt,
        }
        for item in listed
    ]
    data = {
        "requests": rows,
        "unfinished": sum(not item.finished for item in listed),
        "late": sum(item.late(now) for item in listed),
        "overdue": sum(item.overdue(now) for item in listed),
    }
    lines = [f"{'id':>4}  {'kind':<8}{'state':<11}{'age':>9}  deadline"] if rows else []
    for item in listed:
        mark = "  OVERDUE" if item.overdue(now) else "  LATE" if item.late(now) else ""
        age = duration(max(0.0, now - item.accepted))
        lines.append(
            f"{item.id:>4}  {item.kind:<8}{item.state:<11}{age:>9}  "
            f"{_date(item.deadline)[:10]}{mark}"
        )
    lines.append(
        f"{count(len(rows), 'request')}, {data['unfinished']} unfinished, {data['late']} late, "
        f"{data['overdue']} overdue."
    )
    return Report(data, "\n".join(lines))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@click.command()
@store_option
@click.option("--repair", is_flag=True, help="Erase what belongs to no generation.")
@json_option
def check(store: Path, repair: bool, as_json: bool) -> None:
    """Compare every file and row with its digest.

    Says what is wrong and what to do. Leaves with exit code 7 if an answer could be wrong; files
    that belong to nothing are named, and with --repair erased, unless something is damaged.

    \b
    Example:
      shardgraph check --store my.store
    """
    from shardgraph.forgetting.examine import examine_ledger
    from shardgraph.store import HARMLESS, Store

    with Store.open(store, "write" if repair else "read") as held:
        receipts = examine_ledger(held)
        found = (*held.check(repair=repair and not receipts), *receipts)
        left = (*held.check(), *receipts) if repair else found
    damaged = any(finding.kind not in HARMLESS for finding in found)
    _check_report(found, left, damaged=damaged, repaired=repair).print(as_json=as_json)
    if damaged:
        sys.exit(StoreDamagedError.exit_code)


def _check_report(
    found: Sequence[Finding], left: Sequence[Finding], *, damaged: bool, repaired: bool
) -> Report:
    data = {
        "damaged": damaged,
        "findings": [asdict(finding) for finding in found],
        "left": len(left),
        "repaired": repaired and not damaged,
    }
    lines = [f"{finding.kind}: {finding.what} {finding.advice}" for finding in found]
    if damaged:
        lines.append("The store is damaged.")
    elif not found:
        lines.append("Every file and row agrees with its digest.")
    else:
        lines.append("Nothing is damaged; every answer is right.")
    if repaired and not damaged:
        lines.append(f"Erased; {count(len(left), 'finding')} left.")
    return Report(data, "\n".join(lines))


@click.command()
@store_option
@json_option
def compact(store: Path, as_json: bool) -> None:
    """Rebuild the database from its live rows; empty its log.

    \b
    Example:
      shardgraph compact --store my.store
    """
    from shardgraph.store import Store

    with Store.open(store, "write") as held:
        before = held.status().bytes["database"]
        held.compact()
        after = held.status().bytes["database"]
    data = {"bytes_before": before, "bytes_after": after}
    Report(data, f"The database took {size(before)} and takes {size(after)}.").print(
        as_json=as_json
    )


# -- backups --------------------------------------------------------------------------------------


@click.command()
@store_option
@click.option("--to", "target", type=click.Path(path_type=Path), help="A new directory.")
@file_option("--requests", "Save what a restore needs to know of the requests to a small file.")
@click.option("--retire", default=None, metavar="ID", help="A backup that has been destroyed.")
@json_option
def backup(
    store: Path, target: Path | None, requests: Path | None, retire: str | None, as_json: bool
) -> None:
    """Back the store up, so that a restore forgets again.

    From then on every request leaves a note in the store that only the backup can read. Save the
    requests to another volume after each of them: with the store all its notes are lost.

    \b
    Examples:
      shardgraph backup --store my.store --to /backups/monday
      shardgraph backup --store my.store --requests /elsewhere/my.requests
      shardgraph backup --store my.store --retire 5f0c...
    """
    from shardgraph.store import Store

    if target is None and requests is None and retire is None:
        raise UsageError("Nothing is asked for.", advice="Give --to, --requests or --retire.")
    lines, made = [], None
    with Store.open(store, "write") as held:
        if retire is not None:
            held.retire_backup(retire)
            lines.append(f"Retired backup {retire}.")
        if target is not None:
            made = held.back_up(target)
            lines.append(f"Backup {made.id} written to {target}.")
        if requests is not None:
            held.save_requests(requests)
            lines.append(f"Saved the requests to {requests}.")
        known = held.backups()
    data = {
        "backup": None if made is None else made.id,
        "backups": [asdict(item) for item in known],
        "requests": None if requests is None else str(requests),
        "to": None if target is None else str(target),
    }
    Report(data, "\n".join(lines)).print(as_json=as_json)


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The backup.",
)
@store_option
@click.option(
    "--since",
    type=click.Path(path_type=Path),
    help="The store that was backed up, or a file from `shardgraph backup --requests`.",
)
@click.option("--without-replay", is_flag=True, help="Bring back what was forgotten since.")
@click.option("--yes", is_flag=True, help="Confirms --without-replay.")
@json_option
def restore(
    source: Path,
    store: Path,
    since: Path | None,
    without_replay: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a store of a backup, and forget what went since.

    No node answers that a sample influenced which was forgotten since. --store must not exist:
    move the damaged store aside and name it with --since.

    \b
    Example:
      shardgraph restore --from /backups/monday --store my.store --since damaged.store
    """
    from shardgraph.forgetting.restore import restore_backup
    from shardgraph.store import Store

    if without_replay and not yes:
        raise UsageError(
            "Without replay, everything forgotten since the backup comes back.",
            advice="Add --yes if that is what you want.",
        )
    restored = restore_backup(source, store, since=since, without_replay=without_replay)
    with Store.open(store, "write") as held:
        _carry_on(held)
        status = held.status()
    data = {**asdict(restored), "generation": status.generation, "digest": status.digest}
    lines = [
        f"Restored {count(status.samples, 'sample')}, generation {status.generation}.",
        f"{count(restored.requests, 'request')} made since the backup: "
        f"{count(restored.samples, 'sample')} forgotten again."
        if restored.replayed
        else "Requests made since the backup are not known: what they forgot is back.",
    ]
    Report(data, "\n".join(lines)).print(as_json=as_json)


# -- environment ----------------------------------------------------------------------------------


@click.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Print the cost and change nothing.")
@json_option
def rebase(store: Path, dry_run: bool, as_json: bool) -> None:
    """Fit every node again in this machine's environment.

    Needed where libraries or the instruction set have changed: nodes fitted before and after would
    differ in their last bits. Activations are not encoded again.

    \b
    Example:
      shardgraph rebase --store my.store --dry-run
    """
    from shardgraph.forgetting.machine import slower_paths
    from shardgraph.forgetting.rebase import plan_rebase
    from shardgraph.forgetting.rebase import rebase as rebase_store
    from shardgraph.store import Store

    with Store.open(store, "read" if dry_run else "write") as held:
        plan = plan_rebase(held)
        report = _rebase_report(plan)
        if dry_run or not plan.changed:
            report.print(as_json=as_json)
            return
        click.echo(report.text, err=True)
        with progress_bar() as progress:
            rebase_store(held, progress)
        status, config = held.status(), held.config
    slower = slower_paths(config.settings, str(config.backbone["name"]))
    data = {
        **report.data,
        "generation": status.generation,
        "digest": status.digest,
        "slower": slower,
    }
    text = f"Rebased: generation {status.generation}, digest {status.digest[:16]}."
    Report(data, "\n".join([text, *slower])).print(as_json=as_json)


def _rebase_report(plan: RebasePlan) -> Report:
    if not plan.changed:
        return Report(plan.to_json(), "The store has the environment of this machine already.")
    changes = [f"  {line}" for line in runtime.describe_changes(plan.changed)]
    lines = [
        "The environment has changed:",
        *changes,
        f"To fit again: {count(plan.nodes, 'node')} on {plan.samples_refit:,} samples, "
        f"{plan.passes:,} passes, about {duration(plan.predicted_seconds)} at the speed of the "
        "old environment.",
    ]
    if plan.skipped:
        lines.append(f"{count(plan.skipped, 'node')} more by unfinished requests.")
    return Report(plan.to_json(), "\n".join(lines))


CARE_COMMANDS: tuple[click.Command, ...] = (
    samples,
    requests,
    receipt,
    check,
    compact,
    backup,
    restore,
    rebase,
)
