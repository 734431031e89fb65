"""The rooms' doors: lazy names, and no torch before its use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = ["flowvi.models", "flowvi.inference"]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names(room: str) -> None:
    module = import_module(room)
    for name in module.__all__:
        assert getattr(module, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_the_doors_import_no_torch() -> None:
    code = f"import sys, {', '.join(ROOMS)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
