"""Fixtures for every room: each test starts from the same seed; `dtype` runs a test in both precisions."""

from __future__ import annotations

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before torch makes its threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    torch.manual_seed(0)
    validates = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(validates)  # which torch's compiler switches off for good


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
