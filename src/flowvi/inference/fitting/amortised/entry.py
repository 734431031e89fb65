"""`fit` with a context: one posterior for many data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.amortised.contexts import Contexts
from flowvi.inference.fitting.amortised.density import RowDensity, check_rows
from flowvi.inference.fitting.amortised.result import AmortisedFit
from flowvi.inference.fitting.amortised.search import RowSearch, best_stage, flow_kinds
from flowvi.inference.fitting.amortised.verdict import judge_rows
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.search import Progress
from flowvi.inference.fitting.threads import few_threads

__all__ = ["fit_rows"]

_CHECKED = 50  # rows on which the log density is called before any work


def fit_rows(
    log_density: Callable[..., Tensor],
    joint: Joint,
    context: Any,
    effort: Effort,
    flow: Any,
    progress: Callable[[Progress], object] | None,
    like: Tensor,
) -> AmortisedFit:
    """Train an amortised posterior, and judge it; from the global generator.

    Args:
        log_density: values (n, *shape) and context (n, C) -> (n,).
        joint: the parameters.
        context: (N, C).
        effort: how much of each.
        flow: a kind of `flowvi.flows.build`, or None for the effort's.
        progress: called after each block.
        like: of the dtype and device to compute in.

    Raises:
        ConfigError, DataError, ShapeError, DensityError: see `flowvi.fit`.
    """
    contexts, density = Contexts.of(context, like), RowDensity(log_density, joint)
    kinds = flow_kinds(flow, joint.size, effort.flows)
    check_rows(density, contexts.training[:_CHECKED], torch.randn(8, joint.size).to(like))
    search = RowSearch(density, contexts, effort, kinds, progress)
    rows = contexts.training[:1].expand(effort.samples, -1)
    with few_threads(density.given(rows), like.new_zeros(len(rows), joint.size)):
        search.run()
        measured = search.measure()
    return AmortisedFit(
        stages=tuple(search.stages),
        winner=best_stage(search.stages).name,
        contexts=contexts,
        measured=measured,
        verdict=judge_rows(measured),
        joint=joint,
        effort=effort,
        counts=density.counts,
        density=density,
    )
