"""Options that several commands share, and what long ones mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from shardgraph.errors import DataError, GraphError, UsageError

if TYPE_CHECKING:
    from shardgraph.forgetting.request import ForgetRequest
    from shardgraph.graph.shard_graph import ShardGraph


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--store DIR``, required."""
    return click.option(
        "--store",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="The store: one directory that holds everything.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
    )(function)


def names_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--sample``, ``--owner``, ``--source`` and ``--from``; `request_of` takes them."""
    options = (
        click.option(
            "--sample", "samples", multiple=True, metavar="ID", help="A sample; repeatable."
        ),
        click.option("--owner", "owners", multiple=True, metavar="ID", help="All of an owner."),
        click.option("--source", "sources", multiple=True, metavar="NAME", help="All of a source."),
        click.option(
            "--from",
            "file",
            type=click.Path(path_type=Path),
            help="A file: one sample id a line, or CSV with columns sample, owner or source.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def request_of(
    *,
    samples: Sequence[str],
    owners: Sequence[str],
    sources: Sequence[str],
    file: Path | None,
    **how: Any,
) -> ForgetRequest:
    """A request over the names given as options and in a file."""
    from shardgraph.forgetting.request import ForgetRequest, read_request_file

    more = read_request_file(file) if file is not None else {}
    return ForgetRequest.of(
        samples=[*samples, *more.get("samples", [])],
        owners=[*owners, *more.get("owners", [])],
        sources=[*sources, *more.get("sources", [])],
        **how,
    )


def bad_file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--on-bad-file stop|skip``."""
    return click.option(
        "--on-bad-file",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="What to do with a file that cannot be read.",
    )(function)


def file_option(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a file."""
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), help=text)


def read_lines(file: TextIO) -> tuple[str, ...]:
    """The lines of a file that are not blank.

    Raises:
        DataError: the file is not UTF-8.
    """
    try:
        return tuple(line for line in file.read().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is not text in UTF-8.", advice="Convert it first.") from error


def require_open_kinds(graph: ShardGraph) -> None:
    """Refuse a ``--representation`` that no node of a graph would take.

    Raises:
        UsageError: each node tallies nothing, or the graph says what it is.
    """
    if not any(node.tallies and node.kind == "default" for node in graph.nodes):
        raise UsageError(
            "No node of this graph can be told its --representation.",
            advice="Add --tallies all, own or all-but:G, to a --graph whose nodes read.",
        )


def graph_of_sources(
    source_shards: Sequence[str],
    *,
    graph: str,
    shards: int | None,
    safe_sources: Sequence[str],
    seed: int,
    **_: Any,
) -> ShardGraph:
    """The graph of each named source and that of all others, side by side."""
    from shardgraph.forgetting.create import DEFAULT_SHARDS
    from shardgraph.graph.topologies import by_source, parse

    if safe_sources or graph.endswith(".json"):
        raise GraphError(
            "--source-shards goes neither with --safe-source nor with a graph from a file.",
            advice="Write the pools of all sources into a FILE.json.",
        )
    sources = {}
    for text in source_shards:
        name, _sign, number = text.rpartition("=")
        if not (name and number.isascii() and number.isdigit()) or name in sources:
            raise UsageError(
                f"--source-shards {text!r} is not a new source and a number of shards.",
                advice="Write it like web=16, once per source.",
            )
        sources[name] = parse(graph, int(number), seed=seed)
    return by_source(sources, parse(graph, shards, default_shards=DEFAULT_SHARDS, seed=seed))
