"""A linear-Gaussian model: its evidence and its posterior are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence


class Gaussian(MultivariateNormal):
    """Any covariance; with the two methods that inference uses."""

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        z = self.rsample(torch.Size(sample_shape))
        return z, self.log_prob(z)

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = self.loc + (self.scale_tril @ noise[..., None])[..., 0]
        return z, self.log_prob(z)


def gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    return Gaussian(mean, covariance, validate_args=False)


@dataclass
class LinearGaussian:
    """x = W z + ε, z ~ N(0, I), ε ~ N(0, σ² I), in float64.

    Its posterior is wrong on purpose by `shift` (added to the mean, in every dimension) and `stretch` (times
    every standard deviation); `flow` replaces it altogether.
    """

    latents: int = 3
    features: int = 5
    sigma: float = 0.7
    shift: float = 0.0
    stretch: float = 1.0
    flow: Callable[[], Any] | None = None
    w: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.w = torch.randn(self.features, self.latents, generator=generator, dtype=torch.float64)

    def exact_posterior(self, x: Tensor) -> Gaussian:
        precision = torch.eye(self.latents, dtype=x.dtype) + self.w.T @ self.w / self.sigma**2
        covariance = torch.linalg.inv(precision)
        return gaussian(x @ self.w @ covariance / self.sigma**2, covariance)

    def posterior(self, x: Tensor) -> Any:
        if self.flow is not None:
            return self.flow().expand(x.shape[:-1])
        exact = self.exact_posterior(x)
        return gaussian(exact.loc + self.shift, exact.covariance_matrix * self.stretch**2)

    def log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1) - 0.5 * self.latents * math.log(2 * math.pi)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        residual = (x - z @ self.w.T) / self.sigma
        return -0.5 * residual.square().sum(-1) - 0.5 * self.features * math.log(2 * math.pi * self.sigma**2)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        return self.log_prior(z) + self.log_likelihood(x, z)

    def log_evidence(self, x: Tensor) -> Tensor:
        covariance = self.w @ self.w.T + self.sigma**2 * torch.eye(self.features, dtype=x.dtype)
        return MultivariateNormal(torch.zeros(self.features).double(), covariance).log_prob(x)

    def kl(self, x: Tensor) -> Tensor:
        """KL(q(z | x) ‖ p(z | x)), exact."""
        return kl_divergence(self.posterior(x), self.exact_posterior(x))

    def data(self, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(11)
        z = torch.randn(n, self.latents, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, self.features, generator=generator, dtype=torch.float64)
        return z @ self.w.T + self.sigma * noise


@pytest.fixture
def linear_gaussian() -> type[LinearGaussian]:
    return LinearGaussian
