"""Extreme parameters and points: nothing may leave the floats that could stay in them."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.maps import LARGEST, LARGEST_LOG_DET, apply, layers
from flowvi.flows.audit.states import POINTS, Setting
from flowvi.flows.flow import Flow, Part

__all__ = ["hostile"]

_LONGEST = 8


def hostile(setting: Setting, dtype: torch.dtype) -> Finding:
    """Values and gradients stay finite whatever the parameters, at points of size 1e-3 … 1e3.

    Every number that a layer takes is 0, 1e-30, ±50 or ±200, all alike, alternating or with random signs; in networks
    ±5/√inputs and ±20/√inputs, and that times 8/K in chains of more than 8 layers. Finite are z, ln q, their gradients
    by parameters and noise, and the inverse with its log-determinant. Two kinds of answers are counted as beyond
    instead, where they are not finite. In float32, one that in float64 passes 1e30 on its way, or a gradient 1e15:
    RealNVP may stretch by e² a layer, a triangular inverse grow by 200 a dimension. In either dtype, those of a point
    where the log-determinant passes ±600: a leaky ReLU's layer may shrink by e^(−|wᵀu|), and has an inverse there
    that no float64 holds; many that stretch by |wᵀu| have an image that none holds.
    """
    return Finding.worst([_at(setting, dtype, size, sign) for size, sign in _PATTERNS])


_PATTERNS = [
    (0.0, "+"),
    *itertools.product((1e-30, 50.0), ("alternating", "random")),
    *itertools.product((200.0,), ("+", "−", "alternating", "random")),
]


class _Answers(NamedTuple):
    """For each point the largest number on its way: forth, back, and of its gradient; and of parameters' gradients."""

    forth: Tensor
    back: Tensor
    by_points: Tensor
    by_parameters: Tensor
    log_det: Tensor  # the largest on either way


def _at(setting: Setting, dtype: torch.dtype, size: float, sign: str) -> Finding:
    found, wide = _answers(setting, dtype, size, sign), _answers(setting, torch.float64, size, sign)
    wrong, beyond, total = 0, 0, 0
    for name, answer in found._asdict().items():
        if name == "log_det":
            continue
        # a gradient multiplies two such numbers
        limit = LARGEST**0.5 if name.startswith("by_") else LARGEST
        excused = ~(getattr(wide, name) <= limit) & (dtype != torch.float64)
        log_det = found.log_det.maximum(wide.log_det)  # they may pass a kink on either side of it
        excused |= (log_det if len(answer) == POINTS else log_det.max()) >= LARGEST_LOG_DET
        bad = ~answer.isfinite()
        wrong += int((bad & ~excused).sum())
        beyond, total = beyond + int((bad & excused).sum()), total + len(answer)
    return Finding.count(wrong, total, f"{wrong} of {total} answers at parameters {sign} {size:g}", beyond)


@lru_cache(maxsize=64)
def _answers(setting: Setting, dtype: torch.dtype, size: float, sign: str) -> _Answers:
    flow = setting.flow(dtype)
    shrink = min(1.0, _LONGEST / max(setting.length, 1))
    _fill(flow, size, 0.1 * size * shrink, sign, torch.Generator().manual_seed(setting.seed))
    q = flow(None if setting.context is None else setting.context.to(dtype))
    points = setting.draw("hostile", POINTS, setting.features) * torch.logspace(-3, 3, POINTS)[:, None]
    points = points.to(dtype).requires_grad_()
    z, log_q = q.push(points)
    parameters = [value for value in flow.parameters() if value.numel()]
    gradients = torch.autograd.grad(z.sum() + log_q.sum(), [points, *parameters], materialize_grads=True)
    with torch.no_grad():
        pieces = layers(q, points)
        forth, log_det = _way(pieces, points, "forward")
        back, log_det_back = _way(pieces, points, "inverse")
        forth, log_det = forth.maximum(_largest(z, log_q)), log_det.maximum(log_det_back)
        by_points = _largest(gradients[0], forth)
        # one point beyond takes the sums with it
        sums = [g.abs().max() for g in gradients[1:]]
        return _Answers(forth, back, by_points, torch.stack([*sums, by_points.max()]).max().reshape(1), log_det)


def _way(pieces: tuple[Part, ...], z: Tensor, direction: str) -> tuple[Tensor, Tensor]:
    """For each point, from piece to piece: the largest number it meets, NaN too, and the largest log-determinant."""
    size, log_det = z.abs().amax(-1), torch.zeros_like(z[:, 0])
    total = log_det
    for piece in pieces if direction == "forward" else reversed(pieces):
        z, change = apply(piece, direction, z)
        total = total + change
        size, log_det = size.maximum(_largest(z, total)), log_det.maximum(total.abs().nan_to_num(0.0))
    return size, log_det


def _largest(z: Tensor, number: Tensor) -> Tensor:
    return torch.cat([z, number[:, None]], -1).abs().amax(-1)


@torch.no_grad()
def _fill(flow: Flow, size: float, network: float, sign: str, generator: torch.Generator) -> None:
    """Layers' numbers of `size`, those of networks of `network`; heads and the base give one answer to any context."""
    owned = {id(p) for link in flow.links for p in _parameters(link.chain)}
    base = {id(p) for p in flow.base.parameters()}
    for module in flow.modules():
        for name, parameter in module.named_parameters(recurse=False):
            linear = isinstance(module, nn.Linear) and name == "weight"
            if id(parameter) in base or (linear and id(parameter) not in owned):
                parameter.zero_()
            elif id(parameter) in owned:
                inputs = max(parameter.shape[1], 1) if linear else 1
                parameter.copy_(_signed(parameter, network * inputs**-0.5, sign, generator))
            else:
                parameter.copy_(_signed(parameter, size, sign, generator))


def _parameters(chain: object) -> list[nn.Parameter]:
    return list(chain.parameters()) if isinstance(chain, nn.Module) else []


def _signed(parameter: Tensor, size: float, sign: str, generator: torch.Generator) -> Tensor:
    signs = torch.ones(parameter.numel())
    if sign == "−":
        signs = -signs
    elif sign == "alternating":
        signs[1::2] = -1
    elif sign == "random":
        signs = torch.randint(2, (parameter.numel(),), generator=generator) * 2.0 - 1
    return (size * signs).view_as(parameter)
