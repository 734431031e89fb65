"""The data sets of an amortised fit, one row of context each: checked, split, and their range known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ContextError, DataError, ShapeError

__all__ = ["Contexts"]

_LEAST = 20  # rows: of fewer, a tenth is too little to judge by
_HELD_OUT = 10  # every such row, in random order, is held out


@dataclass(frozen=True)
class Contexts:
    """Rows of context, of the parameters' dtype and device.

    Example:
        >>> contexts = Contexts.of(torch.arange(40.0).reshape(20, 2), torch.zeros(()))
        >>> len(contexts.training), len(contexts.held_out), contexts.outside(torch.tensor([[900.0, 1.0]]))
        (18, 2, tensor([True]))
    """

    training: Tensor
    """(N, C)."""
    held_out: Tensor
    """(M, C): a tenth of all, by chance, from which nothing is learned."""

    @classmethod
    def of(cls, data: Any, like: Tensor) -> Contexts:
        """Check and split what `fit` is given, by the global generator.

        Raises:
            DataError: no tensor, values that are not finite, fewer than 20 rows, or no column that varies.
            ShapeError: not (N, C).
        """
        if not isinstance(data, Tensor):
            raise DataError(f"context is a {type(data).__name__}: expected a torch.Tensor (N, C), one row a data set")
        if data.dim() != 2 or not data.shape[1]:
            hint = "; of one number a data set, context[:, None]" if data.dim() == 1 else ""
            raise ShapeError(f"context of shape {tuple(data.shape)}: expected (N, C), one row a data set{hint}")
        if len(data) < _LEAST:
            raise DataError(
                f"context has {len(data)} rows: expected at least {_LEAST}, one a data set; for one data set, fit a "
                "log density of the parameters alone"
            )
        rows = data.detach().to(like)
        _check_finite(rows)
        if not (rows != rows[0]).any():
            raise DataError(f"all {len(rows)} rows of context are the same: there is nothing to amortise over")
        rows = rows[torch.randperm(len(rows)).to(rows.device)]
        held_out = len(rows) // _HELD_OUT
        return cls(rows[held_out:], rows[:held_out])

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest of each column over the training rows, (C,) each."""
        return self.training.amin(0), self.training.amax(0)

    def outside(self, context: Tensor) -> Tensor:
        """Whether a row (…, C) has an entry beyond the range: (…), bool."""
        low, high = self.range
        return ((context < low) | (context > high)).any(-1)

    def taken(self, context: Any) -> Tensor:
        """Context (C,) or (N, C) as the fit takes it.

        Raises:
            DataError: no tensor, or values that are not finite.
            ContextError: another width, or more dimensions.
        """
        width = self.training.shape[1]
        if not isinstance(context, Tensor):
            raise DataError(
                f"context is a {type(context).__name__}: expected a torch.Tensor (N, {width}) or ({width},)"
            )
        if context.dim() not in (1, 2) or context.shape[-1] != width:
            raise ContextError(f"context of shape {tuple(context.shape)}: expected (N, {width}) or ({width},)")
        rows = context.detach().to(self.training)
        _check_finite(rows.reshape(-1, width))
        return rows


def _check_finite(rows: Tensor) -> None:
    bad = (~rows.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"context is {rows[row, column].item()} at row {row}, column {column}: expected finite numbers; leave such "
            "data sets out, or fill the gap and say so in a column of its own"
        )
