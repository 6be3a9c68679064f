"""The command ``shardgraph``. Reads arguments, calls the model, prints a report; nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from shardgraph import __version__
from shardgraph.bench.command import bench
from shardgraph.care import CARE_COMMANDS
from shardgraph.errors import (
    InterruptedWorkError,
    ShardgraphError,
    StoreError,
    UsageError,
)
from shardgraph.options import (
    bad_file_option,
    graph_of_sources,
    json_option,
    names_options,
    read_lines,
    request_of,
    require_open_kinds,
    store_option,
)
from shardgraph.report import Report, progress_bar

if TYPE_CHECKING:
    from shardgraph.activations.encode import OnBadFile
    from shardgraph.forgetting.outcome import ChangeOutcome
    from shardgraph.forgetting.progress import Progress
    from shardgraph.forgetting.request import ForgetRequest
    from shardgraph.model import SafeModel

EXIT_CODES = """\b
Exit codes:
  0   done
  1   verification found a difference, or an unexpected error
  2   the call cannot be carried out as asked
  3   no such sample, owner, source or node
  4   something is wrong with the input data
  5   the store cannot be used (missing, exists already, another format, no space or permission)
  6   another process is writing to the store
  7   the store is damaged
  8   the environment differs from the one the nodes were fitted in
  130 interrupted; the work resumes at the next start"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; errors are one line, never a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given
    try:
        code = commands.main(given, prog_name="shardgraph", standalone_mode=False)
    except ShardgraphError as error:
        fail(error, as_json=as_json)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "shardgraph"
        hint = f"Try: {path} --help"
        fail(UsageError(error.format_message(), advice=hint), as_json=as_json)
    except click.Abort:
        interrupted = InterruptedWorkError(
            "Interrupted; the store is intact.", advice="Run the same command to go on."
        )
        fail(interrupted, as_json=as_json)
    except OSError as error:
        refused = StoreError(
            f"{error.strerror or type(error).__name__}: {error.filename or 'input or output'}.",
            advice="Check permissions and free space, and run the command again.",
        )
        fail(refused, as_json=as_json)
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: ShardgraphError, *, as_json: bool) -> NoReturn:
    """Print an error in one line (and as one JSON object) and leave with its exit code."""
    if as_json:
        Report.of_error(error).print(as_json=True)
    click.echo(f"shardgraph: {' '.join(str(error).split())}", err=True)
    sys.exit(error.exit_code)


@click.group(
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="shardgraph")
@click.pass_context
def commands(context: click.Context) -> None:
    """Adapt a frozen encoder to your images or texts, and forget any of them exactly.

    \b
    A first session:
      shardgraph fit photos/train --store my.store
      shardgraph evaluate photos/test --store my.store
      shardgraph forget --store my.store --owner alice --dry-run
      shardgraph forget --store my.store --owner alice
      shardgraph verify --store my.store

    A store is one directory that holds a model and what it was fitted on. Samples are spread over
    shards; each node of a graph is a light model of some shards, and forgetting brings exactly the
    nodes up to date that a sample reached.

    DATA is a folder with one sub-folder per class, a table (CSV, JSON lines, Parquet) with the
    columns path or text, label and optionally id, owner, source, or "digits:train" or
    "digits:test" (a small built-in set of handwritten digits).
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@commands.command()
@click.argument("data")
@store_option
@click.option("--shards", type=int, default=None, help="How many shards.  [default: 64]")
@click.option(
    "--graph",
    default="tallied",
    show_default=True,
    metavar="SPEC",
    help="tallied (no node reads; all tally), isolated, cliques:K, ring:K, hub:K, complete, "
    "random:K, two-level:F or FILE.json.",
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
    help="Shards that each node tallies: none, own, all or all-but:G.  [default: as the graph]",
)
@click.option(
    "--representation",
    type=click.Choice(["discriminant", "trained", "random"]),
    default=None,
    help="What nodes that tally learn from what they read: attention solved in closed form, an "
    "adapter, or nothing.  [default: discriminant]",
)
@click.option(
    "--tally-budget",
    type=int,
    default=None,
    metavar="BYTES",
    help="Most bytes that all tallies may take, for --tally-classes; narrows their features.",
)
@click.option(
    "--tally-classes",
    type=int,
    default=None,
    metavar="N",
    help="With --tally-budget: the most classes that there will be.",
)
@click.option(
    "--tune-on",
    default=None,
    metavar="SOURCE",
    help="Tune heads solved from tallies on the samples of this source; forgetting one of them "
    "tunes anew.",
)
@click.option(
    "--source-shards",
    multiple=True,
    metavar="NAME=K",
    help="A source with K shards and nodes of its own, in the same graph; forgetting all of it "
    "touches no other. May be repeated.",
)
@click.option(
    "--backbone",
    default="efficientnet-lite0",
    show_default=True,
    metavar="NAME",
    help="The frozen encoder: efficientnet-lite0, transformers:FOLDER_OR_NAME or onnx:FILE; "
    "?average=P behind it averages an image's tokens over P x P places.",
)
@click.option("--layer", default=None, metavar="NAME", help="Which of its layers.  [default: last]")
@click.option(
    "--epochs",
    type=int,
    default=None,
    help="Epochs of the nodes that are trained; the default graph has none.  [default: 30]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Decides shards and all that is random. Where receipts are made public: a large number "
    "that you keep to yourself.",
)
@bad_file_option
@json_option
def fit(
    data: str,
    store: Path,
    source_shards: tuple[str, ...],
    tune_on: str | None,
    representation: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Encode DATA and fit the nodes of a shard graph.

    Interrupted, the same command goes on where it stopped.

    \b
    Examples:
      shardgraph fit photos/train --store my.store
      shardgraph fit photos.csv --store my.store --shards 128 --graph ring:3
      shardgraph fit photos.csv --store my.store --graph hub:8 --safe-source licensed
      shardgraph fit photos.csv --store my.store --shards 4 --graph isolated --tallies all
        --representation trained
      shardgraph fit photos.csv --store my.store --source-shards web=16
      shardgraph fit reviews.csv --store my.store --backbone transformers:models/minilm
    """
    from shardgraph.forgetting.create import FitSettings
    from shardgraph.model import SafeModel

    tally = {"representation": representation, "tune_on": tune_on}
    settings["tally"] = {name: value for name, value in tally.items() if value is not None}
    if source_shards:
        settings["graph"] = graph_of_sources(source_shards, **settings)
        settings["shards"] = None
    wanted = FitSettings(**settings)
    if representation is not None:
        require_open_kinds(wanted.build_graph())
    with progress_bar() as progress:
        model, outcome = SafeModel.fit(data, store, wanted, progress=progress)
        slower = model.status()["slower"]
        model.close()
    Report.of_fit(outcome, store, slower).print(as_json=as_json)


@commands.command()
@click.argument("data")
@store_option
@bad_file_option
@json_option
def evaluate(data: str, store: Path, on_bad_file: OnBadFile, as_json: bool) -> None:
    """Measure accuracy on the labelled samples of DATA.

    Nothing of them is stored. Labels that the store does not know count as wrong.

    \b
    Example:
      shardgraph evaluate photos/test --store my.store
    """
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model, progress_bar() as progress:
        evaluation = model.evaluate(data, on_bad_file=on_bad_file, progress=progress)
    Report.of_evaluation(evaluation).print(as_json=as_json)


@commands.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@store_option
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text. May be repeated.")
@click.option(
    "--lines", type=click.File(encoding="utf-8"), help="A file with one text a line; - for input."
)
@click.option("--top", default=1, show_default=True, help="How many labels for each.")
@json_option
def predict(
    files: tuple[Path, ...],
    store: Path,
    texts: tuple[str, ...],
    lines: TextIO | None,
    top: int,
    as_json: bool,
) -> None:
    """Print the most probable labels of images or texts.

    Each of FILES is an image, or one text in UTF-8, by what the store was fitted on.

    \b
    Examples:
      shardgraph predict new/*.jpg --store my.store --top 3
      shardgraph predict --text "Never again." --store reviews.store
    """
    from shardgraph.data.open import open_queries
    from shardgraph.model import SafeModel

    if top < 1:
        raise UsageError(
            "--top must be at least 1.", advice="Leave it out for the best label only."
        )
    texts += read_lines(lines) if lines is not None else ()
    names = [*map(str, files), *texts]
    if not names:
        raise UsageError("There is nothing to predict.", advice="Name files, or give --text.")
    with SafeModel.open(store) as model, progress_bar() as progress:
        kind = model.backbone.kind
        answer = model.predict(open_queries(files, texts, kind), progress=progress)
    key = "image" if kind == "images" else "input"
    Report.of_answer(names, answer, top, key).print(as_json=as_json)


@commands.command()
@store_option
@names_options
@click.option("--key", default=None, help="A request key; the same key forgets once.")
@click.option(
    "--deadline",
    type=float,
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Days the request may take; `shardgraph requests` warns at two thirds of them.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@json_option
def forget(
    store: Path,
    key: str | None,
    deadline: float,
    dry_run: bool,
    as_json: bool,
    **names: Any,
) -> None:
    """Forget samples, owners or whole sources, exactly.

    The plan comes first; the nodes that the samples influenced stop answering before anything else
    happens; then they are fitted again without the samples, or the samples are subtracted from
    their sums, and what was derived is erased.

    \b
    Examples:
      shardgraph forget --store my.store --owner alice --dry-run
      shardgraph forget --store my.store --owner alice --owner bob
      shardgraph forget --store my.store --sample cats/0042.jpg
      shardgraph forget --store my.store --from requests.csv
    """
    from shardgraph.model import SafeModel

    request = request_of(**names, key=key, days=deadline)
    with progress_bar() as progress:
        if dry_run:
            with SafeModel.open(store) as model:
                Report.of_plan(model.plan(request)).print(as_json=as_json)
            return
        with SafeModel.open(store, write=True, progress=progress) as model:
            if not model.knows(request):
                click.echo(Report.of_plan(model.plan(request)).text, err=True)
            outcome = forget_or_say_how(model, request, progress)
    Report.of_change(outcome).print(as_json=as_json)


def forget_or_say_how(
    model: SafeModel, request: ForgetRequest, progress: Progress
) -> ChangeOutcome:
    """Forget; where that is interrupted, say with which key the same command goes on."""
    try:
        return model.forget(request, progress=progress)
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(
            "Interrupted; the store is intact, and what was accepted will be carried out.",
            advice=f"Run the same command with --key {request.key} to go on.",
        ) from error


@commands.command()
@click.argument("data")
@store_option
@bad_file_option
@json_option
def add(data: str, store: Path, on_bad_file: OnBadFile, as_json: bool) -> None:
    """Add the new samples of DATA.

    The result is the same, byte for byte, as if they had been there from the start. Samples that
    the store holds already are passed over and counted.

    \b
    Example:
      shardgraph add photos/new --store my.store
    """
    from shardgraph.model import SafeModel

    with (
        progress_bar() as progress,
        SafeModel.open(store, write=True, progress=progress) as model,
    ):
        outcome = model.add(data, on_bad_file=on_bad_file, progress=progress)
    Report.of_change(outcome).print(as_json=as_json)


@commands.command()
@store_option
@click.option("--nodes", default=None, metavar="LIST", help="Some nodes only, such as 0,4,10-12.")
@json_option
def verify(store: Path, nodes: str | None, as_json: bool) -> None:
    """Fit nodes anew in a fresh process and compare every byte.

    Leaves with exit code 1 and the node's name on any difference.

    \b
    Examples:
      shardgraph verify --store my.store
      shardgraph verify --store my.store --nodes 0-7,12
    """
    from shardgraph.forgetting.verify import parse_nodes
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model, progress_bar() as progress:
        verification = model.verify(
            None if nodes is None else parse_nodes(nodes), progress=progress
        )
    Report.of_verification(verification).print(as_json=as_json)
    sys.exit(0 if verification.equal else 1)


@commands.command()
@store_option
@json_option
def status(store: Path, as_json: bool) -> None:
    """Show what the store holds, and requests under way.

    \b
    Example:
      shardgraph status --store my.store
    """
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model:
        Report.of_status(model.status()).print(as_json=as_json)


@commands.command()
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
    """Show the shard graph, and what forgetting costs on it.

    \b
    Examples:
      shardgraph graph --store my.store --save graph.svg
      shardgraph graph --store my.store --save graph.svg --mark-owner alice
      shardgraph graph --store my.store --save graph.json
    """
    from shardgraph.model import SafeModel

    with SafeModel.open(store) as model:
        summary = model.describe_graph(save=save, samples=samples, owners=owners)
    Report.of_graph(summary, save).print(as_json=as_json)


for command in (*CARE_COMMANDS, bench):
    commands.add_command(command)

if __name__ == "__main__":
    main()
