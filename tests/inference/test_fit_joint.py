"""Parameters as one vector and back, and the distribution over them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import flowvi
from flowvi import supports as s
from flowvi.errors import ShapeError
from flowvi.inference.fitting.joint import Joint, JointDistribution

SUPPORTS = {"mu": s.real(), "tau": s.positive(2), "p": s.simplex(3), "theta": s.real(2, 2), "u": s.interval(-1, 2)}


def distribution(parameters: Any = SUPPORTS) -> JointDistribution:
    joint = Joint.of(parameters)
    flow = flowvi.flows.RealNVP(joint.size, length=2, init="xavier").double()
    return JointDistribution(flow(), joint)


def test_there_and_back() -> None:
    joint = Joint.of(SUPPORTS)
    z = torch.randn(4, 7, joint.size, dtype=torch.float64)
    assert joint.size == 1 + 2 + 2 + 4 + 1
    values, log_det = joint.constrain(z)
    shapes = {name: (4, 7, *support.shape) for name, support in SUPPORTS.items()}
    assert {name: tuple(value.shape) for name, value in values.items()} == shapes
    again, same = joint.unconstrain(values)
    torch.testing.assert_close(again, z)
    torch.testing.assert_close(same, log_det)
    assert joint.contains(values).all() and log_det.shape == (4, 7)


def test_the_log_determinant_is_autograds() -> None:
    joint = Joint.of({"tau": s.positive(2), "u": s.interval(-1, 2), "o": s.ordered(3)})
    z = torch.randn(joint.size, dtype=torch.float64)

    def flat(z: Tensor) -> Tensor:
        return torch.cat([value.reshape(-1) for value in joint.constrain(z)[0].values()])

    jacobian = torch.autograd.functional.jacobian(flat, z)
    torch.testing.assert_close(joint.constrain(z)[1], torch.linalg.slogdet(jacobian)[1])


def test_a_plain_vector_is_a_tensor() -> None:
    q = distribution(3)
    z, log_q = q.rsample_and_log_prob((5,))
    assert z.shape == (5, 3) and log_q.shape == (5,)
    torch.testing.assert_close(q.log_prob(z), log_q)


def test_samples_have_the_density_that_they_come_with() -> None:
    q = distribution()
    values, log_q = q.rsample_and_log_prob((5, 2))
    torch.testing.assert_close(q.log_prob(values), log_q)
    assert not q.sample((3,))["mu"].requires_grad and q.rsample((3,))["mu"].requires_grad


def test_outside_is_minus_infinity_and_its_gradient_is_clean() -> None:
    q = distribution({"mu": s.real(), "tau": s.positive()})
    tau = torch.tensor([-1.0, 0.0, 1.0, torch.nan], dtype=torch.float64, requires_grad=True)
    log_q = q.log_prob({"mu": torch.zeros(4, dtype=torch.float64), "tau": tau})
    assert log_q[:2].tolist() == [-math.inf] * 2 and log_q[2].isfinite() and log_q[3].isnan()
    log_q[:3][log_q[:3].isfinite()].sum().backward()
    assert tau.grad is not None and tau.grad[:3].isfinite().all()


def test_what_is_not_the_parameters() -> None:
    q = distribution({"mu": s.real(), "tau": s.positive()})
    with pytest.raises(ShapeError, match="found mu: expected a dict of mu, tau"):
        q.log_prob({"mu": torch.zeros(2)})
    with pytest.raises(ShapeError, match="found Tensor: expected a dict of mu, tau"):
        q.log_prob(torch.zeros(2))
    with pytest.raises(ShapeError, match=r"unconstrained points of shape \(4, 3\): expected \(…, 2\)"):
        q.joint.constrain(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match=r"event_shape \(3,\): expected \(2,\)"):
        JointDistribution(flowvi.flows.Gaussian(3)(), q.joint)
