"""`fit`: a posterior for a log density."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError
from flowvi.inference.evidence.pareto import arviz
from flowvi.inference.fitting.checks import check_density
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.kinds import flow_makers
from flowvi.inference.fitting.probes import measure
from flowvi.inference.fitting.result import Fit
from flowvi.inference.fitting.search import Progress, Search, starting_points, winner
from flowvi.inference.fitting.threads import few_threads
from flowvi.inference.fitting.verdict import judge
from flowvi.inference.supports import Support

__all__ = ["fit"]


def fit(
    log_density: Callable[[Any], Tensor],
    parameters: int | Mapping[str, Support],
    *,
    seed: int = 0,
    effort: str = "default",
    flow: str | nn.Module | None = None,
    tails: float | None = None,
    vectorised: bool = True,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], object] | None = None,
) -> Fit:
    """Fit a posterior to an unnormalised log density: mean-field, full-rank and a flow, the best of them.

    Args:
        log_density: values of the parameters -> ln f (n,), in nats, differentiable by torch: values are a tensor
            (n, D), or by name (n, *shape).
        parameters: D, or a support for each parameter's name.
        seed: of all chance. The caller's own random state is left as it is.
        effort: `fast`, `default` or `thorough`: see `EFFORTS`.
        flow: a kind of `flowvi.flows.build`, or a module (zuko's too) that, called, gives a distribution; it is
            copied, not trained in place. By default the kinds of the effort.
        tails: degrees of freedom of a multivariate t distribution at the flow's base: 3 for tails that fall off as a
            power, `math.inf` for a Gaussian. By default whichever has the higher ELBO.
        vectorised: whether log_density takes many points; else one, (D,) or by name (*shape), and gives ().
        dtype: of the parameters, torch.float32 or float64; by default torch's.
        device: where the parameters are.
        progress: called with a `Progress` after each block of steps.

    Raises:
        ConfigError: parameters, effort, flow or dtype that are not allowed.
        DensityError: a log density that cannot be fitted; says why.
        Exception: whatever log_density raises, unchanged.

    Example:
        >>> from flowvi.inference.supports import positive, real
        >>> def log_density(p):
        ...     return -p["mu"].square() / 2 + 2 * p["tau"].log() - p["tau"]
        >>> found = fit(log_density, {"mu": real(), "tau": positive()}, seed=0, effort="fast")
        >>> found.sample(100)["tau"].shape
        torch.Size([100])
    """
    arviz()  # its absence is said before the work, not after
    joint = Joint.of(parameters)
    if effort not in EFFORTS:
        raise ConfigError(f"effort = {effort!r}: expected {', '.join(EFFORTS)}")
    dtype = dtype or torch.get_default_dtype()
    if dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"dtype = {dtype}: expected torch.float32 or torch.float64")
    if tails is not None and not tails > 0:
        raise ConfigError(f"tails = {tails!r}: expected degrees of freedom above 0, such as 3, or None")
    like = torch.zeros((), dtype=dtype, device=device)
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.manual_seed(seed)
        density = Density(log_density, joint, vectorised)
        makers = flow_makers(flow, joint.size, EFFORTS[effort].flows)
        check_density(density, torch.randn(8, joint.size).to(like))
        points = starting_points(density, EFFORTS[effort].restarts, like)
        search = Search(density, EFFORTS[effort], makers, tails, progress)
        with few_threads(density, like.new_zeros(EFFORTS[effort].samples, joint.size)):
            search.run(points)
            return _result(search, joint)


def _result(search: Search, joint: Joint) -> Fit:
    best = winner(search.stages)
    measured = measure(search, best)
    return Fit(
        stages=tuple(search.stages),
        winner=best.name,
        restarts=tuple(search.restarts),
        measured=measured,
        verdict=judge(measured),
        joint=joint,
        effort=search.effort,
        counts=search.density.counts,
        density=search.density,
    )
