"""The states that a flow is audited in, each from a seed of its own, and what is worked out once for all properties."""

from __future__ import annotations

import zlib
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from flowvi.flows.audit.maps import condition, jacobians
from flowvi.flows.audit.subjects import Subject
from flowvi.flows.flow import Flow, FlowDistribution

__all__ = ["POINTS", "Setting", "randomise", "setting", "states", "train"]

POINTS = 16
_UPDATES, _BATCH, _CONTEXTS, _LEARNING_RATE = 100, 16, 4, 0.02
_LONGEST = 8


def states(subject: Subject) -> tuple[str, ...]:
    """`initial` (once for each word that `init` takes), `moderate`, `large` and `trained`."""
    return (*(subject.inits or ("initial",)), "moderate", "large", "trained")


@dataclass(frozen=True)
class Setting:
    """A flow of one size in one state.

    Its numbers, those of its noise and of its context are of float32, so that float64 sees the very same.
    """

    subject: Subject
    features: int
    length: int
    state: str

    def __str__(self) -> str:
        return f"{self.subject}, D = {self.features}, K = {self.length}, {self.state}"

    @property
    def seed(self) -> int:
        """One for each setting."""
        return zlib.crc32(str(self).encode())

    @cached_property
    def master(self) -> Flow:
        """The flow in float32."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            init = {"init": self.state} if self.state in self.subject.inits else {}
            flow = self.subject.build(self.features, self.length, **init)
            if self.state == "trained":
                train(flow, self.length)
            elif self.state in ("moderate", "large"):
                # sums over K layers are alike whatever K
                randomise(flow, (3.0 if self.state == "large" else 0.5) / max(self.length, 1) ** 0.5)
            return flow.requires_grad_(False)

    @cached_property
    def noise(self) -> Tensor:
        """(points, D), in float32."""
        return self.draw("noise", POINTS, self.features)

    @cached_property
    def context(self) -> Tensor | None:
        """(C,), in float32."""
        return self.draw("context", self.subject.context) if self.subject.context else None

    def draw(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers, the same whenever asked for, in float32."""
        seed = zlib.crc32(f"{self}: {purpose}".encode())
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def contexts(self, rows: int, dtype: torch.dtype) -> Tensor | None:
        """(rows, C), or None."""
        return self.draw("contexts", rows, self.subject.context).to(dtype) if self.subject.context else None

    def flow(self, dtype: torch.dtype) -> Flow:
        """A copy of its own."""
        return deepcopy(self.master).to(dtype).requires_grad_(True)

    def q(self, dtype: torch.dtype) -> FlowDistribution:
        """The distribution given the context, without gradients."""
        if dtype not in self._distributions:
            with torch.no_grad():
                given = None if self.context is None else self.context.to(dtype)
                self._distributions[dtype] = deepcopy(self.master).to(dtype)(given)
        return self._distributions[dtype]

    @cached_property
    def _distributions(self) -> dict[torch.dtype, FlowDistribution]:
        return {}

    @cached_property
    def jacobian(self) -> Tensor:
        """∂z/∂noise at each row of the noise, (points, D, D), in float64."""
        q = self.q(torch.float64)
        return jacobians(lambda rows: q.push(rows)[0], self.noise.double())

    @cached_property
    def kappa(self) -> Tensor:
        """The condition numbers of the Jacobians, (points,)."""
        return condition(self.jacobian)


@lru_cache(maxsize=1024)
def setting(subject: Subject, features: int, length: int, state: str) -> Setting:
    """A setting; what was worked out for one property serves the next."""
    return Setting(subject, features, length, state)


def randomise(flow: Flow, size: float) -> None:
    """Every parameter random: standard deviation `size`, a linear layer's weights that over √inputs; the base 0.5."""
    base = set(flow.base.modules())
    with torch.no_grad():
        for module in flow.modules():
            scale = 0.5 if module in base else size
            for name, parameter in module.named_parameters(recurse=False):
                linear = isinstance(module, nn.Linear) and name == "weight"
                parameter.normal_(std=scale / max(parameter.shape[1], 1) ** 0.5 if linear else scale)


@torch.enable_grad()
def train(flow: Flow, length: int) -> None:
    """A short training by the reverse Kullback-Leibler divergence to a target that is far from Gaussian."""
    context = torch.randn(_CONTEXTS, flow.context) if flow.context else None
    shift = 0.0 if context is None else context[:, :1]
    # sums over K layers move alike whatever K
    optimiser = torch.optim.Adam(flow.parameters(), _LEARNING_RATE * min(1.0, _LONGEST / max(length, 1)))
    for _ in range(_UPDATES):
        z, log_q = flow(context).rsample_and_log_prob((_BATCH,))
        loss = (log_q - _log_target(z - shift)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimiser.step()
    if not all(value.isfinite().all() for value in flow.parameters()):
        raise ArithmeticError("training ended at parameters that are not finite")


def _log_target(z: Tensor) -> Tensor:
    """Two bumps along the first coordinate, the second bent over it, the rest standard normal; up to a constant."""
    first, rest = z[..., 0], z[..., 1:]
    bumps = torch.logaddexp(-2 * (first - 1.5).square(), -2 * (first + 1.5).square())
    if rest.shape[-1]:
        bent = rest[..., :1] - 0.5 * first.square().unsqueeze(-1) + 1
        rest = torch.cat([2 * bent, rest[..., 1:]], -1)
    return bumps - 0.5 * rest.square().sum(-1)
