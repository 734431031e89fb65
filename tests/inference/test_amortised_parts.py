"""The parts of an amortised fit: its affine map, where it starts, its verdict, and an interruption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.inference.fitting.amortised.affine import AffineChain
from flowvi.inference.fitting.amortised.contexts import Contexts
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.gap import Alone
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.amortised.rows import AverageELBO, RowEvidence
from flowvi.inference.fitting.amortised.search import RowSearch
from flowvi.inference.fitting.amortised.start import Start, find_start
from flowvi.inference.fitting.amortised.verdict import RowsMeasured, judge_rows
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.joint import Joint


def rows(count: int = 40, **changes: Any) -> RowEvidence:
    sizes = {"log_evidence": 0.0, "log_evidence_se": 0.01, "k_hat": 0.3, "effective": 0.9, "distance": 0.02}
    columns = {name: torch.full((count,), value).double() for name, value in {**sizes, "lacking": 0.0}.items()}
    outside = torch.zeros(count, dtype=torch.bool)
    return RowEvidence(**{**columns, "outside": outside, "draws": 1000, **changes})


def label(found: RowEvidence, gain: float = 0.0, missed: float = 0.0, interrupted: bool = False) -> str:
    alone = (Alone(row=0, posterior="flow", gain=gain, se=0.01, missed=missed),)
    ends = torch.zeros(2)
    return judge_rows(RowsMeasured(rows=found, alone=alone, low=ends, high=ends, interrupted=interrupted)).label


def some(share: float, bad: float, good: float) -> Tensor:
    return torch.where(torch.arange(40) < 40 * share, bad, good).double()


def test_the_verdict() -> None:
    assert label(rows()) == "trust"
    assert label(rows(10)) == "caution"
    assert label(rows(), interrupted=True) == "caution"
    assert label(rows(), gain=0.2) == "caution" and label(rows(), gain=1.0) == "do not trust"
    assert label(rows(), missed=0.3) == "do not trust"
    heavy = {"lacking": torch.full((40,), 0.02).double()}
    assert label(rows(k_hat=some(0.1, 0.9, 0.2), **heavy)) == "caution"
    assert label(rows(k_hat=some(0.5, 0.9, 0.2), **heavy)) == "do not trust"
    assert label(rows(k_hat=some(0.5, 0.9, 0.2))) == "trust"  # a tail too thin to matter
    assert label(rows(distance=some(0.1, 0.2, 0.0))) == "caution"
    assert label(rows(distance=some(0.1, 0.4, 0.0))) == "do not trust"
    assert label(rows(effective=some(0.1, 0.01, 0.9))) == "caution"
    assert label(rows(log_evidence=some(0.1, torch.nan, 0.0))) == "caution"


def test_the_affine_map_takes_the_score_along() -> None:
    scale = torch.randn(3, 2, 2).tril().double() + 2 * torch.eye(2).double()
    both = torch.cat([torch.randn(3, 2, 1).double(), scale], -1)
    noise = torch.randn(4, 3, 2).double()
    z, log_det = AffineChain().forward(noise, both)
    back, again = AffineChain().inverse(z, both)
    torch.testing.assert_close((back, again), (noise, log_det))
    at = z.clone().requires_grad_()
    log_q = -AffineChain().inverse(at, both)[0].square().sum(-1) / 2
    (score,) = torch.autograd.grad(log_q.sum(), at)
    torch.testing.assert_close(AffineChain().push_score(noise, -noise, both)[1], score)


@pytest.mark.parametrize("kind", ["planar", "realnvp"])
def test_it_starts_as_its_start(kind: str) -> None:
    """A straight line in the context, whatever the flow."""
    start = Start(
        torch.tensor([1.0, 2.0]),
        torch.tensor([[2.0, 0.0], [1.0, 0.5]]),
        torch.tensor([[3.0], [0.0]]),
        torch.tensor([10.0]),
        torch.tensor([2.0]),
    )
    q = Amortised(start, kind, length=2)(torch.tensor([[10.0], [12.0]]))
    draws = q.sample((20_000,))
    torch.testing.assert_close(draws.mean(0), torch.tensor([[1.0, 2.0], [7.0, 5.0]]), atol=0.08, rtol=0)
    torch.testing.assert_close(draws[:, 1].T.cov(), start.scale @ start.scale.T, atol=0.15, rtol=0)


def test_a_start_follows_the_means() -> None:
    context = torch.randn(60, 2)
    turn = torch.tensor([[100.0, 3.0], [0.0, 0.01]])
    density = RowDensity(lambda z, c: -(z - c @ turn.T - 5).square().sum(-1) / 2, Joint.of(2))
    start = find_start(density, context)
    q = Amortised(start)(context)
    assert (q.sample((4000,)).mean(0) - context @ turn.T - 5).abs().max() < 0.2


def test_gains_are_paired() -> None:
    base = 100 * torch.randn(50).double()
    spread = torch.ones(50).double()
    gain, error = AverageELBO(base + 0.1, spread, 100).gain(AverageELBO(base, spread, 100))
    assert gain == pytest.approx(0.1) and error < 1e-6


def test_an_interruption_leaves_what_there_is() -> None:
    def density(z: Tensor, c: Tensor) -> Tensor:
        return -(z - c).square().sum(-1) / 2 - z[:, 0].square() * z[:, 1].square()

    def stop(progress: Any) -> None:
        if progress.stage == "full-rank":
            raise KeyboardInterrupt

    torch.manual_seed(0)
    contexts = Contexts.of(torch.randn(40, 2), torch.zeros(()))
    effort = replace(EFFORTS["fast"], block=2, blocks=1, races=1)
    search = RowSearch(RowDensity(density, Joint.of(2)), contexts, effort, ["planar"], stop)
    search.run()
    measured = search.measure()
    assert search.interrupted and [stage.name for stage in search.stages] == ["mean-field", "full-rank"]
    assert measured.interrupted and not measured.alone and judge_rows(measured).label != "trust"
