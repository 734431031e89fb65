"""The Gaussian of full rank against torch's own, its covariance built here entry by entry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from flowvi.flows import FullRankGaussian


def covariance(log_scale: list[float], below: list[float]) -> Tensor:
    """(I + N) diag σ² (I + N)ᵀ, `below` the entries of N row by row."""
    d = len(log_scale)
    rest = list(below)
    factor = [[rest.pop(0) if j < i else float(i == j) for j in range(i + 1)] + [0.0] * (d - 1 - i) for i in range(d)]
    assert not rest
    entries = [
        [sum(factor[i][k] * math.exp(2 * log_scale[k]) * factor[j][k] for k in range(d)) for j in range(d)]
        for i in range(d)
    ]
    return torch.tensor(entries, dtype=torch.float64)


def moved(flow: FullRankGaussian) -> FullRankGaussian:
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.7 * torch.randn_like(parameter)
    return flow


def truth(mean: Tensor, log_scale: Tensor, below: list[float]) -> MultivariateNormal:
    """The base's mean goes through I + N too."""
    spread = covariance(log_scale.tolist(), below)
    values, rest = [], list(below)
    for i in range(len(mean)):
        values.append(mean[i].item() + sum(rest.pop(0) * mean[j].item() for j in range(i)))
    return MultivariateNormal(torch.tensor(values, dtype=torch.float64), spread)


def agree(q: object, expected: MultivariateNormal) -> None:
    z = torch.randn(50, expected.event_shape[0], dtype=torch.float64) * 2
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(q.mean, expected.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.variance, expected.variance, rtol=1e-12, atol=1e-12)
    z, log_q = q.rsample_and_log_prob((50,))
    torch.testing.assert_close(log_q, expected.log_prob(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("features", [1, 2, 6])
def test_the_density_is_torchs(features: int) -> None:
    flow = moved(FullRankGaussian(features).double())
    mean, log_scale = flow.base(None)
    below = flow.links[0](None).conditioning.flatten().tolist() if features > 1 else []
    agree(flow(), truth(mean, log_scale, below))


def test_amortised_too() -> None:
    """Each context's own mean, scales and N, from the two linear heads."""
    flow = moved(FullRankGaussian(3, 4).double())
    contexts = torch.randn(5, 4, dtype=torch.float64)
    whole = flow(contexts)
    z = torch.randn(7, 5, 3, dtype=torch.float64)
    for row, context in enumerate(contexts):
        head = flow.base.head.weight @ context + flow.base.head.bias
        link = flow.links[0].conditioner.head
        below = (link.weight @ context + link.bias).tolist()
        expected = truth(head[:3], head[3:], below)
        agree(flow(context), expected)
        torch.testing.assert_close(whole.log_prob(z)[:, row], expected.log_prob(z[:, row]), rtol=1e-10, atol=1e-10)


def test_samples_have_the_covariance() -> None:
    flow = moved(FullRankGaussian(3).double())
    mean, log_scale = flow.base(None)
    expected = truth(mean, log_scale, flow.links[0](None).conditioning.flatten().tolist())
    z = flow().sample((200_000,))
    spread = expected.variance.sqrt()
    assert ((z.mean(0) - expected.mean) / spread).abs().max() < 0.02
    assert ((z.T.cov() - expected.covariance_matrix) / (spread[:, None] * spread)).abs().max() < 0.02


def test_gradients_against_finite_differences() -> None:
    chain = FullRankGaussian(4).links[0].chain
    parameters = torch.randn(2, 1, 6, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    for direction in (chain.forward, chain.inverse):
        assert torch.autograd.gradcheck(lambda *inputs, to=direction: to(*inputs)[0], (z, parameters))
