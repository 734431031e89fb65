"""Sylvester flows (van den Berg et al. 2018), with an exact inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from flowvi.errors import ConfigError, ShapeError
from flowvi.flows.flow import check_size
from flowvi.flows.parameters import ParametricFlow, check_word, triangle
from flowvi.kernels.reference import log_slope, unit
from flowvi.kernels.roots import planar_root

__all__ = ["Sylvester", "SylvesterChain", "orthonormal"]

_VARIANTS = "orthogonal", "householder", "triangular"


class Sylvester(ParametricFlow):
    """f(z) = z + Q R tanh(R̃ Qᵀz + b), K times (van den Berg et al. 2018, Eq. 13): M planar layers at once.

    R and R̃ are M × M, upper triangular, with diagonals tanh(d) and tanh(d̃), so that r_ii·r̃_ii > −1; Q is D × M with
    QᵀQ = I. The determinant is Π_i (1 + r_ii·r̃_ii·tanh′(a_i)), a = R̃ Qᵀz + b. (The paper's equations; the inverse,
    M monotone scalar roots, is ours: see `SylvesterChain.inverse`.)

    Args:
        features: D.
        context: width of the context; 0 for a static flow.
        length: K, the number of layers; 0 leaves the Gaussian base.
        variant: how Q comes about: `orthogonal`, from D × M numbers made orthonormal column by column;
            `householder`, the first M columns of a product of `reflections` reflections; `triangular`, the first M
            columns of the identity, or in every other layer of the identity with its rows in reverse order.
        bottleneck: M, at most D; `auto` is min(8, D) for the orthogonal variant and D for the others.
        reflections: of the householder variant alone; `auto` is 8.
        parameters: `auto` (amortised if and only if there is a context), `amortised` or `static`.
        init: `identity` (R = 0: the whole chain starts as the identity), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = Sylvester(features=4, length=3, bottleneck=2)
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
        variant: str = "orthogonal",
        bottleneck: int | str = "auto",
        reflections: int | str = "auto",
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 1)
        check_word("variant", variant, _VARIANTS)
        if bottleneck == "auto":
            bottleneck = min(8, features) if variant == "orthogonal" else features
        if isinstance(bottleneck, str) or check_size("bottleneck", bottleneck, 1) > features:
            raise ShapeError(f"bottleneck = {bottleneck!r}: expected a whole number of at most features = {features}")
        if reflections != "auto" and variant != "householder":
            raise ConfigError(f"reflections = {reflections!r}: they are of variant='householder', found {variant!r}")
        count = 8 if reflections == "auto" else check_size("reflections", reflections, 1)
        chain = SylvesterChain(features, bottleneck, variant, count)
        super().__init__(features, context, length, chain, parameters, init)


class _Layer(NamedTuple):
    """One layer, ready to apply: a = into·z + b, z + out·tanh(a)."""

    q: Tensor  # (batch, D, M)
    r: Tensor  # (batch, M, M)
    r_tilde: Tensor  # (batch, M, M)
    b: Tensor  # (batch, M)
    log_slack: Tensor  # (batch, M): ln(1 + r_ii·r̃_ii)
    into: Tensor  # R̃Qᵀ, (batch, M, D)
    out: Tensor  # QR, (batch, D, M)


@dataclass(frozen=True)
class SylvesterChain:
    """The mathematics of K Sylvester layers; parameters (batch or 1, K, P).

    Each layer's, in this order: the variant's numbers for Q, the entries of R and of R̃ above the diagonal row by row,
    d, d̃ and b.
    """

    features: int
    bottleneck: int
    variant: str
    reflections: int = 8
    conditioning_dims: ClassVar[int] = 2

    @property
    def size(self) -> int:
        """P = |Q| + M(M − 1) + 3M."""
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        d, m = self.features, self.bottleneck
        q = {"orthogonal": d * m, "householder": self.reflections * d, "triangular": 0}[self.variant]
        return [q, m * (m - 1) // 2, m * (m - 1) // 2, m, m, m]

    @property
    def idle(self) -> range:
        """Places, among a layer's P numbers, of those on which at most a sign of Q depends: they have no gradient."""
        d, m = self.features, self.bottleneck
        if self.variant == "orthogonal" and m == d:
            return range(m - 1, d * m, m)  # the last column, which the others leave no choice
        return range(self.reflections if self.variant == "householder" and d == 1 else 0)

    def start(self, init: str, length: int) -> Tensor:
        """Starting parameters, (length, P).

        `identity`: R = 0; Q's numbers and d̃ ~ N(0, 1), R̃ above the diagonal ~ N(0, 1/M). `xavier`: all but b
        uniform on ±√(6/(D + M)). `normal`: all ~ N(0, 1). b = 0 in the first two.
        """
        d, m = self.features, self.bottleneck
        values = torch.randn(length, self.size)
        if init == "xavier":
            values = (torch.rand(length, self.size) * 2 - 1) * math.sqrt(6 / (d + m))
        q, above, above_tilde, diagonal, diagonal_tilde, b = values.split(self._sizes, dim=-1)
        if init == "identity":
            above, diagonal, above_tilde = 0 * above, 0 * diagonal, above_tilde * m**-0.5
        if init != "normal":
            b = 0 * b
        return torch.cat([q, above, above_tilde, diagonal, diagonal_tilde, b], -1)

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        log_det: Tensor = z.new_zeros(z.shape[:-1])
        for layer in self._layers(parameters):
            a = _map(layer.into, z) + layer.b
            z = z + _map(layer.out, a.tanh())
            log_det = log_det + log_slope(a, layer.log_slack).sum(-1)
        return z, log_det

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there.

        With s = Qᵀz and t = Qᵀz_out, t = s + R tanh(a), a = R̃s + b. From the last row up, all of row i is known but
        s_i: with what the later rows contribute taken away, τ = s_i + r_ii·tanh(a_i) and a_i = r̃_ii·s_i + c. Hence
        a_i + r_ii·r̃_ii·tanh(a_i) = r̃_ii·τ + c, the planar flow's scalar equation; then s_i = τ − r_ii·tanh(a_i).
        """
        log_det: Tensor = z.new_zeros(z.shape[:-1])
        for layer in reversed(self._layers(parameters)):
            a = _solve(_map(layer.q.mT, z), layer)
            z = z - _map(layer.out, a.tanh())
            log_det = log_det + log_slope(a, layer.log_slack).sum(-1)
        return z, log_det

    def _layers(self, parameters: Tensor) -> list[_Layer]:
        q, above, above_tilde, d, d_tilde, b = parameters.split(self._sizes, dim=-1)
        columns = self._columns(q)
        r = triangle(above, self.bottleneck, 1) + torch.diag_embed(d.tanh())
        r_tilde = triangle(above_tilde, self.bottleneck, 1) + torch.diag_embed(d_tilde.tanh())
        log_slack = _log_slack(d, d_tilde)
        into, out = r_tilde @ columns.mT, columns @ r
        each = (part.unbind(1) for part in (columns, r, r_tilde, b, log_slack, into, out))
        return [_Layer(*parts) for parts in zip(*each, strict=True)]

    def _columns(self, q: Tensor) -> Tensor:
        """Q of each layer, (batch, K, D, M)."""
        d, m = self.features, self.bottleneck
        eye = torch.eye(d, m, dtype=q.dtype, device=q.device)
        if self.variant == "orthogonal":
            return orthonormal(q.unflatten(-1, (d, m)))
        if self.variant == "householder":
            direction, _, moves = unit(q.unflatten(-1, (self.reflections, d)))
            rows = eye.mT.expand(*q.shape[:-1], m, d)
            for v in torch.where(moves, direction, 0.0).unbind(-2):
                rows = _reflected(rows, v)
            return rows.mT
        turned = [eye if k % 2 == 0 else eye.flip(0) for k in range(q.shape[1])]
        return torch.stack(turned).expand(q.shape[0], -1, -1, -1)


def orthonormal(numbers: Tensor) -> Tensor:
    """Columns (…, D, M) with QᵀQ = I to rounding, whatever the numbers: Gram and Schmidt's, by Householder reflections.

    Unlike the iteration that van den Berg et al. 2018 use, it needs no convergence: each column is, up to its sign,
    the image of a unit vector under reflections. Dependent columns are completed to an orthonormal set: where rounding
    alone is left of a column, that is no direction, and its gradient would leave the floats.
    """
    d, m = numbers.shape[-2:]
    least = 4 * d * torch.finfo(numbers.dtype).eps * numbers.detach().abs().amax(-2)
    reflections, signs, rest = [], [], numbers.mT.contiguous()
    for j in range(m):
        sign = torch.where(rest[..., 0, j] < 0, -1.0, 1.0).to(numbers.dtype)
        if j == d - 1:  # nothing is left to reflect
            signs.append(sign)
            break
        x, size, moves = unit(rest[..., 0, j:])
        moves = moves & (size > least[..., j, None])
        # x -> −sign·e_1; v is of length √(2 + 2|x_1|), never small
        v = torch.cat([x[..., :1] + sign.unsqueeze(-1), x[..., 1:]], -1)
        v = torch.where(moves, v * (2 + 2 * sign.unsqueeze(-1) * x[..., :1]).rsqrt(), 0.0)
        reflections.append(torch.nn.functional.pad(v, (j, 0)))
        signs.append(torch.where(moves.squeeze(-1), -sign, 1.0))
        rest = _reflected(rest[..., 1:, :], reflections[-1])
    eye = torch.eye(m, d, dtype=numbers.dtype, device=numbers.device).expand(*numbers.shape[:-2], m, d)
    rows = eye[..., len(reflections) :, :]
    for j, v in reversed(list(enumerate(reflections))):  # those above row j are not touched by reflection j
        rows = _reflected(torch.cat([eye[..., j : j + 1, :], rows], -2), v)
    return (rows * torch.stack(signs, -1).unsqueeze(-1)).mT


def _reflected(rows: Tensor, v: Tensor) -> Tensor:
    """Each row, (…, M, D), less twice its part along the unit vector v, (…, D)."""
    return torch.addcmul(rows, torch.linalg.vecdot(rows, v.unsqueeze(-2)).unsqueeze(-1), v.unsqueeze(-2), value=-2)


def _solve(t: Tensor, layer: _Layer) -> Tensor:
    """The a, (S, batch, M), of t = s + R tanh(a), a = R̃s + b, row by row from the last."""
    m = t.shape[-1]
    activations: list[Tensor] = []
    values: list[Tensor] = []
    for i in reversed(range(m)):
        tau, c = t[..., i], layer.b[:, i].expand_as(t[..., i])
        if activations:
            later = torch.stack(activations, -1).tanh(), torch.stack(values, -1)
            order = list(range(m - 1, i, -1))
            tau = tau - (layer.r[:, i, order] * later[0]).sum(-1)
            c = c + (layer.r_tilde[:, i, order] * later[1]).sum(-1)
        r, r_tilde = layer.r[:, i, i], layer.r_tilde[:, i, i]
        a = planar_root(r_tilde.double() * tau.double() + c.double(), layer.log_slack[:, i].double()).to(t.dtype)
        activations.append(a)
        values.append(tau - r * a.tanh())
    return torch.stack(activations[::-1], -1)


def _map(matrix: Tensor, z: Tensor) -> Tensor:
    """(batch or 1, M, D) times (S, batch, D), (S, batch, M)."""
    return torch.einsum("bmd,sbd->sbm", matrix, z)


def _log_slack(x: Tensor, y: Tensor) -> Tensor:
    """ln(1 + tanh x·tanh y), which is 0 exactly at x = 0 or y = 0.

    1 + tanh x·tanh y = 2(1 + e⁻²⁽ˣ⁺ʸ⁾)/((1 + e⁻²ˣ)(1 + e⁻²ʸ)); changing both signs changes nothing, and with
    x + y ≥ 0 nothing large cancels.
    """
    turn = torch.where(x + y < 0, -1.0, 1.0).to(x.dtype)
    x, y = turn * x, turn * y
    both, first, second = (softplus(-2 * value, threshold=40) for value in (x + y, x, y))
    # two differences, each 0 where the other number is
    return (math.log(2) - first) + (both - second)
