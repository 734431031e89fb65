"""Densities: they integrate to one, know their own samples, and have the gradients they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from flowvi.flows.audit import Sizes, Subject, audit, registered, settings
from flowvi.flows.audit.quadrature import box, integral

NAMES = "integral", "own samples", "derivative", "gradients"
CHECKS = [
    pytest.param(name, subject, id=f"{name}-{subject}".replace(" ", "-"))
    for subject in registered()
    for name in NAMES
    if any(True for _ in settings(name, subject, Sizes()))
]


@pytest.mark.parametrize(("name", "subject"), CHECKS)
def test_property(name: str, subject: Subject) -> None:
    (row,) = audit([subject], Sizes(), names=[name])
    assert not row.broken, "\n".join(row.broken)


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("sides", [24, 64])
def test_the_quadrature_itself(correlation: float, sides: int) -> None:
    q = MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1, correlation], [correlation, 1]]).double())
    found = integral(q.log_prob, *box(q.sample((4096,))), sides=sides)
    assert found == pytest.approx(1, abs=2e-4)


def test_the_quadrature_of_what_is_not_one() -> None:
    corner = torch.tensor([3.0, 5.0], dtype=torch.float64)
    assert integral(lambda z: 0 * z.sum(-1), -corner, corner) == pytest.approx(60)
    assert integral(lambda z: -z.square().sum(-1), -2 * corner, 2 * corner) == pytest.approx(math.pi, abs=1e-3)
