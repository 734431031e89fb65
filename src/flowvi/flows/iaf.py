"""Inverse autoregressive flow (Kingma et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowvi.errors import ConfigError
from flowvi.flows.flow import check_size
from flowvi.flows.networks import Conditioner, NetworkFlow, check_sizes
from flowvi.flows.parameters import check_word
from flowvi.flows.registry import Number

__all__ = ["IAF", "AutoregressiveLayer"]


class IAF(NetworkFlow):
    """f(z)_i = σ_i·z_i + (1 − σ_i)·m_i, with m_i and σ_i = logistic(s_i + gate bias) from z_1…z_{i−1}, K times.

    (Kingma et al. 2016, Eq. 13 and 14, and Algorithm 1.) ln|det| = Σ ln σ_i. One pass of a masked network (Germain
    et al. 2015, arXiv:1502.03509) samples; the inverse, and with it `log_prob` of any point, takes D passes, while
    that of the flow's own samples comes with them. The order of the coordinates is reversed in every other layer.

    Args:
        features: D.
        context: width of the context; 0 for none.
        length: K, the number of layers; 0 leaves the Gaussian base.
        gate_bias: added to s, so that a layer starts near the identity (at z·logistic(gate_bias)).
        hidden: units of each hidden layer of the masked tanh network.
        parameters: `amortised`: the context enters the networks; `static`: it does not; `auto`: amortised if there is
            a context.
        init: `gate` (m = s = 0), `xavier` or `normal`. None is the identity, which σ < 1 excludes.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = IAF(features=4, length=3, init="xavier")
        >>> z, log_q = flow().rsample_and_log_prob((5,))
        >>> torch.allclose(flow().log_prob(z), log_q, atol=1e-4)
        True
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 4,
        *,
        gate_bias: float = 2.0,
        hidden: Sequence[int] = (64, 64),
        parameters: str = "auto",
        init: str = "gate",
    ) -> None:
        check_size("features", features, 1)
        check_word("init", init, ("gate", "xavier", "normal"))
        if not Number().take(gate_bias):
            raise ConfigError(f"gate_bias = {gate_bias!r}: expected a finite number")
        sizes = check_sizes(hidden)

        def layer(k: int, width: int) -> nn.Module:
            masks = _masks(features, sizes, width > 0)
            start = "identity" if init == "gate" else init
            network = Conditioner(features, width, 2 * features, sizes, start, masks)
            return AutoregressiveLayer(network, gate_bias, k % 2 == 1)

        super().__init__(features, context, length, layer, parameters)


class AutoregressiveLayer(nn.Module):
    """One gated autoregressive step, on the coordinates in their order or in reverse."""

    def __init__(self, network: Conditioner, gate_bias: float, backwards: bool) -> None:
        super().__init__()
        self.network, self.gate_bias, self.backwards = network, gate_bias, backwards

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        z = self._ordered(z)
        m, s = self._m_and_s(z, context)
        gate = s.sigmoid()
        return self._ordered(gate * z + (1 - gate) * m), logsigmoid(s).sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, one coordinate a pass, and the log-determinant of the forward map there."""
        image = self._ordered(z).unbind(-1)
        found: list[Tensor] = []
        while len(found) < len(image):
            i = len(found)
            known = torch.stack([*found, *map(torch.zeros_like, image[i:])], -1)
            m, s = (values[..., i] for values in self._m_and_s(known, context))
            found.append(image[i] + (-s).exp() * (image[i] - m))  # 1/σ = 1 + e⁻ˢ, (1 − σ)/σ = e⁻ˢ
        z = torch.stack(found, -1)
        _, s = self._m_and_s(z, context)
        return self._ordered(z), logsigmoid(s).sum(-1)

    def _m_and_s(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        m, s = self.network(z, context).chunk(2, dim=-1)
        return m, s + self.gate_bias

    def _ordered(self, z: Tensor) -> Tensor:
        return z.flip(-1) if self.backwards else z


def _masks(features: int, hidden: Sequence[int], conditioned: bool) -> list[Tensor]:
    """Masks that let outputs i, for m and for s, see inputs before i alone.

    A hidden unit of degree k sees inputs 1…k and is seen by outputs after k. Units of degree 0 see the context, which
    the first coordinate's outputs need; without one they would be constants, and exist for D = 1 only. Degrees are
    spread from the least to D − 1, so that a layer of fewer units than D leaves no long stretch of inputs unseen.
    """
    inputs, outputs = torch.arange(1, features + 1), torch.arange(1, features + 1).repeat(2)
    least = 0 if conditioned or features == 1 else 1
    masks, below = [], inputs
    for size in hidden:
        degrees = least + torch.arange(size) * max(features - 1 - least, 0) // max(size - 1, 1)
        masks.append(degrees[:, None] >= below)
        below = degrees
    return [*masks, outputs[:, None] > below]
