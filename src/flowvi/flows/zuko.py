"""Any flow of the zuko package as a family of ours: its bijections, on our base."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from flowvi.errors import ConfigError, ShapeError
from flowvi.flows.flow import Flow, Link, check_size
from flowvi.flows.networks import check_sizes
from flowvi.flows.parameters import amortised

__all__ = ["Zuko", "ZukoChain", "zuko_flows"]


class Zuko(Flow):
    """A flow of zuko's by its name, such as `NSF`, on a diagonal Gaussian.

    zuko's bijection maps points to the base; here its inverse maps the base to points. Autoregressive families are
    taken in their coupling form (two passes instead of D) where they have one, so that sampling is fast.

    Args:
        name: a flow of `zuko.flows` on ℝᴰ.
        features: D, at least 2.
        context: width of the context; 0 for none.
        length: K, zuko's `transforms` (1 for the continuous flow, CNF); 0 leaves the Gaussian base.
        hidden: units of each hidden layer.
        parameters: `amortised`: the context enters the networks; `static`: it does not; `auto`: amortised if there is
            a context.
        settings: any other of the class's own, such as `bins=16`.

    Raises:
        ConfigError: zuko is not installed, has no such flow, or refuses a setting.
        ShapeError: a size that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> import torch
        >>> flow = Zuko("NSF", features=2, length=2)
        >>> z, log_q = flow().rsample_and_log_prob((5,))
        >>> torch.allclose(flow().log_prob(z), log_q, atol=1e-4)
        True
    """

    def __init__(
        self,
        name: str,
        features: int,
        context: int = 0,
        length: int = 3,
        *,
        hidden: Sequence[int] = (64, 64),
        parameters: str = "auto",
        **settings: Any,
    ) -> None:
        check_size("features", features, 2)
        self.length = check_size("length", length, 0)
        enters = amortised(parameters, check_size("context", context, 0))
        settings = {"hidden_features": check_sizes(hidden), "transforms": length, **settings}
        links = []
        if length:
            transform = _make(name, features, context if enters else 0, settings)
            links = [Link(ZukoChain(transform), nn.Identity() if enters else None)]
        super().__init__(features, context, links)


class ZukoChain(nn.Module):
    """A lazy transform of zuko's, which called with a context gives a bijection from points to the base."""

    conditioning_dims: ClassVar[int] = 1

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        image: Tensor
        image, log_det = self.transform(context).inv.call_and_ladj(z)
        return image, log_det

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there."""
        image: Tensor
        image, log_det = self.transform(context).call_and_ladj(z)
        return image, -log_det


def zuko_flows() -> Any:
    """The module `zuko.flows`, imported so that `torch.distributions` stays as it is.

    (Importing zuko switches off the validation of arguments in all of `torch.distributions`.)

    Raises:
        ConfigError: zuko is not installed.
    """
    validates = Distribution._validate_args
    try:
        import zuko.flows
    except ImportError as error:
        raise ConfigError("flows of kind zuko.* need the package zuko: pip install 'flowvi[zuko]'") from error
    finally:
        Distribution.set_default_validate_args(validates)
    return zuko.flows


def _make(name: str, features: int, context: int, settings: dict[str, Any]) -> nn.Module:
    flows = zuko_flows()
    # a circle's flow (NCSF) has no density on ℝᴰ
    classes = {key: value for key, value in vars(flows).items() if inspect.isclass(value) and key != "NCSF"}
    known: dict[str, Any] = {
        key: value for key, value in classes.items() if issubclass(value, flows.Flow) and value is not flows.Flow
    }
    if name not in known:
        raise ConfigError(f"zuko has no flow {name!r} that can be used here: allowed are {', '.join(sorted(known))}")
    if issubclass(known[name], flows.CNF):
        if settings.pop("transforms") != 1:
            raise ShapeError("a continuous flow (zuko.CNF) has no layers to count: expected length = 1")
    elif issubclass(known[name], (flows.MAF, flows.NAF, flows.UNAF)):
        settings = {"passes": 2, **settings}
    try:
        flow = known[name](features, context, **settings)
    except TypeError as error:
        raise ConfigError(f"zuko.flows.{name} refuses its settings: {error}") from error
    transform: nn.Module = flow.transform
    return transform
