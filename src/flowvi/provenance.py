"""What measured a result: the versions, the machine, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from flowvi import __version__

__all__ = ["provenance"]


def provenance() -> dict[str, Any]:
    """The keys of a result that say what measured it, and where."""
    return {
        "versions": f"flowvi {__version__}, torch {torch.__version__}, python {platform.python_version()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_accelerator()}",
        "commit": _commit(),
    }


def _accelerator() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"


def _commit() -> str | None:
    """The commit of the source tree that runs, marked where it has changes; None for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False)
        if inside.returncode:
            return None
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
