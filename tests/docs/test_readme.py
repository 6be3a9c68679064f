"""What the documents say exists and works."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest

import shardgraph
from shardgraph import cli
from shardgraph.errors import ShardgraphError
from shardgraph.forgetting.outcome import ChangeOutcome
from shardgraph.report import Report

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("docs/guide/*.md"),
        ROOT / "docs" / "glossary.md",
        ROOT / "docs" / "results.md",
    ]
)


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def programs() -> list[tuple[str, str]]:
    """Python blocks of all pages, except those marked no-run because they need photographs."""
    return [
        (page_name(page), block)
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    ]


def command_lines() -> list[tuple[str, str]]:
    """Every call of shardgraph, in indented blocks and between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text()
        calls = re.findall(r"^(?:> )?    (shardgraph .*)$", text, re.M)
        calls += re.findall(r"^(shardgraph .*)$", text, re.M)
        calls += re.findall(r"`(shardgraph [a-z][^`]*)`", text)
        found += [(page_name(page), call.split(" #")[0]) for call in calls]
    return found


@pytest.mark.parametrize(("page", "program"), programs())
def test_python_examples_run(page: str, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, page, "exec"), {})
    if page == "README.md":
        assert capsys.readouterr().out == (
            "4 samples forgotten, 2 of 8 nodes refitted\n"
            "equal to a fresh fit, byte for byte: True\n"
        )


@pytest.mark.parametrize(("page", "call"), command_lines())
def test_commands_exist(page: str, call: str) -> None:
    _, name, *rest = shlex.split(call)
    command = cli.commands.commands.get(name)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, *rest = rest
        command = command.commands.get(name)
    assert command is not None, f"{page}: no command {name}"
    options = {option for parameter in command.params for option in parameter.opts}
    for word in rest:
        if word.startswith("--"):
            assert word in options | {"--help"}, f"{page}: {name} has no option {word}"


def every_command() -> list[click.Command]:
    """All commands, with those inside groups."""
    found: list[click.Command] = []
    waiting = list(cli.commands.commands.values())
    while waiting:
        found.append(waiting.pop())
        if isinstance(found[-1], click.Group):
            waiting += found[-1].commands.values()
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_options_and_links_exist(page: Path) -> None:
    text = page.read_text()
    options = {
        option
        for command in every_command()
        for parameter in command.params
        for option in parameter.opts
    }
    for option in re.findall(r"`(--[a-z-]+)", text):
        assert option in options | {"--help"}, f"{page_name(page)}: no option {option}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[a-z-]*)?\)", text):
        assert (page.parent / target).exists(), f"{page_name(page)}: no file {target}"


def test_every_command_and_graph_is_documented() -> None:
    everything = "\n".join(page.read_text() for page in PAGES)
    for name, command in cli.commands.commands.items():
        assert f"shardgraph {name}" in everything, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and name == "forget":
                assert parameter.opts[0] in everything, parameter.opts
    graphs = next(p for p in cli.commands.commands["fit"].params if p.name == "graph")
    assert isinstance(graphs, click.Option)
    for form in re.findall(r"[a-z-]+:[A-Z]|tallied|isolated|complete|FILE\.json", str(graphs.help)):
        assert f"`{form}`" in (ROOT / "docs" / "guide" / "graphs.md").read_text(), form


def test_exit_codes_are_those_of_the_program() -> None:
    documented = re.findall(
        r"^\| (\d+) \| (.*?) \|$", (ROOT / "docs/guide/forgetting.md").read_text(), re.M
    )
    assert documented == re.findall(r"^  (\d+) +(.*)$", cli.EXIT_CODES, re.M)


def test_the_readme_is_runnable_before_line_thirty() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()[:30]
    for needed in ("    scripts/demo", "    scripts/test", "```python", "```"):
        assert any(line.startswith(needed) for line in lines), needed


def test_the_test_command_of_the_readme_is_that_of_ci() -> None:
    commands = re.findall(r"^    (scripts/\w+)", (ROOT / "README.md").read_text(), re.M)
    assert commands == ["scripts/demo", "scripts/test"]
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text().splitlines()
    for command in commands:
        assert (ROOT / command).stat().st_mode & 0o111


def documented_modules() -> list[str]:
    packages = pkgutil.walk_packages(shardgraph.__path__, "shardgraph.")
    files = {info.name: Path(info.module_finder.path) for info in packages}  # type: ignore[union-attr]
    source = {name: (folder / (name.rpartition(".")[2] + ".py")) for name, folder in files.items()}
    return [name for name, path in source.items() if path.exists() and ">>> " in path.read_text()]


@pytest.mark.parametrize("name", documented_modules())
def test_examples_in_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_what_a_program_reads_is_documented() -> None:
    page = (ROOT / "docs/guide/forgetting.md").read_text()
    section = page.partition("## What a program reads")[2].partition("\n## ")[0]
    outcome = ChangeOutcome("forget", 1, (), (), 0, 1, "0" * 64, 0.0)
    told = set(re.findall(r"`(\w+)`", section))
    assert set(Report.of_fit(outcome, ROOT).data) <= told
    assert set(Report.of_error(ShardgraphError("wrong")).data) <= told


def test_every_record_and_program_of_a_benchmark_is_listed() -> None:
    folder = ROOT / "benchmarks"
    told = set(re.findall(r"`([\w.*-]+\.(?:py|json))", (folder / "README.md").read_text()))
    records = {path.name for path in folder.glob("results/*.json")}
    assert not {name for name in records if not any(fnmatch(name, form) for form in told)}
    for form in told:
        assert any(folder.rglob(form)), form
