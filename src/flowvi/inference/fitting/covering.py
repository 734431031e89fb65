"""The end of a flow's fit: steps that make it cover the density, so that its importance weights have a thin tail."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.optimise import Block, Steps, Trace, cosine, run_block, settled
from flowvi.inference.fitting.weights import Pool, defensive_draws

__all__ = ["cover", "follow"]

# Both chosen on the targets for calibration (funnel, eight schools, banana), by k̂ and ELBO.
_RATE = 0.01
_SHARE = 0.75  # of an effort's blocks


def cover(module: Located, density: Density, effort: Effort, report: Callable[[Block], None] | None = None) -> Trace:
    """Train the module in place on KL(q ‖ f/Z) + λ KL(f/Z ‖ q), from where the ELBO alone has brought it.

    The ELBO hardly feels mass where q is too thin; the forward divergence does (Jerfel et al. 2021, *Variational
    refinement for importance sampling using the forward Kullback-Leibler divergence*, arXiv:2106.15980). Its points are
    drawn anew for each block: see `follow`. Upon Ctrl-C the last block's weights stay, and the trace says so.

    Args:
        module: trained in place.
        density: over unconstrained points; the density itself, no estimate of it.
        effort: how much of each.
        report: called after each block.
    """
    blocks, kept = max(1, round(_SHARE * effort.blocks)), deepcopy(module.state_dict())
    steps, trace = Steps(module, density, effort, _RATE), Trace(rate=_RATE)
    try:
        for i in range(blocks):
            steps.rate = cosine(_RATE, i / blocks)
            points = follow(defensive_draws(module, density, effort.draws // 2))
            block, _ = run_block(steps, effort.block, beside=points)
            trace.blocks.append(block)
            trace.steps = steps.count
            kept = deepcopy(module.state_dict())
            if report:
                report(block)
        trace.converged = settled(trace.blocks, effort.tolerance)
    except KeyboardInterrupt:
        trace.interrupted = True
        module.load_state_dict(kept)
    return trace


def follow(pool: Pool) -> Callable[[Any, int], Tensor | None] | None:
    """q, n -> −λ · mean ln q at n points that are about as if drawn from f/Z: KL(f/Z ‖ q), but for a constant.

    The points are those of a pool, by their weights; these are cut at √n times their mean (Ionides 2008, *Truncated
    importance sampling*), that no single point leads. λ is the effective share of what is left: where the weights say
    little of f, the steps follow them little. None where no point has a weight, or none of the n a density under q.
    """
    log_w, count = pool.log_weights, len(pool.z)
    total = log_w.logsumexp(0)
    if not total.isfinite():
        return None
    shares = torch.minimum(log_w, total - 0.5 * math.log(count)).softmax(0)
    share = 1 / (count * shares.square().sum().item())

    def loss(q: Any, n: int) -> Tensor | None:
        z = pool.z[torch.multinomial(shares, n, replacement=True)]
        log_q = q.log_prob(z)
        good = log_q.isfinite()
        if not good.all():  # a sum without them, whose gradients would be 0·∞
            log_q = q.log_prob(z[good])
        return -share * log_q.sum() / n if good.any() else None

    return loss
