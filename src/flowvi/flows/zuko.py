"""Any flow of the zuko package as a family of ours: its bijections, on our base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from flowvi.errors import ConfigError
from flowvi.flows.flow import Flow, Link, check_size
from flowvi.flows.networks import check_sizes
from flowvi.flows.parameters import amortised
from flowvi.flows.registry import family

__all__ = ["Zuko", "ZukoChain", "zuko_flows"]


class Zuko(Flow):
    """A flow of zuko's by its name, such as `NSF`, on a diagonal Gaussian.

    zuko's bijection maps points to the base; here its inverse maps the base to points. Autoregressive families are
    taken in their coupling form, two passes instead of D, so that sampling is fast. Those of zuko's flows are known
    here whose inverse is in closed form: the others are inverted by bisection within a box, or by an ODE's solver, and
    the density that comes with a sample would be wrong.

    Args:
        name: MAF, NICE, NSF or RealNVP, of `zuko.flows`.
        features: D, at least 2.
        context: width of the context; 0 for none.
        length: K, zuko's `transforms`; 0 leaves the Gaussian base.
        hidden: units of each hidden layer.
        parameters: `amortised`: the context enters the networks; `static`: it does not; `auto`: amortised if there is
            a context.
        settings: any other of the class's own, such as `bins=16`.

    Raises:
        ConfigError: another name, zuko is not installed, or it refuses a setting.
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
        name = family(f"zuko.{name}").arguments["name"]
        check_size("features", features, 2)
        own = sorted({"transforms", "hidden_features"} & settings.keys())
        if own:
            raise ConfigError(f"{own[0]} is zuko's word: say length and hidden")
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
    constructor: Any = getattr(flows, name)
    if issubclass(constructor, flows.MAF):
        settings = {"passes": 2, **settings}
    try:
        flow = constructor(features, context, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"zuko.flows.{name} refuses its settings: {error}") from error
    transform: nn.Module = flow.transform
    return transform
