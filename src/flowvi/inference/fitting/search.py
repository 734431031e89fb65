"""The search for a posterior: Gaussians from several starts; then mean-field, full-rank, modes and flows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from flowvi import flows
from flowvi.errors import DensityError
from flowvi.flows.flow import Flow
from flowvi.inference.fitting.covering import cover
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import ELBO, elbo
from flowvi.inference.fitting.gaussian import Gaussian, natural_gaussian
from flowvi.inference.fitting.joint import JointDistribution
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.mixture import Mixture, adapt, likely, tails
from flowvi.inference.fitting.modes import Mode, find_modes, merged
from flowvi.inference.fitting.optimise import Block, Trace, maximise
from flowvi.inference.fitting.rebased import Rebased
from flowvi.inference.fitting.result import Restart, Stage, marginals

__all__ = ["Progress", "Search", "starting_points", "winner"]

_COLDEST = 0.05  # the power of a tempered start
_WORTH = 0.01  # nats: less is not worth a richer posterior, whatever its error
_FAR = 5.0  # standard deviation of the over-dispersed starts
_WIDTHS = 1.0, 0.1, 3.0, 0.01, 10.0
_GAUSSIAN = 0.25  # of a flow's steps: natural gradients have brought it near
_STARTS = 64  # optimisations in search of modes
_MODES = 32  # that are kept
_AGAIN = 4  # rounds of starts among the modes that were found
_WIDER = 1.5  # than those modes are spread
_ROUNDS = 15  # of the mixture's adaptation


@dataclass(frozen=True)
class Progress:
    """What a `progress` callback is given after each block of steps."""

    stage: str
    elbo: float
    se: float
    rate: float


@dataclass
class Search:
    """The stages and restarts found so far: all of use whenever it is interrupted."""

    density: Density
    effort: Effort
    make_flows: Sequence[Callable[[], nn.Module]]
    tails: float | None = None
    """Degrees of freedom of the flows' base; None: found."""
    progress: Callable[[Progress], object] | None = None
    stages: list[Stage] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    modes: list[Mode] = field(default_factory=list)
    starts: Tensor | None = None
    """(n, D): where the search for modes began."""
    interrupted: bool = False
    _gaussians: list[tuple[Gaussian, ELBO]] = field(default_factory=list)

    def run(self, points: Tensor) -> None:
        """Search from points (n, D), of finite density.

        Raises:
            KeyboardInterrupt: before there is anything to return.
        """
        try:
            self._natural_gaussians(points)
            best, reached = max(self._gaussians, key=lambda found: found[1].inside)
            diagonal = Located(_standard(best.mean), best.mean, torch.diag(best.diagonal), full=False)
            mean_field = self._stage("mean-field", diagonal)
            if mean_field.found.inside > reached.inside:
                best = _gaussian(mean_field)
            full_rank = self._stage("full-rank", Located(_standard(best.mean), best.mean, best.scale))
            self._student(_gaussian(full_rank))
            self._mixture(full_rank, points)
            self._flows()
            self._cover()
        except KeyboardInterrupt:
            self.interrupted = True
            if not self.stages:
                self._unpolished()
        for stage in self.stages:
            stage.module.requires_grad_(False)

    def _natural_gaussians(self, points: Tensor) -> None:
        """Natural-gradient fits: from the first point, from points far out, and of densities tempered at first."""
        dim = points.shape[1]
        far = _FAR * torch.randn(8 * self.effort.restarts, dim, dtype=points.dtype, device=points.device)
        far = torch.cat([self._finite(far), points])
        for i in range(self.effort.restarts):
            kind = "origin" if i == 0 else ("over-dispersed", "tempered")[i % 2]
            width = {"origin": 1.0, "over-dispersed": 1.0, "tempered": 3.0}[kind]
            eye = width * torch.eye(dim, dtype=points.dtype, device=points.device)
            where = far if kind == "over-dispersed" else points
            start = Gaussian(where[i % len(where)], eye)
            first = _COLDEST if kind == "tempered" else 1.0
            found = self._natural(start, max(64, 4 * dim), first)
            module = Located(_standard(found.mean), found.mean, found.scale)
            value = elbo(module(), self.density, self.effort.draws)
            self._gaussians.append((found, value))
            self._restart(kind, "full_rank", module, value)

    def _natural(self, start: Gaussian, samples: int, first: float) -> Gaussian:
        quick = self.density.to_start()
        found = natural_gaussian(quick, start, 60, samples, (first, 1.0))
        if quick is not self.density:
            found = natural_gaussian(self.density.for_steps(found.mean), found, 20, samples)
        return found

    def _unpolished(self) -> None:
        """Full-rank as the best start left it: what there is when no stage is."""
        if not self._gaussians:
            raise KeyboardInterrupt
        best, found = max(self._gaussians, key=lambda each: each[1].inside)
        module = Located(_standard(best.mean), best.mean, best.scale).requires_grad_(False)
        trace = Trace(interrupted=True)
        self.stages.append(Stage(name="full-rank", module=module, trace=trace, found=found, seconds=0.0))

    def _stage(self, name: str, module: Located) -> Stage:
        stage = self._fitted(name, module, _GAUSSIAN)
        self.stages.append(stage)
        if stage.trace.interrupted:
            raise KeyboardInterrupt
        return stage

    def _student(self, found: Gaussian) -> None:
        """A multivariate t, where heavier tails than the Gaussian's buy anything, or where they are asked for."""
        degrees, factor = self.tails, 1.0
        if degrees is None:
            degrees, factor = tails(self.density, found.mean, found.scale, self.effort.draws // 4)
        if math.isfinite(degrees):
            self._stage("student", Located(Mixture.standard(found.mean, degrees), found.mean, factor * found.scale))

    def _mixture(self, full_rank: Stage, points: Tensor) -> None:
        """The modes that broad starts lead to; where there are several, a mixture of Gaussians as a stage."""
        started, found = time.process_time(), _gaussian(full_rank)
        broad = torch.cat([self._finite(_FAR * torch.randn(_STARTS, points.shape[1]).to(points)), points])
        near = found.mean + 3 * torch.randn(_STARTS, points.shape[1]).to(points) @ found.scale.mT
        broad, near = broad[: _STARTS // 2], self._finite(near)[: _STARTS // 2]
        self.starts = torch.cat([broad, near])
        both = [*find_modes(self.density, broad, _MODES), *find_modes(self.density, near, _MODES, found.scale)]
        self.modes = merged(both)[:_MODES]
        if len(likely(self.modes)) < 2:
            return
        self._more_modes()
        mixture = adapt(self.density, self.modes, _ROUNDS, self.effort.draws // 4)
        mean, covariance = mixture.moments()
        scale, failed = torch.linalg.cholesky_ex(covariance)
        if failed or not scale.isfinite().all():  # of a density without an end
            return
        module = Located(mixture.seen(mean, scale), mean, scale).requires_grad_(False)
        value = elbo(module(), self.density, self.effort.draws)
        trace, seconds = Trace(converged=True), time.process_time() - started
        self.stages.append(Stage(name="mixture", module=module, trace=trace, found=value, seconds=seconds))

    def _more_modes(self) -> None:
        """Modes between those that were found and around them, until a round of starts there finds no more."""
        for _ in range(_AGAIN):
            before, best = len(likely(self.modes)), self.modes[0].log_mass
            if before == _MODES:  # a ridge or a plateau, not modes
                return
            means = torch.stack([mode.mean for mode in likely(self.modes)])
            scales = torch.stack([mode.scale for mode in likely(self.modes)])
            apart = means - means.mean(0)
            wide, failed = torch.linalg.cholesky_ex(apart.mT @ apart / len(apart) + (scales @ scales.mT).mean(0))
            if failed or not wide.isfinite().all():  # of a density without an end
                return
            noise = _WIDER * torch.randn(_STARTS, means.shape[1]).to(means)
            starts = self._finite(means.mean(0) + noise @ wide.mT)
            if not len(starts):
                return
            self.modes = merged([*self.modes, *find_modes(self.density, starts, _MODES)])[:_MODES]
            self.starts = starts if self.starts is None else torch.cat([self.starts, starts])
            if len(likely(self.modes)) <= before and self.modes[0].log_mass <= best:
                return

    def _flows(self) -> None:
        """Each kind, from the best posterior so far; all after the first from the tempered density.

        No more of them where one leaves less to gain than a richer posterior must bring.
        """
        best = winner(self.stages)
        if self.tails is not None and best.name != "mixture":
            best = next((stage for stage in self.stages if stage.name == "student"), best)
        mean, scale = (each.detach() for each in best.module.affine())
        base = best.module.flow if isinstance(best.module.flow, Mixture) else None
        for i, make_flow in enumerate(self.make_flows):
            flow = make_flow().to(mean)
            if base is not None and isinstance(flow, Flow):
                flow = Rebased(flow, base)
            stage = self._fitted("flow", Located(flow, mean, scale), coldest=_COLDEST if i else 1.0)
            self._restart("tempered" if i else best.name, "flow", stage.module, stage.found)
            if i == 0:
                self.stages.append(stage)
            elif stage.found.inside > self.stages[-1].found.inside:
                self.stages[-1] = stage
            if stage.trace.interrupted:
                raise KeyboardInterrupt
            if _left(stage.found, self.effort.draws) < _WORTH:
                return

    def _fitted(self, name: str, module: Located, share: float = 1.0, coldest: float = 1.0) -> Stage:
        started, report = time.process_time(), self._reporting(name)
        steps = self.density.for_steps(module.mean)
        trace = maximise(module, steps, self.effort, share, coldest, report)
        found = elbo(module(), self.density, self.effort.draws)
        return Stage(name=name, module=module, trace=trace, found=found, seconds=time.process_time() - started)

    def _cover(self) -> None:
        """The flow, if it is the best and leaves something to gain, made to cover the density.

        It stays as it was if that loses ELBO, or its place. Not where steps take estimates of the density: enough draws
        of the density itself are too dear there.
        """
        stage, started = self.stages[-1], time.process_time()
        if stage is not winner(self.stages) or _left(stage.found, self.effort.draws) < _WORTH:
            return
        if self.density.for_steps(stage.module.mean) is not self.density:
            return
        module = deepcopy(stage.module)
        trace = cover(module, self.density, self.effort, self._reporting("flow, to cover"))
        found = elbo(module(), self.density, self.effort.draws)
        seconds = stage.seconds + time.process_time() - started
        covered = replace(stage, module=module, trace=stage.trace.then(trace), found=found, seconds=seconds)
        allowed = max(2 * math.hypot(stage.found.se, found.se), _WORTH)  # NaN where no draw has a density
        if stage.found.inside - found.inside <= allowed and winner([*self.stages[:-1], covered]) is covered:
            self.stages[-1] = covered
            self._covered(stage.found, module, found)
        if trace.interrupted:
            raise KeyboardInterrupt

    def _covered(self, before: ELBO, module: Located, found: ELBO) -> None:
        """The restart that the flow came from, as the flow is now."""
        old = next(restart for restart in self.restarts if restart.found is before)
        self.restarts.remove(old)
        self._restart(old.start, old.kind, module, found)

    def _reporting(self, stage: str) -> Callable[[Block], None]:
        def report(block: Block) -> None:
            if self.progress:
                self.progress(Progress(stage, block.elbo, block.se, block.rate))

        return report

    def _restart(self, start: str, kind: str, module: Located, found: ELBO) -> None:
        mean, sd, quantiles = marginals(JointDistribution(module(), self.density.joint))
        self.restarts.append(Restart(start=start, kind=kind, found=found, mean=mean, sd=sd, quantiles=quantiles))

    def _finite(self, points: Tensor) -> Tensor:
        """Those of the points (n, D) where the density is finite."""
        with torch.no_grad():
            return points[self.density(points).isfinite()]


def winner(stages: list[Stage]) -> Stage:
    """The best: a later stage where its ELBO is higher by more than two standard errors, and than 0.01 nats."""
    best = stages[0]
    for stage in stages[1:]:
        error = math.hypot(stage.found.se, best.found.se)
        error = error if math.isfinite(error) else 0.0
        if stage.found.inside - best.found.inside > max(2 * error, _WORTH):
            best = stage
    return best


def _left(found: ELBO, draws: int) -> float:
    """Nats that a better posterior would gain, about: half the log weights' variance, KL(q ‖ f/Z) near the density."""
    return 0.5 * draws * found.se**2 if found.share == 1 else math.inf


def starting_points(density: Density, n: int, like: Tensor) -> Tensor:
    """n points (n, D) of finite density to start from: the origin if it is, others ever farther or nearer.

    Raises:
        DensityError: the log density is finite at none of them.
    """
    dim, found, tried = density.joint.size, [], 0
    origin = like.new_zeros(1, dim)
    for width in _WIDTHS:
        noise = width * torch.randn(8 * n, dim, dtype=like.dtype, device=like.device)
        z = torch.cat([origin, noise]) if not tried else noise
        with torch.no_grad():
            good = density(z).isfinite()
        found.append(z[good])
        tried += len(z)
        if sum(map(len, found)) >= n:
            return torch.cat(found)
    if sum(map(len, found)):
        return torch.cat(found)
    counts = density.counts
    raise DensityError(
        f"the log density is not finite at any of {tried} starting points: NaN at {counts.nan}, -inf at "
        f"{counts.minus_inf}, +inf at {counts.plus_inf}; they lie around 0 in unconstrained space, at distances of "
        f"{min(_WIDTHS)} to {max(_WIDTHS)}. Check each parameter's support, and shift and scale parameters to about 1"
    )


def _gaussian(stage: Stage) -> Gaussian:
    """Mean-field or full-rank, as fitted."""
    mean, scale = (each.detach() for each in stage.module.affine())
    return Gaussian(mean, scale)


def _standard(like: Tensor) -> nn.Module:
    """N(0, I), without parameters to learn: the affine map has them."""
    return flows.build("gaussian", len(like)).to(like).requires_grad_(False)
