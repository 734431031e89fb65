"""One posterior for many data sets: mean and standard deviation of each of 500 samples, from two numbers of each.

python examples/many_data_sets.py
"""

from __future__ import annotations

import torch
from torch import Tensor

import flowvi
from flowvi import supports as s

n = 20  # observations in each data set


def log_density(p: dict[str, Tensor], context: Tensor) -> Tensor:
    """ln of likelihood times prior: n points by name, n rows of context, to (n,); enough are a sample's mean and sd."""
    mean, sd = context[:, 0], context[:, 1].exp()
    prior = -(p["mu"] ** 2) / 50 - p["sigma"].log() ** 2 / 2 - p["sigma"].log()
    squares = (n - 1) * sd**2 + n * (mean - p["mu"]) ** 2
    return prior - n * p["sigma"].log() - squares / (2 * p["sigma"] ** 2)


torch.manual_seed(0)
mu, sigma = 5 * torch.randn(500, 1), torch.randn(500, 1).exp()
data = mu + sigma * torch.randn(500, n)
context = torch.stack([data.mean(-1), data.std(-1).log()], -1)  # (500, 2)

fit = flowvi.fit(log_density, {"mu": s.real(), "sigma": s.positive()}, context=context, seed=0, effort="fast")
print(fit)
print()
print(fit.evidence(context[:3]))
