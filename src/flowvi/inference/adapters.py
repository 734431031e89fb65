"""Log densities of other packages, as `flowvi.fit` takes them: by value and gradient, and Pyro's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowvi.errors import ConfigError, DensityError
from flowvi.inference import supports
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint, Values
from flowvi.inference.supports import Support

__all__ = ["from_pyro", "from_value_and_grad"]

Array = npt.NDArray[np.float64]
LogDensity = Callable[[Any], Tensor]
ValueAndGrad = Callable[[Any], tuple[Any, Any]]


def from_value_and_grad(function: ValueAndGrad, *, batched: bool = False) -> LogDensity:
    """A log density for `fit` from a function that returns its value and gradient: NumPy's, Stan's, JAX's.

    Such are `jax.value_and_grad(f)`, or `jax.vmap(jax.value_and_grad(f))` with `batched`; and BridgeStan's
    `model.log_density_gradient`, over Stan's unconstrained parameters. What the function raises is not touched.

    Args:
        function: one point, a float64 array (D,), or by name where `fit` is given supports -> ln f in nats, and its
            gradient in the form of the point. Anything that NumPy reads as an array may come back.
        batched: whether the function takes many points at once, (n, D) -> (n,) and (n, D); else it is called in a loop.

    Returns:
        A function of points (n, D), or by name (n, *shape), that gives ln f (n,) and has a first derivative.

    Raises:
        DensityError: (when called) what comes back is no pair, or a value or gradient of another shape.

    Example:
        >>> def value_and_grad(x):
        ...     return -0.5 * np.sum(x**2), -x
        >>> log_density = from_value_and_grad(value_and_grad)
        >>> points = torch.tensor([[1.0, 2.0], [0.0, 1.0]], requires_grad=True)
        >>> log_density(points).sum().backward()
        >>> log_density(points).tolist(), points.grad.tolist()
        ([-2.5, -0.5], [[-1.0, -2.0], [-0.0, -1.0]])
    """

    def log_density(values: Values) -> Tensor:
        named = values if isinstance(values, Mapping) else {"": values}
        apply: Callable[..., Tensor] = _ValueAndGrad.apply  # not annotated in torch
        found = apply(function, batched, list(named), *named.values())
        return found

    return log_density


class _ValueAndGrad(torch.autograd.Function):
    """ln f at points, its gradient kept for the way back. A plain vector has the name ''."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Any], Any], batched: bool, names: list[str], *values: Tensor) -> Tensor:
        arrays = {name: value.detach().double().cpu().numpy().copy() for name, value in zip(names, values, strict=True)}
        n = len(values[0])
        if batched:
            log_f, slopes = _called(function, arrays, (n,))
        else:
            rows = [_called(function, {name: x[i].copy() for name, x in arrays.items()}, ()) for i in range(n)]
            log_f = np.array([row[0] for row in rows])
            slopes = {name: np.stack([row[1][name] for row in rows]) for name in names}
        ctx.save_for_backward(*(torch.from_numpy(slopes[each]).to(x) for each, x in zip(names, values, strict=True)))
        return torch.from_numpy(log_f).to(values[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along: Tensor) -> Any:
        slopes = [along.reshape(-1, *(1,) * (slope.dim() - 1)) * slope for slope in ctx.saved_tensors]
        return None, None, None, *slopes


def _called(
    function: Callable[[Any], Any], arrays: dict[str, Array], shape: tuple[int, ...]
) -> tuple[Array, dict[str, Array]]:
    """The value, of this shape, and the gradients of one call, in the shapes of the arrays."""
    plain = list(arrays) == [""]
    found = function(arrays[""] if plain else dict(arrays))
    if not isinstance(found, Sequence) or len(found) != 2:
        raise DensityError(f"the function returned a {type(found).__name__}: expected a pair, (value, gradient)")
    value, slopes = found
    if not plain and not (isinstance(slopes, Mapping) and set(slopes) == set(arrays)):
        raise DensityError(f"the gradient is a {type(slopes).__name__}: expected a dict of {', '.join(arrays)}")
    log_f = np.array(value, dtype=np.float64)
    if log_f.size != int(np.prod(shape)):
        raise DensityError(f"the function returned a value of shape {log_f.shape}: expected {shape}")
    taken = {name: np.array(slopes if plain else slopes[name], dtype=np.float64) for name in arrays}
    for name, slope in taken.items():
        if slope.shape != arrays[name].shape:
            of = f" of {name!r}" if name else ""
            shapes = f"{slope.shape}: expected that of the point, {arrays[name].shape}"
            raise DensityError(f"a gradient{of} of shape {shapes}")
    return log_f.reshape(shape), taken


def from_pyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[LogDensity, dict[str, Support]]:
    """A log density and supports for `fit` from a Pyro model and its data (the package pyro-ppl).

    `fit(*from_pyro(model, data))` fits the posterior of its latent sites by name, each in the model's own coordinates,
    (n, *shape). Points are mapped over the model by `torch.func.vmap`, or where that cannot, in a loop.

    Args:
        model: Pyro's, its observed sites given by `obs=` or `pyro.condition`.
        args: what the model is called with, as are `kwargs`.

    Raises:
        ConfigError: Pyro is missing; the model has no latent site; or one that is discrete, whose support depends on
            other sites, or that no support of flowvi's fits.

    Example:
        >>> log_density, supports = from_pyro(model, data)  # doctest: +SKIP
        >>> found = flowvi.fit(log_density, supports)  # doctest: +SKIP
    """
    try:
        pyro, poutine = import_module("pyro"), import_module("pyro.poutine")
    except ImportError as error:
        raise ConfigError("from_pyro needs the package pyro-ppl: pip install pyro-ppl") from error

    def trace(run: Callable[..., Any]) -> Any:
        return poutine.util.prune_subsample_sites(poutine.trace(run).get_trace(*args, **kwargs))

    with torch.random.fork_rng([]):
        traces = [_latent(trace(model)) for _ in range(2)]
    found = {name: _support(name, site) for name, site in traces[0].items()}
    for name, site in traces[1].items():
        if name not in found or _support(name, site) != found[name]:
            raise ConfigError(f"the support of the site {name!r} depends on other sites: give it one that does not")

    def log_density(values: dict[str, Tensor]) -> Tensor:
        with pyro.validation_enabled(False):  # validation looks at values, which vmap cannot
            total: Tensor = trace(poutine.condition(model, data=values)).log_prob_sum()
        return total

    density = Density(log_density, Joint.of(found), vectorised=False)
    density.looped = not _maps(density, traces)
    return density.raw, found


def _latent(trace: Any) -> dict[str, Any]:
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and not site["is_observed"]}
    if not sites:
        raise ConfigError("the model has no latent site: every pyro.sample in it is observed")
    return sites


def _maps(density: Density, traces: list[dict[str, Any]]) -> bool:
    """Whether vmap gives what a loop does, at two draws of the prior."""
    points = {name: torch.stack([each[name]["value"].detach() for each in traces]) for name in density.joint.supports}
    try:
        density.looped = False
        mapped = density.raw(points)
    except Exception:  # whatever vmap cannot do; the loop then raises what is the model's
        return False
    density.looped = True
    return torch.allclose(mapped, density.raw(points), rtol=1e-4, atol=1e-4, equal_nan=True)


_OF_ONE_SIZE = {
    "Simplex": supports.simplex,
    "OrderedVector": supports.ordered,
    "CorrCholesky": supports.correlation_cholesky,
}


def _support(name: str, site: Any) -> Support:
    """The support of a site's values, by the class of its constraint (Pyro's own are no attributes of torch's)."""
    constraint, shape = site["fn"].support, tuple(site["value"].shape)
    if constraint.is_discrete:
        raise ConfigError(f"the site {name!r} is discrete: sum it out of the model, or condition on it")
    while type(constraint).__name__ == "_IndependentConstraint":
        constraint = constraint.base_constraint
    kind = type(constraint).__name__.lstrip("_")
    if kind == "Real":
        return supports.real(*shape)
    if kind in ("GreaterThan", "GreaterThanEq") and bool((torch.as_tensor(constraint.lower_bound) == 0).all()):
        return supports.positive(*shape)
    if kind in ("Interval", "HalfOpenInterval"):
        low, high = (_alike(bound) for bound in (constraint.lower_bound, constraint.upper_bound))
        if (low, high) == (0, 1):
            return supports.unit_interval(*shape)
        if low is not None and high is not None:
            return supports.interval(low, high, *shape)
    if kind in _OF_ONE_SIZE and len(shape) == (2 if kind == "CorrCholesky" else 1):
        return _OF_ONE_SIZE[kind](shape[-1])
    raise ConfigError(
        f"the site {name!r} of shape {shape} has the support {site['fn'].support}: flowvi has real, positive and "
        "interval (bounds alike for all entries) of any shape, and one simplex, ordered vector or "
        "correlation_cholesky a site"
    )


def _alike(bound: Any) -> float | None:
    values = torch.as_tensor(bound, dtype=torch.float64).unique()
    return values.item() if len(values) == 1 else None
