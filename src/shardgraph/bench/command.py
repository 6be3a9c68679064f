"""The command ``shardgraph bench``."""

from __future__ import annotations

from pathlib import Path

import click

from shardgraph.options import json_option
from shardgraph.report import Report, count, progress_bar


@click.command()
@click.argument("data", nargs=-1)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where activations, records, tables and plots go.",
)
@click.option("--quick", is_flag=True, help="A short form on handwritten digits: a few minutes.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What is compared: a JSON file in place of the built-in configuration.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    help="The test data, where DATA is the training data alone.",
)
@click.option("--methods", multiple=True, metavar="NAME", help="Only this method. May be repeated.")
@click.option("--seeds", type=int, default=None, help="How many seeds.  [default: as configured]")
@click.option(
    "--backbone", default="efficientnet-lite0", show_default=True, help="The frozen encoder."
)
@click.option("--layer", default=None, metavar="NAME", help="Which of its layers.  [default: last]")
@click.option(
    "--jobs",
    type=int,
    default=None,
    help="Methods measured side by side, each in a process.  [default: one per core]",
)
@click.option(
    "--kept",
    is_flag=True,
    help="Measure nothing: tables and pictures of what an interrupted run has left.",
)
@json_option
def bench(
    data: tuple[str, ...],
    out: Path,
    quick: bool,
    config: Path | None,
    test: Path | None,
    methods: tuple[str, ...],
    seeds: int | None,
    backbone: str,
    layer: str | None,
    jobs: int | None,
    kept: bool,
    as_json: bool,
) -> None:
    """Compare methods on DATA: accuracy against what forgetting takes.

    DATA is a folder with train and test below it, each with a folder per class, or digits.
    Interrupted, the same command goes on where it stopped. Nothing of it is a store: what it
    writes below --out is derived from the data and stays until you remove it.

    \b
    Examples:
      shardgraph bench --quick --out results
      shardgraph bench photos --out results
      shardgraph bench photos --out results --methods sisa --methods tallied --seeds 1
    """
    from shardgraph.bench.run import bench_all, configured

    wanted = configured(data, quick=quick, config=config, methods=methods, seeds=seeds, test=test)
    with progress_bar() as progress:
        outcome = bench_all(
            wanted,
            out,
            backbone=backbone,
            layer=layer,
            jobs=jobs,
            measure=not kept,
            progress=progress,
        )
    text = (
        f"{count(outcome.cells, 'cell')} in {out / 'results.json'}; tables in "
        f"{out / 'results.md'}; {count(len(outcome.pictures), 'picture')} in {out / 'plots'}."
    )
    found = {"cells": outcome.cells, "pictures": [str(path) for path in outcome.pictures]}
    Report({**found, "results": str(out / "results.json")}, text).print(as_json=as_json)
