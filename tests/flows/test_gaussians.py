"""Families that stay Gaussian against torch's MultivariateNormal: the full-rank one, and Householder's rotations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from flowvi.errors import ShapeError
from flowvi.flows import Flow, FlowDistribution, FullRankGaussian, Householder, build
from flowvi.flows.audit.states import randomise


def moved(flow: Flow) -> Flow:
    randomise(flow, 0.7)
    return flow.double()


def peer(q: FlowDistribution) -> MultivariateNormal:
    """The Gaussian of an affine map, from its value at 0 and at the unit vectors of the noise."""
    mean = q.push(torch.zeros(*q.batch_shape, *q.event_shape).double())[0]
    steps = [q.push(row.expand_as(mean))[0] - mean for row in torch.eye(q.event_shape[0]).double()]
    matrix = torch.stack(steps, -1)
    return MultivariateNormal(mean, matrix @ matrix.mT)


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("kind", ["full_rank", "householder", "householder+full_rank"])
def test_moments_and_density_are_torchs(kind: str, features: int, context: int) -> None:
    flow = moved(build(kind, features, context, 0 if kind == "full_rank" else 3))
    q = flow(torch.randn(2, 3, context).double() if context else None)
    expected = peer(q)
    z = 2 * torch.randn(7, *q.batch_shape, features).double()
    torch.testing.assert_close(q.mean, expected.mean)
    torch.testing.assert_close(q.variance, expected.variance)
    torch.testing.assert_close(q.stddev, expected.stddev)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(q.expand((4, *q.batch_shape)).variance, expected.variance.expand(4, *z.shape[1:]))


def test_moments_are_those_of_samples() -> None:
    for flow in (moved(FullRankGaussian(3)), moved(Householder(3, length=2))):
        z = flow().sample((200_000,))
        torch.testing.assert_close(flow().mean, z.mean(0), rtol=0, atol=0.05)
        torch.testing.assert_close(flow().variance, z.var(0), rtol=0.03, atol=0)


def test_the_full_rank_gaussian_reads_its_entries_row_by_row() -> None:
    """Saved weights depend on this order: N is [[0, 0, 0], [1, 0, 0], [2, 3, 0]]."""
    flow = FullRankGaussian(3)
    (link,) = flow.links
    with torch.no_grad():
        link.conditioner.values.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    z, log_q = flow().push(torch.eye(3))
    columns = torch.tensor([[1.0, 1.0, 2.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(z, columns)
    torch.testing.assert_close(log_q, torch.distributions.Normal(0.0, 1.0).log_prob(torch.eye(3)).sum(-1))


def test_a_full_rank_gaussian_can_be_any_gaussian() -> None:
    covariance = torch.tensor([[2.0, 0.9, -0.4], [0.9, 1.5, 0.3], [-0.4, 0.3, 1.0]]).double()
    lower = torch.linalg.cholesky(covariance)
    scale = lower.diagonal()
    entries: Tensor = (lower / scale)[tuple(torch.tril_indices(3, 3, -1))]
    flow = FullRankGaussian(3).double()
    with torch.no_grad():
        flow.base.location.copy_(torch.cat([torch.zeros(3), scale.log()]))
        flow.links[0].conditioner.values.copy_(entries[None])
    z = torch.randn(9, 3).double()
    torch.testing.assert_close(flow().log_prob(z), MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(z))


def test_a_full_rank_gaussian_has_no_layers_to_count() -> None:
    for length in (1, True, -1, None):
        with pytest.raises(ShapeError, match="length = "):
            FullRankGaussian(2, 0, length)


def test_rotations_keep_lengths_and_orientation() -> None:
    flow = Householder(4, length=3, init="normal").double()
    z0 = torch.randn(20, 4).double()
    z, _ = flow().push(z0)
    torch.testing.assert_close(z.norm(dim=-1), z0.norm(dim=-1))
    rotation = flow().push(torch.eye(4).double())[0]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(()).double())
