"""What flow `fit` takes: the kinds of an effort, one kind, or a module of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from torch import nn

from flowvi import flows
from flowvi.errors import ConfigError
from flowvi.flows.registry import family

__all__ = ["flow_makers"]

# Chosen on the targets for calibration (banana, funnel, Rosenbrock, skew normal) by ELBO and the cost of a step: planar
# layers bend fast and cheaply, couplings follow a width that depends on the place.
_CHOSEN: Mapping[str, Mapping[str, Any]] = {
    "planar": {"length": 16},
    "realnvp": {"length": 8, "hidden": (32,)},
}
_LENGTH = 8  # of a chain that is not among them


def flow_makers(flow: str | nn.Module | None, features: int, kinds: Sequence[str]) -> list[Callable[[], nn.Module]]:
    """What makes each flow of a fit: of the effort's kinds, of the one that the user names, or copies of a module.

    Couplings need two coordinates: with one, every flow is planar.

    Raises:
        ConfigError: an unknown kind, or a module that called gives no distribution over R^D with a density.
    """
    if isinstance(flow, nn.Module):
        _check_flow(flow, features)
        return [partial(deepcopy, flow) for _ in kinds]
    named = [flow] * len(kinds) if flow else ["planar" if features == 1 else kind for kind in kinds]
    return [partial(flows.build, kind, features=features, **_options(kind)) for kind in named]


def _options(kind: str) -> Mapping[str, Any]:
    return _CHOSEN.get(kind) or {"length": _LENGTH if family(kind).chain else 0}


def _check_flow(flow: nn.Module, features: int) -> None:
    wanted = f"a distribution of event_shape ({features},) with rsample_and_log_prob, such as flowvi's flows and zuko's"
    q = flow()
    if not hasattr(q, "rsample_and_log_prob"):
        raise ConfigError(f"flow: called, it gives a {type(q).__name__}: expected {wanted}")
    if tuple(q.event_shape) != (features,) or tuple(q.batch_shape):
        shapes = f"batch_shape {tuple(q.batch_shape)} and event_shape {tuple(q.event_shape)}"
        raise ConfigError(f"flow: called, it gives a distribution of {shapes}: expected {wanted}")
