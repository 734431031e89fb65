"""The search for a posterior: Gaussians from several starts; then mean-field, full-rank, flow, each from the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flowvi import flows
from flowvi.errors import ConfigError, DensityError
from flowvi.flows.registry import family
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import ELBO, elbo
from flowvi.inference.fitting.gaussian import Gaussian, natural_gaussian
from flowvi.inference.fitting.joint import JointDistribution
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.optimise import Block, Trace, maximise
from flowvi.inference.fitting.result import Restart, Stage, marginals

__all__ = ["Progress", "Search", "starting_points", "winner"]

_COLDEST = 0.05  # the power of a tempered start
_WORTH = 0.01  # nats: less is not worth a richer posterior, whatever its error
_FAR = 5.0  # standard deviation of the over-dispersed starts
_WIDTHS = 1.0, 0.1, 3.0, 0.01, 10.0


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
    make_flow: Callable[[], nn.Module]
    progress: Callable[[Progress], object] | None
    stages: list[Stage] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    interrupted: bool = False
    _starts: list[tuple[str, Gaussian, ELBO]] = field(default_factory=list)

    def run(self, points: Tensor) -> None:
        """Search from points (n, D), of finite density.

        Raises:
            KeyboardInterrupt: before there is anything to return.
        """
        try:
            self._gaussians(points)
            _, best, reached = max(self._starts, key=lambda start: start[2].inside)
            diagonal = Located(_standard(best), best.mean, torch.diag(best.diagonal), full=False)
            mean_field = self._stage("mean-field", diagonal)
            if mean_field.found.inside > reached.inside:
                best = _gaussian(mean_field.module)
            full_rank = self._stage("full-rank", Located(_standard(best), best.mean, best.scale))
            self._flows(_gaussian(full_rank.module))
        except KeyboardInterrupt:
            self.interrupted = True
            if not self.stages:
                self._unpolished()

    def _gaussians(self, points: Tensor) -> None:
        """Natural-gradient fits: from the first point, from points far out, and of densities tempered at first."""
        dim = points.shape[1]
        far = _FAR * torch.randn(8 * self.effort.restarts, dim, dtype=points.dtype, device=points.device)
        with torch.no_grad():
            far = torch.cat([far[self.density(far).isfinite()], points])
        for i in range(self.effort.restarts):
            kind = "origin" if i == 0 else ("over-dispersed", "tempered")[i % 2]
            width = {"origin": 1.0, "over-dispersed": 1.0, "tempered": 3.0}[kind]
            eye = width * torch.eye(dim, dtype=points.dtype, device=points.device)
            where = far if kind == "over-dispersed" else points
            start = Gaussian(where[i % len(where)], eye)
            first = _COLDEST if kind == "tempered" else 1.0
            found = natural_gaussian(self.density, start, 60, max(64, 4 * dim), (first, 1.0))
            module = Located(_standard(found), found.mean, found.scale)
            value = elbo(module(), self.density, self.effort.draws)
            self._starts.append((kind, found, value))
            self._restart(kind, "full_rank", module, value)

    def _unpolished(self) -> None:
        """Full-rank as the best start left it: what there is when no stage is."""
        if not self._starts:
            raise KeyboardInterrupt
        _, best, found = max(self._starts, key=lambda start: start[2].inside)
        module = Located(_standard(best), best.mean, best.scale).requires_grad_(False)
        self.stages.append(
            Stage(name="full-rank", module=module, trace=Trace(interrupted=True), found=found, seconds=0.0)
        )

    def _stage(self, name: str, module: Located, coldest: float = 1.0) -> Stage:
        stage = self._fitted(name, module, coldest)
        self.stages.append(stage)
        if stage.trace.interrupted:
            raise KeyboardInterrupt
        return stage

    def _flows(self, full_rank: Gaussian) -> None:
        """From full-rank as fitted; then from Gaussians of the tempered density, in which modes are not far apart."""
        mean = full_rank.mean
        stage = self._stage("flow", Located(self.make_flow().to(mean), mean, full_rank.scale))
        self._restart("full-rank", "flow", stage.module, stage.found)
        for _ in range(self.effort.flows - 1):
            start = natural_gaussian(self.density, full_rank, 40, max(64, 4 * len(mean)), (_COLDEST, _COLDEST))
            module = Located(self.make_flow().to(mean), start.mean, start.scale)
            other = self._fitted("flow", module, _COLDEST)
            self._restart("tempered", "flow", other.module, other.found)
            if other.found.inside > self.stages[-1].found.inside:
                self.stages[-1] = other
            if other.trace.interrupted:
                raise KeyboardInterrupt

    def _fitted(self, name: str, module: Located, coldest: float) -> Stage:
        started = time.process_time()

        def report(block: Block) -> None:
            if self.progress:
                self.progress(Progress(name, block.elbo, block.se, block.rate))

        trace = maximise(module, self.density, self.effort, coldest, report)
        module.requires_grad_(False)
        found = elbo(module(), self.density, self.effort.draws)
        return Stage(name=name, module=module, trace=trace, found=found, seconds=time.process_time() - started)

    def _restart(self, start: str, kind: str, module: Located, found: ELBO) -> None:
        mean, sd, quantiles = marginals(JointDistribution(module(), self.density.joint))
        self.restarts.append(Restart(start=start, kind=kind, found=found, mean=mean, sd=sd, quantiles=quantiles))


def winner(stages: list[Stage]) -> Stage:
    """The best: a later stage where its ELBO is higher by more than two standard errors, and than 0.01 nats."""
    best = stages[0]
    for stage in stages[1:]:
        error = math.hypot(stage.found.se, best.found.se)
        error = error if math.isfinite(error) else 0.0
        if stage.found.inside - best.found.inside > max(2 * error, _WORTH):
            best = stage
    return best


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


def _gaussian(module: Located) -> Gaussian:
    """Mean-field or full-rank, as fitted."""
    mean, scale = (each.detach() for each in module.affine())
    return Gaussian(mean, scale)


def _standard(like: Gaussian) -> nn.Module:
    """N(0, I), without parameters to learn: the affine map has them."""
    return flows.build("gaussian", len(like.mean)).to(like.mean).requires_grad_(False)


def flow_maker(flow: str | nn.Module | None, features: int, effort: Effort) -> Callable[[], nn.Module]:
    """What makes the flow of each restart: of a kind, or a copy of a module.

    Raises:
        ConfigError: an unknown kind, or a module that called gives no distribution over R^D with a density.
    """
    if isinstance(flow, nn.Module):
        _check_flow(flow, features)
        return lambda: deepcopy(flow)
    kind = flow or "planar"
    length = effort.length if family(kind).chain else 0
    return lambda: flows.build(kind, features=features, length=length)


def _check_flow(flow: nn.Module, features: int) -> None:
    wanted = f"a distribution of event_shape ({features},) with rsample_and_log_prob, such as flowvi's flows and zuko's"
    q = flow()
    if not hasattr(q, "rsample_and_log_prob"):
        raise ConfigError(f"flow: called, it gives a {type(q).__name__}: expected {wanted}")
    if tuple(q.event_shape) != (features,) or tuple(q.batch_shape):
        shapes = f"batch_shape {tuple(q.batch_shape)} and event_shape {tuple(q.event_shape)}"
        raise ConfigError(f"flow: called, it gives a distribution of {shapes}: expected {wanted}")
