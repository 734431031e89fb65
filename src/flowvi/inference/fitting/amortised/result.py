"""What `fit` gives for a log density with a context: a posterior for every data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flowvi.errors import ConfigError, DensityError
from flowvi.inference.fitting.amortised.contexts import Contexts
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.amortised.rows import AverageELBO, RowEvidence, weigh_rows
from flowvi.inference.fitting.amortised.verdict import RowsMeasured
from flowvi.inference.fitting.density import Counts
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.joint import Joint, JointDistribution
from flowvi.inference.fitting.optimise import Trace
from flowvi.inference.fitting.verdict import Verdict

__all__ = ["AmortisedFit", "AmortisedStage"]


@dataclass(frozen=True, kw_only=True)
class AmortisedStage:
    """One family of amortised posteriors, fitted."""

    name: str
    """`mean-field`, `full-rank`, or the kind of a flow."""
    module: Amortised
    trace: Trace
    training: AverageELBO
    """On rows that it was trained on (256 of them, where there are more)."""
    held_out: AverageELBO
    """On rows that it was not: what stages are compared by."""
    seconds: float
    """Of CPU."""


@dataclass(frozen=True, kw_only=True)
class AmortisedFit:
    """Posteriors of many data sets by one network, with their evidence and a verdict; `print` shows a table.

    Example:
        >>> import torch, flowvi
        >>> y = torch.randn(200, 1)  # the mean of ten observations in each of 200 data sets
        >>> def log_density(mu, y):
        ...     return (-mu.square() / 2 - 10 * (y - mu).square() / 2).sum(-1)
        >>> found = flowvi.fit(log_density, 1, context=y, effort="fast")  # doctest: +SKIP
        >>> found.sample(100, y[:3]).shape  # doctest: +SKIP
        torch.Size([100, 3, 1])
    """

    stages: tuple[AmortisedStage, ...]
    """Mean-field, full-rank and flows, as far as they were fitted."""
    winner: str
    """The name of the stage whose posterior this is."""
    contexts: Contexts
    """The rows that it was trained on, and those that it was judged by."""
    measured: RowsMeasured
    """What the verdict is judged by."""
    verdict: Verdict
    joint: Joint
    effort: Effort
    counts: Counts
    """Points of the log density, and how many of them were NaN or infinite."""
    density: RowDensity | None = None
    """The log density; None after `flowvi.load`."""

    @property
    def stage(self) -> AmortisedStage:
        """The one that won."""
        return next(stage for stage in self.stages if stage.name == self.winner)

    @property
    def elbo(self) -> float:
        """E_q[ln f − ln q], in nats, averaged over the held-out data sets."""
        return self.stage.held_out.mean

    @property
    def elbo_se(self) -> float:
        """Its standard error for these data sets: that of the draws."""
        return self.stage.held_out.se

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search."""
        return self.measured.interrupted

    def posterior(self, context: Tensor) -> JointDistribution:
        """The distribution over the parameters as the user has them, of batch_shape (N,) for context (N, C), or ().

        Raises:
            DataError: context that is no tensor, or not finite.
            ContextError: context of another width.
        """
        return JointDistribution(self.stage.module(self.contexts.taken(context)), self.joint)

    def sample(self, n: int, context: Tensor) -> Any:
        """n draws for each row of context (N, C), (n, N, D) or by name (n, N, *shape), from the global generator.

        Raises what `posterior` raises.
        """
        return self.posterior(context).sample((n,))

    def evidence(self, context: Tensor, draws: int = 4000) -> RowEvidence:
        """ln Z of each row of context (N, C), by importance sampling from its posterior (Owen 2013, Section 9.1).

        A row outside the range of the training rows is marked: nothing is known of the posterior there but its weights.

        Args:
            context: (N, C), or (C,) for one row.
            draws: for each row; from the global generator.

        Raises:
            DensityError: the fit was loaded, and has no log density.
            DataError: context that is no tensor, not finite, or without rows.
            ContextError: context of another width.
            ConfigError: draws is no whole number of at least 25.
        """
        if self.density is None:
            raise DensityError("this fit was loaded from a file, which holds no log density: call flowvi.fit again")
        _check_draws(draws)
        rows = self.contexts.taken(context).reshape(-1, self.contexts.training.shape[1])
        return weigh_rows(self.stage.module, self.density, rows, draws, self.contexts.outside(rows))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to a folder, from where `flowvi.load` gives it back, without its log density.

        The rows of context are written with it.

        Raises:
            RunError: the folder holds something else, or cannot be written.
        """
        from flowvi.inference.fitting.saved import save

        save(self, path)

    def __str__(self) -> str:
        from flowvi.inference.fitting.amortised.table import table

        return table(self)

    def __repr__(self) -> str:
        return f"AmortisedFit({self.winner}, ELBO {self.elbo:.3f} ± {self.elbo_se:.3f}, {self.verdict.label})"


def _check_draws(draws: Any) -> None:
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 25:
        raise ConfigError(f"draws = {draws!r}: expected a whole number of at least 25, which k̂ needs")
