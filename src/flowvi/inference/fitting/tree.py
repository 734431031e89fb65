"""A fit as an `xarray.DataTree`, in the groups and names that ArviZ knows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.inference.evidence.pareto import arviz
from flowvi.inference.fitting.draws import Draws, draw
from flowvi.inference.fitting.summary import summary, versions

if TYPE_CHECKING:
    import xarray

    from flowvi.inference.fitting.result import Fit

__all__ = ["data_tree"]

_DIMS = ["chain", "draw"]


def data_tree(fit: Fit, draws: int) -> xarray.DataTree:
    """Fresh draws of the posterior, from torch's global generator, as one chain.

    Groups: `posterior`, the draws by parameter (a plain vector is `z`), its entries along NAME_dim_0 and so on; and
    `sample_stats`, each (chain, draw), in nats: `log_q`, and where the fit has its log density `log_p`, `log_weights`
    (their difference) and `psis_log_weights`, Pareto-smoothed and normalised to a sum of one (Vehtari et al. 2024,
    arXiv:1507.02646). The attributes of `posterior` hold ln Z, k̂, ELBO, verdict and versions.

    Raises:
        ConfigError: xarray is missing, or draws is no whole number of at least 1.
    """
    try:
        made = import_module("xarray")
    except ImportError as error:
        raise ConfigError("to_arviz needs the package xarray: pip install 'flowvi[fit]'") from error
    found = draw(fit, draws)
    posterior = {name: _variable(name, value) for name, value in fit.joint._listed(found.values).items()}
    stats = {name: (_DIMS, column[None]) for name, column in _stats(found).items()}
    where = {"chain": [0], "draw": np.arange(draws)}
    sizes = {dim: size for dims, array in posterior.values() for dim, size in zip(dims, array.shape, strict=True)}
    entries = {dim: np.arange(size) for dim, size in sizes.items()}
    tree: xarray.DataTree = made.DataTree.from_dict(
        {
            "posterior": made.Dataset(posterior, coords=entries, attrs=_attributes(fit)),
            "sample_stats": made.Dataset(stats, coords=where),
        }
    )
    return tree


def _variable(name: str, value: Tensor) -> tuple[list[str], npt.NDArray[Any]]:
    array = value.cpu().numpy()[None]
    return [*_DIMS, *(f"{name}_dim_{i}" for i in range(array.ndim - 2))], array


def _stats(found: Draws) -> dict[str, npt.NDArray[np.float64]]:
    stats = {"log_q": _column(found.log_q)}
    if found.log_p is not None:
        log_weights = _column(found.log_weights)
        smoothed = _smoothed(log_weights)
        stats |= {"log_p": _column(found.log_p), "log_weights": log_weights, "psis_log_weights": smoothed}
    return stats


def _column(values: Tensor) -> npt.NDArray[np.float64]:
    column: npt.NDArray[np.float64] = values.double().cpu().numpy()
    return column


def _smoothed(log_weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pareto-smoothed and normalised; as they are, normalised, where there are too few to smooth or not all finite."""
    if len(log_weights) >= 25 and np.isfinite(log_weights).all() and np.ptp(log_weights) > 0:
        log_weights = np.asarray(arviz().psislw(-log_weights)[0])  # it wants the log weights negated
    normalised: npt.NDArray[np.float64] = log_weights - np.logaddexp.reduce(log_weights)
    return normalised


def _attributes(fit: Fit) -> dict[str, Any]:
    """Numbers and text alone, as netCDF and Zarr hold them."""
    return {
        "inference_library": "flowvi",
        "inference_library_version": versions()["flowvi"],
        "torch_version": versions()["torch"],
        "python_version": versions()["python"],
        **{name: _plain(value) for name, value in summary(fit).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return "\n".join(value)
    return int(value) if isinstance(value, bool) else value
