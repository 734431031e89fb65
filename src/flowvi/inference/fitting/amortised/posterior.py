"""The amortised posterior: a flow, then an affine map, both made of the context by one small network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowvi import flows
from flowvi.flows.flow import Flow, FlowDistribution, Part
from flowvi.flows.parameters import triangle
from flowvi.inference.fitting.amortised.affine import AffineChain
from flowvi.inference.fitting.amortised.start import Start

__all__ = ["Amortised"]

_HIDDEN = 64


class Amortised(nn.Module):
    """q(z | c): z = m + L (A x̂ + t(c) + T(c) x), x from a flow given features of c.

    The features are the standardised context ĉ (a constant column counts as 0) and 64 units over it. m, L and the
    slope A are where Gaussians fitted to a few data sets lie; they stay as they are. What is learned, the network, t,
    the lower triangular T and the flow, starts as t = 0, T = I and N(0, I), whatever the context.

    Args:
        start: m, L, A, and the context's mean and standard deviation.
        kind: of `flowvi.flows.build`; `gaussian` for none.
        full: whether T is triangular; else diagonal.
        options: of the flow, its length among them.

    Example:
        >>> start = Start.trivial(features=2, context=3)
        >>> Amortised(start, "planar", length=4)(torch.zeros(5, 3)).sample().shape
        torch.Size([5, 2])
    """

    start_mean: Tensor
    start_scale: Tensor
    slope: Tensor
    context_mean: Tensor
    context_sd: Tensor

    def __init__(self, start: Start, kind: str = "gaussian", full: bool = True, **options: Any) -> None:
        super().__init__()
        features, context = start.slope.shape
        self.kind, self.full, self.options = kind, full, options
        self.register_buffer("start_mean", start.mean.clone())
        self.register_buffer("start_scale", start.scale.clone())
        self.register_buffer("slope", start.slope.clone())
        self.register_buffer("context_mean", start.context_mean.clone())
        self.register_buffer("context_sd", start.context_sd.clone())
        self.network = nn.Sequential(nn.Linear(context, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU())
        width = context + _HIDDEN
        self.place = _zero(nn.Linear(width, 2 * features))
        self.lower = _zero(nn.Linear(width, features * (features - 1) // 2)) if full and features > 1 else None
        self.flow: Flow = flows.build(kind, features, width, **options)
        _zero(self.flow.base.head)
        if kind == "gaussian":  # the affine map is all
            self.flow.requires_grad_(False)
        self.to(start.mean)

    def forward(self, context: Tensor) -> FlowDistribution:
        """The distribution given context (…, C), of batch_shape (…)."""
        given = torch.where(self.context_sd > 0, (context - self.context_mean) / self.context_sd, 0.0)
        features = torch.cat([given, self.network(given)], -1)
        shift, log_diagonal = self.place(features).chunk(2, -1)
        turn = torch.diag_embed(log_diagonal.exp())
        if self.lower is not None:
            turn = turn + triangle(self.lower(features), len(self.start_mean), -1)
        mean = self.start_mean + (shift + given @ self.slope.mT) @ self.start_scale.mT
        both = torch.cat([mean[..., None], self.start_scale @ turn], -1)
        q = self.flow(features)
        return FlowDistribution(q.base_mean, q.base_log_scale, [*q.parts, Part(AffineChain(), both)])

    def begin_from(self, other: Amortised) -> None:
        """Take over network and map from a simpler posterior, as far as both have them."""
        for mine, its in ((self.network, other.network), (self.place, other.place), (self.lower, other.lower)):
            if mine is not None and its is not None:
                mine.load_state_dict(its.state_dict())


def _zero(head: nn.Linear) -> nn.Linear:
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
