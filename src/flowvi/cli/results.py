"""Commands on the results of runs: collect, figure, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowvi.cli.app import app, examples
from flowvi.cli.words import existing
from flowvi.errors import ConfigError


@app.command(
    epilog=examples(
        "flowvi collect runs/dlgm.nf10.mnist/0 results/planar.jsonl",
        "flowvi collect runs/*/* results/all.jsonl",
    )
)
def collect(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_FOLDER... FILE.jsonl", help="Tested runs, then the file to write, one result a line."
        ),
    ],
) -> None:
    """Gather the results of runs in one file."""
    *folders, target = words
    if not target.endswith(".jsonl"):
        raise ConfigError(f"the file to write comes last and ends in .jsonl: found {target!r}")
    if not folders:
        raise ConfigError(f"no run folder is given to gather in {target}")
    from flowvi.experiments.results import collect as collect_results

    count = collect_results([existing(folder) for folder in folders], Path(target))
    typer.echo(f"{count} {'result' if count == 1 else 'results'}: {target}")


@app.command(
    epilog=examples(
        "flowvi figure runs/dlgm.nf10.mnist/0",
        "flowvi figure runs/dlgm.nf10.mnist/0 --out samples.png",
    )
)
def figure(
    folder: Annotated[str, typer.Argument(metavar="RUN_FOLDER", help="A trained run.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The picture [default: RUN_FOLDER/samples.png]"),
    ] = None,
) -> None:
    """Draw reconstructions of test images, and samples."""
    run = existing(folder)
    from flowvi.reports.samples import draw

    target = out or run / "samples.png"
    draw(run, target)
    typer.echo(f"figure: {target}")


@app.command(
    epilog=examples(
        "flowvi export runs/dlgm.nf10.mnist/0 nf10",
        "flowvi export runs/dlgm.nf10.mnist,flow.length=40/3 published/nf40",
    )
)
def export(
    folder: Annotated[str, typer.Argument(metavar="RUN_FOLDER", help="A trained and tested run.")],
    out: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write: new, empty, or an export of the same run.")
    ],
) -> None:
    """Publish a tested model: its weights, its config and a model card.

    `flowvi.load(DIR)` gives it back in Python, and `flowvi test DIR` tests it.
    """
    run = existing(folder)
    from flowvi.reports.export import export as export_run

    export_run(run, out)
    for name in ("README.md", "config.json", "model.safetensors"):
        typer.echo(f"{'model card' if name == 'README.md' else name}: {out / name}")
    typer.echo(f"load it in Python with: flowvi.load({str(out)!r})")
