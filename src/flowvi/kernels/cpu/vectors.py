"""Exponentials in a form that compilers put into vector registers, which the library's are not."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from flowvi.kernels.cpu.team import OPTIONS

__all__ = ["decay", "hyperbolic"]

# in float32, since a number of Python's would make everything float64
_BOUND = np.float32(87)  # exp(−87) is a normal number; next to 1 it vanishes
_LOG2_E = np.float32(math.log2(math.e))
# ln 2 in two parts; a whole number times the first is exact
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440054690583e-4)
_TERMS = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_WIDE_LOG2_E, _WIDE_LN2 = math.log2(math.e), math.log(2)
_WIDE_BOUND = 700.0
_WIDE_TERMS = tuple(1 / math.factorial(n) for n in range(10))


@intrinsic
def _power_of_two(context, n):
    """2ⁿ in float32 for −126 ≤ n ≤ 0, by its bits."""

    def generate(context, builder, signature, arguments):
        integer, real = (context.get_value_type(each) for each in (types.int32, types.float32))
        exponent = builder.add(arguments[0], integer(127))
        return builder.bitcast(builder.shl(exponent, integer(23)), real)

    return types.float32(types.int32), generate


def decay(x):
    """exp(−x) for x ≥ 0: to 2 ε in float32, where beyond 87 it stays exp(−87)."""
    raise NotImplementedError("for kernels only")


@overload(decay, jit_options=cast(Any, OPTIONS))
def _decay(x):
    if x != types.float32:
        return lambda x: math.exp(-x)

    def short(x):
        y = -min(x, _BOUND)
        n = np.floor(y * _LOG2_E + _TERMS[2])
        r = (y - n * _LN2_HIGH) - n * _LN2_LOW
        one, _, half, third, fourth, fifth, sixth, seventh = _TERMS
        total = third + r * (fourth + r * (fifth + r * (sixth + r * seventh)))
        return (one + r * (one + r * (half + r * total))) * _power_of_two(types.int32(n))

    return short


@intrinsic
def _wide_power_of_two(context, n):
    """2ⁿ in float64 for −1022 ≤ n ≤ 0, by its bits."""

    def generate(context, builder, signature, arguments):
        integer, real = (context.get_value_type(each) for each in (types.int64, types.float64))
        exponent = builder.sext(builder.add(arguments[0], arguments[0].type(1023)), integer)
        return builder.bitcast(builder.shl(exponent, integer(52)), real)

    return types.float64(types.int32), generate


def hyperbolic(a):
    """tanh(a) and its derivative in float64: exact to float32's digits where `a` is of float32, to all where not."""
    raise NotImplementedError("for kernels only")


@overload(hyperbolic, jit_options=cast(Any, OPTIONS))
def _hyperbolic(a):
    if a != types.float32:

        def exact(a):
            if abs(a) < 0.35:
                shrunk = math.expm1(-2 * abs(a))
                small = 1 + shrunk
            else:  # far out, small would be a cancellation
                small = math.exp(-2 * abs(a))
                shrunk = small - 1
            below = 1 + small
            return math.copysign(shrunk / below, a), 4 * small / (below * below)

        return exact

    def short(a):
        size = abs(float(a))
        y = -min(2 * size, _WIDE_BOUND)
        n = np.floor(y * _WIDE_LOG2_E + 0.5)
        r = y - n * _WIDE_LN2
        _, _, half, third, fourth, fifth, sixth, seventh, eighth, ninth = _WIDE_TERMS
        total = fifth + r * (sixth + r * (seventh + r * (eighth + r * ninth)))
        series = 1.0 + r * (1.0 + r * (half + r * (third + r * (fourth + r * total))))
        small = series * _wide_power_of_two(types.int32(n))
        below = 1.0 / (1.0 + small)
        h = (1.0 - small) * below if size > 1e-6 else size  # the difference of two ones has lost its digits
        return math.copysign(h, float(a)), 4.0 * small * below * below

    return short
