"""`fit` beside its peers: the program in a moment, and that no constant of an ELBO is missing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from flowvi.inference.fitting import EFFORTS
from flowvi.inference.fitting.elbo import elbo_of_weights
from flowvi.inference.proof.records import read

command = pytest.importorskip("benchmarks.fit.command", reason="the benchmarks are only in the checkout")
from benchmarks import __main__ as program  # noqa: E402
from benchmarks import peers  # noqa: E402
from benchmarks.fit import guides  # noqa: E402
from benchmarks.fit.problem import Problem  # noqa: E402

needs_pyro = pytest.mark.skipif(bool(peers.missing("pyro-ppl")), reason="pyro-ppl is not installed")
GAUSSIAN = "gaussian_2_condition_1e0"


def test_a_tiny_run_is_resumed_and_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"block": 5, "blocks": 2, "races": 2, "draws": 200, "evidence": 500, "chains": 8, "distributions": 5}
    brief = MappingProxyType({"fast": replace(EFFORTS["fast"], restarts=2, **sizes)})
    monkeypatch.setattr("flowvi.inference.fitting.entry.EFFORTS", brief)
    threads, out = torch.get_num_threads(), tmp_path / "fit.jsonl"
    try:
        assert command.main(["--tiny", f"--out={out}"]) == 0
        before = capsys.readouterr().out
        assert command.main(["--tiny", f"--out={out}"]) == 0
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    records = read(out)
    assert len({each["contender"] for each in records}) == len(records)
    assert records[0]["contender"] == "flowvi" and abs(records[0]["elbo"] - records[0]["log_z"]) < 0.5
    assert {"commit", "versions", "machine", "verdict", "points", "budget"} <= records[0].keys()
    assert f"{GAUSSIAN}, seed 0, flowvi: ELBO" in before and "seed 0" not in said
    assert said.startswith("target") if len(records) > 1 else "pyro-ppl: not installed" in said


def test_an_unknown_target_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["fit", "--targets=nobody"]) == 1
    assert "no target is like nobody: there are gaussian_2_condition_1e0" in capsys.readouterr().err


@needs_pyro
@pytest.mark.parametrize("guide", ["AutoNormal", "AutoMultivariateNormal", "AutoIAFNormal"])
def test_the_elbo_of_a_perfect_fit_is_ln_z(guide: str) -> None:
    problem = Problem.of(GAUSSIAN)
    step, fitted = guides.start(guides.Setting(guide, 0.1, {}), problem, 0.1 ** (1 / 250))
    for _ in range(250):
        step()
    found = elbo_of_weights(guides.weigher(problem, partial(guides.draw, fitted))(20_000))
    assert found.mean == pytest.approx(problem.target.log_z, abs=0.02)
    assert found.mean <= problem.target.log_z + 4 * found.se + 1e-4


@needs_pyro
def test_the_density_of_a_guide_of_three_transforms_is_that_of_its_draws() -> None:
    """ln q at the draws, from what the transforms kept, and once more by their inverses."""
    setting = guides.Setting("AutoIAFNormal", 0.1, {"num_transforms": 3, "hidden_dim": [32, 32]})
    step, fitted = guides.start(setting, Problem.of(GAUSSIAN), 1.0)
    step()
    z, log_q = guides.draw(fitted, 5)
    torch.testing.assert_close(log_q, fitted.get_posterior().log_prob(z.clone()), rtol=1e-4, atol=1e-4)


@needs_pyro
def test_nuts_draws() -> None:
    from benchmarks.fit import nuts

    draws = nuts.run(Problem.of(GAUSSIAN), 2.0, 0).sample(1_000)
    assert draws.shape[1] == 2 and 5 < len(draws) <= 1_000 and draws.isfinite().all()
