"""What a density must do: integrate to one, and start where `identity` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.maps import log_normal
from flowvi.flows.audit.quadrature import box, integral
from flowvi.flows.audit.states import POINTS, Setting

__all__ = ["identity", "integrates"]

_SAMPLES = 4000
_LONGEST = 80


def integrates(setting: Setting, dtype: torch.dtype) -> Finding:
    """exp(log_prob) integrates to one over the plane, by adaptive quadrature, within 1e-3 (D = 2, float64)."""
    q = setting.q(dtype)
    samples, _ = q.push(setting.draw("samples", _SAMPLES, 2).to(dtype))
    total = integral(q.log_prob, *box(samples), sides=24)
    return Finding.of(torch.tensor([total - 1]).abs(), 1e-3)


def identity(setting: Setting, dtype: torch.dtype) -> Finding:
    """`init="identity"` gives z = z0 and the base's ln q within 10·K·ε·(1 + ‖z0‖), up to K = 80, for any context.

    Built in the dtype itself: a start that was drawn in float32 and then cast keeps float32's rounding.
    """
    length = max(setting.length, _LONGEST) if setting.subject.chain else 0
    with _default(dtype), torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        flow = setting.subject.build(setting.features, length, init="identity")
    context = setting.contexts(4, dtype)
    rows = () if context is None else (4,)
    with torch.no_grad():
        q = flow(context)
        noise = setting.draw("start", POINTS, *rows, setting.features).to(dtype)
        z, log_q = q.push(noise)
    z0 = q.base_mean + q.base_log_scale.exp() * noise
    log_q0 = log_normal(noise) - q.base_log_scale.sum(-1)
    unit = 10 * max(length, 1) * torch.finfo(dtype).eps
    size = 1 + z0.norm(dim=-1)
    return Finding.worst(
        [
            Finding.of((z - z0).norm(dim=-1), unit * size),
            Finding.of((log_q - log_q0).abs(), unit * (1 + log_q0.abs())),
        ]
    )


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
