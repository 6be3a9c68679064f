"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


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


def bad_file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--on-bad-file stop|skip``."""
    return click.option(
        "--on-bad-file",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="What to do with a file that cannot be read as an image.",
    )(function)


def file_option(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a file."""
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), help=text)
