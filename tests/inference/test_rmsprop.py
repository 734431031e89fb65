"""The fused RMSprop is torch's: its numbers, its state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from flowvi.inference import RMSprop


def trained(kind: type[torch.optim.RMSprop], dtype: torch.dtype, updates: int = 20) -> torch.optim.RMSprop:
    """After updates by gradients that do not depend on the weights, so that no rounding grows."""
    torch.manual_seed(0)
    module = nn.Linear(300, 200).to(dtype)
    optimiser = kind(module.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(updates):
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimiser.step()
    return optimiser


def numbers(optimiser: torch.optim.RMSprop) -> list[torch.Tensor]:
    parameters = optimiser.param_groups[0]["params"]
    states = [optimiser.state[p] for p in parameters]
    return [*parameters, *(state[name] for state in states for name in ("step", "square_avg", "momentum_buffer"))]


def test_numbers_and_state_are_torchs(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWVI_KERNEL", "cpu")
    for found, expected in zip(
        numbers(trained(RMSprop, dtype)), numbers(trained(torch.optim.RMSprop, dtype)), strict=True
    ):
        torch.testing.assert_close(
            found, expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e2 * torch.finfo(dtype).eps
        )


def test_it_is_one_kernel_after_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    optimiser, plain = trained(RMSprop, torch.float32, updates=1), []
    monkeypatch.setattr(torch.optim.RMSprop, "step", lambda self, closure=None: plain.append(1))
    before = copy.deepcopy(numbers(optimiser))
    optimiser.step()
    assert not plain and not any(torch.equal(a, b) for a, b in zip(before[:2], numbers(optimiser)[:2], strict=True))
    monkeypatch.setenv("FLOWVI_KERNEL", "reference")
    optimiser.step()
    assert plain
