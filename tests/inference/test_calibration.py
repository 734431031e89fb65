"""Simulation-based calibration: exact draws pass, draws that are too narrow do not, and neither needs a fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from flowvi.inference.proof.calibration import records
from flowvi.inference.proof.calibration.__main__ import main
from flowvi.inference.proof.calibration.models import MODELS, Exact
from flowvi.inference.proof.calibration.ranks import chi_square, deviation
from flowvi.inference.proof.records import read

Points = dict[str, Tensor]


def log_posterior(name: str, data: Tensor, points: Points) -> Tensor:
    """The exact posterior once more, by torch's distributions."""
    if name == "beta_binomial":
        return torch.distributions.Beta(data + 1, 7 - data).log_prob(points["rate"]).sum(-1)
    k, m = 10.5, data.sum() / 10.5
    rate = 2 + (data.square().sum() - k * m**2) / 2
    normal = torch.distributions.Normal(m, (k * points["precision"]).rsqrt())
    return torch.distributions.Gamma(7.0, rate).log_prob(points["precision"]) + normal.log_prob(points["mean"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("data_set", range(3))
def test_the_joint_over_the_posterior_is_the_evidence_everywhere(name: str, data_set: int) -> None:
    theta, data = MODELS[name].simulate(Generator().manual_seed(data_set))
    exact = MODELS[name].exact(data)
    for points in (theta, exact.sample(5, Generator().manual_seed(1))):
        log_z = exact.log_joint(points) - log_posterior(name, data, points)
        assert log_z.tolist() == pytest.approx([exact.log_z] * len(log_z), abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_mean_and_the_sd(name: str) -> None:
    exact = MODELS[name].exact(MODELS[name].simulate(Generator().manual_seed(0))[1])
    for parameter, draws in exact.sample(100_000, Generator().manual_seed(1)).items():
        mean, sd = torch.as_tensor(exact.mean[parameter]), torch.as_tensor(exact.sd[parameter])
        torch.testing.assert_close(((draws.mean(0) - mean) / sd).abs(), torch.zeros_like(mean), atol=0.015, rtol=0)
        torch.testing.assert_close(draws.std(0) / sd, torch.ones_like(sd), atol=0.02, rtol=0)


class Fitted:
    """In the place of `fit`: the exact posterior, its draws drawn towards the mean."""

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, log_joint: Any, supports: Any, *, seed: int, effort: str) -> Any:
        model = next(model for model in MODELS.values() if model.supports == supports)
        exact = model.exact(model.simulate(Generator().manual_seed(seed))[1])
        said: dict[str, Any] = {"elbo": 0.0, "elbo_se": 0.0, "k_hat": 0.0, "winner": "exact"}
        found = {"log_evidence": exact.log_z + 0.1, "log_evidence_se": 0.1}
        said |= {"interrupted": False, "verdict": SimpleNamespace(label="trust", reasons=[])}
        return SimpleNamespace(sample=lambda n: self.draws(exact, n), **said, **found)

    def draws(self, exact: Exact, n: int) -> Points:
        exactly = exact.sample(n, torch.default_generator)
        return {name: exact.mean[name] + self.width * (each - exact.mean[name]) for name, each in exactly.items()}


def p_values(width: float, monkeypatch: pytest.MonkeyPatch, sets: int = 200) -> list[tuple[str, float, float]]:
    monkeypatch.setattr(records, "fit", Fitted(width))
    found = [(name, records.calibrate(name, i, "fast")["ranks"]) for name in MODELS for i in range(sets)]
    tests = []
    for model in MODELS:
        group = [each for name, each in found if name == model]
        for quantity in group[0]:
            column = [each[quantity] for each in group]
            tests.append((quantity, chi_square(column), deviation(column)[1]))
    return tests


def test_exact_draws_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(chi > 0.002 and band > 0.002 for _, chi, band in p_values(1.0, monkeypatch))


def test_draws_that_are_too_narrow_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = p_values(0.7, monkeypatch)
    assert len(tests) == 7
    for quantity, chi, band in tests:
        assert chi < 0.01 and band < 1e-3, quantity


def test_the_command_goes_on_and_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records, "fit", Fitted(1.0))
    out = tmp_path / "calibration.jsonl"
    assert main(["--sets=1", f"--out={out}"]) == 0
    assert main(["--sets=3", f"--out={out}"]) == 0
    assert [(record["model"], record["data_set"]) for record in read(out)] == [
        (name, i) for i in range(3) for name in MODELS
    ]
    capsys.readouterr()
    assert main(["--print", "--only=beta_binomial", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "beta_binomial: 3 data sets, 0 refused" in said and "normal_gamma" not in said
    assert "ln Z: off by +1.00 se on average" in said and "3 trust, 0 caution" in said
