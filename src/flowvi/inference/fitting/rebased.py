"""A flow with another base than the Gaussian it was made with: a mixture for several modes, Student's t for heavy tails."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.flows.flow import Flow, FlowDistribution
from flowvi.flows.path import pushed_score

__all__ = ["Rebased", "RebasedDistribution", "Student", "StudentDistribution"]


class Student(nn.Module):
    """The multivariate t distribution of ν degrees of freedom around 0, as a module that, called, gives it.

    Args:
        features: D.
        degrees: ν, above 0.

    Example:
        >>> Student(2, 3.0)().log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    place: Tensor

    def __init__(self, features: int, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees
        self.register_buffer("place", torch.zeros(features))

    def forward(self) -> StudentDistribution:
        """The distribution."""
        return StudentDistribution(self.place, self.degrees)


class StudentDistribution(Distribution):
    """∝ (1 + ‖x‖²/ν)^(−(ν + D)/2) (Kotz & Nadarajah 2004, Eq. 1.1), around 0 and of batch_shape ().

    Args:
        like: (D,), for its dtype and device.
        degrees: ν.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector

    def __init__(self, like: Tensor, degrees: float) -> None:
        self.like, self.degrees = like, degrees
        super().__init__(Size(), like.shape, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (S…, D): a Gaussian's over √(χ²/ν)."""
        shape = Size(sample_shape)
        noise = torch.randn(*shape, *self.event_shape, dtype=self.like.dtype, device=self.like.device)
        half = torch.full((*shape, 1), self.degrees / 2, dtype=self.like.dtype, device=self.like.device)
        return noise / (torch._standard_gamma(half) / half).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…,), in nats."""
        nu, dim = self.degrees, self.event_shape[0]
        constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - 0.5 * dim * math.log(nu * math.pi)
        return constant - 0.5 * (nu + dim) * (value.square().sum(-1) / nu).log1p()


class Rebased(nn.Module):
    """A static flow's map, from noise to points, with noise from another base.

    Args:
        flow: whose map it is, learned here.
        base: a module that, called, gives a distribution over R^D with `sample` and `log_prob`.

    Example:
        >>> from flowvi.flows import Planar
        >>> q = Rebased(Planar(2, length=3), Student(2, 3.0))()
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
    """The density of z = T(ε), ε ~ p0, for the T that takes N(0, I) to q: ln q(z) + ln p0(ε) − ln N(ε; 0, I), in nats."""

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
        with torch.no_grad():
            noise = self.base.sample(Size(sample_shape))
        z, log_q = self.flow.push(noise)
        log_q = log_q + self._change(noise)
        if not path:
            return z, log_q
        return z, log_q.detach() + ((z - z.detach()) * self._score(noise, z.detach())).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…,), at any points (S…, D)."""
        noise, log_q = self.flow.pull(value)
        return log_q + self._change(noise)

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
