"""The command fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowvi.cli.app import app, examples
from flowvi.errors import InterruptedRun


@app.command(
    epilog=examples(
        "flowvi fit my_model.py:log_density --support mu=real,tau=positive,theta=real:8",
        "flowvi fit my_model.py:log_density --dim 8 --effort fast --out my-fit",
    )
)
def fit(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:FUNCTION", help="A function of points that gives their log densities.")
    ],
    support: Annotated[
        str | None,
        typer.Option(
            "--support", "-s", metavar="NAME=SUPPORT,...", help="The parameters, such as mu=real,theta=real:8."
        ),
    ] = None,
    dim: Annotated[
        int | None, typer.Option("--dim", metavar="D", help="The parameters are a vector of D reals.")
    ] = None,
    effort: Annotated[str, typer.Option(metavar="NAME", help="fast, default or thorough.")] = "default",
    flow: Annotated[
        str | None, typer.Option(metavar="KIND", help="A flow, such as planar or iaf [default: as the effort has it]")
    ] = None,
    one_point: Annotated[
        bool, typer.Option("--one-point", help="The function takes one point, and gives one number.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of all chance.")] = 0,
    draws: Annotated[int, typer.Option(metavar="N", help="Draws of the posterior in draws.csv.")] = 4000,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="The folder [default: runs/fit.FILE.FUNCTION/SEED]"),
    ] = None,
) -> None:
    """Fit a posterior to a log density of your own.

    The function takes many points at once: by --support a dict of tensors (n, ...), by --dim a tensor (n, D); it
    gives their unnormalised log densities, (n,), by torch. Writes draws.csv, diagnostics.json, report.html and the fit
    itself. Ctrl-C ends the search and writes what there is.
    """
    from flowvi.experiments.fitting import default_folder, fit_file
    from flowvi.reports.fit import write_report

    folder = out or default_folder(target, seed)
    found = fit_file(
        target, folder, supports=support, dim=dim, effort=effort, flow=flow, one_point=one_point, seed=seed, draws=draws
    )
    page = write_report(found)
    typer.echo(f"{found.fit}\n")
    for path in (folder / "draws.csv", folder / "diagnostics.json", page):
        typer.echo(f"{path.stem}: {path}")
    typer.echo(f"load it in Python with: flowvi.load({str(folder)!r})")
    if found.fit.interrupted:
        raise InterruptedRun("interrupted: these are the results of a search that had not ended")
