"""The first calls of a user's log density, on a handful of points: what is wrong with it is said before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowvi.errors import DensityError
from flowvi.inference.fitting.density import Density

__all__ = ["check_density"]

_POINTS = 5
_CAUSES = ".item(), .numpy(), .detach(), float(x), torch.no_grad() or torch.tensor(x)"


def check_density(density: Density, z: Tensor) -> None:
    """Call the user's function on points z (n, D), and on two of them alone.

    Whether it can be mapped by `vmap` is found here too: where it cannot, `density.looped` is set.

    Raises:
        DensityError: it returns no tensor, or one of another shape, dtype or device; it changes its argument in place;
            no gradient reaches a parameter that it depends on; a point's value depends on the other points.
        Exception: whatever the function itself raises, unchanged.

    Example:
        >>> from flowvi.inference.fitting.joint import Joint
        >>> check_density(Density(lambda z: -z.square(), Joint.of(2)), torch.zeros(5, 2))
        Traceback (most recent call last):
        ...
        flowvi.errors.DensityError: the log density returned shape (5, 2) for 5 points: expected (5,), one number for \
each; did you forget a sum over the last dimension, .sum(-1)?
    """
    n = _POINTS + (z.shape[-1] == _POINTS)  # so that n is not D
    z = z[torch.arange(n) % len(z)]
    if not density.vectorised:
        _check_one(density, z)
    leaves = _differentiable(density, z)
    before = {name: (leaf._version, leaf.detach().clone()) for name, leaf in leaves.items()}
    found = density.raw(density.joint._named(list(leaves.values())))
    _check_unchanged(before, leaves)
    _check_value(density, found, z, n)
    _check_gradient(density, found, z, leaves)
    _check_rows(density, found.detach(), z)


def _differentiable(density: Density, z: Tensor) -> dict[str, Tensor]:
    """The values by name, as tensors that record a gradient and may be changed in place (which leaves may not)."""
    values = density.joint._listed(density.joint.constrain(z)[0])
    return {name: value.detach().clone().requires_grad_() * 1 for name, value in values.items()}


def _check_one(density: Density, z: Tensor) -> None:
    """One point alone, so that a shape is judged as the user sees it; then whether `vmap` can map the function."""
    first = _row(density, density.joint.constrain(z)[0], 0)
    found: Any = density.function(first)
    if isinstance(found, Tensor) and found.shape != ():
        raise DensityError(
            f"the log density returned shape {tuple(found.shape)} for one point (vectorised=False): expected (), one "
            "number; did you forget a sum, .sum()?"
        )
    _check_tensor(found, z)
    try:
        density.raw(density.joint.constrain(z)[0])
    except Exception:  # whatever vmap cannot do; the loop then raises what is the user's
        density.looped = True


def _row(density: Density, values: Any, i: int) -> Any:
    return density.joint._named([value[i] for value in density.joint._listed(values).values()])


def _check_unchanged(before: dict[str, tuple[int, Tensor]], leaves: dict[str, Tensor]) -> None:
    for name, (version, value) in before.items():
        if leaves[name]._version != version or not torch.equal(leaves[name].detach(), value):
            raise DensityError(
                f"the log density changes its argument {name!r} in place (by x += …, x[…] = … or x.add_(…)): work on a "
                "new tensor, x = x + …, or on x.clone()"
            )


def _check_tensor(found: Any, z: Tensor) -> None:
    if not isinstance(found, Tensor):
        hint = " (was the return forgotten?)" if found is None else ""
        raise DensityError(f"the log density returned a {type(found).__name__}{hint}: expected a torch.Tensor")
    if found.dtype not in (torch.float32, torch.float64):
        hint = "take the real part, .real" if found.is_complex() else "compute in the parameters' own precision"
        raise DensityError(f"the log density returned {found.dtype}: expected torch.float32 or torch.float64; {hint}")
    if found.device != z.device:
        raise DensityError(
            f"the log density returned a tensor on {found.device}, the parameters are on {z.device}: move your data "
            f"there, or say fit(…, device={str(found.device)!r})"
        )


def _check_value(density: Density, found: Any, z: Tensor, n: int) -> None:
    _check_tensor(found, z)
    if found.shape == (n,):
        return
    size = density.joint.size
    if found.shape == (n, 1):
        hint = "drop the last dimension, .squeeze(-1)"
    elif found.shape[:1] == (n,):
        hint = "did you forget a sum over the last dimension, .sum(-1)?"
    elif found.dim() == 0:
        hint = "a sum over all points must be one over the last dimension, .sum(-1); or say fit(…, vectorised=False)"
    elif found.shape == (size,) or found.shape[:1] == (size,):
        hint = "the first dimension of each parameter counts the points; for a function of one point, vectorised=False"
    else:
        hint = "the first dimension of each parameter counts the points"
    shape = tuple(found.shape)
    raise DensityError(
        f"the log density returned shape {shape} for {n} points: expected ({n},), one number for each; {hint}"
    )


def _check_gradient(density: Density, found: Tensor, z: Tensor, leaves: dict[str, Tensor]) -> None:
    slopes: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if found.requires_grad:
        slopes = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
    missing = [name for name, slope in zip(leaves, slopes, strict=True) if slope is None]
    # a density may be constant in a parameter: what is wrong is a dependence without a gradient
    for name in missing:
        moved = density.joint._listed(density.joint.constrain(z + 0.1)[0])
        mixed = [moved[each] if each == name else leaf.detach() for each, leaf in leaves.items()]
        again = density.raw(density.joint._named(mixed))
        if not torch.equal(again, found.detach()):
            of = "" if density.joint.plain else f" to {name!r}"
            raise DensityError(
                f"the log density depends on its argument, but no gradient leads back{of}: usual causes are {_CAUSES}; "
                "compute with torch's functions on the argument itself"
            )


def _check_rows(density: Density, found: Tensor, z: Tensor) -> None:
    """Two points, together and each alone, give what they gave among all."""
    rows = [int(i) for i in found.isfinite().nonzero()[:2].flatten()] or [0]
    choices = [*[[i] for i in rows], rows]
    for chosen in choices:
        values = density.joint.constrain(z[chosen])[0]
        again = density.raw(values)
        if again.shape != (len(chosen),):
            points = f"{len(chosen)} point" + "s" * (len(chosen) > 1)
            raise DensityError(
                f"the log density returned shape {tuple(again.shape)} for {points}: "
                f"expected ({len(chosen)},); .squeeze() without a dimension drops the first one when it is 1"
            )
        near = 1e-3 if z.dtype == torch.float32 or found.dtype == torch.float32 else 1e-7
        if not torch.allclose(again.detach(), found[chosen], rtol=near, atol=near, equal_nan=True):
            raise DensityError(
                f"the log density of a point changes with the other points of the batch, or from call to call: "
                f"{found[chosen[0]].item():.6g} among {len(z)} points, {again[0].item():.6g} among {len(chosen)}; each "
                "point's value must be its own (no mean or sum over the first dimension), and without chance"
            )
