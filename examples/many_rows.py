"""A regression on 10,000 rows, fitted by minibatches of 256, beside its exact posterior.

Coefficients and precision have the normal-gamma prior (Bernardo & Smith, *Bayesian Theory*, Appendix A), so that the
posterior is normal-gamma too, and the evidence is known.

python examples/many_rows.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

import flowvi
from flowvi import supports as s

torch.manual_seed(0)
n = 10_000
common = torch.randn(n, dtype=torch.float64)
x = torch.stack([torch.ones(n), common, common + 0.5 * torch.randn(n)], -1)  # two covariates that go together
y = x @ torch.tensor([1.0, 0.5, -0.2]).double() + 0.7 * torch.randn(n)


def log_prior(p: dict[str, Tensor]) -> Tensor:
    """precision ~ Gamma(1, 1), beta | precision ~ N(0, 100/precision): parameters by name, (n, …), to (n,)."""
    sd = 10 * p["precision"].rsqrt()
    return Gamma(1.0, 1.0).log_prob(p["precision"]) + Normal(0.0, sd[:, None]).log_prob(p["beta"]).sum(-1)


def log_likelihood(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The sum over some rows of the data, (n,)."""
    squares = (y - p["beta"] @ x.T).square().sum(-1)
    return len(y) / 2 * (p["precision"] / (2 * math.pi)).log() - p["precision"] * squares / 2


fit = flowvi.fit(
    log_prior,
    {"beta": s.real(3), "precision": s.positive()},
    batches=flowvi.Batches(log_likelihood, (x, y), size=256),
    seed=0,
    effort="fast",
    dtype=torch.float64,
)
print(fit)

inverse = x.T @ x + torch.eye(3) / 100
covariance = inverse.inverse()
beta = covariance @ x.T @ y
a, b = torch.tensor(1 + n / 2).double(), 1 + (y @ y - beta @ inverse @ beta) / 2
exact_mean = torch.cat([beta, (a / b)[None]])
exact_sd = torch.cat([(covariance.diagonal() * b / (a - 1)).sqrt(), (a.sqrt() / b)[None]])
log_z = a.lgamma() - a * b.log() - n / 2 * math.log(2 * math.pi) - inverse.logdet() / 2 - 3 * math.log(10)

draws = fit.sample(20_000)
both = torch.cat([draws["beta"], draws["precision"][:, None]], -1)
print("\n                mean     exact        sd     exact")
for i, name in enumerate(["beta[0]", "beta[1]", "beta[2]", "precision"]):
    numbers = both[:, i].mean(), exact_mean[i], both[:, i].std(), exact_sd[i]
    print(f"{name:10}" + "".join(f"{number:10.4f}" for number in numbers))
print(f"ln Z {fit.log_evidence:.3f} ± {fit.log_evidence_se:.3f}, exact {log_z:.3f}")
