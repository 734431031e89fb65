"""Flows: modules that, called with a context, give a distribution. Families are listed in `flowvi.flows.registry`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowvi.flows.registry import FAMILIES, check_options, family

if TYPE_CHECKING:
    from flowvi.flows.flow import Flow, FlowDistribution
    from flowvi.flows.gaussian import Gaussian
    from flowvi.flows.planar import Planar

__all__ = ["FAMILIES", "Flow", "FlowDistribution", "Gaussian", "Planar", "build"]

_HOMES = {"Flow": "flowvi.flows.flow", "FlowDistribution": "flowvi.flows.flow"}
_HOMES |= {name: module for module, name in (entry.target.split(":") for entry in FAMILIES.values())}


def build(kind: str, features: int, context: int = 0, length: int = 0, **options: Any) -> Flow:
    """A flow of any registered family.

    Args:
        kind: a key of `FAMILIES`, such as `planar`.
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
    module, name = family(kind).target.split(":")
    constructor = getattr(import_module(module), name)
    flow: Flow = constructor(features, context, length, **check_options(kind, options))
    return flow


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
