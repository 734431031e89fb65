"""Log-determinants against autograd's Jacobian, and inverses against the maps they invert.

κ is the condition number of the Jacobian of the whole map, noise -> z, in float64. A bound holds where κ·ε ≤ 1e-2;
points beyond are counted.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.maps import LARGEST, LARGEST_LOG_DET, apply, condition, jacobians, layers, log_normal, through
from flowvi.flows.audit.states import POINTS, Setting
from flowvi.flows.networks import LayerChain

__all__ = ["back_and_there", "log_det", "own_samples", "there_and_back"]


def log_det(setting: Setting, dtype: torch.dtype) -> Finding:
    """ln q of pushed noise against slogdet of autograd's Jacobian; by the layer where the whole is ill conditioned.

    |Δ|/(1 + |log-det|) ≤ 1e-8 in float64 where κ < 1e6, ≤ 1e-3 in float32 where κ < 1e3: an error of κ·ε in z moves the
    determinant itself. Only the determinant's size counts: a reflection has −1.
    """
    q, noise = setting.q(dtype), setting.noise.to(dtype)
    limit, bound = _strictness(dtype)
    _, log_q = q.push(noise)
    expected = torch.linalg.slogdet(setting.jacobian)[1]
    found = log_normal(noise.double()) - log_q.double()
    good = setting.kappa < limit
    whole = Finding.of((found - expected).abs() / (1 + expected.abs()), bound, good | ~log_q.isfinite())
    if good.all():
        return whole
    return Finding.worst([Finding(whole.error, whole.ratio, 0, int(good.sum())), _by_layer(setting, dtype, ~good)])


def _by_layer(setting: Setting, dtype: torch.dtype, rows: Tensor) -> Finding:
    """Each layer at the points that reach it, and the chain's log-determinant against the layers' sum."""
    q, wide = setting.q(dtype), setting.q(torch.float64)
    limit, bound = _strictness(dtype)
    z = start = q.base_mean + q.base_log_scale.exp() * setting.noise.to(dtype)[rows]
    pieces = layers(q, start), layers(wide, start.double())
    if len(pieces[0]) == len(q.parts) or len(pieces[0]) != len(pieces[1]):
        return Finding(0.0, 0.0, len(z), len(z))
    total, good, findings = z.new_zeros(len(z)), z.new_ones(len(z), dtype=torch.bool), []
    for piece, wide_piece in zip(*pieces, strict=True):
        jacobian = jacobians(lambda row, piece=wide_piece: apply(piece, "forward", row)[0], z.double())  # type: ignore[misc]
        expected = torch.linalg.slogdet(jacobian)[1]
        z, found = apply(piece, "forward", z)
        fair = condition(jacobian) < limit
        findings.append(Finding.of((found - expected).abs() / (1 + expected.abs()), bound, fair | ~found.isfinite()))
        total, good = total + found, good & fair
    whole = through(q.parts, "forward", start)[1]
    findings.append(Finding.of((whole - total).abs() / (1 + whole.abs()), bound))
    worst = Finding.worst(findings)
    return Finding(worst.error, worst.ratio, int((~good).sum()), len(z))


def there_and_back(setting: Setting, dtype: torch.dtype) -> Finding:
    """f⁻¹(f(z0)) = z0 within 100·K·ε·κ·(1 + ‖z0‖), and the two directions' log-determinants as near to each other."""
    q, noise = setting.q(dtype), setting.noise.to(dtype)
    z0 = q.base_mean + q.base_log_scale.exp() * noise
    z, forth = through(q.parts, "forward", z0)
    again, back = through(q.parts, "inverse", z)
    bound = _unit(setting, dtype) * setting.kappa * (1 + z0.norm(dim=-1))
    good = _judged(setting.kappa, dtype)
    log_dets = Finding.of((back - forth).abs(), bound * (1 + forth.abs()), good)
    return Finding.worst([Finding.of((again - z0).norm(dim=-1), bound, good), _uncounted(log_dets)])


def back_and_there(setting: Setting, dtype: torch.dtype) -> Finding:
    """f(f⁻¹(y)) = y for points of size 0.1 … 1000 that the map never made, within 100·K·ε·(1 + ‖y‖ + ‖f⁻¹(y)‖).

    A map that magnifies also magnifies the rounding of f⁻¹(y), the best float there is: a ‖J‖₂ of up to 100 is within
    the bound's 100, a larger one takes its place. In long chains (K > 8), and in those that do not show their layers
    (other packages'), the bound is multiplied by max(1, ‖J‖₂). The two directions' log-determinants agree as in
    `there_and_back`.
    """
    q = setting.q(dtype)
    y = _values(setting).to(dtype)
    z, back = through(q.parts, "inverse", y)
    again, forth = through(q.parts, "forward", z)
    expected, exact_log_det, jacobian = _preimages(setting)
    kappa = condition(jacobian)
    # far points of a map that shrinks may have preimages that no float32 holds, or no float64
    held = exact_log_det.abs() < LARGEST_LOG_DET
    held &= (expected.abs().amax(-1) < LARGEST) | (dtype == torch.float64)
    good = _judged(kappa, dtype) | (~z.isfinite().all(-1) & held)
    size = torch.linalg.matrix_norm(torch.where(jacobian.isfinite(), jacobian, 0.0), 2)
    opaque = any(part.chain.conditioning_dims != 2 and not isinstance(part.chain, LayerChain) for part in q.parts)
    size = size.clamp_min(1) if setting.length > 8 or opaque else (size / 100).clamp_min(1)
    scale = (1 + y.norm(dim=-1) + z.norm(dim=-1)) * size
    bound = _unit(setting, dtype) * kappa * (1 + z.norm(dim=-1)) * (1 + forth.abs())
    residual = Finding.of((again - y).norm(dim=-1), _unit(setting, dtype) * scale, good)
    return Finding.worst([residual, _uncounted(Finding.of((back - forth).abs(), bound, good))])


def _values(setting: Setting) -> Tensor:
    sizes = torch.logspace(-1, 3, POINTS)
    return sizes[:, None] * setting.draw("values", POINTS, setting.features)


@lru_cache(maxsize=64)
def _preimages(setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """The values' preimages in float64, the log-determinant and ∂z/∂noise there: float32 may say another."""
    q = setting.q(torch.float64)
    z, log_det = through(q.parts, "inverse", _values(setting).double())
    jacobian = jacobians(lambda rows: through(q.parts, "forward", rows)[0], z)
    return z, log_det.nan_to_num(0.0), jacobian * q.base_log_scale.exp()


def own_samples(setting: Setting, dtype: torch.dtype) -> Finding:
    """log_prob of a sample is the log_q that came with it, within 100·K·ε·κ·(1 + ‖noise‖)²."""
    q, noise = setting.q(dtype), setting.noise.to(dtype)
    z, log_q = q.push(noise)
    # an error e in the noise changes ln N(noise) by noise·e
    bound = _unit(setting, dtype) * setting.kappa * (1 + noise.norm(dim=-1)) ** 2
    return Finding.of((q.log_prob(z) - log_q).abs(), bound, _judged(setting.kappa, dtype))


def _strictness(dtype: torch.dtype) -> tuple[float, float]:
    return (1e6, 1e-8) if dtype == torch.float64 else (1e3, 1e-3)


def _unit(setting: Setting, dtype: torch.dtype) -> float:
    return 100 * max(setting.length, 1) * torch.finfo(dtype).eps


def _judged(kappa: Tensor, dtype: torch.dtype) -> Tensor:
    return kappa * torch.finfo(dtype).eps <= 1e-2


def _uncounted(finding: Finding) -> Finding:
    """The log-determinants' part of the verdict, whose errors and points are not those of the column."""
    return Finding(0.0, finding.ratio, note="log-determinants of the two directions" if not finding.holds else "")
