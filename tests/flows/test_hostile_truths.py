"""Answers that the audit excuses as beyond the floats do leave them, in arithmetic of 60 digits and any exponent."""

from __future__ import annotations

import mpmath
import pytest
import torch

from flowvi.flows.audit import Subject
from flowvi.flows.audit import hostile as module
from flowvi.flows.audit.states import POINTS, Setting, setting
from flowvi.kernels.roots import LEAK

Number = mpmath.mpf
SLOPE = Number(LEAK)


def layer(w: list[Number], u: list[Number], invertibility: str) -> tuple[list[Number], Number]:
    """û and 1 + wᵀû of a planar layer, as Appendix A.1 of the paper writes them."""
    square, x = mpmath.fdot(w, w), mpmath.fdot(w, u)
    if square == 0:
        return u, Number(1)
    slack = mpmath.log1p(mpmath.exp(x + (mpmath.log(mpmath.e - 1) if invertibility == "centred" else 0)))
    return [each + (slack - 1 - x) * along / square for each, along in zip(u, w, strict=True)], slack


def largest(conditioning: torch.Tensor, z: list[Number], direction: str, invertibility: str) -> Number:
    """The largest number on the exact way of a point through a chain of leaky planar layers, one way or the other."""
    features, log_det, met = len(z), Number(0), max(map(abs, z))
    rows = [[Number(value) for value in row] for row in conditioning.tolist()]
    for row in rows if direction == "forward" else reversed(rows):
        w, u, b = row[:features], row[features : 2 * features], row[-1]
        u_hat, slack = layer(w, u, invertibility)
        a = mpmath.fdot(w, z) + b
        slope = slack if a >= 0 else 1 + SLOPE * (slack - 1)
        a = a if direction == "forward" else a / slope
        h = (a if a >= 0 else SLOPE * a) * (1 if direction == "forward" else -1)
        z = [each + along * h for each, along in zip(z, u_hat, strict=True)]
        log_det += mpmath.log(slope)
        met = max(met, *map(abs, z), abs(log_det))
    return met


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("invertibility", ["centred", "paper"])
@pytest.mark.parametrize(
    ("features", "length"),
    [(1, 1), (2, 8), pytest.param(40, 8, marks=pytest.mark.slow), pytest.param(40, 80, marks=pytest.mark.slow)],
)
def test_a_leaky_planar_flow_leaves_the_floats_only_where_it_must(
    features: int, length: int, invertibility: str, dtype: torch.dtype
) -> None:
    subject = Subject("planar", options=(("invertibility", invertibility), ("h", "leaky_relu")))
    at, top, excused = setting(subject, features, length, "moderate"), torch.finfo(dtype).max, 0
    with mpmath.workdps(60):
        for size, sign in module._PATTERNS:
            answers = module._answers(at, dtype, size, sign)
            conditioning, noise, base = hostile_flow(at, size, sign)
            for i in range(POINTS):
                for answer, start, direction in ((answers.forth, base, "forward"), (answers.back, noise, "inverse")):
                    if not answer[i].isfinite():
                        point = [Number(value) for value in start[i].tolist()]
                        excused += 1
                        # float32 rounds the chain's own numbers, so that the edge of its range is blurred
                        assert largest(conditioning, point, direction, invertibility) > 0.5 * top
    assert excused > 0


def hostile_flow(at: Setting, size: float, sign: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The chain's numbers, the points, and the points on the base, as `hostile` makes them, in float64."""
    flow = at.flow(torch.float64)
    network = 0.1 * size * min(1.0, 8 / at.length)
    module._fill(flow, size, network, sign, torch.Generator().manual_seed(at.seed))
    q = flow()
    points = (at.draw("hostile", POINTS, at.features) * torch.logspace(-3, 3, POINTS)[:, None]).double()
    (part,) = q.parts
    assert part.conditioning is not None
    numbers = part.conditioning.detach().reshape(-1, part.conditioning.shape[-1])
    return numbers, points, (q.base_mean + q.base_log_scale.exp() * points).detach()
