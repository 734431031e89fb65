"""Functions that Triton lacks, of tensors in float32 or float64, to a few units in the last place.

Constants stand to the right of tensors, and have no local names: elsewhere Triton may round them to float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["expm1", "log1p", "softplus", "tanh"]

# tanh a = a·P(a²)/Q(a²), a convergent of its continued fraction: to 4e-17 for |a| ≤ 1
_P1, _P2, _P3, _P4 = (tl.constexpr(c / 34459425) for c in (4729725, 135135, 990, 1))
_Q1, _Q2, _Q3, _Q4 = (tl.constexpr(c / 34459425) for c in (16216200, 945945, 13860, 45))


@triton.jit
def _ratio(a):
    """The numerator and the denominator of tanh a, |a| ≤ 1."""
    q = a * a
    above = a * (q * (q * (q * (q * _P4 + _P3) + _P2) + _P1) + 1)
    return above, q * (q * (q * (q * _Q4 + _Q3) + _Q2) + _Q1) + 1


@triton.jit
def tanh(a):
    """Tanh a and its slope, sech² a."""
    size = tl.abs(a)
    above, below = _ratio(size)
    small = tl.exp(-2 * size)
    near = size < 1
    h = tl.where(near, above, 1 - small) / tl.where(near, below, 1 + small)
    inverse = 1 / (1 + small)
    return tl.where(a < 0, -h, h), 4 * small * inverse * inverse


@triton.jit
def expm1(x):
    """eˣ − 1 for |x| ≤ 2, where it is 2t/(1 − t), t = tanh(x/2)."""
    above, below = _ratio(x / 2)
    return 2 * above / (below - above)


@triton.jit
def log1p(x):
    """ln(1 + x), x > −1: the logarithm of the rounded sum, times what the rounding changed."""
    rounded = 1 + x
    same = rounded == 1
    return tl.where(same, x, tl.log(rounded) * (x / tl.where(same, 1.0, rounded - 1)))


@triton.jit
def softplus(x):
    """ln(1 + eˣ) and its slope."""
    small = tl.exp(-tl.abs(x))
    return tl.maximum(x, 0.0) + log1p(small), tl.where(x >= 0, 1.0, small) / (1 + small)
