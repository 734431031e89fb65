"""A density of four modes far apart: what a single Gaussian loses, and what `fit` says of it.

python examples/several_modes.py
"""

from __future__ import annotations

import torch
from torch import Tensor

import flowvi

centres = torch.tensor([[-5.0, -5.0], [5.0, -5.0], [-5.0, 5.0], [5.0, 5.0]])
weights = torch.tensor([0.4, 0.3, 0.2, 0.1])


def log_density(z: Tensor) -> Tensor:
    """ln Σ w exp(−|z − c|²/2), (n, 2) to (n,)."""
    squares = (z[:, None] - centres).square().sum(-1)
    return (weights.log() - squares / 2).logsumexp(-1)


fit = flowvi.fit(log_density, 2, seed=0, effort="fast")
print(fit)

torch.manual_seed(0)
nearest = (fit.sample(10_000)[:, None] - centres).square().sum(-1).argmin(-1)
shares = nearest.bincount(minlength=4) / 10_000
print("\nshare of draws in each mode:", *(f"{share:.2f}" for share in shares.tolist()))
print("its exact mass:             ", *(f"{weight:.2f}" for weight in weights.tolist()))
print(f"exact ln Z: {torch.log(torch.tensor(2 * torch.pi)):.4f}")
