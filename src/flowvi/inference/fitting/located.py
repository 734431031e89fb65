"""A flow seen through an affine map, z = m + L x: shape is the flow's, place and scale are the map's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

__all__ = ["Located", "LocatedDistribution"]


class Located(nn.Module):
    """z = m + L (t + T x), x from a flow; m and L stay as they are, t and the lower triangular T are learned.

    The learned part starts as the identity, so that a step of one size suits all directions however the target is
    scaled: L is what a fit before has found.

    Args:
        flow: a module that, called, gives a distribution of event_shape (D,) with `rsample_and_log_prob`.
        mean: m, (D,).
        scale: L, lower triangular, (D, D).
        full: whether T is triangular; else diagonal.

    Example:
        >>> from flowvi.flows import Gaussian
        >>> q = Located(Gaussian(2), torch.tensor([1.0, 2.0]), torch.eye(2))()
        >>> z, log_q = q.rsample_and_log_prob((5,))
        >>> torch.allclose(q.log_prob(z), log_q, atol=1e-5)
        True
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, flow: nn.Module, mean: Tensor, scale: Tensor, full: bool = True) -> None:
        super().__init__()
        self.flow, self.full = flow, full
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.shift = nn.Parameter(torch.zeros_like(mean))
        self.log_diagonal = nn.Parameter(torch.zeros_like(mean))
        self.lower = nn.Parameter(torch.zeros_like(scale)) if full else None

    def forward(self) -> LocatedDistribution:
        """The distribution as it is now."""
        mean, scale = self.affine()
        log_det = self.log_diagonal.sum() + self.scale.diagonal().log().sum()
        return LocatedDistribution(self.flow(), mean, scale, log_det)

    def affine(self) -> tuple[Tensor, Tensor]:
        """m + L t, (D,), and L T, lower triangular, (D, D)."""
        turn = torch.diag_embed(self.log_diagonal.exp())
        if self.lower is not None:
            turn = turn + self.lower.tril(-1)
        return self.mean + self.scale @ self.shift, self.scale @ turn


class LocatedDistribution(Distribution):
    """The density of z = m + L x, x ~ q: ln q(L⁻¹(z − m)) − ln|det L|, in nats.

    Args:
        base: q, with event_shape (D,) and `rsample_and_log_prob`.
        mean: m, (D,).
        scale: L, lower triangular, (D, D).
        log_det: ln|det L|, ().
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Any, mean: Tensor, scale: Tensor, log_det: Tensor) -> None:
        self.base, self.loc, self.scale_tril, self.log_det = base, mean, scale, log_det
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def __repr__(self) -> str:
        return f"LocatedDistribution({self.base})"

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised samples, (S…, D)."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Any = (), *, path: bool = False) -> tuple[Tensor, Tensor]:
        """Samples (S…, D) and their log density (S…,), in one pass.

        With `path` its gradient goes through the samples alone (see `flowvi.flows.FlowDistribution`): the score of z is
        L⁻ᵀ times that of x.
        """
        if path:
            z, log_q, slope = self.sample_and_score(Size(sample_shape))
            return z, log_q.detach() + ((z - z.detach()) * slope).sum(-1)
        x, log_q = self.base.rsample_and_log_prob(Size(sample_shape))
        return self.loc + x @ self.scale_tril.mT, log_q - self.log_det

    def sample_and_score(self, shape: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Reparameterised samples z (S…, D), ln q(z) (S…,), and ∇_z ln q(z), a constant (S…, D)."""
        x, log_q, slope = _sample_and_score(self.base, shape)
        slope = torch.linalg.solve_triangular(self.scale_tril.detach(), slope, upper=False, left=False)
        return self.loc + x @ self.scale_tril.mT, log_q - self.log_det, slope

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…,), in nats, at any points (S…, D): −inf so far out that L⁻¹(z − m) is no finite number."""
        x = self._back(value)
        inside = x.isfinite().all(-1)
        log_p: Callable[[Tensor], Tensor] = self.base.log_prob
        log_q = log_p(torch.where(inside[..., None], x, 0.0)) - self.log_det
        return torch.where(inside, log_q, torch.where(value.isnan().any(-1), torch.nan, -torch.inf))

    def _back(self, value: Tensor) -> Tensor:
        flat = (value - self.loc).reshape(-1, value.shape[-1])
        back: Tensor = torch.linalg.solve_triangular(self.scale_tril, flat.mT, upper=False).mT
        return back.reshape(value.shape)


def _sample_and_score(q: Any, shape: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Of any distribution: flowvi's flows bring the score along the path, another package's is differentiated."""
    if hasattr(q, "sample_and_score"):
        found: tuple[Tensor, Tensor, Tensor] = q.sample_and_score(shape)
        return found
    x, log_q = q.rsample_and_log_prob(shape)
    at = x.detach().requires_grad_()
    return x, log_q, torch.autograd.grad(q.log_prob(at).sum(), at)[0]
