"""The documentation's family of one's own: two places, and the audit holds it to everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_the_example_passes_the_audit() -> None:
    command = [sys.executable, "-m", "flowvi.flows.audit", "triangular:Triangular", "--features", "2", "--length", "2"]
    path = os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_says_how_long_the_file_is() -> None:
    lines = len((EXAMPLES / "triangular.py").read_text("utf-8").splitlines())
    assert f"That is {lines} lines in one place" in (EXAMPLES.parent / "new-family.md").read_text("utf-8")


def test_registered_it_is_a_family_like_any_other() -> None:
    """With the page's own entry: built by its kind, composed with another, its options checked."""
    page = (EXAMPLES.parent / "new-family.md").read_text("utf-8")
    entry = page.split("```python\n")[1].split("```")[0]
    code = f"""
{entry}
import torch
from flowvi.experiments.config import resolve
from flowvi.flows import build
z, log_q = build("triangular+planar", 3, 5, 2)(torch.zeros(4, 5)).rsample_and_log_prob((7,))
assert z.shape == (7, 4, 3)
config = resolve("dlgm.nf10.mnist", {{"flow.kind": "triangular", "flow.init": "normal"}})
assert config.flow.options == {{"parameters": "auto", "init": "normal"}}
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
