"""The room's doors: lazy names, and nothing heavy imported before its use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flowvi.data


def test_public_names() -> None:
    for name in flowvi.data.__all__:
        assert getattr(flowvi.data, name) is not None
    assert dir(flowvi.data) == flowvi.data.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = flowvi.data.nothing


def test_names_of_data_sets_import_neither_torch_nor_numpy() -> None:
    code = "import sys; from flowvi.data import DATASETS; sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
