"""Commands on the paper: reproduce, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flowvi.cli.app import app, examples
from flowvi.cli.words import axes_of
from flowvi.errors import ConfigError


def _complete(incomplete: str) -> list[tuple[str, str]]:
    from flowvi.reports.reproductions import REPRODUCTIONS

    return [(name, entry.summary) for name, entry in REPRODUCTIONS.items() if name.startswith(incomplete)]


@app.command(
    epilog=examples(
        "flowvi reproduce",
        "flowvi reproduce figure3 --budget smoke",
        "flowvi reproduce figure3 --out results",
        "flowvi reproduce cifar10 data.path=cifar10.npz seed=0,1,2",
        "flowvi reproduce table2 --budget short seed=0,1,2",
        "flowvi reproduce table2 --only gaussian-0 --only 'planar-*'",
    )
)
def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The figure or table.", autocompletion=_complete),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE,...", help="Settings of all its runs, as `flowvi sweep` takes them."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", "-b", metavar="NAME", help="What may be spent [default: as the list says]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The folder [default: runs/NAME/BUDGET]")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes [default: one for each core, 8 at most]")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Rows by name, such as 'planar-*' [repeatable]"),
    ] = None,
) -> None:
    """Reproduce a figure or table of the paper.

    Without a name it lists what there is. What is on file in the folder already is not done again: after Ctrl-C
    the same command goes on. Models on MNIST are trained in the run folders of `flowvi train`; the folder has results.
    """
    from flowvi.reports.columns import write_page
    from flowvi.reports.reproductions import REPRODUCTIONS, load

    if name is None:
        for each, entry in REPRODUCTIONS.items():
            typer.echo(f"{each}: {entry.summary}")
            for key, what in entry.budgets.items():
                typer.echo(f"  --budget {key:8} {what}{' (default)' if key == entry.default else ''}")
        return
    if name not in REPRODUCTIONS:
        raise ConfigError(f"there is no {name!r} to reproduce: it takes one of {', '.join(REPRODUCTIONS)}")
    entry = REPRODUCTIONS[name]
    budget = budget or entry.default
    if budget not in entry.budgets:
        raise ConfigError(f"budget cannot be {budget!r}: {name} takes one of {', '.join(entry.budgets)}")
    from flowvi.experiments.config import runs_root

    axes = axes_of(words or [])
    folder = out or runs_root() / (entry.of or name) / budget
    typer.echo(f"reproduce {name}, {budget} budget: {folder}")
    complete = load(entry.run)(budget, folder, jobs or min(os.cpu_count() or 1, 8), typer.echo, axes, only or [])
    shown = write_page(load(entry.sections)(folder), folder / name)
    for path in shown:
        if path.suffix == ".txt":
            typer.echo(f"\n{path.read_text(encoding='utf-8')}")
    for path in shown:
        typer.echo(f"{path.suffix[1:]}: {path}")
    if complete is False:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "flowvi report results",
        "flowvi report results --out page",
    )
)
def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="The folder of result files.", show_default=True)
    ] = Path("results"),
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder of the report.")] = Path("report"),
) -> None:
    """Write a report of result files: one page of HTML, Markdown, and each figure as SVG and PNG.

    It reads result files only, as `flowvi reproduce … --out RESULTS` and `flowvi collect` write them.
    """
    from flowvi.reports.report import report as write

    for path in write(results, out):
        typer.echo(f"{path.suffix[1:]}: {path}")
