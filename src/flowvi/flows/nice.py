"""NICE: additive coupling (Dinh et al. 2014), mixed as Rezende & Mohamed 2015 compare it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowvi.flows.flow import check_size
from flowvi.flows.networks import Conditioner, NetworkFlow, check_sizes
from flowvi.flows.parameters import check_word
from flowvi.flows.registry import STARTS

__all__ = ["NICE", "PermutationCoupling", "RotationCoupling"]


class NICE(NetworkFlow):
    """f(z) = Mᵀ(y_A, y_B + h(y_A)), y = Mz, K times: additive coupling in a random frame M of each layer's own.

    (Dinh et al. 2014, Section 3.2; Rezende & Mohamed 2015, Section 5 and Figure 3: M a random permutation or a random
    rotation.) M is drawn once and kept as a buffer. The papers leave out Mᵀ, which the next layer's random M swallows
    but for the last layer's; with it, a network h = 0 makes the identity. Volume preserving: the log-determinant is 0.

    Args:
        features: D, at least 2.
        context: width of the context; 0 for none.
        length: K, the number of layers; 0 leaves the Gaussian base.
        mixing: `permutation` or `orthogonal`, from the global generator.
        hidden: units of each hidden layer of h, a tanh network.
        parameters: `amortised`: the context enters h; `static`: it does not; `auto`: amortised if there is a context.
        init: `identity` (h = 0), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = NICE(features=4, length=3, mixing="orthogonal", init="xavier")
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
        mixing: str = "permutation",
        hidden: Sequence[int] = (64, 64),
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 2)
        check_word("mixing", mixing, ("permutation", "orthogonal"))
        check_word("init", init, STARTS)
        sizes, read = check_sizes(hidden), features // 2
        coupling = PermutationCoupling if mixing == "permutation" else RotationCoupling

        def layer(k: int, width: int) -> nn.Module:
            return coupling(features, Conditioner(read, width, features - read, sizes, init))

        super().__init__(features, context, length, layer, parameters)


class PermutationCoupling(nn.Module):
    """z_B + h(z_A) for a random half A of the coordinates; `permutation` lists A, then B."""

    permutation: Tensor

    def __init__(self, features: int, h: Conditioner) -> None:
        super().__init__()
        self.h, self.read = h, features // 2
        self.register_buffer("permutation", torch.randperm(features))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), which is 0."""
        return z + self._shift(z, context), z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant, 0."""
        return z - self._shift(z, context), z.new_zeros(z.shape[:-1])

    def _shift(self, z: Tensor, context: Tensor | None) -> Tensor:
        h = self.h(z[..., self.permutation[: self.read]], context)
        return nn.functional.pad(h, (self.read, 0))[..., self.permutation.argsort()]


class RotationCoupling(nn.Module):
    """z + Bᵀh(Az), where the rows of a random rotation are those of A, then of B: ABᵀ = 0."""

    rotation: Tensor

    def __init__(self, features: int, h: Conditioner) -> None:
        super().__init__()
        self.h, self.read = h, features // 2
        q, r = torch.linalg.qr(torch.randn(features, features))
        self.register_buffer("rotation", q * r.diagonal().sign())  # uniform over the orthogonal group

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), which is 0."""
        return z + self._shift(z, context), z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, Az being what it was, and the log-determinant, 0."""
        return z - self._shift(z, context), z.new_zeros(z.shape[:-1])

    def _shift(self, z: Tensor, context: Tensor | None) -> Tensor:
        frame = _polished(self.rotation)
        shift: Tensor = self.h(z @ frame[: self.read].mT, context) @ frame[self.read :]
        return shift


def _polished(rotation: Tensor) -> Tensor:
    """The rotation to rounding of its dtype: a buffer drawn in float32 and cast is orthogonal to 1e-7 only.

    Two of Newton's steps to the polar factor, R(3I − RᵀR)/2, each of which squares the error.
    """
    for _ in range(2):
        rotation = 1.5 * rotation - 0.5 * rotation @ (rotation.mT @ rotation)
    return rotation
