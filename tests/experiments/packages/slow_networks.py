"""Networks that give a test time to act: each update waits while the file HOLD exists."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn


class Held(nn.Linear):
    """Slow while the file exists; but not stuck, so that a request to stop is seen."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and Path(os.environ["HOLD"]).exists():
            time.sleep(0.25)
        return super().forward(x)
