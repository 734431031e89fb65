"""The properties that every family must have, one name each; and which sizes and states each is checked at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from flowvi.flows.audit import densities, gradients, hostile, inverses, objects
from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.states import Setting, setting
from flowvi.flows.audit.subjects import Subject

__all__ = ["DTYPES", "PROPERTIES", "Property", "Sizes", "check", "settings"]

DTYPES = torch.float32, torch.float64


@dataclass(frozen=True)
class Sizes:
    """Which sizes to audit.

    Attributes:
        features: each D; those below a family's least are left out.
        lengths: each K.
        every: whether every state is met at every size. If not, the large one is met at all of them (by an amortised
            flow at the largest alone) and the others at the D nearest to 2 and the longest K up to 8; of the starts,
            the dearer properties meet the first alone, and only amortised flows are compiled.

    Example:
        >>> Sizes(features=(2,), lengths=(3,))
        Sizes(features=(2,), lengths=(3,), every=False)
    """

    features: Sequence[int] = (1, 2, 5)
    lengths: Sequence[int] = (1, 8)
    every: bool = False


@dataclass(frozen=True)
class Property:
    """One property.

    Attributes:
        check: called with a setting and a dtype; its docstring says what holds.
        legend: that in one line.
        states: those it is checked in; `initial` stands for each start.
        dtypes: those it is checked in.
        plane: whether D = 2 is the only one.
        counts: the figure is a number of things that are wrong.
    """

    check: Callable[[Setting, torch.dtype], Finding]
    legend: str
    states: tuple[str, ...] = ("initial", "large", "trained")
    dtypes: tuple[torch.dtype, ...] = DTYPES
    plane: bool = False
    counts: bool = False


_SINGLE, _DOUBLE = (torch.float32,), (torch.float64,)
_ALL = "initial", "moderate", "large", "trained"

PROPERTIES: dict[str, Property] = {
    "log-det": Property(
        inverses.log_det,
        "|Δ|/(1 + |log-det|) ≤ 1e-3 / 1e-8: ln q of pushed noise against autograd's Jacobian",
    ),
    "there+back": Property(inverses.there_and_back, "‖f⁻¹(f(z0)) − z0‖ ≤ 100·K·ε·κ·(1 + ‖z0‖)"),
    "back+there": Property(
        inverses.back_and_there, "‖f(f⁻¹(y)) − y‖ ≤ 100·K·ε·(1 + ‖y‖ + ‖f⁻¹(y)‖), ‖y‖ from 0.1 to 1000"
    ),
    "own samples": Property(
        inverses.own_samples, "|log_prob(z) − log_q| ≤ 100·K·ε·κ·(1 + ‖noise‖)² for a sample and its log_q"
    ),
    "identity": Property(
        densities.identity, 'init="identity", K = 80: ‖z − z0‖ ≤ 10·K·ε·(1 + ‖z0‖), ln q likewise', ("identity",)
    ),
    "derivative": Property(
        gradients.differences,
        "|Δ|/(1 + |derivative|) ≤ 1e-5: log_prob's, by point and parameters, against differences",
        _ALL,
        _DOUBLE,
    ),
    "integral": Property(
        densities.integrates,
        "|∫ exp(log_prob) − 1| ≤ 1e-3 over the plane, by adaptive quadrature",
        ("initial", "moderate", "trained"),
        _DOUBLE,
        plane=True,
    ),
    "gradients": Property(
        gradients.reach, "gradients that are not finite, or 0 for a number that matters: none", _ALL, counts=True
    ),
    "hostile": Property(
        hostile.hostile,
        "answers not finite at parameters 0, 1e-30, ±50, ±200 (in networks ±20/√inputs): none",
        ("moderate",),
        counts=True,
    ),
    "torch": Property(
        objects.objects,
        "seeds, saved weights, copies, dtypes, meta device: equal; vmap, jacfwd, jacrev ≤ 1e-3 / 1e-8 apart",
        ("moderate",),
    ),
    "compile": Property(objects.compiled, "torch.compile against eager mode: ≤ 1e-4 apart", ("moderate",), _SINGLE),
}

_LARGEST_SCALE = 30.0  # its logarithm; κ·ε is above 1e-2 beyond 31.4
_SHORT = {"compile"}  # a layer is as good as eight
_STARTS = {"log-det", "there+back", "back+there", "own samples", "identity"}  # else the first start alone


def settings(name: str, subject: Subject, sizes: Sizes) -> Iterator[Setting]:
    """Where a property is to be checked on a subject; nowhere if it does not apply.

    Example:
        >>> from flowvi.flows.audit import find
        >>> [str(setting) for setting in settings("identity", find("radial", {})[0], Sizes((2,), (3,)))]
        ['radial static, D = 2, K = 3, identity']
    """
    asked = PROPERTIES[name]
    features = [d for d in sizes.features if d >= subject.least and (d == 2 or not asked.plane)]
    most = max(sizes.lengths) if sizes.every else subject.most
    lengths = sorted({min(k, most) for k in sizes.lengths}) if subject.chain else [0]
    starts = subject.inits or ("initial",)
    if name == "identity":
        starts = tuple(word for word in starts if word == "identity")
    words = [word for state in asked.states for word in (starts if state in ("initial", "identity") else (state,))]
    if sizes.every:
        yield from (setting(subject, d, k, state) for d in features for k in lengths for state in words)
        return
    if name == "compile" and not subject.context:
        return
    typical = min(features, key=lambda d: abs(d - 2), default=0)
    usual = lengths[0] if name in _SHORT else max((k for k in lengths if k <= 8), default=lengths[0])
    if name not in _STARTS:
        words = [word for word in words if word not in starts[1:]]
    for d, k, state in itertools.product(features, lengths, words):
        # an amortised flow is the static one with other numbers
        everywhere = state == "large" and (not subject.context or (d == max(features) and k == usual))
        edges = name == "hostile" and not subject.context and d != typical and k == lengths[0]
        if (d == typical and k == usual) or everywhere or edges:
            yield setting(subject, d, k, state)


def check(name: str, at: Setting, dtype: torch.dtype) -> Finding:
    """One property of one setting; what it raises is a finding too.

    At its first start, and trained where it has up to 8 layers, a flow leaves out half of the points at most, in
    float64: else nothing was shown. Excepted are long chains that start by scaling the whole space beyond float64's
    digits, as 80 layers do that halve every coordinate.
    """
    try:
        finding = PROPERTIES[name].check(at, dtype)
        if finding.holds and _too_few(name, at, dtype, finding):
            note = f"{finding.beyond} of {finding.points} points are too ill conditioned to be judged"
            return replace(finding, ratio=torch.inf, note=note)
        return finding
    except Exception as error:  # whatever an audited flow may raise
        said = " ".join(str(error).split())
        return Finding(torch.inf, torch.inf, note=f"{type(error).__name__}: {said[:160]}")


def _too_few(name: str, at: Setting, dtype: torch.dtype, finding: Finding) -> bool:
    first = at.state in ("initial", *at.subject.inits[:1])
    ordinary = first or (at.state == "trained" and at.length <= 8)
    judged = name in ("log-det", "there+back", "own samples") and dtype == torch.float64
    return ordinary and judged and finding.beyond > finding.points / 2 and not _is_far_scaled(at)


def _is_far_scaled(at: Setting) -> bool:
    """Whether it is the number of layers, each with a factor below e, that takes the whole space so far."""
    scales = torch.linalg.slogdet(at.jacobian)[1].abs() / at.features
    return bool((scales > _LARGEST_SCALE).all() and (scales < at.length).all())
