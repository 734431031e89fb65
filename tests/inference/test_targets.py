"""The targets: each density against its own ln Z, its own draws and its own modes, by other ways to the same answer."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.special import gammaincc

import flowvi
from flowvi import targets
from flowvi.errors import DataError
from flowvi.inference.targets import TARGETS, Difficulty, Target, logistic, schools

PROPER = [target for target in TARGETS.values() if target.proper]
IMPROPER = [target for target in TARGETS.values() if not target.proper]
ROUGH = {Difficulty.JUMP, Difficulty.NAN}
DRAWS = 20_000


def each(members: list[Target]) -> Any:
    return pytest.mark.parametrize("target", members, ids=lambda target: target.name)


def log_density(target: Target, z: Tensor) -> Tensor:
    """ln p of unconstrained points (n, D) -> (n,), with the log-determinant of the supports."""
    values, log_det = onto(target, z)
    return target.log_density(values) + log_det


def onto(target: Target, z: Tensor) -> tuple[Any, Tensor]:
    if target.supports is None:
        return z, z.new_zeros(len(z))
    parts = z.split([support.size for support in target.supports.values()], -1)
    pairs = {
        name: support.constrain(part) for (name, support), part in zip(target.supports.items(), parts, strict=True)
    }
    return {name: value for name, (value, _) in pairs.items()}, sum(log_det for _, log_det in pairs.values())


def back(target: Target, values: Any) -> Tensor:
    if target.supports is None:
        return values
    return torch.cat([support.unconstrain(values[name])[0] for name, support in target.supports.items()], -1)


@cache
def draws(name: str) -> Tensor:
    """Unconstrained draws, (DRAWS, D)."""
    target = TARGETS[name]
    return drawn(target)


def drawn(target: Target, n: int = DRAWS, seed: int = 1) -> Tensor:
    return back(target, target.sample(n, torch.Generator().manual_seed(seed)))


def score(target: Target, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().requires_grad_()
    log_p = log_density(target, z)
    return log_p.detach(), torch.autograd.grad(log_p.sum(), z)[0]


# --- one and two dimensions: quadrature ---------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Midpoints of `n` cells of [low, high] in t, and where on the axis of z they are."""

    low: float
    high: float
    n: int
    stretch: Callable[[Tensor], Tensor] = lambda t: t
    log_slope: Callable[[Tensor], Tensor] = torch.zeros_like
    inverse: Callable[[Tensor], Tensor] = lambda z: z

    def midpoints(self) -> Tensor:
        return self.low + (torch.arange(self.n, dtype=torch.float64) + 0.5) * self.width

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.n


def sinh(scale: float, reach: float, n: int) -> Axis:
    """Finer than `scale` in the middle, and as far out as `reach`."""
    end = math.asinh(reach / scale)
    return Axis(-end, end, n, lambda t: scale * t.sinh(), lambda t: t.cosh().log() + math.log(scale),
                lambda z: (z / scale).asinh())  # fmt: skip


def exponential(low: float, high: float, n: int) -> Axis:
    return Axis(low, high, n, torch.exp, lambda t: t, torch.log)


@dataclass(frozen=True)
class Grid:
    """Cells of a box in t, and the points in their middles; polar: the axes are the distance and the angle."""

    axes: tuple[Axis, ...]
    polar: bool = False

    def masses(self, target: Target) -> Tensor:
        """exp(ln p − ln Z) of each cell, (n₁,) or (n₁, n₂)."""
        first, *rest = self.axes
        chunk = max(1, 200_000 // math.prod(axis.n for axis in rest))
        rows = [self._row(target, t).reshape(-1, *(axis.n for axis in rest)) for t in first.midpoints().split(chunk)]
        return torch.cat(rows)

    def points(self) -> Tensor:
        return self._points(torch.cartesian_prod(*[axis.midpoints() for axis in self.axes]).reshape(-1, len(self.axes)))

    def cells(self, z: Tensor) -> list[Tensor]:
        """Of points (n, D), the index of the cell on each axis, where there is one."""
        if self.polar:
            z = torch.stack([z.norm(dim=-1), torch.atan2(z[:, 1], z[:, 0])], -1)
        t = [axis.inverse(z[:, i]) for i, axis in enumerate(self.axes)]
        cells = [((t[i] - axis.low) / axis.width).floor().long() for i, axis in enumerate(self.axes)]
        return [cell.clamp(0, axis.n - 1) for cell, axis in zip(cells, self.axes, strict=True)]

    def _row(self, target: Target, first: Tensor) -> Tensor:
        t = torch.cartesian_prod(first, *[axis.midpoints() for axis in self.axes[1:]]).reshape(-1, len(self.axes))
        log_weight = sum(axis.log_slope(t[:, i]) + math.log(axis.width) for i, axis in enumerate(self.axes))
        if self.polar:
            log_weight = log_weight + t[:, 0].log()
        return (log_density(target, self._points(t)) + log_weight - target.log_z).exp()

    def _points(self, t: Tensor) -> Tensor:
        z = torch.stack([axis.stretch(t[:, i]) for i, axis in enumerate(self.axes)], -1)
        return torch.stack([z[:, 0] * z[:, 1].cos(), z[:, 0] * z[:, 1].sin()], -1) if self.polar else z


def square(reach: float, n: int) -> Grid:
    return Grid((Axis(-reach, reach, n),) * 2)


def around(radius: float, n: int) -> Grid:
    return Grid((Axis(0, radius, n), Axis(-math.pi, math.pi, 16)), polar=True)


# Wide enough for 1e-7 of the mass to be left out at most, fine enough for the narrowest width, jumps on borders.
GRIDS = {
    "gaussian_2_condition_1e0": square(10.0, 100),
    "gaussian_2_condition_1e2": square(10.0, 400),
    "gaussian_2_condition_1e4": Grid((Axis(-8.5, 4.5, 1300), Axis(-3.5, 9.5, 1300))),
    "funnel_2": Grid((Axis(-18, 18, 360), sinh(1e-5, 6e4, 800))),
    "banana": Grid((Axis(-60, 60, 900), Axis(-10, 115, 375))),
    "rosenbrock_2": Grid((Axis(-17, 19, 4500), Axis(-4, 370, 1100))),
    "ring": square(8.0, 320),
    "student_1": Grid((sinh(1.0, 1e6, 2000),)),
    "student_2": Grid((sinh(1.0, 4e3, 1000),) * 2),
    "quartic_2": square(3.5, 200),
    "log_gamma": Grid((Axis(-34, 5, 400), Axis(-20, 5, 250))),
    "mixture_2_modes_2_close": square(10.0, 800),
    "mixture_2_modes_2_far": square(13.0, 800),
    "mixture_2_modes_4_close": square(9.0, 800),
    "mixture_2_modes_4_far": square(12.0, 800),
    "mixture_2_modes_8_near": square(13.0, 800),
    "mixture_2_modes_8_far": square(17.0, 800),
    "beta_0.6_3": Grid((Axis(-40, 15, 4000),)),
    "gamma_2.5": Grid((Axis(-12, 5, 300),) * 2),
    "dirichlet_3": Grid((Axis(-36, 10, 400), Axis(-18, 12, 300))),
    "conjugate_normal": Grid((sinh(1.0, 500.0, 800), Axis(-4, 9, 300))),
    "jump_step": Grid((Axis(-7.5, 8.5, 8000), Axis(-7, 7, 100))),
    "jump_staircase": square(30.0, 600),
    "cut_gaussian": Grid((Axis(-1.5, 7.5, 4500), Axis(-7, 7, 100))),
    "cut_annulus": around(4.0, 8000),
    "nan_gamma": Grid((exponential(-12, 5, 300),) * 2),
    "nan_disc": around(1.0, 20_000),
}  # fmt: skip
PLANAR = [target for target in PROPER if target.dim <= 2]


@cache
def masses(name: str) -> Tensor:
    return GRIDS[name].masses(TARGETS[name])


def chi_square(masses: Tensor, grid: Grid, z: Tensor) -> float:
    """The p-value of draws against the cells' masses, in bins that hold about as much along each axis."""
    cells = grid.cells(z)
    wanted = 64 if masses.dim() == 1 else 12
    groups = []
    for axis in range(masses.dim()):
        along = masses.movedim(axis, 0).flatten(1).sum(1) if masses.dim() > 1 else masses
        groups.append((along.cumsum(0) / along.sum() * wanted).ceil().long().clamp(1, wanted) - 1)
    bins = sum(group[cell] * wanted**i for i, (group, cell) in enumerate(zip(groups, cells, strict=True)))
    places = groups[0] if masses.dim() == 1 else groups[0][:, None] + wanted * groups[1]
    expected = torch.zeros(wanted ** masses.dim(), dtype=torch.float64)
    expected = expected.index_add(0, places.flatten(), masses.flatten()) * len(z)
    found = torch.bincount(bins, minlength=len(expected)).double()
    few = expected < 10  # pooled
    expected = torch.cat([expected[~few], expected[few].sum()[None]]).clamp(min=1e-9)
    found = torch.cat([found[~few], found[few].sum()[None]])
    if expected[-1] < 1:
        expected, found = expected[:-1], found[:-1] + found[-1] / len(found[:-1])
    statistic = ((found - expected).square() / expected).sum()
    return gammaincc(torch.tensor((len(expected) - 1) / 2, dtype=torch.float64), statistic / 2).item()


def test_every_proper_target_of_the_plane_has_a_grid() -> None:
    assert set(GRIDS) == {target.name for target in PLANAR}


@each(PLANAR)
def test_log_z_is_the_integral(target: Target) -> None:
    assert abs(masses(target.name).sum().log().item()) < 1e-6


@each(PLANAR)
def test_draws_are_of_the_density(target: Target) -> None:
    assert chi_square(masses(target.name), GRIDS[target.name], draws(target.name)) > 1e-4


@each([target for target in PLANAR if target.modes])
def test_modes_hold_what_the_density_gives_them(target: Target) -> None:
    held, points = masses(target.name).flatten(), GRIDS[target.name].points()
    for mode in target.modes.values():
        assert held[mode.contains(points)].sum().item() == pytest.approx(mode.mass, abs=5e-4)


# --- more dimensions: Gaussian integrals, importance sampling, Stein's identity ------------------------------

SOLID = [target for target in PROPER if target.dim > 2]
QUADRATIC = [target for target in SOLID if target.name.startswith("gaussian")]


def quadratic_log_z(target: Target) -> float:
    """ln Z of exp of a quadratic, from its value, gradient and Hessian at one point."""
    start = torch.linspace(-1, 1, target.dim, dtype=torch.float64)

    def at(z: Tensor) -> Tensor:
        return log_density(target, z[None])[0]

    curvature = -torch.autograd.functional.hessian(at, start)
    slope = torch.autograd.functional.jacobian(at, start)
    peak = at(start) + slope @ torch.linalg.solve(curvature, slope) / 2
    assert at(start + 1).item() == pytest.approx(
        (at(start) + slope.sum() - curvature.sum() / 2).item(), rel=1e-9
    )  # it is a quadratic
    return (peak + target.dim / 2 * math.log(2 * math.pi) - torch.linalg.slogdet(curvature)[1] / 2).item()


@each(QUADRATIC)
def test_log_z_of_a_gaussian(target: Target) -> None:
    assert quadratic_log_z(target) == pytest.approx(target.log_z, abs=1e-7)


Weighted = tuple[Tensor, Tensor]  # points (n, D), and the proposal's log density (n,)


def student_around(z: Tensor, n: int, nu: float = 4.0, wider: float = 1.2) -> Weighted:
    """A Student-t with the mean and the covariance of some draws."""
    spread = wider * torch.linalg.cholesky(z.T.cov())
    dim = z.shape[1]
    white = torch.randn(n, dim, dtype=torch.float64)
    white = white * (nu / torch.distributions.Chi2(torch.tensor(nu).double()).sample((n, 1))).sqrt()
    log_t = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)
    log_t = log_t - spread.diagonal().log().sum() - (nu + dim) / 2 * (white.square().sum(-1) / nu).log1p()
    return z.mean(0) + white @ spread.T, log_t


def chained(n: int, steps: list[Callable[[Tensor], tuple[Tensor, Tensor]]]) -> Weighted:
    """One coordinate after another: z[:, :i] -> mean and scale of a Student-t with 6 degrees of freedom."""
    z, log_q = torch.zeros(n, 0, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for step in steps:
        mean, scale = step(z)
        q = torch.distributions.StudentT(6.0, mean, scale)
        new = q.sample()
        z, log_q = torch.cat([z, new[:, None]], -1), log_q + q.log_prob(new)
    return z, log_q


def fixed(mean: float, scale: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda z: (torch.full_like(log_ones(z), mean), torch.full_like(log_ones(z), scale))


def log_ones(z: Tensor) -> Tensor:
    return z.new_zeros(len(z))


PROPOSALS: dict[str, Callable[[int], Weighted]] = {
    "funnel_10": lambda n: chained(n, [fixed(0, 3.3), *[lambda z: (log_ones(z), 1.1 * (z[:, 0] / 2).exp())] * 9]),
    "rosenbrock_5": lambda n: chained(n, [
        fixed(1, 3.5),
        lambda z: (z[:, 0] ** 2, log_ones(z) + 0.35),
        lambda z: (z[:, 1] ** 2, log_ones(z) + 0.35),
        lambda z: (z[:, 0] ** 2, log_ones(z) + 0.35),
        lambda z: (z[:, 3] ** 2, log_ones(z) + 0.35),
    ]),
    "student_10": lambda n: student_around(draws("student_10"), n, nu=2.0, wider=0.8),
    "eight_schools_centred": lambda n: chained(n, [
        fixed(4.4, 4), fixed(1.0, 1.3),
        *[lambda z: (z[:, 0], 1.2 * z[:, 1].exp() / (1 + (z[:, 1].exp() / 12) ** 2).sqrt())] * 8,
    ]),
}  # fmt: skip


def importance(target: Target, n: int = 40_000) -> tuple[float, float, Tensor, Tensor]:
    """ln Ẑ − ln Z and its standard error, with the points and their weights, normalised."""
    torch.manual_seed(2)
    z, log_q = PROPOSALS.get(target.name, lambda n: student_around(draws(target.name), n))(n)
    weights = (log_density(target, z) - log_q - target.log_z).exp()
    mean, se = weights.mean().item(), (weights.std() / math.sqrt(n)).item()
    return math.log(mean), math.hypot(se / mean, target.log_z_se), z, weights / weights.sum()


def worst_marginal(z: Tensor, points: Tensor, weights: Tensor) -> float:
    """Draws against weighted points, in standard errors: shares below the deciles of coordinates and mixed ones."""
    mixed = torch.randn(z.shape[1], 10, dtype=z.dtype, generator=torch.Generator().manual_seed(8))
    middle, size = z.median(0).values, z.quantile(0.75, 0) - z.quantile(0.25, 0)
    z, points = (torch.cat([x, x @ mixed], -1) for x in ((z - middle) / size, (points - middle) / size))
    worst = 0.0
    for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98):
        below = (points < z.quantile(share, 0)).double()
        found = weights @ below
        variance = weights.square() @ (below - found).square() + share * (1 - share) / len(z)
        worst = max(worst, ((found - share) / variance.sqrt()).abs().max().item())
    return worst


@each([target for target in SOLID if target not in QUADRATIC])
def test_log_z_and_marginals_by_importance_sampling(target: Target) -> None:
    off, se, z, weights = importance(target)
    assert se < 0.02
    assert abs(off) < 4 * se
    assert worst_marginal(draws(target.name), z, weights) < 5
    for mode in target.modes.values():
        assert weights[mode.contains(z)].sum().item() == pytest.approx(mode.mass, abs=0.02)


def worst_stein(target: Target, z: Tensor) -> float:
    """The largest of E[∇ln p] and E[z ∇ln pᵀ] + I, in standard errors: both are 0 of draws of p."""
    _, slope = score(target, z)
    n, eye = len(z), torch.eye(target.dim, dtype=z.dtype)
    z = z - z.mean(0)  # any constant may be taken off; near the mean the products vary least
    first = slope.mean(0) / (slope.std(0) / math.sqrt(n))
    product = z.T @ slope / n
    spread = (z.square().T @ slope.square() / n - product.square()).clamp(min=1e-12).sqrt()
    second = (product + eye) / (spread / math.sqrt(n))
    return max(first.abs().max().item(), second.abs().max().item())


@each([target for target in PROPER if not target.difficulty & ROUGH])
def test_steins_identity(target: Target) -> None:
    assert worst_stein(target, draws(target.name)) < 5


@each([target for target in PROPER if target.modes])
def test_modes_of_draws(target: Target) -> None:
    z = draws(target.name)
    found = torch.stack([mode.contains(z) for mode in target.modes.values()])
    assert (found.sum(0) == 1).all()  # they divide the space
    assert sum(mode.mass for mode in target.modes.values()) == pytest.approx(1, abs=1e-12)
    for mode, inside in zip(target.modes.values(), found, strict=True):
        se = math.sqrt(mode.mass * (1 - mode.mass) / len(z))
        assert abs(inside.double().mean().item() - mode.mass) < 4.5 * se


# --- improper ones ------------------------------------------------------------------------------------------


@each(IMPROPER)
def test_the_integral_of_an_improper_one_grows_with_the_box(target: Target) -> None:
    assert target.log_z == math.inf
    assert target.sample is None
    shifted = replace(target, log_z=0.0)
    sizes = [Grid((sinh(1e-2, reach, 600),) * 2).masses(shifted).sum().log().item() for reach in (1e1, 1e2, 1e3)]
    assert sizes[1] - sizes[0] > 0.3
    assert sizes[2] - sizes[1] > 0.3


# --- every one ----------------------------------------------------------------------------------------------


def hostile(target: Target, dtype: torch.dtype) -> Tensor:
    """Points far out, along the axes, the diagonals and at random, and the origin: (n, D)."""
    generator = torch.Generator().manual_seed(4)
    signs = torch.randn(40, target.dim, generator=generator).sign()
    random = torch.randn(400, target.dim, generator=generator) * torch.tensor([3.0, 30.0]).repeat(200)[:, None]
    eye = torch.eye(target.dim)
    z = torch.cat([1e3 * eye, -1e3 * eye, 1e3 * signs, random, 0 * eye[:1], 60 * signs])
    return z.to(dtype)


@each(list(TARGETS.values()))
def test_hostile_points(target: Target, dtype: torch.dtype) -> None:
    z = hostile(target, dtype)
    log_p, slope = score(target, z)
    undefined = torch.zeros(len(z), dtype=torch.bool) if target.undefined is None else target.undefined(z)
    assert torch.equal(log_p.isnan(), undefined)
    assert undefined.any() == (Difficulty.NAN in target.difficulty)
    assert (log_p[~undefined] < math.inf).all()
    finite = log_p.isfinite()
    # Beyond, the slope in the parameter itself may be too large a number where the log density is not yet.
    near = finite & (z.abs().amax(-1) < (100 if dtype == torch.float64 else 15))
    assert near.any()
    assert slope[near].isfinite().all()
    if Difficulty.MINUS_INF in target.difficulty:
        assert (log_density(target, z.clamp(-2, 2)) == -math.inf).any()


@each(PROPER)
def test_draws_are_inside_with_a_finite_gradient(target: Target, dtype: torch.dtype) -> None:
    values = target.sample(500, torch.Generator().manual_seed(3))
    for name, support in (target.supports or {}).items():
        assert values[name].dtype == torch.float64
        assert values[name].shape == (500, *support.shape)
        assert support.contains(values[name]).all()
    if target.supports is None:
        assert values.dtype == torch.float64
        assert values.shape == (500, target.dim)
    log_p, slope = score(target, back(target, values).to(dtype))
    assert log_p.dtype == dtype
    assert log_p.isfinite().all()
    assert slope.isfinite().all()


@each(PROPER)
def test_float32_agrees_with_float64(target: Target) -> None:
    z = draws(target.name)[:500].float()
    values, _ = onto(target, z)
    wide = target.log_density(
        values.double() if target.supports is None else {k: v.double() for k, v in values.items()}
    )
    _, slope = score(target, z.double())
    room = 1e-4 * (1 + wide.abs()) + 4e-7 * (slope.abs() * (1 + z.abs())).sum(-1) * math.sqrt(target.dim)
    assert ((target.log_density(values).double() - wide).abs() <= room).all()


@each(list(TARGETS.values()))
def test_shapes(target: Target, dtype: torch.dtype) -> None:
    for n in (0, 1, 5):
        z = torch.linspace(0.1, 0.3, target.dim).expand(n, -1).to(dtype)
        log_p = log_density(target, z)
        assert log_p.shape == (n,)
        assert log_p.dtype == dtype
    values, _ = onto(target, 0.2 * torch.randn(6, target.dim, dtype=dtype))
    together = target.log_density(values)
    for i in range(6):
        one = values[i : i + 1] if target.supports is None else {k: v[i : i + 1] for k, v in values.items()}
        torch.testing.assert_close(target.log_density(one)[0], together[i], equal_nan=True)


@each(PROPER)
def test_draws_repeat_by_their_generator(target: Target) -> None:
    first, again, other = (drawn(target, 20, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert drawn(target, 1).shape == (1, target.dim)
    assert len(target.sample(3, None) if target.supports is None else next(iter(target.sample(3, None).values()))) == 3


def test_outside_a_support_is_minus_inf() -> None:
    for target in TARGETS.values():
        for name, support in (target.supports or {}).items():
            if support.name == "real":
                continue
            values, _ = onto(target, torch.zeros(4, target.dim))
            values[name] = values[name].flip(-1) if support.name == "ordered" else -5 - values[name]
            assert (target.log_density(values) == -math.inf).all(), target.name


# --- the registry -------------------------------------------------------------------------------------------


def test_each_kind_of_trouble_is_on_both_sides() -> None:
    for held_out in (False, True):
        side = [target for target in TARGETS.values() if target.held_out == held_out]
        assert set().union(*(target.difficulty for target in side)) == set(Difficulty)
        assert {target.dim for target in side} >= {2, 10, 100}
        assert {len(target.modes) for target in side} >= {0, 2, 4, 8}


@each(list(TARGETS.values()))
def test_what_a_target_says_of_itself(target: Target) -> None:
    assert TARGETS[target.name] is target
    kinds = target.difficulty
    supports = (target.supports or {}).values()
    assert (Difficulty.IMPROPER in kinds) == (not target.proper) == (target.sample is None)
    assert (Difficulty.NAN in kinds) == (target.undefined is not None)
    assert (Difficulty.MODES in kinds) == (len(target.modes) > 1)
    assert (Difficulty.DIMENSION in kinds) == (target.dim >= 10)
    assert (Difficulty.BOUNDED in kinds) == any(support.name != "real" for support in supports)
    assert target.supports is None or sum(support.size for support in supports) == target.dim
    assert abs(target.log_z) > 0.05  # a wrong sign would show
    assert target.about
    assert target.truth


def test_the_name_is_lazy() -> None:
    code = """
        import sys, flowvi, flowvi.inference
        assert "torch" not in sys.modules
        assert "targets" in set(dir(flowvi)) & set(flowvi.inference.__all__)
        assert flowvi.inference.targets.TARGETS is flowvi.targets.TARGETS
        from flowvi import targets"""
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))], check=True, timeout=120)
    assert flowvi.targets is targets


# --- how the harder truths are known ------------------------------------------------------------------------


def test_eight_schools_by_another_integral() -> None:
    """ln Z over (μ, ln τ) with θ integrated out, and the density of Stan's own model at a point, by torch."""
    normal, cauchy = torch.distributions.Normal, torch.distributions.HalfCauchy
    five = torch.tensor(5.0, dtype=torch.float64)
    effects, errors = (torch.tensor(values, dtype=torch.float64) for values in (schools.EFFECTS, schools.ERRORS))
    mu = torch.linspace(-40, 50, 901, dtype=torch.float64)
    log_tau = torch.linspace(-30, 10, 1001, dtype=torch.float64)
    tau = log_tau.exp()
    log_p = normal(0, five).log_prob(mu)[:, None] + cauchy(five).log_prob(tau) + log_tau
    for effect, error in zip(effects, errors, strict=True):
        log_p = log_p + normal(mu[:, None], (tau**2 + error**2).sqrt()).log_prob(effect)
    log_z = log_p.logsumexp((0, 1)) + math.log(0.1 * 0.04)
    centred, other = TARGETS["eight_schools_centred"], TARGETS["eight_schools_noncentred"]
    assert centred.log_z - -2.5 == pytest.approx(log_z.item(), abs=1e-8)
    assert other.log_z - 1.5 == pytest.approx(log_z.item(), abs=1e-8)
    theta, tau, mu = torch.linspace(-3, 9, 8).double(), torch.tensor(2.3).double(), torch.tensor(1.7).double()
    wanted = normal(theta, errors).log_prob(effects).sum() + normal(mu, tau).log_prob(theta).sum()
    wanted = wanted + normal(0, five).log_prob(mu) + cauchy(five).log_prob(tau)
    found = centred.log_density({"mu": mu[None], "tau": tau[None], "theta": theta[None]})
    torch.testing.assert_close(found[0], wanted - 2.5)
    found = other.log_density({"mu": mu[None], "tau": tau[None], "eta": (theta - mu)[None] / tau})
    torch.testing.assert_close(found[0], wanted + 8 * tau.log() + 1.5)


def test_the_bound_of_the_logistic_rejection() -> None:
    """No draw of the proposal and no ascent exceeds it, and the ascents all end just below."""
    beta = logistic.propose(30, torch.Generator().manual_seed(7)).requires_grad_()
    optimiser = torch.optim.LBFGS([beta], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        value = -logistic.log_ratio(beta).sum()
        value.backward()
        return value

    optimiser.step(loss)
    best = logistic.log_ratio(beta.detach())
    assert (best < logistic.LOG_BOUND).all()
    assert best.min() > logistic.LOG_BOUND - 0.02
    assert logistic.log_ratio(logistic.propose(20_000)).max() < logistic.LOG_BOUND


def test_the_breast_cancer_data() -> None:
    folder = files("flowvi.inference.targets") / "breast_cancer"
    content = (folder / "wdbc.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == logistic.CHECKSUM
    assert logistic.CHECKSUM in (folder / "SOURCE.md").read_text()
    assert "Attribution 4.0" in (folder / "LICENSE").read_text()
    columns = logistic._signed_columns()
    assert columns.shape == (569, 6)
    assert columns[:, 0].sum() == 357 - 212
    means = (columns[:, 1:] * columns[:, :1]).mean(0)
    torch.testing.assert_close(means, torch.zeros(5).double())


def test_damaged_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "CHECKSUM", "0" * 64)
    with pytest.raises(DataError, match=r"wdbc\.csv is damaged \(SHA-256 9b1f.*\): install flowvi again"):
        logistic._signed_columns.__wrapped__()


# --- the proof itself: what is wrong is seen -----------------------------------------------------------------


def changed(target: Target, factor: float, term: float) -> Target:
    return replace(target, log_density=lambda z: factor * target.log_density(z) + term)


@pytest.mark.parametrize("name", ["banana", "log_gamma", "funnel_10", "student_10", "gaussian_10_condition_1e4"])
def test_a_wrong_target_is_seen(name: str) -> None:
    target = TARGETS[name]
    z = draws(name)

    def off(wrong: Target) -> float:
        if name in GRIDS:
            return abs(GRIDS[name].masses(wrong).sum().log().item()) / 1e-6
        if target in QUADRATIC:
            return abs(quadratic_log_z(wrong) - wrong.log_z) / 1e-7
        found, se, *_ = importance(wrong)
        return abs(found) / (4 * se)

    assert off(target) < 1
    assert off(changed(target, 1.0, 0.1)) > 1
    assert off(changed(target, 1.05, 0.0)) > 1
    assert off(replace(target, log_z=-target.log_z)) > 1
    for moved in (1.05 * z, z + 0.1 * z.std(0)):
        assert worst_stein(target, moved) > 5
        assert name not in GRIDS or chi_square(masses(name), GRIDS[name], moved) < 1e-4
