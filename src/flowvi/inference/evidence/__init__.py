"""The evidence ln Z = ln ∫ f(z) dz of a log density, such as ln p(x) of ln p(x, z).

Importance sampling from a posterior, with k̂ and importance-weighted bounds; annealed importance sampling; and, on data
that a model made itself, bidirectional Monte Carlo.
"""

from __future__ import annotations

from flowvi.inference.evidence.ais import Annealed, Settings, annealed_importance_sampling, sigmoid_schedule
from flowvi.inference.evidence.bdmc import Bidirectional, bidirectional_monte_carlo
from flowvi.inference.evidence.bounds import Bound
from flowvi.inference.evidence.importance import Evidence, importance_sampling, of_log_weights
from flowvi.inference.evidence.pareto import k_hat_limit, pareto_k_hat

__all__ = [
    "Annealed",
    "Bidirectional",
    "Bound",
    "Evidence",
    "Settings",
    "annealed_importance_sampling",
    "bidirectional_monte_carlo",
    "importance_sampling",
    "k_hat_limit",
    "of_log_weights",
    "pareto_k_hat",
    "sigmoid_schedule",
]
