"""Annealed importance sampling (Neal 2001, arXiv:physics/9803008)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError, NonFiniteError
from flowvi.inference.evidence.hmc import Path, Point, transition
from flowvi.inference.evidence.importance import of_log_weights
from flowvi.inference.evidence.pilot import Steps, tune

__all__ = ["Annealed", "Settings", "annealed_importance_sampling", "sigmoid_schedule"]

PILOT = 50, 250  # the fewest and the most distributions of the pilot


@dataclass(frozen=True)
class Annealed:
    """What the chains of annealed importance sampling found, for each datum; float64, in nats.

    Example:
        >>> nought = torch.zeros(16, 3).double()
        >>> Annealed(log_weights=nought, states=torch.zeros(16, 3, 2), acceptance=nought[0]).log_evidence
        tensor([0., 0., 0.], dtype=torch.float64)
    """

    log_weights: Tensor
    """(chains, batch…): ln w, with E[w] = Z; −inf for a chain that started where the target is nought or NaN."""
    states: Tensor
    """(chains, batch…, D): where the chains ended, to be weighted by w."""
    acceptance: Tensor
    """(batch…): mean probability of acceptance."""

    @property
    def log_evidence(self) -> Tensor:
        """ln Ẑ = ln mean w, (batch…); its expectation is a lower bound of ln Z."""
        return of_log_weights([self.log_weights], len(self.log_weights)).log_evidence

    @property
    def log_evidence_se(self) -> Tensor:
        """Standard error of ln Ẑ over the chains by the delta method, (batch…); NaN for one chain.

        Few chains of unequal weights say too little of the heaviest ones: see `effective_chains`.
        """
        return of_log_weights([self.log_weights], len(self.log_weights)).log_evidence_se

    @property
    def effective_chains(self) -> Tensor:
        """(Σw)²/Σw², (batch…): near the number of chains where the annealing was slow enough."""
        return of_log_weights([self.log_weights], len(self.log_weights)).effective_samples

    @property
    def lost(self) -> Tensor:
        """(batch…): how many chains have no weight, as they started where the target is nought or NaN."""
        return (self.log_weights == -torch.inf).sum(0)


@dataclass(frozen=True)
class Settings:
    """How to anneal.

    Args:
        distributions: T, of which T − 1 lie between the initial and the target.
        chains: for each datum.
        leapfrog: steps of a trajectory.
        acceptance: what the pilot run aims at, 0 to 1.
        step_size: ε, the same everywhere, in place of a pilot run.
        schedule: T -> β_0 = 0 < β_1 < … < β_T = 1.

    Raises:
        ConfigError: a number that is out of range.

    Example:
        >>> Settings(distributions=4).schedule(4)[2]
        0.5
    """

    distributions: int = 1000
    chains: int = 16
    leapfrog: int = 10
    acceptance: float = 0.65
    step_size: float | None = None
    schedule: Callable[[int], list[float]] = lambda distributions: sigmoid_schedule(distributions)

    def __post_init__(self) -> None:
        for name in ("distributions", "chains", "leapfrog"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not 0 < self.acceptance < 1:
            raise ConfigError(f"acceptance = {self.acceptance}: expected between 0 and 1")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise ConfigError(f"step_size = {self.step_size}: expected above 0")


def sigmoid_schedule(distributions: int, steepness: float = 4.0) -> list[float]:
    """β_0 = 0, …, β_T = 1, dense at both ends: σ(δ(2t/T − 1)), shifted and scaled to reach from 0 to 1, δ = 4.

    Grosse, Ghahramani & Adams 2015, arXiv:1511.02543, Section 6.2; Wu et al. 2017, arXiv:1611.04273.

    Example:
        >>> [round(beta, 3) for beta in sigmoid_schedule(4)]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    raw = [math.tanh(steepness * (t / distributions - 0.5)) for t in range(distributions + 1)]
    return [(value - raw[0]) / (raw[-1] - raw[0]) for value in raw]


def annealed_importance_sampling(
    log_target: Callable[[Tensor], Tensor], initial: Any, settings: Settings | None = None, **options: Any
) -> Annealed:
    """Estimate ln Z = ln ∫ f*(z) dz for each datum by annealing chains from `initial` to the density f*.

    z_0 ~ q; for t = 1, …, T:  ln w += (β_t − β_{t−1})·(ln f*(z_{t−1}) − ln q(z_{t−1})),  and z_t from z_{t−1} by one
    HMC transition that leaves q^(1−β_t)·f*^β_t as it is. E[w] = Z for any number of distributions (Neal 2001, Eq. 11).
    Step sizes come from a pilot run of other chains (see `flowvi.inference.evidence.pilot`), which costs 50 to 250
    transitions of 16 chains, or from `step_size`. Densities may be float32; sums are float64. Noise comes from the
    global generator.

    Args:
        log_target: ln f*, (chains, batch…, D) -> (chains, batch…), with a gradient. A proposal where it is −inf,
            infinite or NaN is rejected; a chain that starts there has the weight 0 and is counted as `lost`.
        initial: q, such as a posterior or the prior, of batch_shape (batch…,) and event_shape (D,), on all of R^D:
            a distribution with `sample` and `log_prob`.
        settings: how to anneal; or say it by the names of `Settings`, such as `distributions=500`.

    Raises:
        ConfigError: a setting out of range, or a density without gradient.
        ShapeError: a density does not give one number for each point.
        NonFiniteError: no chain at all started where the target has a density, or q gives its own draw none.

    Example:
        >>> from flowvi.flows import Gaussian
        >>> q = Gaussian(features=2)()
        >>> found = annealed_importance_sampling(lambda z: q.log_prob(z) + 3.0, q, distributions=20, chains=4)
        >>> round(found.log_evidence.item(), 3)
        3.0
    """
    settings = given(settings, options)
    path = Path(initial.log_prob, log_target)

    def draw(n: int) -> Tensor:
        with torch.no_grad():
            z: Tensor = initial.sample((n,))
        return z

    steps = find_steps(path, draw, settings)
    return anneal(path, start(path, draw(settings.chains)), steps, settings)


def given(settings: Settings | None, options: dict[str, Any]) -> Settings:
    """The settings, or those of the options.

    Raises:
        ConfigError: both, or an option that does not exist.
    """
    unknown = sorted(options.keys() - Settings.__dataclass_fields__.keys())
    if unknown:
        raise ConfigError(f"{unknown[0]} is no setting: allowed are {', '.join(Settings.__dataclass_fields__)}")
    if settings is not None and options:
        raise ConfigError("give settings, or options by their names, not both")
    return settings or Settings(**options)


def find_steps(path: Path, draw: Callable[[int], Tensor], settings: Settings) -> Steps:
    """The step sizes that the settings name, or those of a pilot run."""
    if settings.step_size is not None:
        return Steps.constant(settings.step_size, draw(1))
    places = min(max(settings.distributions // 4, PILOT[0]), PILOT[1])
    return tune(path, draw, settings.schedule, places, settings.leapfrog, settings.acceptance)


def start(path: Path, z: Tensor) -> Point:
    """The chains' first point.

    Raises:
        NonFiniteError: see `annealed_importance_sampling`.
    """
    point = path.at(z)
    if not point.log_initial.isfinite().all():
        raise NonFiniteError("the initial distribution's log density is not finite at a point of the start")
    if point.log_target.numel() and not point.log_target.isfinite().any():
        raise NonFiniteError("the target's log density is −inf or NaN wherever the chains start")
    return point


def anneal(path: Path, point: Point, steps: Steps, settings: Settings, reverse: bool = False) -> Annealed:
    """Take the chains from the initial density to the target, or in `reverse` from the target to the initial.

    In reverse the same sum ln w is gathered along the way back, from exact draws of the target; then E[1/w] = 1/Z.
    """
    betas, count = settings.schedule(settings.distributions), settings.distributions
    log_weights = torch.zeros_like(point.log_target)
    accepted = torch.zeros_like(log_weights[0])
    for t in range(count, 0, -1) if reverse else range(1, count + 1):
        log_weights = log_weights + (betas[t] - betas[t - 1]) * point.difference
        place = t - 1 if reverse else t
        if 0 < place < count:  # the two ends need no transition
            step = steps.at(place / count)
            point, probability = transition(path, point, betas[place], step, settings.leapfrog)
            accepted = accepted + probability.mean(0)
    transitions = count - 1
    return Annealed(log_weights, point.z, accepted / (transitions or math.nan))
