"""What is measured about a fitted posterior beside its own weights: whether there is mass that it has missed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowvi.errors import NonFiniteError
from flowvi.inference.evidence import annealed_importance_sampling
from flowvi.inference.evidence.hmc import Path, transition
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.mixture import Mixture
from flowvi.inference.fitting.modes import Mode
from flowvi.inference.fitting.weights import Weighed, weigh

if TYPE_CHECKING:
    from flowvi.inference.fitting.result import Stage
    from flowvi.inference.fitting.search import Search

__all__ = ["CHECKS", "Chains", "Measured", "Missed", "measure"]

_MISSED = 10.0  # q is less than the density over this: mass that q does not have
_BRIEF = 10_000  # draws after an interrupted search, for which nobody waits long
_TRANSITIONS = 20
_WARM = 10  # more, before them, for the step size
_LEAPFROG = 10
_ACCEPTANCE = 0.75
_NEAR, _FARTHEST = 30.0, 3e4  # standard deviations: where mass far out is looked for
_DIRECTIONS = 64
_CLOSE = 0.1  # nats of ELBO: fits of as high a one should agree


@dataclass(frozen=True)
class Missed:
    """Mass around a mode where the posterior has less than a tenth of the density."""

    mode: Mode
    share: float
    """Of the posterior's ln Z, by importance sampling around the mode."""


@dataclass(frozen=True)
class Chains:
    """Where short Hamiltonian chains from the posterior's draws went."""

    distance: float
    """The largest Kolmogorov–Smirnov distance between ends and draws, over coordinates and the log density."""
    chance: float
    """The probability of so large a one if the posterior were right, over all of them (Bonferroni)."""
    gained: float
    """The share of ends where the posterior has less than a tenth of the density."""
    acceptance: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that a verdict is judged by."""

    draws: int
    weighed: Weighed
    missed: tuple[Missed, ...]
    """For each mode that was found, the mass there that the posterior lacks."""
    chains: Chains
    annealed: float
    """ln Z by annealed importance sampling from the posterior, in nats; NaN where no chain could start."""
    annealed_se: float
    far: float
    """ln of mass far out beside mass near, along rays."""
    starts: int
    """Optimisations in search of modes."""
    region: tuple[float, float]
    """The least and the greatest coordinate that they began at, in unconstrained space."""
    apart: float
    """The largest distance of means, in standard deviations, from another fit of as high an ELBO; or 0."""
    interrupted: bool
    """Whether the search was; `skipped` says whether it was the checks."""
    skipped: tuple[str, ...] = ()
    """The checks of `CHECKS` that did not run, whose numbers here are NaN or empty."""


CHECKS = "weights", "modes", "rays", "chains", "annealing"
"""What a posterior is checked by, in this order: what is quick comes first."""


def measure(search: Search, best: Stage) -> Measured:
    """Measure a posterior: by its weights alone, and by few of them, where the search was interrupted.

    Upon Ctrl-C what was measured stays, and `skipped` names the rest.
    """
    brief = search.interrupted
    draws = min(search.effort.evidence, _BRIEF) if brief else search.effort.evidence
    checks = _checks(search, best, draws)
    found: dict[str, Any] = {}
    try:
        for name in CHECKS[:1] if brief else CHECKS:
            found[name] = checks[name](found)
    except KeyboardInterrupt:
        pass
    starts = torch.zeros(0) if search.starts is None else search.starts
    annealed, error = found.get("annealing", (math.nan, math.nan))
    return Measured(
        draws=draws,
        weighed=found.get("weights", Weighed.unknown()),
        missed=found.get("modes", ()),
        chains=found.get("chains", Chains(math.nan, math.nan, math.nan, math.nan)),
        annealed=annealed,
        annealed_se=error,
        far=found.get("rays", math.nan),
        starts=len(starts),
        region=(starts.min().item(), starts.max().item()) if len(starts) else (0.0, 0.0),
        apart=_apart(search, best),
        interrupted=search.interrupted,
        skipped=tuple(name for name in CHECKS if name not in found),
    )


def _checks(search: Search, best: Stage, draws: int) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    """Each check, called with what those before it found."""
    density, effort, module = search.density.apart(), search.effort, best.module

    def log_z(found: Mapping[str, Any]) -> float:
        value: float = found["weights"].log_evidence
        return value if math.isfinite(value) else best.found.inside

    return {
        "weights": lambda _: weigh(module, density, draws),
        "modes": lambda found: tuple(missed_modes(density, module(), log_z(found), search.modes)),
        "rays": lambda _: far_mass(density, module()),
        "chains": lambda found: run_chains(density, module(), log_z(found), 4 * effort.chains),
        "annealing": lambda _: anneal(density, module(), effort.chains, effort.distributions),
    }


def _apart(search: Search, best: Stage) -> float:
    """Means of flows that reached about the same ELBO, against the best one's."""
    flows = [restart for restart in search.restarts if restart.kind == "flow"]
    if best.name != "flow" or len(flows) < 2:
        return 0.0
    flows.sort(key=lambda restart: -restart.found.inside)
    first, *others = flows
    close = [other for other in others if other.found.inside > first.found.inside - _CLOSE]
    gaps = [((other.mean - first.mean).abs() / first.sd).max().item() for other in close]
    return max(gaps, default=0.0)


@torch.no_grad()
def missed_modes(density: Density, q: Any, log_z: float, modes: Sequence[Mode], draws: int = 2000) -> list[Missed]:
    """For each mode, the mass near it that q lacks: E_ℓ[f/(Z ℓ)·1{f/Z > 10 q}] under its Laplace approximation ℓ.

    ℓ is a multivariate t of five degrees, somewhat wider than the curvature says.

    Args:
        density: over unconstrained points.
        q: the posterior over them.
        log_z: its ln Z, in nats.
        modes: see `find_modes`.
        draws: around each.
    """
    found = []
    for mode in modes:
        around = Mixture(torch.ones_like(mode.mean[:1]), mode.mean[None], 1.2 * mode.scale[None], degrees=5.0)()
        z, log_around = around.rsample_and_log_prob((draws,))
        value = density(z)
        lacking = value - log_z > q.log_prob(z) + math.log(_MISSED)
        weights = torch.where(lacking & value.isfinite(), (value - log_z - log_around).double().exp(), 0.0)
        found.append(Missed(mode, weights.mean().item()))
    return found


def run_chains(density: Density, q: Any, log_z: float, chains: int) -> Chains:
    """Short HMC chains that leave f as it is, from draws of q: if q is right their ends are draws of q too.

    Steps are scaled by q's standard deviations; a first part of the chains finds their size.
    """
    with torch.no_grad():
        z, _ = q.rsample_and_log_prob((chains,))
        more, _ = q.rsample_and_log_prob((4000,))
    path = Path(lambda at: 0 * at.sum(-1), density)
    sd = more.std(0)
    log_step = torch.tensor(-0.25 * math.log(z.shape[1]) - 1.0)
    point, rates = path.at(z), []
    for i in range(_WARM + _TRANSITIONS):
        point, probability = transition(path, point, 1.0, (log_step.exp() * sd).to(z.dtype), _LEAPFROG)
        if i < _WARM:
            log_step = log_step + 0.8 * (probability.mean().item() - _ACCEPTANCE)
        else:
            rates.append(probability.mean().item())
    with torch.no_grad():
        height = density(more)
        lacking = point.log_target - log_z > q.log_prob(point.z) + math.log(_MISSED)
    ends = torch.cat([point.z.double(), point.log_target[:, None]], -1)
    draws = torch.cat([more.double(), height.double()[:, None]], -1)
    distance = _distances(ends, draws[draws.isfinite().all(-1)]).max().item()
    return Chains(
        distance,
        _chance(distance, chains, len(more), ends.shape[1]),
        lacking.double().mean().item(),
        sum(rates) / len(rates),
    )


def _distances(ends: Tensor, draws: Tensor) -> Tensor:
    """The two-sample Kolmogorov–Smirnov distance of each column, (n, k) and (m, k) -> (k,)."""
    both = torch.cat([ends, draws])
    order = both.argsort(0)
    steps = torch.cat([torch.full_like(ends, 1 / len(ends)), torch.full_like(draws, -1 / len(draws))])
    return steps.gather(0, order).cumsum(0).abs().amax(0)


def _chance(distance: float, n: int, m: int, tests: int) -> float:
    """Kolmogorov's asymptotic tail, 2 e^(−2 λ²) with λ = d √(nm/(n + m)), times the number of tests."""
    return min(1.0, tests * 2 * math.exp(-2 * distance**2 * n * m / (n + m)))


def anneal(density: Density, q: Any, chains: int, distributions: int) -> tuple[float, float]:
    """ln Z by annealing from q and its standard error; NaN where no chain can start."""
    try:
        found = annealed_importance_sampling(density, q, chains=chains, distributions=distributions, leapfrog=5)
    except NonFiniteError:
        return math.nan, math.nan
    return found.log_evidence.item(), found.log_evidence_se.item()


@torch.no_grad()
def far_mass(density: Density, q: Any) -> float:
    """How much of the mass may lie far out along rays, in nats beside what is near: above 0 the integral may diverge.

    Along a ray from q's mean, at r standard deviations, f·r^D is the mass of a shell as thick as it is far. What is
    given is the largest at r = 30 … 30,000 less the largest within 30, over random rays, q's axes and each coordinate;
    where a parameter's numbers end before, the last shell before that counts as far.
    """
    z, _ = q.rsample_and_log_prob((4000,))
    mean, dim = z.mean(0), z.shape[1]
    values, vectors = torch.linalg.eigh(z.T.cov().reshape(dim, dim).double())
    root = (vectors * values.clamp(min=1e-30).sqrt()).to(z.dtype)
    random = torch.randn(_DIRECTIONS, dim, dtype=z.dtype, device=z.device)
    random = random / random.norm(dim=-1, keepdim=True) @ root.mT
    # the longest axes of q, and coordinates alone: a ridge goes along one of these if along anything
    axes = torch.cat([root.mT.flip(0)[:_DIRECTIONS], torch.diag(z.std(0))[:_DIRECTIONS]])
    rays = torch.cat([random, axes, -axes])
    r = torch.logspace(-1, math.log10(_FARTHEST), 60, dtype=z.dtype, device=z.device)
    points = (mean + r[:, None, None] * rays).reshape(-1, dim)
    shells = density(points).reshape(len(r), -1) + dim * r.log()[:, None]
    shells = torch.where(shells.isfinite(), shells, -math.inf)
    told = _told_apart(density, points).reshape(shells.shape).cumprod(0).bool()
    last = (told.sum(0) - 1).clamp(min=0)  # of a ray, before its numbers end
    ends = shells.gather(0, last[None])[0].masked_fill(told.all(0), -math.inf)
    near, far = shells[r < _NEAR].amax(0), torch.maximum(shells[r >= _NEAR].amax(0), ends)
    gain = (far - near.max()).max().item()
    return gain if math.isfinite(gain) else -math.inf


def _told_apart(density: Density, z: Tensor) -> Tensor:
    """Whether a point (n, D) is found again from its values, or these have come to the end of their numbers."""
    again, _ = density.joint.unconstrain(density.joint.constrain(z)[0])
    return ((again - z).abs() < 0.1 * (1 + z.abs())).all(-1)
