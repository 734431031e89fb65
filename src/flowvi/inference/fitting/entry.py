"""`fit`: a posterior for a log density."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError
from flowvi.inference.fitting.amortised.entry import fit_rows
from flowvi.inference.fitting.batched import BatchedDensity, check_batched
from flowvi.inference.fitting.batches import Batches, affordable
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

if TYPE_CHECKING:
    from flowvi.inference.fitting.amortised.result import AmortisedFit

__all__ = ["fit"]


@overload
def fit(
    log_density: Callable[[Any], Tensor],
    parameters: int | Mapping[str, Support],
    *,
    context: None = None,
    batches: Batches | None = None,
    seed: int = 0,
    effort: str = "default",
    flow: str | nn.Module | None = None,
    tails: float | None = None,
    vectorised: bool = True,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], object] | None = None,
) -> Fit: ...
@overload
def fit(
    log_density: Callable[[Any, Tensor], Tensor],
    parameters: int | Mapping[str, Support],
    *,
    context: Tensor,
    seed: int = 0,
    effort: str = "default",
    flow: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], object] | None = None,
) -> AmortisedFit: ...
def fit(
    log_density: Callable[..., Tensor],
    parameters: int | Mapping[str, Support],
    *,
    context: Tensor | None = None,
    batches: Batches | None = None,
    seed: int = 0,
    effort: str = "default",
    flow: str | nn.Module | None = None,
    tails: float | None = None,
    vectorised: bool = True,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], object] | None = None,
) -> Fit | AmortisedFit:
    """Fit a posterior to an unnormalised log density: mean-field, full-rank and a flow, the best of them.

    With a context, a posterior for every data set at once, whose parameters a network makes of the data set's context
    (amortised inference: Kingma & Welling 2014, arXiv:1312.6114, Section 2).

    Args:
        log_density: values of the parameters -> ln f (n,), in nats, differentiable by torch: values are a tensor
            (n, D), or by name (n, *shape). With a context it takes n rows of it, (n, C), as a second argument.
        parameters: D, or a support for each parameter's name.
        context: (N, C), one row for each data set: its features or sufficient statistics. A tenth of the rows, by
            chance, is held out, for the verdict.
        batches: a log likelihood that is a sum over rows of data, for gradient steps by minibatches; log_density is
            then the log prior alone. Everything that is printed rests on all the rows.
        seed: of all chance. The caller's own random state is left as it is.
        effort: `fast`, `default` or `thorough`: see `EFFORTS`.
        flow: a kind of `flowvi.flows.build`, or a module (zuko's too) that, called, gives a distribution; it is
            copied, not trained in place. By default the kinds of the effort. With a context, a kind alone.
        tails: degrees of freedom of a multivariate t distribution at the flow's base: 3 for tails that fall off as a
            power, `math.inf` for a Gaussian. By default whichever has the higher ELBO.
        vectorised: whether log_density takes many points; else one, (D,) or by name (*shape), and gives ().
        dtype: of the parameters, torch.float32 or float64; by default torch's.
        device: where the parameters are.
        progress: called with a `Progress` after each block of steps.

    Raises:
        ConfigError: parameters, effort, flow or dtype that are not allowed; with a context, also tails,
            batches or vectorised=False; with batches, vectorised=False.
        DataError: a context that is no tensor, not finite, of fewer than 20 rows, or of rows that are all the same.
        ShapeError: a context that is not (N, C).
        DensityError: a log density that cannot be fitted, or a log likelihood that is no sum; says why.
        Exception: whatever log_density raises, unchanged.

    Example:
        >>> from flowvi.inference.supports import positive, real
        >>> def log_density(p):
        ...     return -p["mu"].square() / 2 + 2 * p["tau"].log() - p["tau"]
        >>> found = fit(log_density, {"mu": real(), "tau": positive()}, seed=0, effort="fast")
        >>> found.sample(100)["tau"].shape
        torch.Size([100])
    """
    if not callable(log_density):
        raise ConfigError(f"log_density is a {type(log_density).__name__}: expected a function, (n, D) to (n,)")
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
        if context is not None:
            _check_amortised(tails, vectorised, batches)
            return fit_rows(log_density, joint, context, EFFORTS[effort], flow, progress, like)
        amount, notes = (
            (EFFORTS[effort], ()) if not isinstance(batches, Batches) else affordable(EFFORTS[effort], batches.rows)
        )
        makers = flow_makers(flow, joint.size, amount.flows)
        density = _density(log_density, batches, joint, vectorised, torch.randn(8, joint.size).to(like))
        points = starting_points(density, amount.restarts, like)
        search = Search(density, amount, makers, tails, progress)
        with few_threads(density, like.new_zeros(amount.samples, joint.size)):
            search.run(points)
            return replace(_result(search, joint), notes=notes)


def _density(function: Callable[..., Tensor], batches: Any, joint: Joint, vectorised: bool, z: Tensor) -> Density:
    """The density, called on points z (n, D) to see what is wrong with it."""
    if batches is None:
        density = Density(function, joint, vectorised)
        check_density(density, z)
        return density
    if not isinstance(batches, Batches):
        raise ConfigError(f"batches is a {type(batches).__name__}: expected flowvi.Batches(log_likelihood, data, size)")
    if not vectorised:
        raise ConfigError("vectorised=False: with batches, log prior and log likelihood take n points")
    batched = BatchedDensity(function, batches, joint)
    check_batched(batched, z)
    return batched


def _check_amortised(tails: float | None, vectorised: bool, batches: Any) -> None:
    if batches is not None:
        raise ConfigError("batches with a context: give one of them; with a context, steps take random rows of it")
    if tails is not None:
        raise ConfigError(f"tails = {tails!r}: with a context the base is Gaussian; leave tails out")
    if not vectorised:
        raise ConfigError("vectorised=False: with a context, the log density takes n points and n rows of context")


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
