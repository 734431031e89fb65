"""Eight schools (Gelman et al., *Bayesian Data Analysis*, Section 5.5): fit, print, and draw the posterior.

python examples/eight_schools.py [FIGURE.png]
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import flowvi
from flowvi import supports as s
from flowvi.reports.fit_pictures import draw_pairs

effect = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def log_density(p: dict[str, Tensor]) -> Tensor:
    """ln of likelihood times prior, up to a constant: parameters by name, (n, …), to (n,)."""
    theta = p["mu"][:, None] + p["tau"][:, None] * p["eta"]
    prior = -(p["mu"] ** 2) / 50 - torch.log1p(p["tau"] ** 2 / 25) - (p["eta"] ** 2).sum(-1) / 2
    return prior - ((effect - theta) ** 2 / error**2).sum(-1) / 2


fit = flowvi.fit(log_density, {"mu": s.real(), "tau": s.positive(), "eta": s.real(8)}, seed=0, effort="fast")
print(fit)

if len(sys.argv) > 1:
    torch.manual_seed(0)
    draws = fit.resample(20_000)
    theta = draws["mu"][:, None] + draws["tau"][:, None] * draws["eta"]
    columns = {"mu": draws["mu"], "ln tau": draws["tau"].log(), "theta, school A": theta[:, 0]}
    draw_pairs({name: column.double().numpy() for name, column in columns.items()}).savefig(sys.argv[1], dpi=200)
