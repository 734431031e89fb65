"""The evidence ln Z = ln ∫ f(z) dz of a log density, such as ln p(x) of ln p(x, z).

Importance sampling from a posterior, with k̂ and importance-weighted bounds.
"""

from __future__ import annotations

from flowvi.inference.evidence.bounds import Bound
from flowvi.inference.evidence.importance import Evidence, importance_sampling, of_log_weights
from flowvi.inference.evidence.pareto import k_hat_limit, pareto_k_hat

__all__ = [
    "Bound",
    "Evidence",
    "importance_sampling",
    "k_hat_limit",
    "of_log_weights",
    "pareto_k_hat",
]
