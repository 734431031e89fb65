"""The user's log density of parameters and context, over unconstrained points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import DensityError
from flowvi.inference.fitting.checks import check_density
from flowvi.inference.fitting.density import Density

__all__ = ["RowDensity", "check_rows"]


class RowDensity(Density):
    """ln f(y(z), c) + Σ ln|det ∂y/∂z|, of points z (S, N, D) for N rows of context: S points to a row.

    Args:
        function: f, values (n, *shape) and n rows of context (n, C) -> (n,).
        joint: the parameters.

    Example:
        >>> from flowvi.inference.fitting.joint import Joint
        >>> density = RowDensity(lambda z, c: -(z - c).square().sum(-1), Joint.of(2))
        >>> density.at(torch.zeros(5, 3, 2), torch.ones(3, 2)).shape
        torch.Size([5, 3])
    """

    function: Callable[..., Tensor]

    def at(self, z: Tensor, context: Tensor) -> Tensor:
        """The log density at z (S, N, D), given context (N, C): (S, N), in nats."""
        each = context.expand(*z.shape[:-1], -1).reshape(-1, context.shape[-1])
        return self.given(each)(z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])

    def of(self, row: Tensor) -> Density:
        """The log density of one data set, context (C,), as `fit` takes one; what it meets is counted here too."""
        density = Density(lambda values: self.function(values, row.expand(_count(values), -1)), self.joint)
        density.counts = self.counts
        return density

    def given(self, rows: Tensor) -> Density:
        """The log density of as many points as there are rows of context, (n, C), each with its own."""
        density = Density(lambda values: self.function(values, rows), self.joint)
        density.counts = self.counts
        return density


def check_rows(density: RowDensity, context: Tensor, z: Tensor) -> None:
    """Call the user's function on points z (n, D) for one row of context, then for several at once.

    Raises:
        DensityError: what `check_density` finds; the value of a point depends on another's context, or on no context.
        Exception: whatever the function itself raises, unchanged.
    """
    check_density(density.of(context[0]), z)
    rows = context[: len(z)].clone()
    z = z[: len(rows)]
    with torch.no_grad():
        together = density.given(rows)(z)
        if not torch.equal(rows, context[: len(z)]):
            raise DensityError("the log density changes its context in place: work on a new tensor, or on c.clone()")
        alone = torch.cat([density.of(row)(point[None]) for row, point in zip(context, z, strict=False)])
        same = density.given(context)(z[:1].expand(len(context), -1))
    near = 1e-3 if together.dtype == torch.float32 else 1e-7
    if not torch.allclose(together, alone, rtol=near, atol=near, equal_nan=True):
        i = int((together - alone).abs().nan_to_num(torch.inf).argmax())
        raise DensityError(
            f"the log density of point {i} is {together[i].item():.6g} among {len(z)} points with {len(z)} rows of "
            f"context, and {alone[i].item():.6g} alone with its own row: point i must use row i of the context and no "
            "other; values are (n, …) and the context is (n, C), so sum over the last dimension, .sum(-1)"
        )
    if len(context) > 1 and torch.equal(same, same[:1].expand_as(same)):
        raise DensityError(
            f"the log density is the same for {len(context)} rows of context: use log_density's second argument, the "
            "rows of the points, not data from outside; if there is nothing to depend on, leave context out"
        )


def _count(values: Any) -> int:
    return len(values if isinstance(values, Tensor) else next(iter(values.values())))
