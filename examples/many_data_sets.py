"""One network for the posterior of any pump: trained on simulated ones, asked about ten real ones.

Ten pumps of a nuclear power plant (Gaver & O'Muircheartaigh 1987): a pump that ran for t thousand hours failed
Poisson(θ t) times, and its rate θ is Gamma(α, β) beforehand. So it is Gamma(α + failures, β + t) afterwards, which the
network is not told.

python examples/many_data_sets.py
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma

import flowvi
from flowvi import supports as s

failures = torch.tensor([5.0, 1, 5, 14, 3, 19, 1, 1, 4, 22], dtype=torch.float64)
hours = torch.tensor([94.3, 15.7, 62.9, 126, 5.24, 31.4, 1.05, 1.05, 2.1, 10.5], dtype=torch.float64)
prior = Gamma(0.82, 1.26)  # where the ten pumps' marginal likelihood is greatest


def features(failures: Tensor, hours: Tensor) -> Tensor:
    """Data sets as rows of numbers of about one size: (N,) and (N,) to (N, 2)."""
    return torch.stack([failures.log1p(), hours.log()], -1)


def log_density(p: dict[str, Tensor], context: Tensor) -> Tensor:
    """ln of Gamma prior times Poisson likelihood: rates (n,) and n rows of context to (n,)."""
    failures, hours = context[:, 0].expm1(), context[:, 1].exp()
    expected = p["rate"] * hours
    return prior.log_prob(p["rate"]) + failures * expected.log() - expected - (failures + 1).lgamma()


torch.manual_seed(0)
simulated_hours = torch.empty(1000).uniform_(-1, 6).exp()
simulated = torch.poisson(prior.sample((1000,)) * simulated_hours)
context = features(simulated, simulated_hours)
fit = flowvi.fit(log_density, {"rate": s.positive()}, context=context, seed=0, effort="fast", dtype=torch.float64)
print(fit)

pumps = features(failures, hours)
rates, evidence = fit.sample(20_000, pumps)["rate"], fit.evidence(pumps)
exact = Gamma(prior.concentration + failures, prior.rate + hours)
below = [torch.special.gammainc(exact.concentration, exact.rate * rates.quantile(q, dim=0)) for q in (0.05, 0.95)]
log_z = log_density({"rate": exact.mean}, pumps) - exact.log_prob(exact.mean)  # ln f − ln f/Z, the same anywhere

print("\nMean of the rate; exact probability of the fit's 90 % interval; evidence")
print("failures  1000 h |   fit     exact |   interval |    ln Z       se     exact")
for i in range(len(pumps)):
    mean = f"{rates[:, i].mean():6.3f}{exact.mean[i]:10.3f}"
    found = f"{evidence.log_evidence[i]:8.3f}{evidence.log_evidence_se[i]:9.4f}{log_z[i]:10.3f}"
    print(f"{failures[i]:8.0f}{hours[i]:8.2f} |{mean} |{below[1][i] - below[0][i]:11.1%} |{found}")
