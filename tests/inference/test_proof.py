"""The proof of `fit`: its measures of error against draws whose error is known, its tables, its command."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from flowvi.inference.proof import __main__ as command
from flowvi.inference.proof.records import read
from flowvi.inference.proof.table import class_of, proof_table, verdicts
from flowvi.inference.proof.truth import lost_mode, marginal_error
from flowvi.inference.targets import TARGETS


def sampled(sample: Callable[[int], Any]) -> Any:
    """What stands for a fit: draws alone."""
    return SimpleNamespace(sample=sample)


def exact(name: str, seed: int = 3) -> Callable[[int], Any]:
    target, generator = TARGETS[name], Generator().manual_seed(seed)
    draw = target.sample
    assert draw is not None
    return lambda n: draw(n, generator)


@pytest.mark.parametrize("name", ["gaussian_2_condition_1e2", "lkj_3", "mixture_2_modes_8_far"])
def test_exact_draws_have_an_error_of_about_one(name: str) -> None:
    errors = [marginal_error(TARGETS[name], sampled(exact(name, seed))) for seed in range(5)]
    assert sum(errors) / 5 == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("move", [lambda z: 1.5 * z, lambda z: z + 2 * z.std(0)])
def test_draws_that_are_off_have_a_large_one(move: Callable[[Tensor], Tensor]) -> None:
    name = "gaussian_10_condition_1e2"
    draw = exact(name)
    assert marginal_error(TARGETS[name], sampled(lambda n: move(draw(n)))) > 3


def test_the_largest_mode_that_is_lost() -> None:
    target = TARGETS["mixture_2_modes_4_close"]
    draw = exact(target.name)
    assert lost_mode(target, sampled(draw)) == 0
    lost = max(target.modes.values(), key=lambda mode: mode.mass)

    def without(n: int) -> Any:
        z = draw(4 * n)
        return z[~lost.contains(z)][:n]

    assert lost_mode(target, sampled(without)) == lost.mass
    assert lost_mode(TARGETS["banana"], sampled(exact("banana"))) == 0


def test_an_improper_target_has_no_marginals() -> None:
    assert math.isnan(marginal_error(TARGETS["improper_flat"], sampled(torch.zeros)))


def record(**change: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "target": "banana",
        "seed": 0,
        "effort": "fast",
        "held_out": False,
        "seconds": 2.0,
        "cpu_seconds": 3.0,
        "verdict": "trust",
        "winner": "flow",
        "elbo_inside": 1.0,
        "log_evidence": 1.3,
        "log_evidence_se": 0.1,
        "log_z": 1.1,
        "log_z_se": 0.0,
        "marginal_error": 1.0,
        "lost_mode": 0.0,
    }
    return usual | change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, "good"),
        ({"marginal_error": 2.1}, "between"),
        ({"marginal_error": 5.1}, "badly wrong"),
        ({"marginal_error": "nan"}, "badly wrong"),
        ({"lost_mode": 0.1}, "badly wrong"),
    ],
)
def test_classes(change: dict[str, Any], found: str) -> None:
    assert class_of(record(**change)) == found


def test_the_tables() -> None:
    far = record(target="mixture_2", verdict="caution", lost_mode=0.3)
    bad = record(target="jump", elbo_inside=-1e9, marginal_error=9.0, verdict="do not trust", held_out=True)
    text = proof_table([record(), record(log_evidence=1.4), far, bad])
    assert "banana                        2   0.100           2.5       1.0        3  " in text
    assert "  1e+09 " in text
    assert "ln Z of trusted fits within two standard errors: 1 of 2 (50 %)" in text
    assert "Mixtures with at least half its mass in each mode: 0 of 1; of the others not trusted: 1 of 1" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("good", "badly wrong"))]
    assert rows == [
        ["good", "2", "0", "0"],
        ["badly", "wrong", "0", "1", "0"],
        ["good", "0", "0", "0"],
        ["badly", "wrong", "0", "0", "1"],
    ]


def test_a_good_fit_that_is_not_trusted_is_named() -> None:
    denied = record(target="ordered", verdict="caution", held_out=True)
    wrong = record(target="jump", verdict="caution", held_out=True, marginal_error=9.0)
    said = verdicts([record(), denied, wrong]).splitlines()
    assert [line for line in said if "not trusted" in line] == ["Good and not trusted: ordered"]


def test_the_command_goes_on_and_says_what_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def prove(name: str, seed: int, effort: str) -> dict[str, Any]:
        asked.append((name, seed))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return record(target=name, seed=seed, effort=effort)

    monkeypatch.setattr(command, "prove", prove)
    words = ["--only", "banana", "--seeds", "0,1,2", "--out", str(tmp_path / "proof.jsonl")]
    assert command.main(words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert command.main(words) == 0
    assert asked == [("banana", seed) for seed in (0, 1, 1, 2)]
    records = read(tmp_path / "proof.jsonl")
    assert [each["seed"] for each in records] == [0, 1, 2]
    assert all("torch" in each["versions"] and each["machine"] and "commit" in each for each in records)
    assert command.main(["--only", "no such", "--out", str(tmp_path / "proof.jsonl")]) == 2
