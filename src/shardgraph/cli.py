"""The command ``shardgraph``. Reads arguments, calls the model, prints a report; nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shardgraph import __version__
from shardgraph.errors import InterruptedWorkError, ShardgraphError, UsageError
from shardgraph.report import Report, progress_bar

if TYPE_CHECKING:
    from shardgraph.activations.encode import OnBadFile

EXIT_CODES = """\b
Exit codes:
  0   done
  1   verification found a difference
  2   the call cannot be carried out as asked
  3   no such sample, owner, source or node
  4   something is wrong with the input data
  5   the store cannot be used (missing, exists already, newer format)
  6   another process is writing to the store
  7   the store is damaged
  8   the environment differs from the one the nodes were fitted in
  130 interrupted; the work resumes at the next start"""


class Commands(click.Group):
    """A group that turns every expected error into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ShardgraphError as error:
            fail(error, as_json="--json" in sys.argv)
        except KeyboardInterrupt:
            fail(
                InterruptedWorkError(
                    "Interrupted; nothing is lost.", advice="Run the same command to go on."
                ),
                as_json="--json" in sys.argv,
            )


def fail(error: ShardgraphError, *, as_json: bool) -> None:
    """Print an error in one line (or as one JSON object) and leave with its exit code."""
    if as_json:
        facts = {"error": type(error).__name__, "message": error.message, "advice": error.advice}
        Report(facts, "").print(as_json=True)
    click.echo(f"shardgraph: {' '.join(str(error).split())}", err=True)
    sys.exit(error.exit_code)


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--store",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="The store: one directory that holds everything.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
    )(function)


def bad_file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--on-bad-file",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="What to do with a file that cannot be read as an image.",
    )(function)


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="shardgraph")
def main() -> None:
    """Adapt a frozen encoder to your images, and forget any of them exactly.

    \b
    A first session:
      shardgraph fit photos/train --store my.store
      shardgraph evaluate photos/test --store my.store
      shardgraph forget --store my.store --owner alice --dry-run
      shardgraph forget --store my.store --owner alice
      shardgraph verify --store my.store

    DATA is a folder with one sub-folder per class, a CSV or Parquet manifest with the columns
    path, label and optionally id, owner, source, or the word "digits" (a small built-in set).
    """


@main.command()
@click.argument("data")
@store_option
@click.option("--shards", type=int, default=None, help="How many shards.  [default: 64]")
@click.option(
    "--graph",
    default="isolated",
    show_default=True,
    metavar="SPEC",
    help="isolated, cliques:K, ring:K, hub:K, complete, random:K, two-level:F or FILE.json.",
)
@click.option(
    "--safe-source",
    "safe_sources",
    multiple=True,
    metavar="NAME",
    help="With hub:K: a source whose samples go to the safe shards. May be repeated.",
)
@click.option(
    "--tallies",
    default=None,
    metavar="PRESET",
    help="Shards that each node tallies: none, own, all or all-but:G.  [default: none]",
)
@click.option(
    "--backbone",
    default="efficientnet-lite0",
    show_default=True,
    metavar="NAME",
    help="The frozen encoder.",
)
@click.option("--layer", default=None, metavar="NAME", help="Which of its layers.  [default: last]")
@click.option("--epochs", type=int, default=None, help="Epochs for every node.  [default: 30]")
@click.option("--seed", type=int, default=0, show_default=True, help="The store seed.")
@bad_file_option
@json_option
def fit(data: str, store: Path, as_json: bool, **settings: Any) -> None:
    """Encode DATA, split it into shards, and fit one adapter per node of the shard graph.

    Interrupted, the same command goes on where it stopped.
    """
    from shardgraph.forgetting.create import FitSettings
    from shardgraph.model import SafeModel

    with progress_bar() as progress:
        model, outcome = SafeModel.fit(data, store, FitSettings(**settings), progress=progress)
        model.close()
    Report.of_fit(outcome, store).print(as_json=as_json)


@main.command()
@click.argument("data")
@store_option
@bad_file_option
@json_option
def evaluate(data: str, store: Path, on_bad_file: OnBadFile, as_json: bool) -> None:
    """Accuracy of the ensemble on the labelled images of DATA. Nothing of them is stored."""
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model, progress_bar() as progress:
        evaluation = model.evaluate(data, on_bad_file=on_bad_file, progress=progress)
    Report.of_evaluation(evaluation).print(as_json=as_json)


@main.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@store_option
@click.option("--top", default=1, show_default=True, help="How many labels for each image.")
@json_option
def predict(images: tuple[Path, ...], store: Path, top: int, as_json: bool) -> None:
    """The most probable labels of each IMAGE."""
    from shardgraph.model import SafeModel

    if top < 1:
        raise UsageError(
            "--top must be at least 1.", advice="Leave it out for the best label only."
        )
    with SafeModel.open(store) as model:
        answer = model.predict_images(images)
    Report.of_answer([str(image) for image in images], answer, top).print(as_json=as_json)


@main.command()
@store_option
@click.option("--sample", "samples", multiple=True, metavar="ID", help="A sample. May be repeated.")
@click.option("--owner", "owners", multiple=True, metavar="ID", help="An owner: all their samples.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="A source: all of it.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path),
    help="A file: one sample id a line, or CSV with columns sample, owner or source.",
)
@click.option("--key", default=None, help="A request key; the same key forgets once.")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@json_option
def forget(
    store: Path,
    samples: tuple[str, ...],
    owners: tuple[str, ...],
    sources: tuple[str, ...],
    file: Path | None,
    key: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Forget samples, owners or whole sources, exactly.

    The plan comes first; the nodes that the samples influenced stop answering before anything else
    happens; then they are fitted again without the samples, and what was derived is erased.
    """
    from shardgraph.forgetting.request import ForgetRequest, read_request_file
    from shardgraph.model import SafeModel

    names = read_request_file(file) if file is not None else {}
    request = ForgetRequest.of(
        samples=[*samples, *names.get("samples", [])],
        owners=[*owners, *names.get("owners", [])],
        sources=[*sources, *names.get("sources", [])],
        key=key,
    )
    with SafeModel.open(store, write=not dry_run) as model, progress_bar() as progress:
        plan = model.plan(request)
        if dry_run:
            Report.of_plan(plan).print(as_json=as_json)
            return
        click.echo(Report.of_plan(plan).text, err=True)
        outcome = model.forget(request, progress=progress)
    Report.of_change(outcome).print(as_json=as_json)


@main.command()
@click.argument("data")
@store_option
@bad_file_option
@json_option
def add(data: str, store: Path, on_bad_file: OnBadFile, as_json: bool) -> None:
    """Add the new samples of DATA, exactly as if they had been there from the first day.

    Samples that the store holds already are passed over and counted.
    """
    from shardgraph.model import SafeModel

    with SafeModel.open(store, write=True) as model, progress_bar() as progress:
        outcome = model.add(data, on_bad_file=on_bad_file, progress=progress)
    Report.of_change(outcome).print(as_json=as_json)


@main.command()
@store_option
@click.option("--nodes", default=None, metavar="LIST", help="Some nodes only, such as 0,4,10-12.")
@json_option
def verify(store: Path, nodes: str | None, as_json: bool) -> None:
    """Fit nodes from scratch in a fresh process and compare them byte for byte.

    Leaves with exit code 1 and the node's name on any difference.
    """
    from shardgraph.forgetting.verify import parse_nodes
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model, progress_bar() as progress:
        verification = model.verify(
            None if nodes is None else parse_nodes(nodes), progress=progress
        )
    Report.of_verification(verification).print(as_json=as_json)
    sys.exit(0 if verification.equal else 1)


@main.command()
@store_option
@json_option
def status(store: Path, as_json: bool) -> None:
    """What the store holds, its digest, and requests that are not finished."""
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model:
        Report.of_status(model.status()).print(as_json=as_json)


@main.command()
@store_option
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the graph: FILE.svg or FILE.png; or write it as FILE.json.",
)
@click.option("--mark-sample", "samples", multiple=True, metavar="ID", help="Mark what it touches.")
@click.option("--mark-owner", "owners", multiple=True, metavar="ID", help="Mark what they touch.")
@json_option
def graph(
    store: Path,
    save: Path | None,
    samples: tuple[str, ...],
    owners: tuple[str, ...],
    as_json: bool,
) -> None:
    """The shard graph: its shape, and what a request is expected to cost."""
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model:
        summary = model.describe_graph(save=save, samples=samples, owners=owners)
    Report.of_graph(summary, save).print(as_json=as_json)


if __name__ == "__main__":
    main()
