"""A flow with another base than its Gaussian: a mixture for several modes, Student's t for heavy tails."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.flows.flow import Flow, FlowDistribution
from flowvi.flows.path import pushed_score

__all__ = ["Rebased", "RebasedDistribution"]


class Rebased(nn.Module):
    """A static flow's map, from noise to points, with noise from another base.

    Args:
        flow: whose map it is, learned here.
        base: a module that, called, gives a distribution over R^D with `sample` and `log_prob`.

    Example:
        >>> from flowvi.flows import Planar
        >>> from flowvi.inference.fitting.mixture import Mixture
        >>> q = Rebased(Planar(2, length=3), Mixture.standard(torch.zeros(2), degrees=3.0))()
        >>> z, log_q = q.rsample_and_log_prob((5,))
        >>> torch.allclose(q.log_prob(z), log_q, atol=1e-5)
        True
    """

    def __init__(self, flow: Flow, base: nn.Module) -> None:
        super().__init__()
        self.flow, self.base = flow, base

    def forward(self) -> RebasedDistribution:
        """The distribution as it is now."""
        return RebasedDistribution(self.flow(), self.base())


class RebasedDistribution(Distribution):
    """The density of z = T(ε), ε ~ p0, for the T that takes N(0, I) to q: ln q(z) + ln p0(ε) − ln N(ε; 0, I)."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, flow: FlowDistribution, base: Any) -> None:
        self.flow, self.base = flow, base
        super().__init__(flow.batch_shape, flow.event_shape, validate_args=False)

    def rsample_and_log_prob(self, sample_shape: Any = (), *, path: bool = False) -> tuple[Tensor, Tensor]:
        """Samples (S…, D) and their log density (S…,); with `path` its gradient goes through the samples alone.

        The base's draws themselves have no gradient.
        """
        if path:
            z, log_q, slope = self.sample_and_score(sample_shape)
            return z, log_q.detach() + ((z - z.detach()) * slope).sum(-1)
        return self.push(self._noise(sample_shape))

    def sample_and_score(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor, Tensor]:
        """Samples z (S…, D), ln q(z) (S…,), and ∇_z ln q(z), a constant (S…, D)."""
        noise = self._noise(sample_shape)
        z, log_q = self.push(noise)
        return z, log_q, self._score(noise, z.detach())

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise of the base (S…, D) as points, and ln q there (S…,)."""
        z, log_q = self.flow.push(noise)
        return z, log_q + self._change(noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…,), at any points (S…, D)."""
        noise, log_q = self.flow.pull(value)
        return log_q + self._change(noise)

    @torch.no_grad()
    def _noise(self, sample_shape: Any) -> Tensor:
        noise: Tensor = self.base.sample(Size(sample_shape))
        return noise

    def _change(self, noise: Tensor) -> Tensor:
        gaussian = -0.5 * noise.square().sum(-1) - 0.5 * noise.shape[-1] * math.log(2 * math.pi)
        change: Tensor = self.base.log_prob(noise) - gaussian
        return change

    def _score(self, noise: Tensor, z: Tensor) -> Tensor:
        with torch.enable_grad():
            at = noise.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.base.log_prob(at).sum(), at)
            pushed = pushed_score(self.flow, noise, slope)
            if pushed is None:
                at = z.clone().requires_grad_()
                (pushed,) = torch.autograd.grad(self.log_prob(at).sum(), at)
        return pushed
