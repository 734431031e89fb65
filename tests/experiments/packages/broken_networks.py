"""Networks of somebody's own, reached by dotted path; some break on purpose."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn


def breaks_at() -> int:
    return int(os.environ.get("BREAKS_AT", "6"))


class Plain(nn.Module):
    """A linear layer that counts the updates it has been through."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()
        return self.linear(x)


class NaNLoss(Plain):
    """NaN from the update numbered BREAKS_AT on."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * float("nan") if self.calls >= breaks_at() else y


class NaNGradient(Plain):
    """A finite value, but from the update numbered BREAKS_AT on a gradient that is not: √0 at each output."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + (y - y).sqrt() if self.calls >= breaks_at() else y


class NaNAtValidation(Plain):
    """Finite in training, NaN where no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if torch.is_grad_enabled() else y * float("nan")


class Restless(Plain):
    """Dropout and batch statistics: a network that is not the same in training and in use."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.norm, self.dropout = nn.BatchNorm1d(outputs), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(super().forward(x)))


class Waiting(Plain):
    """Waits for the device."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * float(y.detach().sum().isfinite())


class WaitingUnseen(Plain):
    """Waits for the device in a way that torch's look at synchronisations does not see."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            torch.cuda.synchronize()
        return super().forward(x)


class Raising(Plain):
    """Refuses to be captured, by an error of its own."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ValueError("not while capturing")
        return super().forward(x)


class Tied(Plain):
    """One weight under two names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.again = self.linear


class Picky(nn.Module):
    """Wants other arguments than it gets."""

    def __init__(self) -> None:
        super().__init__()


class Narrow(nn.Linear):
    """One output too few."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs - 1)


class Refusing(nn.Linear):
    """Takes another width than it is told."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs + 1, outputs)
