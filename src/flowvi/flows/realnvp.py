"""RealNVP: affine coupling (Dinh et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowvi.flows.flow import check_size
from flowvi.flows.networks import Conditioner, NetworkFlow, check_sizes
from flowvi.flows.parameters import check_word
from flowvi.flows.registry import STARTS

__all__ = ["AffineCoupling", "RealNVP"]

LARGEST_LOG_SCALE = 2.0


class RealNVP(NetworkFlow):
    """f(z) = (z_A, z_B·exp(s(z_A)) + t(z_A)), K times (Dinh et al. 2017, Eq. 4 and 5), ln|det| = Σ s(z_A).

    A is the first half of the coordinates in every other layer, the second half in the rest. Scales are clamped
    softly, s = 2·tanh(s′/2), so that no layer stretches by more than e².

    Args:
        features: D, at least 2.
        context: width of the context; 0 for none.
        length: K, the number of layers; 0 leaves the Gaussian base.
        hidden: units of each hidden layer of the tanh network that gives s′ and t.
        parameters: `amortised`: the context enters the networks; `static`: it does not; `auto`: amortised if there is
            a context.
        init: `identity` (s = t = 0), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = RealNVP(features=4, length=3, init="xavier")
        >>> z, log_q = flow().rsample_and_log_prob((5,))
        >>> torch.allclose(flow().log_prob(z), log_q, atol=1e-4)
        True
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 8,
        *,
        hidden: Sequence[int] = (64, 64),
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 2)
        check_word("init", init, STARTS)
        sizes = check_sizes(hidden)

        def layer(k: int, width: int) -> nn.Module:
            read = features // 2 if k % 2 == 0 else features - features // 2
            return AffineCoupling(Conditioner(read, width, 2 * (features - read), sizes, init), read, k % 2 == 0)

        super().__init__(features, context, length, layer, parameters)


class AffineCoupling(nn.Module):
    """z_B·exp(s) + t, with s and t from z_A, which are the first `read` coordinates, or the last."""

    def __init__(self, network: Conditioner, read: int, first: bool) -> None:
        super().__init__()
        self.network, self.read, self.first = network, read, first

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        a, b = self._split(z)
        s, t = self._scale_and_shift(a, context)
        return self._join(a, b * s.exp() + t), s.sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there."""
        a, b = self._split(z)
        s, t = self._scale_and_shift(a, context)
        return self._join(a, (b - t) * (-s).exp()), s.sum(-1)

    def push_score(self, z: Tensor, slope: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and the score g there to the image and its score (see `flowvi.flows.path`); no gradients.

        g_B e^(−s) of the image's moved coordinates, and g_A − ∂/∂z_A Σ (s·(1 + z_B g_B) + t·g_B e^(−s)) of the others.
        """
        a, b = self._split(z)
        slope_a, slope_b = self._split(slope)
        raw, transposed = self.network.linearised(a, context)
        s, t = self._bounded(raw)
        grown, moved = s.exp(), slope_b * (-s).exp()
        by_scale = (1 + b * slope_b) * (1 - (s / LARGEST_LOG_SCALE).square())
        slope_a = slope_a - transposed(torch.cat([by_scale, moved], -1))
        return self._join(a, b * grown + t), self._join(slope_a, moved)

    def _scale_and_shift(self, a: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._bounded(self.network(a, context))

    def _bounded(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        s, t = raw.chunk(2, dim=-1)
        return LARGEST_LOG_SCALE * (s / LARGEST_LOG_SCALE).tanh(), t

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            return z[..., : self.read], z[..., self.read :]
        return z[..., -self.read :], z[..., : -self.read]

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b] if self.first else [b, a], -1)
