"""The command line: parse, call one function, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import difflib
import errno
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from flowvi.errors import ConfigError, FlowviError, InterruptedRun, RunError
from flowvi.experiments.estimators.registry import ESTIMATORS, SETTINGS, checked, estimator_lines

__all__ = ["app", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def _reported() -> Iterator[None]:
    """The one place where an error that a user can cause or meet becomes a line and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except InterruptedRun as error:
        _leave(str(error), INTERRUPTED)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except FlowviError as error:
        _leave(str(error), 2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        _leave(_about(error), 1)


def _leave(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"flowvi: {line}", err=True)
    raise typer.Exit(code) from None


def _about(error: OSError) -> str:
    """One line on what the operating system refused."""
    where = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        doing = f" while writing {where}" if where else ""
        return f"no space left on the device{doing}: free some, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use {where or 'a file'} ({os.strerror(error.errno)}): choose another folder"
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{what}: {where}" if where else what


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # typer's base class names a private type
        with _reported():
            return super().invoke(ctx)


# Plain help and plain errors: rich's cost as much to import as everything else together.
app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _examples(*lines: str, title: str = "Examples:") -> str:
    """The end of a command's help. (The backspace keeps click from filling the paragraph.)"""
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


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


def _version(wanted: bool) -> None:
    if wanted:
        from flowvi import __version__

        typer.echo(f"flowvi {__version__}")
        raise typer.Exit


@app.callback(
    epilog=_examples(
        "flowvi configs                              list the configs",
        "flowvi train --config=dlgm.nf10.mnist       train one",
        "flowvi test --config=dlgm.nf10.mnist        test it: free energy, -ln p(x), KL",
        "flowvi COMMAND --help                       more on a command",
    )
)
def _flowvi(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Variational inference with normalizing flows."""


@app.command(
    epilog=_examples(
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
        raise _no_config("train", words or [])
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
    epilog=_examples(
        "flowvi test --config=dlgm.nf10.mnist",
        "flowvi test --config=dlgm.nf10.mnist flow.length=40 seed=3",
        "flowvi test runs/dlgm.nf10.mnist/0",
        "flowvi test runs/dlgm.nf10.mnist/0 samples=5000 images=1000",
        "flowvi test runs/dlgm.nf10.mnist/0 estimator=ais distributions=2000",
        "flowvi test runs/dlgm.nf10.mnist/0 estimator=bdmc",
    )
    + "\n\n"
    + _examples(*estimator_lines(), title="Estimators, and their settings as they are by default:")
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
    folders, settings, overrides = _test_words(words or [])
    if config is None:
        folder = _run_by_folder([*folders, *([str(out)] if out else [])], list(overrides))
    else:
        folder = _run_by_config(config, out, folders, overrides)
    from flowvi.experiments.evaluate import on_file, result_path
    from flowvi.experiments.evaluate import test as test_model
    from flowvi.reports.tables import result_table

    kept = on_file(folder, **settings)
    typer.echo(result_table(kept or test_model(folder, **settings)))
    path = result_path(folder, **settings)
    typer.echo(f"tested before, remove this to test again: {path}" if kept else f"result: {path}")


@app.command(
    epilog=_examples(
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
    epilog=_examples(
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


@app.command(
    epilog=_examples(
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

    count = collect_results([_existing(folder) for folder in folders], Path(target))
    typer.echo(f"{count} {'result' if count == 1 else 'results'}: {target}")


@app.command(
    epilog=_examples(
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
    run = _existing(folder)
    from flowvi.reports.samples import draw

    target = out or run / "samples.png"
    draw(run, target)
    typer.echo(f"figure: {target}")


@app.command(
    epilog=_examples(
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
    run = _existing(folder)
    from flowvi.reports.export import export as export_run

    export_run(run, out)
    for name in ("README.md", "config.json", "model.safetensors"):
        typer.echo(f"{'model card' if name == 'README.md' else name}: {out / name}")
    typer.echo(f"load it in Python with: flowvi.load({str(out)!r})")


def _complete_reproduction(incomplete: str) -> list[tuple[str, str]]:
    from flowvi.reports.reproductions import REPRODUCTIONS

    return [(name, entry.summary) for name, entry in REPRODUCTIONS.items() if name.startswith(incomplete)]


@app.command(
    epilog=_examples(
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
        typer.Argument(metavar="NAME", help="The figure or table.", autocompletion=_complete_reproduction),
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

    axes = _axes(words or [])
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
    epilog=_examples(
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
    found = fit_file(target, folder, supports=support, dim=dim, effort=effort, seed=seed, draws=draws)
    page = write_report(found)
    typer.echo(f"{found.fit}\n")
    for path in (folder / "draws.csv", folder / "diagnostics.json", page):
        typer.echo(f"{path.stem}: {path}")
    typer.echo(f"load it in Python with: flowvi.load({str(folder)!r})")
    if found.fit.interrupted:
        raise InterruptedRun("interrupted: these are the results of a search that had not ended")


@app.command(
    epilog=_examples(
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


def _axes(words: list[str]) -> dict[str, list[Any]]:
    """The values of keys that words spell; unknown keys are refused before any work."""
    from flowvi.experiments.config import keys, unknown_key
    from flowvi.experiments.sweeps.grid import parse_grid

    loose, axes = parse_grid(words)
    problems = [f"{word!r} is a word without '='" for word in loose]
    problems += [unknown_key(key) for key in axes if key not in keys()]
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def _no_config(command: str, words: list[str]) -> ConfigError:
    """What to say where a command lacks `--config`."""
    from flowvi.experiments.presets import PRESETS

    for word in words:
        near = difflib.get_close_matches(word, PRESETS, n=1)
        if "=" not in word and near:
            return ConfigError(f"{word!r} is a word without '=': did you mean --config={near[0]}?")
    example = f"flowvi {command} --config={next(iter(PRESETS))}"
    return ConfigError(f"no config is given: `flowvi configs` lists them; for example `{example}`")


def _test_words(words: list[str]) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """The words of `flowvi test`, as run folders, settings of the test, and overrides by key, unread.

    A run folder's own name may hold `=` (`runs/dlgm.nf10.mnist,flow.length=40/0`), but only after a comma or
    a slash, which no key has.
    """
    from flowvi.experiments.config import parse_overrides

    pairs = [word for word in words if re.match(r"[\w.-]*=", word)]
    given = parse_overrides(pairs)
    overrides = {key: word for key, word in zip(given, pairs, strict=True) if key not in SETTINGS}
    settings = {key: given[key] for key in given if key in SETTINGS}
    own = {key: value for key, value in settings.items() if key != "estimator"}
    settings |= checked(settings.get("estimator", "is"), own)
    return [word for word in words if word not in pairs], settings, overrides


def _run_by_folder(folders: list[str], overrides: list[str]) -> Path:
    """The run that is named by its folder alone."""
    from flowvi.experiments.presets import PRESETS

    if len(folders) == 1 and folders[0] in PRESETS and not Path(folders[0]).exists():
        raise _no_config("test", folders)
    if overrides:
        raise ConfigError(
            f"{overrides[0]!r} is not a setting of a test, which are {', '.join(SETTINGS)}; "
            "a config's keys need --config=NAME"
        )
    if not folders:
        raise ConfigError("no run is given: name a run folder, or a config as --config=NAME")
    if len(folders) > 1:
        raise ConfigError(f"{len(folders)} run folders are given ({', '.join(folders)}): test one at a time")
    return _existing(folders[0])


def _run_by_config(config: str, out: Path | None, folders: list[str], overrides: dict[str, str]) -> Path:
    """The run that `flowvi train` makes of a config and overrides (by key, as the words that gave them)."""
    from flowvi.experiments.config import keys, parse_overrides, run_folder, unknown_key

    if folders:
        raise ConfigError(f"--config={config} and the run folder {folders[0]!r} are both given: leave one of them out")
    unknown = [unknown_key(key, also=SETTINGS) for key in overrides if key not in keys()]
    if unknown:
        raise ConfigError("\n".join(unknown))
    words = list(overrides.values())
    folder = run_folder(config, parse_overrides(words))
    command = shlex.join(["flowvi", "train", f"--config={config}", *words, *(["--out", str(out)] if out else [])])
    return _existing(out or folder, f": train it first with `{command}`")


def _existing(folder: str | Path, hint: str = "") -> Path:
    """The run folder at `folder`; where there is none, an error that names those one level below."""
    path = Path(folder)
    if (path / "config.json").is_file():
        return path
    inner = sorted(str(found.parent) for found in path.glob("*/config.json"))
    if inner:
        raise RunError(f"{path} is not a run folder, but holds some: give one of {', '.join(inner[:5])}")
    if not path.exists():
        raise RunError(f"there is no run folder {path}{hint}")
    raise RunError(f"{path} is not a run folder: it has no config.json{hint}")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without β or ± gets a question mark, not a traceback
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
