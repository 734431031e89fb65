"""Log prior plus a log likelihood that is a sum over rows: exact in chunks, and by minibatches for gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import DensityError
from flowvi.inference.fitting.batches import Batches, check_sum
from flowvi.inference.fitting.checks import check_density
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint

__all__ = ["BatchedDensity", "StepDensity", "check_batched"]

_CELLS = 1 << 20  # of (point, row) at a time
_SUBSET = 2000  # rows of the fixed subset that Gaussians start on


class BatchedDensity(Density):
    """ln prior + factor · Σ_i ln p(row_i | θ) over unconstrained points, over all rows in chunks.

    Its values have first derivatives alone: no graph of all rows is kept.

    Args:
        prior: values (n, *shape) -> (n,).
        batches: the likelihood.
        joint: the parameters.
        factor: 1 for all the data; N over the rows of a subset.
    """

    def __init__(self, prior: Callable[[Any], Tensor], batches: Batches, joint: Joint, factor: float = 1.0) -> None:
        super().__init__(self._whole, joint)
        self.prior, self.batches, self.factor = prior, batches, factor
        self._subset: BatchedDensity | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """The log density at z (n, D): (n,), in nats, of z's dtype."""
        if not (torch.is_grad_enabled() and z.requires_grad):
            return super().__call__(z)
        value, slope = self.value_and_gradient(z)
        return value + ((z - z.detach()) * slope).sum(-1)

    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The log density (n,) and its gradient by z (n, D), over all rows."""
        chunks = self.batches.chunks(max(1, _CELLS // len(z)))
        return self._counted(z, *_added(self._prior(z), self.likelihood(z, chunks), self.factor))

    def likelihood(self, z: Tensor, chunks: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """The sum over the rows of some chunks (n,), and its gradient by z (n, D); float64."""
        value, slope = torch.zeros_like(z[:, 0], dtype=torch.float64), torch.zeros_like(z, dtype=torch.float64)
        for rows in chunks:
            part = _with_gradient(z, partial(self._unconstrained, rows))
            value, slope = value + part[0], slope + part[1]
        return value, slope

    def to_start(self) -> Density:
        """The density with a fixed random subset of rows for all, for what is only started on it."""
        if self._subset is None:
            count = min(self.batches.rows, max(_SUBSET, self.batches.size))
            part = Batches(self.batches.log_likelihood, self.batches.some(count), self.batches.size)
            self._subset = BatchedDensity(self.prior, part, self.joint, self.batches.rows / count)
            self._subset.counts = self.counts
        return self._subset

    def for_steps(self, near: Tensor) -> Density:
        """The density for gradient steps of a posterior around `near` (D,)."""
        return StepDensity(self, near)

    def apart(self) -> BatchedDensity:
        """The same density, which counts for itself."""
        return BatchedDensity(self.prior, self.batches, self.joint, self.factor)

    def _whole(self, values: Any) -> Tensor:
        prior = self.prior(values)
        sums = [self._likelihood(values, rows).double() for rows in self.batches.chunks(max(1, _CELLS // len(prior)))]
        total: Tensor = prior.double() + self.factor * sum(sums)
        return total

    def _likelihood(self, values: Any, rows: tuple[Tensor, ...]) -> Tensor:
        return self.batches.log_likelihood(values, *rows)

    def _unconstrained(self, rows: tuple[Tensor, ...], z: Tensor) -> Tensor:
        return self._likelihood(self.joint.constrain(z)[0], rows)

    def _prior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        def prior(at: Tensor) -> Tensor:
            values, log_det = self.joint.constrain(at)
            return self.prior(values) + log_det

        return _with_gradient(z, prior)

    def _counted(self, z: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        self._count(value)
        self.counts.gradients += int((value.isfinite() & ~slope.isfinite().all(-1)).sum())
        return value.to(z.dtype), slope.to(z.dtype)


class StepDensity(BatchedDensity):
    """A batched density whose gradients are unbiased estimates from a minibatch B; its values by call are exact.

    ln prior + ℓ(z0) + ∇ℓ(z0)·(z − z0) + N/|B| Σ_{i ∈ B} [ℓ_i(z) − ℓ_i(z0) − ∇ℓ_i(z0)·(z − z0)]: the control variate
    of stochastic variance reduction (Johnson & Zhang 2013; Baker et al. 2019, arXiv:1706.05439, Section 3), with ℓ over
    all rows at the one point z0. Near it the noise is that of the minibatch's curvature alone.

    Args:
        whole: the density over all rows.
        near: z0, (D,).
    """

    def __init__(self, whole: BatchedDensity, near: Tensor) -> None:
        super().__init__(whole.prior, whole.batches, whole.joint, whole.factor)
        self.counts, self.near = whole.counts, near.detach()[None]
        self.height, self.slope = self.likelihood(self.near, self.batches.chunks(_CELLS))
        self.anchored = bool(self.height.isfinite() and self.slope.isfinite().all())

    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates of the log density (n,) and its gradient (n, D) from one minibatch for all points."""
        rows, times = self.batches.some(self.batches.size), self.batches.rows / self.batches.size
        value, slope = _added(self._prior(z), self.likelihood(z, [rows]), times)
        if self.anchored:
            height, tilt = self.likelihood(self.near, [rows])
            height, tilt = self.height - times * height, self.slope - times * tilt
            value, slope = value + height + ((z - self.near) * tilt).sum(-1), slope + tilt
        return self._counted(z, value, slope)


def check_batched(density: BatchedDensity, z: Tensor) -> None:
    """Call prior and likelihood on points z (n, D).

    Raises:
        DensityError: what `check_density` finds in either, or a likelihood that is no sum over rows.
        Exception: whatever they raise themselves, unchanged.
    """
    few = density.batches.some(min(7, density.batches.rows))
    parts = {"log prior": density.prior, "log likelihood": lambda values: density._likelihood(values, few)}
    for name, function in parts.items():
        try:
            check_density(Density(function, density.joint), z)
        except DensityError as error:
            raise DensityError(str(error).replace("the log density", f"the {name}", 1)) from error
    check_sum(density.batches, density.joint, z)


def _with_gradient(z: Tensor, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """A function of points (n,), and its gradient by them (n, D), 0 where it depends on nothing; float64."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        value = function(at)
        slope = torch.zeros_like(z)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach().double(), slope.double()


def _added(prior: tuple[Tensor, Tensor], sums: tuple[Tensor, Tensor], times: float) -> tuple[Tensor, Tensor]:
    return prior[0] + times * sums[0], prior[1] + times * sums[1]
