"""Draws of a posterior with heavier tails, and what their importance weights say of the posterior and of ln Z."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Size, Tensor, nn

from flowvi.flows.flow import Flow
from flowvi.inference.evidence import k_hat_limit, of_log_weights, pareto_k_hat
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.mixture import Mixture, MixtureDistribution
from flowvi.inference.fitting.rebased import Rebased

__all__ = ["Pool", "Weighed", "defensive_draws", "weigh"]

_SHARE = 0.15  # of the draws that come from the heavier tails
_DEGREES = 4.0  # of these
_LACKING = math.log(10)
_ROWS = 10_000


@dataclass(frozen=True)
class Pool:
    """Points (n, D) and three log densities there, (n,): the target's, the posterior's, and their own."""

    z: Tensor
    log_f: Tensor
    log_q: Tensor
    log_proposal: Tensor

    @property
    def log_weights(self) -> Tensor:
        """ln f − ln of what they are drawn from, float64; −inf where f is NaN or infinite."""
        return torch.where(self.log_f.isfinite(), self.log_f.double() - self.log_proposal.double(), -math.inf)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """What weighted draws say; in nats."""

    log_evidence: float
    """Where the log density is NaN or +inf the density counts as 0: see `undefined`."""
    log_evidence_se: float
    """By the delta method; where k̂ is above its limit, with the mass that lacks as a further error."""
    undefined: float
    """The share of draws at which the log density is NaN or +inf."""
    effective: float
    """Kong's effective sample size of the weights, as a share of the draws."""
    k_hat: float
    """Of the weights of these draws, which ln Z is from."""
    k_hat_own: float
    """Of those of the posterior's own draws: high where its tails are too thin."""
    distance: float
    """The total variation between posterior and density, half the integral of their difference's size: no probability
    is off by more."""
    lacking: float
    """The mass where q is below a tenth of the density."""

    @classmethod
    def unknown(cls) -> Weighed:
        """What is known without weights: nothing."""
        return cls(**{each.name: math.nan for each in fields(cls)})


@torch.no_grad()
def weigh(module: Located, density: Density, draws: int) -> Weighed:
    """Weigh fresh draws of a posterior, and of one with its shape and heavier tails.

    ln Z = ln E_r[f/r] under the defensive mixture r = 0.85 q + 0.15 t, where t has q's map and a base of Student's t
    (Hesterberg 1995, *Weighted average importance sampling and defensive mixture distributions*). The same draws give
    ½ E_r|f/Z − q|/r and the mass where f/Z > 10 q.

    Args:
        module: the posterior.
        density: over unconstrained points.
        draws: of each.
    """
    parts = [defensive_draws(module, density, min(_ROWS, draws - at)) for at in range(0, draws, _ROWS)]
    log_f, log_w = (torch.cat([getattr(part, name) for part in parts]) for name in ("log_f", "log_weights"))
    found = of_log_weights([log_w], draws)
    log_z = found.log_evidence
    log_q = torch.cat([(part.log_q - part.log_proposal).double() for part in parts])
    share, own = (log_w - log_z).exp(), log_q.exp()
    own_weights: list[Tensor] = []
    for at in range(0, draws, _ROWS):
        z, log_density = module().rsample_and_log_prob((min(_ROWS, draws - at),))
        value = density(z)
        own_weights.append(torch.where(value.isfinite(), value.double() - log_density.double(), -math.inf))
    k_hat, error = pareto_k_hat(log_w).item(), found.log_evidence_se.item()
    lacking = torch.where(log_w - log_z > log_q + _LACKING, share, 0.0).mean().item()
    return Weighed(
        log_evidence=log_z.item(),
        log_evidence_se=error if k_hat <= k_hat_limit(draws) else math.hypot(error, lacking),
        undefined=(log_f.isnan() | (log_f == math.inf)).double().mean().item(),
        effective=found.effective_samples.item() / draws,
        k_hat_own=pareto_k_hat(torch.cat(own_weights)).item(),
        k_hat=k_hat,
        distance=0.5 * (share - own).abs().mean().item(),
        lacking=lacking,
    )


@torch.no_grad()
def defensive_draws(module: Located, density: Density, n: int) -> Pool:
    """n draws of the defensive mixture; of the posterior itself where its flow's base cannot be changed."""
    base, q = _base(module.flow), module()
    if base is None:
        z, log_q = q.rsample_and_log_prob((n,))
        return Pool(z, density(z), log_q, log_q)
    thick = base.with_degrees(_DEGREES)
    heavy = torch.rand(n, 1, dtype=module.mean.dtype, device=module.mean.device) < _SHARE
    noise = torch.where(heavy, thick.sample(Size((n,))), base.sample(Size((n,))))
    log_own = base.log_prob(noise)
    log_both = torch.logaddexp(math.log(1 - _SHARE) + log_own, math.log(_SHARE) + thick.log_prob(noise))
    z, log_q = _placed(module, noise)
    return Pool(z, density(z), log_q, log_q - log_own + log_both)


def _placed(module: Located, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Noise of the base, (n, D), as points of the posterior: z and ln q(z)."""
    q: Any = module()
    x, log_q = (noise, q.base.log_prob(noise)) if isinstance(module.flow, Mixture) else q.base.push(noise)
    return q.loc + x @ q.scale_tril.mT, log_q - q.log_det


def _base(flow: nn.Module) -> MixtureDistribution | None:
    """The distribution of what a flow's map is given; None for a flow that is not ours."""
    if isinstance(flow, Rebased):
        flow = flow.base
    if isinstance(flow, Flow):
        flow = Mixture.standard(flow.base.location[: flow.features].detach())
    return flow() if isinstance(flow, Mixture) else None
