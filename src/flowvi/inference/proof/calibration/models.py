"""Conjugate models: parameters from the prior, data from them, and the exact posterior given the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from flowvi.inference.supports import Support, positive, real, unit_interval
from flowvi.inference.targets.tails import gamma_draws

__all__ = ["MODELS", "Exact", "Model"]

Points = dict[str, Tensor]


@dataclass(frozen=True)
class Exact:
    """The posterior of one data set. Points are by parameter, (n, *shape).

    Example:
        >>> exact = MODELS["beta_binomial"].exact(torch.tensor([0.0, 3.0, 6.0]))
        >>> exact.mean["rate"].tolist()
        [0.125, 0.5, 0.875]
    """

    log_joint: Callable[[Points], Tensor]
    """ln p(data, θ), (n,), in nats: what is fitted, all densities normalised."""
    log_z: float
    """ln p(data)."""
    mean: Points
    sd: Points
    sample: Callable[[int, Generator], Points]


@dataclass(frozen=True)
class Model:
    """A prior, a likelihood and the posterior that they give.

    Example:
        >>> model = MODELS["normal_gamma"]
        >>> theta, data = model.simulate(torch.Generator().manual_seed(0))
        >>> theta["precision"].shape, data.shape
        (torch.Size([1]), torch.Size([10]))
    """

    supports: Mapping[str, Support]
    simulate: Callable[[Generator], tuple[Points, Tensor]]
    """θ of the prior, one point, and data given θ; float64."""
    exact: Callable[[Tensor], Exact]
    """Of the posterior given data."""


_N, _K, _A, _B = 10, 0.5, 2.0, 2.0


def _simulate_normal(generator: Generator) -> tuple[Points, Tensor]:
    precision = gamma_draws(_A, (1,), generator) / _B
    white = torch.randn(1 + _N, generator=generator, dtype=torch.float64)
    mean = white[:1] / (_K * precision).sqrt()
    return {"mean": mean, "precision": precision}, mean + white[1:] / precision.sqrt()


def _exact_normal(data: Tensor) -> Exact:
    """y ~ N(μ, 1/λ), μ ~ N(0, 1/kλ), λ ~ Gamma(a, b); k' = k + n, m' = Σy/k', a' = a + n/2, b' = b + ½(Σy² − k'm'²).

    λ ~ Gamma(a', b') and μ ~ N(m', 1/k'λ), ln Z = −½ n ln 2π + ½ ln k/k' + ln Γ(a')/Γ(a) + a ln b − a' ln b'
    (Murphy 2007, Section 3).
    """
    k, a = _K + _N, _A + _N / 2
    m = data.sum() / k
    b = _B + (data.square().sum() - k * m**2) / 2
    constant = (math.log(_K) - (_N + 1) * math.log(2 * math.pi)) / 2 + _A * math.log(_B) - math.lgamma(_A)

    def log_joint(points: Points) -> Tensor:
        mu, precision = points["mean"], points["precision"]
        squares = (data.to(mu) - mu[:, None]).square().sum(-1) + _K * mu.square() + 2 * _B
        return constant + (a - 1 / 2) * precision.log() - precision * squares / 2

    def sample(n: int, generator: Generator) -> Points:
        precision = gamma_draws(a, (n,), generator) / b
        white = torch.randn(n, generator=generator, dtype=torch.float64)
        return {"mean": m + white / (k * precision).sqrt(), "precision": precision}

    evidence = math.log(_K / k) / 2 + math.lgamma(a) - math.lgamma(_A) + _A * math.log(_B) - a * math.log(b)
    return Exact(
        log_joint,
        evidence - _N / 2 * math.log(2 * math.pi),
        {"mean": m, "precision": a / b},
        {"mean": (b / (k * (a - 1))).sqrt(), "precision": a**0.5 / b},
        sample,
    )


_RATES, _TRIALS = 3, 6


def _simulate_binomial(generator: Generator) -> tuple[Points, Tensor]:
    rate = torch.rand(1, _RATES, generator=generator, dtype=torch.float64)
    trials = torch.rand(_TRIALS, _RATES, generator=generator, dtype=torch.float64)
    return {"rate": rate}, (trials < rate).sum(0).double()


def _exact_binomial(data: Tensor) -> Exact:
    """yᵢ ~ Binomial(6, pᵢ), pᵢ uniform: pᵢ ~ Beta(yᵢ + 1, 7 − yᵢ), and each yᵢ has probability 1/7."""
    a, b = data + 1, _TRIALS - data + 1
    ways = math.lgamma(_TRIALS + 1) - a.lgamma() - b.lgamma()

    def log_joint(points: Points) -> Tensor:
        rate, yes = points["rate"], data.to(points["rate"])
        # xlogy: no success at a rate that rounds to 0 is certain, not undefined
        return (ways.to(rate) + torch.xlogy(yes, rate) + torch.xlogy(_TRIALS - yes, 1 - rate)).sum(-1)

    def sample(n: int, generator: Generator) -> Points:
        parts = [torch._standard_gamma(each.expand(n, _RATES).contiguous(), generator=generator) for each in (a, b)]
        return {"rate": parts[0] / (parts[0] + parts[1])}

    sd = (a * b / (a + b) ** 2 / (a + b + 1)).sqrt()
    return Exact(log_joint, -_RATES * math.log(_TRIALS + 1), {"rate": a / (a + b)}, {"rate": sd}, sample)


MODELS: Mapping[str, Model] = {
    "normal_gamma": Model({"mean": real(), "precision": positive()}, _simulate_normal, _exact_normal),
    "beta_binomial": Model({"rate": unit_interval(_RATES)}, _simulate_binomial, _exact_binomial),
}
"""By name: the mean and precision of ten normal numbers (D = 2); three rates of six trials each (D = 3)."""
