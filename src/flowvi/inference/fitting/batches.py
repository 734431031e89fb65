"""A log likelihood that is a sum over rows of data: what `fit` is told, and whether it is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError, DataError, DensityError, ShapeError
from flowvi.flows.registry import Whole
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.joint import Joint

__all__ = ["Batches", "affordable", "check_sum"]

_EVALUATIONS = 100_000_000  # of one row at one draw, for ln Z
_LEAST = {"evidence": 2000, "draws": 1000, "chains": 16}
_CHECKED = 64  # rows on either side of a sum


@dataclass(frozen=True, init=False)
class Batches:
    """A log likelihood Σ_i ln p(row_i | θ) whose gradient steps take `size` random rows, times N/size.

    Args:
        log_likelihood: values of the parameters, (n, *shape), and any number of rows -> the SUM over these rows (n,),
            in nats; no prior in it, and no mean.
        data: a tensor (N, …), or several with the same N as a tuple; log_likelihood is given rows of each.
        size: of a minibatch.

    Raises:
        ConfigError: a log_likelihood that cannot be called, or a size that is no whole number from 1 to N.
        DataError: data that are no tensors, or none.
        ShapeError: tensors of different lengths, or without rows.

    Example:
        >>> x = torch.randn(1000)
        >>> Batches(lambda mu, x: -(x - mu).square().sum(-1) / 2, x, size=100).rows
        1000
    """

    log_likelihood: Callable[..., Tensor]
    data: tuple[Tensor, ...]
    size: int

    def __init__(
        self, log_likelihood: Callable[..., Tensor], data: Tensor | tuple[Tensor, ...], size: int = 256
    ) -> None:
        data = tuple(data) if isinstance(data, tuple | list) else (data,)
        for each in data:
            if not isinstance(each, Tensor):
                raise DataError(
                    f"data hold a {type(each).__name__}: expected a torch.Tensor (N, …), or a tuple of them"
                )
        if not data or not all(each.dim() and len(each) for each in data):
            shapes = ", ".join(str(tuple(each.shape)) for each in data) or "nothing"
            raise ShapeError(f"data of shape {shapes}: expected tensors (N, …) of at least one row")
        if len({len(each) for each in data}) > 1:
            found = ", ".join(str(len(each)) for each in data)
            raise ShapeError(
                f"data of {found} rows: expected tensors of the same length, row i of each belongs together"
            )
        if not callable(log_likelihood):
            raise ConfigError(f"log_likelihood is a {type(log_likelihood).__name__}: expected a function")
        if not Whole().take(size) or size > len(data[0]):
            raise ConfigError(f"size = {size!r}: expected a whole number of rows from 1 to N, here {len(data[0])}")
        for name, value in (("log_likelihood", log_likelihood), ("data", data), ("size", size)):
            object.__setattr__(self, name, value)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.data[0])

    def some(self, count: int) -> tuple[Tensor, ...]:
        """`count` different rows by chance."""
        chosen = torch.randperm(self.rows)[:count] if 20 * count > self.rows else _few(self.rows, count)
        return tuple(each[chosen.to(each.device)] for each in self.data)

    def chunks(self, rows: int) -> Iterator[tuple[Tensor, ...]]:
        """All rows, at most so many at a time."""
        return zip(*(each.split(rows) for each in self.data), strict=True)


def _few(rows: int, count: int) -> Tensor:
    """Different numbers below `rows`, without a permutation of all."""
    chosen = torch.randint(rows, (2 * count,)).unique()
    return chosen[torch.randperm(len(chosen))[:count]] if len(chosen) >= count else torch.randperm(rows)[:count]


def affordable(effort: Effort, rows: int) -> tuple[Effort, tuple[str, ...]]:
    """The effort with fewer draws, where all rows at all of them would be too dear; and what to say of it."""
    share = _EVALUATIONS / (rows * effort.evidence)
    notes = [f"Gradient steps took minibatches; all that is printed rests on all {rows:,} rows."]
    if share >= 1:
        return effort, tuple(notes)
    less = {
        name: min(getattr(effort, name), max(least, int(share * getattr(effort, name))))
        for name, least in _LEAST.items()
    }
    notes.append(
        f"So many rows at so many draws are dear: ln Z is from {less['evidence']:,} draws instead of "
        f"{effort.evidence:,}, each ELBO from {less['draws']:,} instead of {effort.draws:,}, and chains are "
        f"{less['chains']} instead of {effort.chains}."
    )
    return replace(effort, **less), tuple(notes)


@torch.no_grad()
def check_sum(batches: Batches, joint: Joint, z: Tensor) -> None:
    """Whether log_likelihood(A) + log_likelihood(B) = log_likelihood(A and B), at points z (n, D).

    Raises:
        DensityError: it is a mean, has a prior inside, or is no sum for another reason; or is (n,) of no rows.
    """
    if batches.rows < 4:
        return
    values, count = joint.constrain(z)[0], min(_CHECKED, batches.rows // 4)
    first, second, both = _three(batches, values, batches.some(3 * count), count)
    apart, scale = first + second - both, first.abs() + second.abs() + both.abs()
    good = apart.isfinite()
    near = (1e-4 if first.dtype == torch.float32 else 1e-9) * (1 + scale)
    if (apart.abs() <= near)[good].all():
        return
    at = int(torch.where(good, apart.abs() - near, -torch.inf).argmax())
    sizes = f"{count} rows give {first[at]:.6g}, {2 * count} others {second[at]:.6g}, all together {both[at]:.6g}"
    raise DensityError(
        f"the log likelihood is not a sum over rows: {sizes}; {_cause(first, second, both, apart, near, good)}"
    )


def _three(batches: Batches, values: Any, rows: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """On `count` rows, on twice as many others, and on all of them."""
    parts = (slice(0, count), slice(count, None), slice(None))
    return tuple(batches.log_likelihood(values, *(each[part] for each in rows)).detach() for part in parts)


def _cause(first: Tensor, second: Tensor, both: Tensor, apart: Tensor, near: Tensor, good: Tensor) -> str:
    mean = (first + 2 * second) / 3
    if ((both - mean).abs() <= near)[good].all():
        return "it is their mean: use .sum(-1) over the rows instead of .mean(-1)"
    return (
        f"the difference, {apart[good].mean():.6g} nats on average, belongs to no row: a prior inside it belongs into "
        "log_density, fit's first argument, and nothing may depend on how many rows there are"
    )
