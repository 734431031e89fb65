"""Commands on runs: train, test, sweep, configs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from flowvi.cli.app import app, examples
from flowvi.cli.words import no_config, run_by_config, run_by_folder, test_words
from flowvi.experiments.estimators.registry import ESTIMATORS, estimator_lines


def _complete(incomplete: str) -> list[tuple[str, str]]:
    from flowvi.experiments.presets import PRESETS

    return [(name, entry.summary) for name, entry in PRESETS.items() if name.startswith(incomplete)]


_CONFIG_HELP = "The config's name; `flowvi configs` lists them."
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="NAME", help=_CONFIG_HELP, autocompletion=_complete),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="The run folder [default: runs/NAME[,key=value...]/SEED]"),
]


@app.command(
    epilog=examples(
        "flowvi train --config=dlgm.nf10.mnist",
        "flowvi train --config=dlgm.nf10.mnist flow.length=40 seed=3",
        "flowvi train --config=dlgm.nf80.mnist training.protocol=quick --out my-run",
        "flowvi train --config=dlgm.dc.mnist data.path=my.npz device=cuda",
    )
)
def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Overrides of the config, such as flow.length=40 seed=3."),
    ] = None,
    config: ConfigOption = None,
    out: OutOption = None,
) -> None:
    """Train a model.

    Ctrl-C saves and stops; the same command again goes on from there. A run that is finished stays as it is.
    """
    from flowvi.experiments.config import parse_overrides, resolve, run_folder

    if config is None:
        raise no_config("train", words or [])
    overrides = parse_overrides(words or [])
    resolved = resolve(config, overrides)
    flow, training = resolved.flow, resolved.training
    typer.echo(
        f"train {config}: {flow.kind} flow, K = {flow.length}; {training.protocol} protocol, "
        f"{training.updates} updates; {resolved.data.pixels}; seed {resolved.seed}"
    )
    folder = out or run_folder(config, overrides)
    typer.echo(f"run folder: {folder}")
    from flowvi.experiments.run import Run

    finished = (folder / "config.json").exists() and Run.at(folder).finished
    from flowvi.experiments.train import train as train_model

    overrides.pop("seed", None)
    run = train_model(config, seed=resolved.seed, out=out, **overrides)
    typer.echo("this run was finished before: nothing to do" if finished else "finished")
    typer.echo(f"test it with: flowvi test {shlex.quote(str(run.folder))}")


@app.command(
    epilog=examples(
        "flowvi test --config=dlgm.nf10.mnist",
        "flowvi test --config=dlgm.nf10.mnist flow.length=40 seed=3",
        "flowvi test runs/dlgm.nf10.mnist/0",
        "flowvi test runs/dlgm.nf10.mnist/0 samples=5000 images=1000",
        "flowvi test runs/dlgm.nf10.mnist/0 estimator=ais distributions=2000",
        "flowvi test runs/dlgm.nf10.mnist/0 estimator=bdmc",
    )
    + "\n\n"
    + examples(*estimator_lines(), title="Estimators, and their settings as they are by default:")
)
def test(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN_FOLDER|KEY=VALUE",
            help="The run to test, or with --config the overrides that it was trained with; and how to test: "
            f"estimator={'|'.join(ESTIMATORS)} and its settings, such as samples=5000 images=1000.",
        ),
    ] = None,
    config: ConfigOption = None,
    out: OutOption = None,
) -> None:
    """Test a trained model: free energy, -ln p(x) and KL.

    Each with its standard error over the test images; printed, and written to the run folder. What was tested so
    before, with the same weights and versions, is read from there.
    """
    folders, settings, overrides = test_words(words or [])
    if config is None:
        folder = run_by_folder([*folders, *([str(out)] if out else [])], list(overrides))
    else:
        folder = run_by_config(config, out, folders, overrides)
    from flowvi.experiments.evaluate import on_file, result_path
    from flowvi.experiments.evaluate import test as test_model
    from flowvi.reports.tables import result_table

    kept = on_file(folder, **settings)
    typer.echo(result_table(kept or test_model(folder, **settings)))
    path = result_path(folder, **settings)
    typer.echo(f"tested before, remove this to test again: {path}" if kept else f"result: {path}")


@app.command(
    epilog=examples(
        "flowvi sweep dlgm.dc.mnist dlgm.nf10.mnist seed=0,1,2",
        "flowvi sweep dlgm.nf10.mnist flow.length=10,20,40 training.protocol=quick --jobs=2",
        "flowvi sweep dlgm.nf10.mnist model.latents=[40],[64,32] data.binarisation=fixed,dynamic",
        "flowvi sweep dlgm.nf10.mnist seed=0,1,2 --retry",
        "flowvi sweep dlgm.nf80.mnist seed=0,1,2,3 --engine=ray --gpus=0.25",
    )
)
def sweep(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|KEY=VALUE,...",
            help="Configs, and the values of each key: commas outside [] and quotes separate them.",
            autocompletion=_complete,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Processes here, or tasks on a Ray cluster (see RAY_ADDRESS).")
    ] = "local",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many at once [default: as many as fit]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Of each job [default: the cores are divided; ray: 1]")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(metavar="F", help="Of each job, with ray; 0.25 lets four share one.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try jobs again that failed before.")] = False,
) -> None:
    """Train and test a grid: every config with every combination of values.

    Jobs are the run folders of `flowvi train`. Ctrl-C saves and stops; the same command again goes on from there.
    What is done already is skipped.
    """
    from flowvi.experiments.sweeps.grid import parse_grid, plan

    todo = plan(*parse_grid(words or []))
    from flowvi.experiments.sweep import sweep_jobs
    from flowvi.reports.sweeps import sweep_table

    outcomes = sweep_jobs(todo, engine=engine, jobs=jobs, threads=threads, gpus=gpus, retry=retry)
    typer.echo(sweep_table(outcomes))
    if any(outcome.state != "done" for outcome in outcomes):
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "flowvi configs",
        "flowvi configs dlgm.nf10.mnist",
        "flowvi configs dlgm.nf10.mnist training.protocol=paper",
    )
)
def configs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The config to print.", autocompletion=_complete)
    ] = None,
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides to print it with.")] = None,
) -> None:
    """List the configs, or print one in full."""
    if name is not None:
        from flowvi.experiments.config import parse_overrides, resolve

        resolved = resolve(name, parse_overrides(words or []))
        typer.echo(json.dumps(resolved.to_dict(), indent=2))
        return
    from flowvi.experiments.presets import PRESETS

    width = max(map(len, PRESETS))
    group = None
    for preset, entry in PRESETS.items():
        if entry.group != group:
            typer.echo(f"{entry.group}:")
            group = entry.group
        typer.echo(f"  {preset:{width}}  {entry.summary}")
