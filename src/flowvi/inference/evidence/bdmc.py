"""Bidirectional Monte Carlo: ln p(x) between two bounds, on data that the model itself made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.evidence.ais import Annealed, Settings, anneal, find_steps, given, start
from flowvi.inference.evidence.hmc import Path
from flowvi.inference.evidence.importance import Evidence, of_log_weights

__all__ = ["Bidirectional", "bidirectional_monte_carlo"]


@dataclass(frozen=True)
class Bidirectional:
    """Stochastic lower and upper bounds of ln p(x) for each simulated datum, (n,), float64, in nats.

    Example:
        >>> nought = torch.zeros(16, 3).double()
        >>> chains = Annealed(log_weights=nought, states=torch.zeros(16, 3, 2), acceptance=nought[0])
        >>> Bidirectional(x=torch.zeros(3, 5), forward=chains, reverse=chains).gap.shape
        torch.Size([3])
    """

    x: Tensor
    """(n, …): the simulated data."""
    forward: Annealed
    """Chains from the initial distribution."""
    reverse: Annealed
    """Chains from the latents that made x, back to the initial distribution."""

    @property
    def lower(self) -> Tensor:
        """ln mean w of the forward chains: E[lower] ≤ ln p(x)."""
        return self.forward.log_evidence

    @property
    def lower_se(self) -> Tensor:
        """Standard error of `lower` over the chains."""
        return self.forward.log_evidence_se

    @property
    def upper(self) -> Tensor:
        """−ln mean 1/w of the reverse chains: E[upper] ≥ ln p(x), the expectation taken over z given x as well."""
        return -self._inverse.log_evidence

    @property
    def upper_se(self) -> Tensor:
        """Standard error of `upper` over the chains, which all start at the one z that made x: for that z only."""
        return self._inverse.log_evidence_se

    @property
    def gap(self) -> Tensor:
        """`upper` − `lower`: above 0 on average, and above what the forward chains miss of ln p(x)."""
        return self.upper - self.lower

    @property
    def mean_gap(self) -> tuple[float, float]:
        """The mean gap over the data, and its standard error over them (NaN for one datum)."""
        error = self.gap.std() / len(self.gap) ** 0.5 if len(self.gap) > 1 else torch.nan
        return self.gap.mean().item(), float(error)

    @property
    def _inverse(self) -> Evidence:
        return of_log_weights([-self.reverse.log_weights], len(self.reverse.log_weights))


def bidirectional_monte_carlo(
    simulate: Callable[[int], tuple[Tensor, Tensor]],
    log_joint: Callable[[Tensor, Tensor], Tensor],
    initial: Callable[[Tensor], Any],
    data: int,
    settings: Settings | None = None,
    **options: Any,
) -> Bidirectional:
    """Bound ln p(x) from both sides by annealing (Grosse, Ghahramani & Adams 2015, arXiv:1511.02543, Section 4).

    Forward chains go from the initial distribution to p(x, z) and give a lower bound in expectation. The z that made x
    is an exact draw of p(z | x): chains from it back to the initial distribution have E[1/w] = 1/p(x), and give an
    upper bound. That holds for simulated data alone. Both directions share the steps of one pilot run, which has seen
    x but not z.

    Args:
        simulate: n -> z ~ p(z), (n, D), and x ~ p(x | z), (n, …).
        log_joint: x, z (chains, n, D) -> ln p(x, z), (chains, n), with a gradient in z.
        initial: x -> q, of batch_shape (n,) and event_shape (D,), with `sample` and `log_prob`.
        data: n, how many data to simulate.
        settings: how to anneal; or say it by the names of `Settings`, such as `distributions=500`.

    Raises:
        ConfigError: settings that are not allowed, or a log density without a gradient in z.
        ShapeError: a log density of another shape than (chains, n).
        NonFiniteError: no start has a finite log density.

    Example:
        >>> from flowvi.flows import Gaussian
        >>> from flowvi.models import DLGM
        >>> model = DLGM(features=6, latents=[2], flow=Gaussian, maxout=(8, 4))
        >>> found = bidirectional_monte_carlo(
        ...     model.simulate, model.log_joint, model.posterior, data=3, distributions=20, chains=4
        ... )
        >>> found.lower.shape, found.mean_gap[0] < 1
        (torch.Size([3]), True)
    """
    settings = given(settings, options)
    with torch.no_grad():
        z, x = simulate(data)
        q = initial(x)
    path = Path(q.log_prob, lambda z: log_joint(x, z))

    def draw(n: int) -> Tensor:
        with torch.no_grad():
            drawn: Tensor = q.sample((n,))
        return drawn

    steps = find_steps(path, draw, settings)
    forward = anneal(path, start(path, draw(settings.chains)), steps, settings)
    exact = z.detach().expand(settings.chains, *z.shape)
    return Bidirectional(x, forward, anneal(path, start(path, exact), steps, settings, reverse=True))
