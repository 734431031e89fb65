"""The command line: what it takes, what it calls, what it says of mistakes, and what it costs to start."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

import flowvi
from flowvi.cli import app
from flowvi.errors import CheckpointError, ConfigError, InterruptedRun, RunError
from flowvi.experiments.config import resolve
from flowvi.experiments.figure3.cells import BUDGETS as FIGURE3_BUDGETS
from flowvi.experiments.presets import PRESETS
from flowvi.reports.columns import Picture, Section
from flowvi.reports.reproductions import REPRODUCTIONS, load

PRESET = "dlgm.nf10.mnist"
COMMANDS = ("train", "test", "sweep", "configs", "collect", "figure", "export", "reproduce", "report", "fit")

Stub = Callable[..., None]


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWVI_RUNS", raising=False)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Puts functions in the place of a module's, so that a command is tested without what it calls."""

    def put(module: str, **functions: Any) -> None:
        made = ModuleType(module)
        vars(made).update(functions)
        monkeypatch.setitem(sys.modules, module, made)

    return put


@pytest.fixture
def trained(stub: Stub) -> list[Any]:
    """What `train` is called with, in order."""
    calls: list[Any] = []

    def train(preset: str, *, seed: int = 0, out: Any = None, **overrides: Any) -> Any:
        calls.append((preset, seed, out, overrides))
        return SimpleNamespace(folder=out or Path("runs/somewhere"))

    stub("flowvi.experiments.train", train=train)
    return calls


@pytest.fixture
def tested(stub: Stub) -> list[Any]:
    """What `test` is called with, in order."""
    calls: list[Any] = []

    def test(folder: Path, **settings: Any) -> dict[str, Any]:
        calls.append((folder, settings))
        return {"nll": 92.5}

    stub(
        "flowvi.experiments.evaluate",
        test=test,
        result_path=lambda folder, **settings: folder / "result.json",
        on_file=lambda folder, **settings: None,
    )
    stub("flowvi.reports.tables", result_table=lambda result: f"a table of {result}")
    return calls


@pytest.fixture
def swept(stub: Stub) -> list[Any]:
    """What `sweep_jobs` is called with, in order; the job of seed 1 fails."""
    calls: list[Any] = []

    def sweep_jobs(todo: list[Any], **settings: Any) -> list[Any]:
        calls.append(([job.label for job in todo], settings))
        states = ["failed" if job.run.config.seed == 1 else "done" for job in todo]
        return [SimpleNamespace(state=state) for state in states]

    stub("flowvi.experiments.sweep", sweep_jobs=sweep_jobs)
    stub("flowvi.reports.sweeps", sweep_table=lambda outcomes: f"a table of {len(outcomes)}")
    return calls


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def refused(*words: str, code: int = 2) -> list[str]:
    """The lines on stderr of a command that fails, without a traceback and without anything on stdout."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert all(line.startswith("flowvi: ") for line in lines)
    return [line.removeprefix("flowvi: ") for line in lines]


def make_run(folder: str, *, finished: bool = False) -> Path:
    path = Path(folder)
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(resolve(PRESET).to_dict()))
    if finished:
        (path / "model.safetensors").touch()
    return path


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, that finds this flowvi wherever the test stands."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(flowvi.__file__).parent.parent)}


# What needs no torch


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["configs"], 0),
        (["configs", PRESET, "training.protocol=paper"], 0),
        (["train", f"--config={PRESET}", "flow.lenght=3"], 2),
        (["train", f"--config={PRESET}", "training.updates=abc"], 2),
        (["test", "--config=dlgm.nf11.mnist"], 2),
        (["test", "nowhere"], 1),
        (["sweep", "--help"], 0),
        (["sweep", PRESET, "flow.lenght=3,4"], 2),
        (["sweep", "dlgm.nf11.mnist", "seed=0,1"], 2),
        (["reproduce"], 0),
        (["reproduce", "figure33"], 2),
        (["reproduce", "figure3", "--budget", "huge"], 2),
        (["reproduce", "cifar10", "flow.lenght=3"], 2),
    ],
)
def test_imports_nothing_heavy(words: list[str], code: int) -> None:
    program = (
        "import sys\n"
        "from flowvi.cli import app\n"
        "try:\n"
        f"    app({words!r})\n"
        "except SystemExit as done:\n"
        f"    assert done.code == {code}, done.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'lightning_fabric', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["train", f"--config={PRESET}", "flow.lenght=3"], 2)])
def test_starts_within_half_a_second_of_cpu_time(words: list[str], code: int) -> None:
    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-m", "flowvi", *words).returncode == code
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cost() for _ in range(3)) < 0.5


def test_a_typo_as_a_user_sees_it() -> None:
    done = python("-m", "flowvi", "train", f"--config={PRESET}", "flow.lenght=3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "flowvi: unknown key 'flow.lenght': did you mean 'flow.length'?\n"


def test_a_reader_that_has_gone_is_no_news() -> None:
    for words in (["configs", PRESET], ["--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "flowvi", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        process.wait()


# Help


def test_help_has_examples_everywhere() -> None:
    for words in ([], *([command] for command in COMMANDS)):
        result = invoke(*words, "--help")
        assert result.exit_code == 0
        assert "Examples:\n" in result.stdout
        assert f"    flowvi {' '.join(words)}" in result.stdout
    assert invoke("-h").stdout == invoke("--help").stdout


def test_help_lists_the_commands() -> None:
    result = invoke()
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout + result.stderr


def test_every_example_is_read(trained: list[Any], tested: list[Any], swept: list[Any], stub: Stub) -> None:
    def sections(folder: Path) -> list[Section]:
        folder.mkdir(parents=True, exist_ok=True)
        return []

    stub("flowvi.experiments.results", collect=lambda folders, out: len(folders))
    stub("flowvi.reports.samples", draw=lambda folder, out: None)
    stub("flowvi.reports.export", export=lambda folder, out: None)
    stub("flowvi.experiments.figure3.reproduce", reproduce=lambda *words: None)
    stub("flowvi.reports.figure3", sections=sections)
    stub("flowvi.experiments.arms.reproduce", figure4=lambda *words: True)
    stub("flowvi.reports.table2", sections=sections)
    stub("flowvi.experiments.cifar10", reproduce=lambda *words: None)
    stub("flowvi.reports.cifar10", sections=sections)
    stub("flowvi.reports.report", report=lambda results, out: [out / "report.html"])
    found = SimpleNamespace(fit=SimpleNamespace(interrupted=False))
    stub("flowvi.experiments.fitting", fit_file=lambda *_, **__: found, default_folder=lambda *_: Path("runs"))
    stub("flowvi.reports.fit", write_report=lambda made: Path("report.html"))
    make_run("runs/dlgm.nf10.mnist/0")
    make_run("runs/dlgm.nf10.mnist,flow.length=40/3")
    for command in COMMANDS:
        for line in invoke(command, "--help").stdout.splitlines():
            if line.startswith("    flowvi ") and "*" not in line:
                result = invoke(*line.split()[1:])
                failed = command == "sweep" and "seed=" in line  # of `swept`, the job of seed 1
                assert result.exit_code == failed, (line, result.output)


def test_version() -> None:
    assert invoke("--version").stdout == f"flowvi {flowvi.__version__}\n"


def test_usage_errors_are_short() -> None:
    for words, said in (
        (["trian"], "No such command 'trian'"),
        (["train", "--cnfig=x"], "No such option: --cnfig"),
        (["train", "--config"], "Option '--config' requires an argument."),
    ):
        result = invoke(*words)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) <= 4


# configs


def test_configs_lists_every_preset_in_its_group() -> None:
    lines = invoke("configs").stdout.splitlines()
    groups = {entry.group for entry in PRESETS.values()}
    assert len(lines) == len(PRESETS) + len(groups)
    for name, entry in PRESETS.items():
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert line.endswith(entry.summary)


def test_configs_prints_what_the_run_will_hold() -> None:
    result = invoke("configs", PRESET, "flow.length=40", "seed=3")
    assert json.loads(result.stdout) == resolve(PRESET, {"flow.length": 40, "seed": 3}).to_dict()
    assert refused("configs", "dlgm.nf100.mnist")[0].startswith("unknown config 'dlgm.nf100.mnist': did you mean")


# train


def test_train(trained: list[Any]) -> None:
    result = invoke("train", f"--config={PRESET}", "flow.length=40", "seed=3", "--out", "here", "device=cpu")
    assert result.exit_code == 0, result.output
    assert trained == [(PRESET, 3, Path("here"), {"flow.length": 40, "device": "cpu"})]
    assert result.stdout.splitlines() == [
        "train dlgm.nf10.mnist: planar flow, K = 40; modern protocol, 20000 updates; fixed binarisation; seed 3",
        "run folder: here",
        "finished",
        "test it with: flowvi test here",
    ]
    assert invoke("train", "seed=4", "-c", PRESET).exit_code == 0
    assert trained[1] == (PRESET, 4, None, {})


def test_train_says_where_it_goes(trained: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", f"--config={PRESET}", "flow.length=2e1", "seed=3")
    assert "run folder: runs/dlgm.nf10.mnist,flow.length=20/3\n" in invoke(*words).stdout
    monkeypatch.setenv("FLOWVI_RUNS", "elsewhere")
    assert "run folder: elsewhere/dlgm.nf10.mnist,flow.length=20/3\n" in invoke(*words).stdout


def test_train_says_that_a_run_is_finished(trained: list[Any]) -> None:
    make_run(f"runs/{PRESET}/0", finished=True)
    assert "this run was finished before: nothing to do\n" in invoke("train", f"--config={PRESET}").stdout
    make_run(f"runs/{PRESET}/1")
    assert "\nfinished\n" in invoke("train", f"--config={PRESET}", "seed=1").stdout


def test_train_without_a_config(trained: list[Any]) -> None:
    assert refused("train", PRESET) == [f"{PRESET!r} is a word without '=': did you mean --config={PRESET}?"]
    assert refused("train", "dlgm.nf10.minst") == [
        f"'dlgm.nf10.minst' is a word without '=': did you mean --config={PRESET}?"
    ]
    for words in ([], ["seed=3"], ["foo"]):
        (line,) = refused("train", *words)
        assert line.startswith("no config is given: `flowvi configs` lists them; for example `flowvi train --config=")
    assert trained == []


def test_train_refuses_before_any_work(trained: list[Any]) -> None:
    lines = refused("train", f"--config={PRESET}", "flow.lenght=3", "seed=-1")
    assert lines == [
        "unknown key 'flow.lenght': did you mean 'flow.length'?",
        "seed cannot be -1: it takes a whole number from 0 to 4294967295",
    ]
    assert refused("train", f"--config={PRESET}", "foo") == [
        "cannot read 'foo': overrides are key=value, such as flow.length=40"
    ]
    assert refused("train", f"--config={PRESET}", "seed=1", "seed=2") == ["key 'seed' is given twice: keep one of them"]
    assert trained == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("wrong"), 2, "wrong"),
        (RunError("in use"), 1, "in use"),
        (CheckpointError("damaged"), 1, "damaged"),
        (InterruptedRun("stopped at update 7, saved"), 130, "stopped at update 7, saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/metrics.jsonl"),
            1,
            "no space left on the device while writing runs/a/metrics.jsonl: "
            "free some, then run the same command again",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/runs"),
            1,
            "no permission to use /runs (Permission denied): choose another folder",
        ),
        (
            FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), "a", None, "b"),
            1,
            "file exists: a and b",
        ),
        (OSError("odd"), 1, "odd"),
    ],
)
def test_what_goes_wrong_is_one_line(stub: Stub, error: BaseException, code: int, line: str) -> None:
    def train(preset: str, **settings: Any) -> Any:
        raise error

    stub("flowvi.experiments.train", train=train)
    result = invoke("train", f"--config={PRESET}")
    assert result.exit_code == code
    assert result.stderr == f"flowvi: {line}\n"


def test_a_bug_is_not_hidden(stub: Stub) -> None:
    def train(preset: str, **settings: Any) -> Any:
        raise ZeroDivisionError

    stub("flowvi.experiments.train", train=train)
    assert isinstance(invoke("train", f"--config={PRESET}").exception, ZeroDivisionError)


# test


def test_test_a_folder(tested: list[Any]) -> None:
    folder = make_run("runs/dlgm.nf10.mnist,flow.length=40/0")
    result = invoke("test", str(folder))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"a table of {{'nll': 92.5}}\nresult: {folder}/result.json\n"
    assert invoke("test", "samples=1e3", str(folder), "images=100", "estimator=is").exit_code == 0
    assert invoke("test", "--out", str(folder)).exit_code == 0
    assert tested == [
        (folder, {}),
        (folder, {"samples": 1000, "images": 100, "estimator": "is"}),
        (folder, {}),
    ]
    # A folder whose name begins like a key, from inside the runs.
    os.chdir("runs")
    assert invoke("test", "dlgm.nf10.mnist,flow.length=40/0").exit_code == 0


def test_test_by_another_estimator(tested: list[Any]) -> None:
    folder = make_run("runs/a")
    assert invoke("test", "estimator=ais", "distributions=1e2", "initial=prior", str(folder)).exit_code == 0
    assert tested == [(folder, {"estimator": "ais", "distributions": 100, "initial": "prior"})]
    said = invoke("test", "--help").stdout
    for line in ("estimator=bdmc: bidirectional", "distributions=1000, chains=16, initial=posterior (or prior)"):
        assert line in said


def test_what_was_tested_before_is_read(tested: list[Any], stub: Stub) -> None:
    """The record on file is printed, and nothing is tested."""
    folder, asked = make_run("runs/a"), []
    stub(
        "flowvi.experiments.evaluate",
        test=lambda folder, **settings: tested.append(folder),
        result_path=lambda folder, **settings: folder / "result.json",
        on_file=lambda folder, **settings: asked.append(settings) or {"nll": 1.0},
    )
    result = invoke("test", str(folder), "samples=3")
    assert (
        result.stdout == f"a table of {{'nll': 1.0}}\ntested before, remove this to test again: {folder}/result.json\n"
    )
    assert (tested, asked) == ([], [{"samples": 3}])


def test_test_a_config(tested: list[Any]) -> None:
    folder = make_run("runs/dlgm.nf10.mnist,flow.length=40/3")
    words = ["test", f"--config={PRESET}", "samples=5000", "seed=3", "flow.length=40"]
    assert invoke(*words).exit_code == 0
    other = make_run("my-run")
    assert invoke(*words, "--out", "my-run").exit_code == 0
    assert tested == [(folder, {"samples": 5000}), (other, {"samples": 5000})]


def test_test_without_a_run(tested: list[Any]) -> None:
    assert refused("test", f"--config={PRESET}", "model.latents=[64,32]", "samples=3", code=1) == [
        "there is no run folder runs/dlgm.nf10.mnist,model.latents=64-32/0: train it first with "
        "`flowvi train --config=dlgm.nf10.mnist 'model.latents=[64,32]'`"
    ]
    make_run("runs/dlgm.nf10.mnist/0")
    make_run("runs/dlgm.nf10.mnist/1")
    assert refused("test", "runs/dlgm.nf10.mnist", code=1) == [
        "runs/dlgm.nf10.mnist is not a run folder, but holds some: "
        "give one of runs/dlgm.nf10.mnist/0, runs/dlgm.nf10.mnist/1"
    ]
    assert refused("test", "runs", code=1) == ["runs is not a run folder: it has no config.json"]
    assert tested == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no run is given: name a run folder, or a config as --config=NAME"),
        (["a", "b"], "2 run folders are given (a, b): test one at a time"),
        ([PRESET], f"{PRESET!r} is a word without '=': did you mean --config={PRESET}?"),
        (
            [f"--config={PRESET}", "a"],
            f"--config={PRESET} and the run folder 'a' are both given: leave one of them out",
        ),
        (
            ["a", "flow.length=3"],
            "'flow.length' is not a setting of a test, which are estimator, samples, images, distributions, chains, "
            "initial; a config's keys need --config=NAME",
        ),
        ([f"--config={PRESET}", "sampels=3"], "unknown key 'sampels': did you mean 'samples'?"),
        (["a", "samples=0"], "samples cannot be 0: it takes a whole number, 1 or more"),
        (["a", "images=1.5"], "images cannot be 1.5: it takes a whole number, 1 or more"),
        (["a", "images=true"], "images cannot be True: it takes a whole number, 1 or more"),
        (["a", "estimator=magic"], "estimator cannot be 'magic': it takes one of is, ais, bdmc"),
        (["a", "estimator=[1]"], "estimator cannot be [1]: it takes one of is, ais, bdmc"),
        (["a", "estimator=ais", "chains=0"], "chains cannot be 0: it takes a whole number, 1 or more"),
        (["a", "estimator=bdmc", "initial=q"], "initial cannot be 'q': it takes one of posterior, prior"),
        (
            ["a", "samples=3", "estimator=ais"],
            "estimator=ais has no setting samples: it takes distributions, chains, initial, images "
            "(samples is of estimator=is)",
        ),
        (
            [f"--config={PRESET}", "chains=3"],
            "estimator=is has no setting chains: it takes samples, images (chains is of estimator=ais and bdmc)",
        ),
        (["a", "samples=3", "samples=4"], "key 'samples' is given twice: keep one of them"),
    ],
)
def test_test_refuses(words: list[str], line: str, tested: list[Any]) -> None:
    assert refused("test", *words) == [line]
    assert tested == []


# sweep


def test_sweep(swept: list[Any]) -> None:
    usual = {"engine": "local", "jobs": None, "threads": None, "gpus": None, "retry": False}
    result = invoke("sweep", PRESET, "model.latents=[40],[64,32]", "flow.length=20")
    assert (result.exit_code, result.stdout) == (0, "a table of 2\n")
    labels = [f"{PRESET} model.latents=[40]", f"{PRESET} model.latents=[64,32]"]
    assert swept == [(labels, usual)]
    options = ("--engine=ray", "--jobs=3", "--threads=2", "--gpus=0.5", "--retry")
    assert invoke("sweep", "dlgm.dc.mnist", *options, PRESET, "seed=0").exit_code == 0
    settings = {"engine": "ray", "jobs": 3, "threads": 2, "gpus": 0.5, "retry": True}
    assert swept[1] == (["dlgm.dc.mnist", PRESET], settings)


def test_sweep_with_a_failed_job(swept: list[Any]) -> None:
    result = invoke("sweep", PRESET, "seed=0,1,2")
    assert (result.exit_code, result.stdout) == (1, "a table of 3\n")


def test_sweep_refuses_before_any_work(swept: list[Any]) -> None:
    (line,) = refused("sweep")
    assert line.startswith("no config is given: `flowvi configs` lists them; for example `flowvi sweep ")
    assert refused("sweep", "dlgm.nf10.minst", "seed=0,1")[0].startswith(
        f"unknown config 'dlgm.nf10.minst': did you mean {PRESET}"
    )
    assert refused("sweep", PRESET, "seed=0,x", "flow.lenght=3") == [
        "unknown key 'flow.lenght': did you mean 'flow.length'?",
        f"seed cannot be 'x': it takes a whole number from 0 to 4294967295 (in {PRESET} seed=x)",
    ]
    assert swept == []


# collect and figure


def test_collect(stub: Stub) -> None:
    calls: list[Any] = []

    def collect(folders: list[Path], out: Path) -> int:
        calls.append((folders, out))
        return 3

    stub("flowvi.experiments.results", collect=collect)
    first, second = make_run("runs/a/0"), make_run("runs/a/1")
    result = invoke("collect", str(first), str(second), "results/all.jsonl")
    assert result.stdout == "3 results: results/all.jsonl\n"
    assert calls == [([first, second], Path("results/all.jsonl"))]
    assert refused("collect", str(first)) == ["the file to write comes last and ends in .jsonl: found 'runs/a/0'"]
    assert refused("collect", "x.jsonl") == ["no run folder is given to gather in x.jsonl"]
    assert refused("collect", "runs/b", "x.jsonl", code=1) == ["there is no run folder runs/b"]


def test_figure(stub: Stub) -> None:
    calls: list[Any] = []
    stub("flowvi.reports.samples", draw=lambda folder, out: calls.append((folder, out)))
    folder = make_run("runs/a/0")
    assert invoke("figure", str(folder)).stdout == "figure: runs/a/0/samples.png\n"
    assert invoke("figure", str(folder), "--out", "x.png").stdout == "figure: x.png\n"
    assert calls == [(folder, folder / "samples.png"), (folder, Path("x.png"))]
    assert refused("figure", "nowhere", code=1) == ["there is no run folder nowhere"]


# reproduce


def test_reproduce(stub: Stub) -> None:
    calls: list[Any] = []

    def reproduce(
        budget: str, out: Path, jobs: int, say: Callable[[str], None], overrides: dict[str, Any], only: list[str]
    ) -> None:
        assert (overrides, only) == ({}, [])
        calls.append((budget, out, jobs))
        out.mkdir(parents=True, exist_ok=True)
        say("a cell is done")

    stub("flowvi.experiments.figure3.reproduce", reproduce=reproduce)
    picture = Picture("figure3", "densities", Figure())
    stub("flowvi.reports.figure3", sections=lambda folder: [Section("Figure 3", [picture])])
    result = invoke("reproduce", "figure3", "--budget", "smoke", "--jobs", "3")
    assert result.stdout.splitlines() == [
        "reproduce figure3, smoke budget: runs/figure3/smoke",
        "a cell is done",
        "",
        "Figure 3",
        "========",
        "",
        "(figure3.svg: densities)",
        "",
        *(f"{kind}: runs/figure3/smoke/figure3.{kind}" for kind in ("svg", "png", "md", "txt")),
    ]
    assert invoke("reproduce", "figure3", "--out", "results").exit_code == 0
    assert calls[0] == ("smoke", Path("runs/figure3/smoke"), 3)
    assert calls[1][:2] == ("default", Path("results"))
    assert 1 <= calls[1][2] <= 8


def test_reproduce_hands_settings_on_shares_a_folder_and_prints_texts(stub: Stub) -> None:
    calls: list[Any] = []
    Path("runs/figure4/short").mkdir(parents=True)
    stub("flowvi.experiments.arms.reproduce", figure4=lambda *words: calls.append(words) or len(calls) == 1)
    stub("flowvi.reports.table2", sections=lambda folder: [Section("Claims", [("confirmed: a claim",)])])
    chosen = "--only", "planar-*", "--only", "nice-10"
    result = invoke("reproduce", "table2", "training.updates=30", "seed=0,1", "-b", "short", *chosen)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "reproduce table2, short budget: runs/figure4/short",
        "",
        "Claims",
        "======",
        "",
        "confirmed: a claim",
        "",
        "md: runs/figure4/short/table2.md",
        "txt: runs/figure4/short/table2.txt",
    ]
    ((budget, out, _, _, axes, only),) = calls
    assert (budget, out, only) == ("short", Path("runs/figure4/short"), ["planar-*", "nice-10"])
    assert axes == {"training.updates": [30], "seed": [0, 1]}
    assert invoke("reproduce", "table2").exit_code == 1  # jobs have failed
    assert calls[1][0] == "short"  # unless another budget is asked for


def test_reproduce_lists_what_there_is() -> None:
    result = invoke("reproduce")
    assert result.exit_code == 0
    for name, entry in REPRODUCTIONS.items():
        assert f"{name}: {entry.summary}\n" in result.stdout
        assert all(f"--budget {budget} " in result.stdout for budget in entry.budgets)
        assert f"{entry.budgets[entry.default]} (default)\n" in result.stdout


def test_reproductions_name_functions_that_exist() -> None:
    for entry in REPRODUCTIONS.values():
        assert callable(load(entry.run)) and callable(load(entry.sections))
    assert set(REPRODUCTIONS["figure3"].budgets) == set(FIGURE3_BUDGETS)


def test_reproduce_refuses() -> None:
    assert refused("reproduce", "figure9") == [
        f"there is no 'figure9' to reproduce: it takes one of {', '.join(REPRODUCTIONS)}"
    ]
    assert refused("reproduce", "figure3", "--budget", "huge") == [
        "budget cannot be 'huge': figure3 takes one of smoke, default"
    ]
    assert refused("reproduce", "cifar10", "few.npz", "flow.lenght=3") == [
        "'few.npz' is a word without '='",
        "unknown key 'flow.lenght': did you mean 'flow.length'?",
    ]
