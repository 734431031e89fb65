"""Positive numbers that sum to one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad

from flowvi.inference.supports.sigmoid import log_sigmoid
from flowvi.inference.supports.support import Support, checked_sizes, is_one

__all__ = ["simplex"]


def simplex(n: int) -> Support:
    """The n positive numbers that sum to one, by stick-breaking from R^(n−1).

    With tᵢ = zᵢ − ln(n − i), i = 1 … n−1:  yᵢ = σ(tᵢ) ∏_{j<i} σ(−tⱼ), and yₙ is what remains; z = 0 is the
    centre. ln|det| = Σ ln σ(tᵢ) + (n − i) ln σ(−tᵢ).

    The base measure is the Lebesgue measure of the first n−1 coordinates, as that of torch's `Dirichlet`.

    Args:
        n: at least 2: `simplex(1)` would be one point, with no freedom.

    Raises:
        ShapeError: another n.

    Example:
        >>> value, log_det = simplex(3).constrain(torch.zeros(2))
        >>> value
        tensor([0.3333, 0.3333, 0.3333])
        >>> simplex(3).contains(torch.tensor([[0.5, 0.2, 0.3], [0.5, 0.2, 0.4]]))
        tensor([ True, False])
    """
    return _Simplex("simplex", checked_sizes("simplex", (n,), 2))


class _Simplex(Support):
    # Not StickBreakingTransform: 1 − Σ yⱼ and 1 − σ(t) cancel where little remains, and are clamped; here the
    # remainders are σ(−t) one way, and sums over the entries that remain the other way.
    @property
    def size(self) -> int:
        return self.shape[0] - 1

    @property
    def constraint(self) -> constraints.Constraint:
        return constraints.simplex

    def _value(self, z: Tensor) -> Tensor:
        t = z - self._remaining(z).log()
        log_rest = pad(log_sigmoid(-t).cumsum(-1), (1, 0))
        return (pad(log_sigmoid(t), (0, 1)) + log_rest).exp().clamp(min=torch.finfo(z.dtype).tiny)

    def _log_det(self, z: Tensor) -> Tensor:
        remaining = self._remaining(z)
        t = z - remaining.log()
        return (log_sigmoid(t) + remaining * log_sigmoid(-t)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        rest = value.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return value[..., :-1].log() - rest.log() + self._remaining(value).log()

    def _inside(self, value: Tensor) -> Tensor:
        return (value > 0).all(-1) & is_one(value.sum(-1), value)

    def _remaining(self, points: Tensor) -> Tensor:
        """n − i for i = 1 … n−1."""
        return torch.arange(self.size, 0, -1, dtype=points.dtype, device=points.device)
