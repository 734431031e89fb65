"""What `fit` gives: the posterior, its ELBO and evidence, and how it was found."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Counts, Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import ELBO
from flowvi.inference.fitting.joint import Joint, JointDistribution
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.optimise import Trace
from flowvi.inference.fitting.probes import Measured
from flowvi.inference.fitting.verdict import Verdict

if TYPE_CHECKING:
    import xarray

__all__ = ["QUANTILES", "Fit", "Restart", "Stage"]

QUANTILES = 0.05, 0.5, 0.95
"""Of the marginals that are kept and printed."""


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A posterior by its ELBO."""

    found: ELBO

    @property
    def elbo(self) -> float:
        """Nats; −inf or NaN where a draw's log density is."""
        return self.found.mean

    @property
    def elbo_se(self) -> float:
        """Its standard error, over the draws of finite log density."""
        return self.found.se


@dataclass(frozen=True, kw_only=True)
class Stage(_Judged):
    """One family of posteriors, fitted."""

    name: str
    module: Located
    trace: Trace
    seconds: float
    """Of CPU."""

    @property
    def converged(self) -> bool:
        """Whether the last quarter gained nothing beyond its error."""
        return self.trace.converged


@dataclass(frozen=True, kw_only=True)
class Restart(_Judged):
    """A posterior from a start of its own, by its ELBO and its marginals: for how well restarts agree."""

    start: str
    """`origin`, `over-dispersed` or `tempered`."""
    kind: str
    """`full_rank` or `flow`."""
    mean: Tensor
    """Of the unconstrained parameters, (D,)."""
    sd: Tensor
    """Of the unconstrained parameters, (D,)."""
    quantiles: Mapping[str, Tensor]
    """Of each parameter, (len(QUANTILES), *shape)."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted posterior. `print` shows a table.

    Example:
        >>> from flowvi.inference import fit
        >>> found = fit(lambda z: -z.square().sum(-1) / 2, 2, seed=0, effort="fast")
        >>> found.winner, found.sample(5).shape, abs(found.log_evidence - 1.8379) < 1e-3
        ('mean-field', torch.Size([5, 2]), True)
    """

    stages: tuple[Stage, ...]
    """Mean-field, full-rank and flow, as far as they were fitted."""
    winner: str
    """The name of the stage whose posterior this is."""
    restarts: tuple[Restart, ...]
    measured: Measured
    """What the verdict is judged by."""
    verdict: Verdict
    joint: Joint
    effort: Effort
    counts: Counts
    """Points of the log density, and how many of them were NaN or infinite."""
    density: Density | None = None
    """The log density; None after `flowvi.load`."""
    notes: tuple[str, ...] = ()
    """Sentences on how it was fitted, which the table shows."""

    @property
    def stage(self) -> Stage:
        """The one that won."""
        return next(stage for stage in self.stages if stage.name == self.winner)

    @property
    def elbo(self) -> float:
        """E_q[ln f − ln q], in nats, by fresh draws; −inf or NaN where a draw's log density is."""
        return self.stage.elbo

    @property
    def elbo_se(self) -> float:
        """Its standard error, over the draws of finite log density."""
        return self.stage.elbo_se

    @property
    def log_evidence(self) -> float:
        """ln Z, in nats, by importance sampling from the posterior with heavier tails; NaN where a draw's f is."""
        weighed = self.measured.weighed
        return math.nan if weighed.undefined else weighed.log_evidence

    @property
    def log_evidence_se(self) -> float:
        """Its standard error, which means nothing where the verdict finds the weights' tail too heavy."""
        weighed = self.measured.weighed
        return math.nan if weighed.undefined else weighed.log_evidence_se

    @property
    def k_hat(self) -> float:
        """The Pareto shape of the tail of the weights that ln Z is from (Vehtari et al. 2024, arXiv:1507.02646)."""
        return self.measured.weighed.k_hat

    @property
    def effective_share(self) -> float:
        """Of the weighted draws that ln Z is from, how many are effective (Kong 1992), from 0 to 1."""
        return self.measured.weighed.effective

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search, or the checks after it."""
        return self.measured.interrupted or bool(self.measured.skipped)

    @property
    def converged(self) -> bool:
        """Whether the winner's optimisation came to its end."""
        return self.stage.converged

    @property
    def posterior(self) -> JointDistribution:
        """The distribution over the parameters as the user has them."""
        return JointDistribution(self.stage.module(), self.joint)

    def sample(self, n: int) -> Any:
        """n draws, (n, D) or by name (n, *shape), from torch's global generator."""
        return self.posterior.sample((n,))

    def resample(self, n: int) -> Any:
        """n draws nearer to the target, (n, D) or by name (n, *shape), from torch's global generator.

        10 n draws (10,000 at least) of the posterior with heavier tails are weighted, and n of them drawn with
        replacement (Rubin 1988). It means nothing where k̂ is above its limit (`flowvi.evidence.k_hat_limit`): a few
        draws then carry the weight and come again and again. And it finds no mass where no draw reaches.

        Raises:
            DensityError: the fit was loaded and has no log density, or that is not finite where it must be.
            ConfigError: n is no whole number of at least 1.
        """
        from flowvi.inference.fitting.draws import resample

        return resample(self, n)

    def to_arviz(self, draws: int = 4000) -> xarray.DataTree:
        """Fresh draws as an `xarray.DataTree`, as ArviZ takes it (extra `fit`): see `flowvi.inference.fitting.tree`.

        Raises:
            ConfigError: xarray is missing, or draws is no whole number of at least 1.
        """
        from flowvi.inference.fitting.tree import data_tree

        return data_tree(self, draws)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to a folder, from where `flowvi.load` gives it back, without its log density.

        Raises:
            ConfigError: the flow is a module of your own, which no file can make again.
            RunError: the folder holds something else, or cannot be written.
        """
        from flowvi.inference.fitting.saved import save

        save(self, path)

    def __str__(self) -> str:
        from flowvi.inference.fitting.table import table

        return table(self)

    def __repr__(self) -> str:
        return f"Fit({self.winner}, ELBO {self.elbo:.3f} ± {self.elbo_se:.3f}, ln Z {self.log_evidence:.3f})"


def marginals(posterior: JointDistribution, draws: int = 2000) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean and standard deviation of the unconstrained parameters, (D,), and each parameter's `QUANTILES`."""
    with torch.no_grad():
        z, _ = posterior.base.rsample_and_log_prob((draws,))
        values = posterior.joint._listed(posterior.joint.constrain(z)[0])
        levels = torch.tensor(QUANTILES, dtype=z.dtype, device=z.device)
        return z.mean(0), z.std(0), {name: value.quantile(levels, dim=0) for name, value in values.items()}
