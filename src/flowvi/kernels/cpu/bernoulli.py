"""Binary pixels given logits, compiled: ln p(x) of each row in one pass, and its gradient in another."""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.team import array, inlined, kernel, share
from flowvi.kernels.cpu.vectors import decay

__all__ = ["gradient", "run"]

_PART = 64  # of a product of so many numbers in (1, 2] one logarithm is taken


@inlined
def _log_prob(x, logits, start, stop):
    """Σ x·l − softplus(l) over a part of a row; softplus(l) = max(l, 0) + ln(1 + exp(−|l|))."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    total, product = zero, one
    for i in range(stop - start):
        at = np.uintp(start + i)  # signed ones might count from the end, and that keeps loops from vector registers
        logit = logits[at]
        total += x[at] * logit - max(logit, zero)
        product *= one + decay(abs(logit))
    return float(total) - math.log(product)


@kernel
def run(data):
    """Logits (samples·images, 1, D) and images (images, 1, D) -> ln p, (samples·images, 1, 1)."""
    first, last, _, _, _, _ = share(data)
    logits, x, log_p = array(data, 0), array(data, 1), array(data, 2)
    images, _, features = x.shape
    for row in range(first, last):
        total = 0.0
        for start in range(0, features, _PART):
            total += _log_prob(x[row % images, 0], logits[row, 0], start, min(start + _PART, features))
        log_p[row, 0, 0] = total


@kernel
def gradient(data):
    """The gradient by the logits, g·(x − σ(l))."""
    first, last, _, _, _, _ = share(data)
    logits, x, grad, by_logits = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    images = x.shape[0]
    for row in range(first, last):
        _through(x[row % images, 0], logits[row, 0], grad[row, 0, 0], by_logits[row, 0])


@inlined
def _through(x, logits, grad, by_logits):
    one = logits.dtype.type(1)
    for i in range(logits.shape[0]):
        small = decay(abs(logits[i]))
        large = one / (one + small)
        by_logits[i] = grad * (x[i] - (large if logits[i] >= 0 else small * large))
