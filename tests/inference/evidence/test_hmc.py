"""One HMC transition: it leaves its density as it is, follows the motion, and keeps to where the density is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.errors import ConfigError, ShapeError
from flowvi.inference.evidence.hmc import Path, Point, transition

CHAINS = 20_000


def gaussians(normal: Any, dtype: torch.dtype, beta: float) -> tuple[Path, Any]:
    """A path between two Gaussians in the plane, and its member at β, which is Gaussian too."""
    q = normal(torch.tensor([0.0, 1.0], dtype=dtype), torch.tensor([1.0, 2.0], dtype=dtype))
    f = normal(torch.tensor([2.0, -1.0], dtype=dtype), torch.tensor([0.5, 1.0], dtype=dtype))
    precision = (1 - beta) / q.scale**2 + beta / f.scale**2
    mean = ((1 - beta) * q.mean / q.scale**2 + beta * f.mean / f.scale**2) / precision
    return Path(q.log_prob, lambda z: f.log_prob(z) + 7.0), normal(mean, precision**-0.5)


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.double().mean(0), z.double().var(0)


@pytest.mark.parametrize("leapfrog", [1, 4])
@pytest.mark.parametrize("size", [0.5, 1.5])
def test_it_leaves_its_density_as_it_is(normal: Any, dtype: torch.dtype, size: float, leapfrog: int) -> None:
    path, between = gaussians(normal, dtype, 0.3)
    point, accepted = path.at(between.sample((CHAINS,))), []
    for _ in range(6):
        point, probability = transition(path, point, 0.3, size * between.scale, leapfrog)
        accepted.append(probability.mean().item())
    mean, variance = moments(point.z)
    error = between.scale.double() / CHAINS**0.5
    assert ((mean - between.mean).abs() < 4 * error).all()
    assert ((variance / between.scale.double() ** 2 - 1).abs() < 4 * (2 / CHAINS) ** 0.5).all()
    assert size < 1 or all(0.4 < a < 0.97 for a in accepted)  # some are rejected, or this shows little


def test_from_elsewhere_it_comes_to_its_density(normal: Any) -> None:
    path, between = gaussians(normal, torch.float64, 0.6)
    point = path.at(torch.full((CHAINS, 2), 3.0).double())
    for _ in range(30):
        point, _ = transition(path, point, 0.6, 0.9 * between.scale, 3)
    mean, variance = moments(point.z)
    assert ((mean - between.mean).abs() < 4 * between.scale / CHAINS**0.5).all()
    assert ((variance / between.scale**2 - 1).abs() < 4 * (2 / CHAINS) ** 0.5).all()


def test_small_steps_follow_the_motion(normal: Any) -> None:
    """On N(0, 1), z(τ) = z cos τ + r sin τ; τ is uniform on (0.8, 1.2), so E[z z(τ)] = (sin 1.2 − sin 0.8)/0.4."""
    q = normal(torch.zeros(1).double())
    path = Path(q.log_prob, q.log_prob)
    point = path.at(q.sample((CHAINS,)))
    new, probability = transition(path, point, 0.5, torch.tensor([0.1]).double(), 10)
    assert probability.mean() > 0.999
    product = (point.z * new.z)[:, 0]
    expected = (math.sin(1.2) - math.sin(0.8)) / 0.4
    assert abs(product.mean() - expected) < 4 * product.std() / CHAINS**0.5
    assert new.z.var().item() == pytest.approx(1, abs=4 * (2 / CHAINS) ** 0.5)


def test_the_point_goes_with_its_densities(normal: Any) -> None:
    path, between = gaussians(normal, torch.float64, 0.3)
    point, _ = transition(path, path.at(between.sample((100,))), 0.3, 1.5 * between.scale, 2)
    again = path.at(point.z)
    for name in Point.__dataclass_fields__:
        torch.testing.assert_close(getattr(point, name), getattr(again, name), rtol=0, atol=0)
    torch.testing.assert_close(point.log_density(0.25), 0.75 * point.log_initial + 0.25 * point.log_target)
    z = point.z.clone().requires_grad_()
    (0.75 * path.log_initial(z) + 0.25 * path.log_target(z)).sum().backward()
    torch.testing.assert_close(point.gradient(0.25), z.grad)
    assert not point.z.requires_grad and not point.log_target.requires_grad


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_it_never_goes_where_there_is_no_density(normal: Any, value: float) -> None:
    """A half-normal: the mean is √(2/π) and the second moment 1."""
    q = normal(torch.zeros(1).double())
    path = Path(q.log_prob, lambda z: torch.where(z[..., 0] > 0, q.log_prob(z), value))
    point = path.at(q.sample((CHAINS,)).abs())
    for _ in range(5):
        point, _ = transition(path, point, 0.7, torch.tensor([0.9]).double(), 3)
        assert (point.z > 0).all() and point.log_target.isfinite().all()
    error = (1 - 2 / math.pi) ** 0.5 / CHAINS**0.5
    assert point.z.mean().item() == pytest.approx((2 / math.pi) ** 0.5, abs=4 * error)
    assert point.z.square().mean().item() == pytest.approx(1, abs=4 * (2 / CHAINS) ** 0.5)


def test_points_that_are_not_finite_are_not_shown_to_the_densities(normal: Any) -> None:
    q = normal(torch.zeros(2))

    def strict(z: Tensor) -> Tensor:
        assert z.isfinite().all()
        return -z.pow(4).sum(-1)

    path = Path(q.log_prob, strict)
    start = path.at(torch.randn(50, 2))
    point, probability = transition(path, start, 0.5, torch.full((2,), 1e5), 10)
    assert torch.equal(point.z, start.z) and (probability == 0).all()
    at = path.at(torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [0.0, 0.0]]))
    assert at.log_target.tolist() == [-math.inf, -math.inf, 0.0]
    assert at.log_initial.isfinite().tolist() == [False, False, True]


def test_what_a_density_must_be(normal: Any) -> None:
    q = normal(torch.zeros(3, 2))
    z = torch.zeros(5, 3, 2)
    with pytest.raises(ShapeError, match=r"target log density gives \(5, 3, 2\) .*: expected \(5, 3\)"):
        Path(q.log_prob, lambda z: -z.square()).at(z)
    with pytest.raises(ShapeError, match=r"initial log density gives \(\)"):
        Path(lambda z: q.log_prob(z).sum(), q.log_prob).at(z)
    with pytest.raises(ConfigError, match="target log density has no gradient"):
        Path(q.log_prob, lambda z: q.log_prob(z.detach())).at(z)
    with pytest.raises(ConfigError, match="target log density has no gradient"):
        weight = torch.ones((), requires_grad=True)
        Path(q.log_prob, lambda z: q.log_prob(z.detach()) * weight).at(z)
