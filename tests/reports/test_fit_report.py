"""`flowvi fit`: what it writes, what its page shows in a browser, and what it says of mistakes."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import flowvi
from flowvi.cli import app
from flowvi.experiments.fitting import Fitted, fit_file
from flowvi.inference.fitting import EFFORTS
from flowvi.inference.fitting.verdict import Verdict
from flowvi.reports.fit import write_report

MODEL = """
from beside import half

def log_density(p):
    return -half * p["mu"].square() + p["tau"].log() - p["tau"] - half * p["theta"].square().sum(-1)

def plain(z):
    return -half * z.square().sum(-1)

def one(z):
    assert z.shape == (2,)
    return -half * (z[0] ** 2 + z[1] ** 2)

def stopped(z):
    global calls
    calls = globals().get("calls", 0) + 1
    if calls == 150:  # after the starts
        raise KeyboardInterrupt
    return plain(z)

def shaped(z):
    return helper(z)

def helper(z):
    raise ValueError("no such shape <b>")
"""
SUPPORT = "mu=real,tau=positive,theta=real:5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a user's files, and an effort that is over at once."""
    made = tmp_path_factory.mktemp("theirs")
    (made / "model.py").write_text(MODEL)
    (made / "beside.py").write_text("half = 0.5\n")
    (made / "broken.py").write_text("x = 1\nimport nothing_of_the_kind\n")
    (made / "unfinished.py").write_text("def f(:\n")
    (made / "leaves.py").write_text("raise SystemExit(3)\n")
    (made / "taken").mkdir()
    (made / "taken" / "thesis.tex").touch()
    sizes = {"block": 5, "blocks": 2, "races": 2, "draws": 200, "chains": 8, "distributions": 5}
    tiny = replace(EFFORTS["fast"], restarts=2, evidence=500, **sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowvi.inference.fitting.entry.EFFORTS", MappingProxyType({"default": tiny}))
        patch.chdir(made)
        yield made


@pytest.fixture(scope="module")
def made(folder: Path) -> Fitted:
    found = fit_file("model.py:log_density", folder / "out", supports=SUPPORT, draws=300)
    write_report(found)
    return found


def test_draws_as_csv(made: Fitted) -> None:
    rows = list(csv.reader((made.folder / "draws.csv").open()))
    names = ["mu", "tau", *(f"theta[{i}]" for i in range(5))]
    assert rows[0] == [*names, "log_q", "log_p"] and len(rows) == 301
    table = np.array(rows[1:], float)
    mu, tau, theta, log_p = table[:, 0], table[:, 1], table[:, 2:7], table[:, -1]
    wanted = -0.5 * mu**2 + np.log(tau) - tau - 0.5 * (theta**2).sum(-1)
    np.testing.assert_allclose(log_p, wanted, rtol=1e-4, atol=1e-4)


def test_diagnostics(made: Fitted) -> None:
    found = json.loads((made.folder / "diagnostics.json").read_text())
    assert found["log_evidence"] == made.fit.log_evidence and found["posterior"] == made.fit.winner
    assert set(found["parameters"]["theta[4]"]) == {"mean", "sd", "q5", "median", "q95"}
    assert found["settings"] == {
        "target": "model.py:log_density", "support": SUPPORT, "dim": None, "effort": "default",
        "flow": None, "one-point": False, "seed": 0, "draws": 300,
    }  # fmt: skip
    assert [each["posterior"] for each in found["stages"]] == ["mean-field", "full-rank", "flow"]


def test_the_fit_itself(made: Fitted) -> None:
    assert str(flowvi.load(made.folder)) == str(made.fit)


def test_the_page_needs_nothing_but_itself(made: Fitted) -> None:
    text = (made.folder / "report.html").read_text()
    assert "<script" not in text and not re.findall(r'(?:src|href)="(?!#|data:)', text)
    assert not re.findall(r"url\((?!#)|@import", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert text.count("<svg") == 7 + 2  # marginals, pairs, the weights' tail
    write_report(made)
    assert (made.folder / "report.html").read_text() == text


def test_the_verdict_on_the_page(made: Fitted, tmp_path: Path) -> None:
    fit = replace(made.fit, verdict=Verdict("do not trust", ["k̂ = 2 <b>"], ["Fit again."]))
    text = write_report(replace(made, fit=fit, folder=tmp_path)).read_text()
    assert 'class="verdict do-not-trust"' in text and "Verdict: do not trust" in text
    assert "k̂ = 2 &lt;b&gt;" in text and "<li>Fit again.</li>" in text


def test_odd_draws_still_give_a_page(made: Fitted, tmp_path: Path) -> None:
    constant, infinite = np.ones(300), np.full(300, math.inf)
    columns = {**made.columns, "mu": constant, "tau": infinite, "log_p": np.full(300, math.nan)}
    weighed = replace(made.fit.measured.weighed, undefined=0.5)
    fit = replace(made.fit, measured=replace(made.fit.measured, weighed=weighed))
    text = write_report(replace(made, fit=fit, folder=tmp_path, columns=columns)).read_text()
    assert text.count("<svg") == 5 + 1 and "NaN" in text and 'id="weights"' not in text


Run = Callable[..., Any]


@pytest.fixture
def run(folder: Path) -> Run:
    return lambda *words: CliRunner().invoke(app, ["fit", *words])


def test_the_command(run: Run, folder: Path) -> None:
    result = run("model.py:plain", "--dim", "1", "--draws", "50", "--seed", "3")
    assert result.exit_code == 0, result.output
    out = Path("runs/fit.model.plain/3")
    assert "posterior" in result.stdout and f"report: {out / 'report.html'}" in result.stdout
    assert sorted(each.name for each in (folder / out).iterdir()) == [
        "config.json", "diagnostics.json", "draws.csv", "model.safetensors", "report.html",
    ]  # fmt: skip
    assert "Pairs" not in (folder / out / "report.html").read_text()  # of one parameter


def test_a_function_of_one_point_and_another_flow(run: Run, folder: Path) -> None:
    words = ["model.py:one", "--dim", "2", "--flow", "radial", "--one-point", "--out", "one"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    settings = json.loads((folder / "one" / "diagnostics.json").read_text())["settings"]
    assert (settings["flow"], settings["one-point"]) == ("radial", True)
    assert "--flow radial --seed 0 --draws 4000 --one-point" in (folder / "one" / "report.html").read_text()


def test_ctrl_c_gives_what_there_is(run: Run, folder: Path) -> None:
    result = run("model.py:stopped", "--dim", "1", "--draws", "50", "--out", "stopped")
    assert result.exit_code == 130 and "interrupted: these are the results" in result.output
    assert json.loads((folder / "stopped" / "diagnostics.json").read_text())["interrupted"] is True
    assert "The search was interrupted" in (folder / "stopped" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["model.py:plain"], 2, ["neither --support nor --dim is given: say either"]),
        (["model.py:plain", "--dim", "2", "--support", "a=real"], 2, ["both --support and --dim are given"]),
        (["model.py:plain", "--dim", "0"], 2, ["--dim 0: expected a whole number of at least 1"]),
        (["model.py:plain", "--dim", "2", "--draws", "0"], 2, ["draws = 0: expected at least 1"]),
        (["model.py:plain", "--dim", "2", "--effort", "lots"], 2, ["effort = 'lots': expected "]),
        (["model.py:plain", "--dim", "2", "--flow", "planer"], 2, ["planer", "planar"]),
        (["model.py:plain", "--support", "a=reel"], 2, ["unknown support 'reel': did you mean real? The supports are"]),
        (["model.py", "--dim", "2"], 2, ["'model.py' names no function", "such as model.py:log_density"]),
        (["absent.py:f", "--dim", "2"], 2, ["there is no file absent.py"]),
        (["model.py:plane", "--dim", "2"], 2, ["no function 'plane': did you mean plain? it defines log_density, pl"]),
        (["model.py:plain", "--dim", "2", "--out", "taken"], 1, ["holds other files than a fit's"]),
        (["broken.py:f", "--dim", "2"], 1, ["broken.py raises when it is imported:", "broken.py\", line 2, in <mod",
                                            "import nothing_of_the_kind", "ModuleNotFoundError: No module named"]),
        (["unfinished.py:f", "--dim", "2"], 1, ["unfinished.py\", line 1", "SyntaxError: invalid syntax"]),
        (["leaves.py:f", "--dim", "2"], 1, ["leaves.py raises when it is imported", "SystemExit: 3"]),
        (["model.py:shaped", "--dim", "2"], 1, ["shaped raises when it is called:", "in shaped", "in helper",
                                                "ValueError: no such shape <b>"]),
    ],
)  # fmt: skip
def test_mistakes(run: Run, words: list[str], code: int, says: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == code, result.output
    lines = result.output.splitlines()
    assert all(line.startswith("flowvi: ") for line in lines)
    assert all(any(each in line for line in lines) for each in says), result.output
    assert not any("flowvi/" in line or "importlib" in line for line in lines)  # no line of ours


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_in_a_browser(made: Fitted, browser: Any, width: int, scheme: str) -> None:
    file = made.folder / "report.html"
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said, asked = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # what is wide scrolls in its own box
    boxes = page.evaluate("[...document.querySelectorAll('figure svg')].map(e => [e.clientWidth, e.clientHeight])")
    assert len(boxes) == 9 and all(wide > 140 and high > 70 for wide, high in boxes)
    shapes = "[...document.querySelectorAll('figure svg')].map(e => [...e.querySelectorAll('path, use')]"
    assert min(page.evaluate(f"{shapes}.filter(p => p.getBoundingClientRect().width > 0).length)")) > 5
    assert "rgb(0, 0, 0)" not in page.evaluate(f"{shapes}.map(p => getComputedStyle(p).fill)).flat()")
    page.close()
