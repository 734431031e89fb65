"""Flows: modules that, called with a context, give a distribution. Families are listed in `flowvi.flows.registry`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowvi.flows.registry import FAMILIES, check_options, family

if TYPE_CHECKING:
    from flowvi.flows.composed import Composed
    from flowvi.flows.fitting import fit_to
    from flowvi.flows.flow import Flow as Flow  # explicitly, for rooms above that name it
    from flowvi.flows.flow import FlowDistribution, Link
    from flowvi.flows.full_rank import FullRankGaussian
    from flowvi.flows.gaussian import Gaussian
    from flowvi.flows.householder import Householder
    from flowvi.flows.iaf import IAF
    from flowvi.flows.networks import NetworkFlow
    from flowvi.flows.nice import NICE
    from flowvi.flows.parameters import ParametricFlow as ParametricFlow
    from flowvi.flows.planar import Planar
    from flowvi.flows.radial import Radial
    from flowvi.flows.realnvp import RealNVP
    from flowvi.flows.sylvester import Sylvester
    from flowvi.flows.zuko import Zuko

_HOMES = {
    "Composed": "flowvi.flows.composed",
    "Flow": "flowvi.flows.flow",
    "FlowDistribution": "flowvi.flows.flow",
    "Link": "flowvi.flows.flow",
    "NetworkFlow": "flowvi.flows.networks",
    "ParametricFlow": "flowvi.flows.parameters",
    "Zuko": "flowvi.flows.zuko",
    "fit_to": "flowvi.flows.fitting",
}
_HOMES |= {name: module for module, name in (entry.target.split(":") for entry in FAMILIES.values())}

__all__ = ["FAMILIES", "build"]
__all__ += sorted(_HOMES)


def build(kind: str, features: int, context: int = 0, length: int = 0, **options: Any) -> Flow:
    """A flow of any registered family, of zuko's, or of several families over one base.

    Args:
        kind: a key of `FAMILIES`, such as `planar`; `zuko.NAME`, such as `zuko.NSF`; or several joined by `+`, such as
            `planar+radial`, which chains `length` layers of each and gives an option to all that take it.
        features: D.
        context: width of the context; 0 for none.
        length: K, the number of layers.
        options: the family's own, as the registry lists them.

    Raises:
        ConfigError: an unknown kind or option, or a value that is not allowed.
        ShapeError: a size that the family cannot take.

    Example:
        >>> build("planar", features=2, length=4, init="xavier")().event_shape
        torch.Size([2])
    """
    entry = family(kind)
    module, name = entry.target.split(":")
    constructor = getattr(import_module(module), name)
    settings = {**entry.arguments, **check_options(kind, options)}
    flow: Flow = constructor(features=features, context=context, length=length, **settings)
    flow.built = {"kind": kind, "features": features, "context": context, "length": length, **options}
    return flow


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
