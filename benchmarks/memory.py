"""Peak memory of a few training steps, or of an evaluation, in a process of its own: `python -m benchmarks.memory`.

Resident memory as Linux counts it; elsewhere there is no answer. The process gives large blocks back to the system as
soon as they are free, so that the peak is of what was in use.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CALLS = 3


def peak_of(*, threads: int, length: int, overrides: Mapping[str, Any], samples: int | None) -> float | None:
    """MiB above what the process held before there was a model."""
    if not STATUS.exists():
        return None
    question = json.dumps({"length": length, "overrides": dict(overrides), "samples": samples, "threads": threads})
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", question],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
        check=True,
    )
    peak: float = json.loads(answer.stdout.splitlines()[-1])
    return peak


def main(question: str) -> int:
    """Measure and print."""
    import gc

    import torch

    from benchmarks.growth import job_of
    from benchmarks.programs import config_of, dataset_of, engine_of

    asked = json.loads(question)
    torch.set_num_threads(asked.pop("threads"))
    dataset_of(config_of(asked["length"], asked["overrides"]))
    # a model of one layer first: the kernel's code and the libraries are not the model's memory
    engine_of(config_of(1, asked["overrides"])).step()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _held("VmRSS")
    job = job_of(**asked)
    for _ in range(CALLS):
        job.run()
    print(_held("VmHWM") - before)
    return 0


def _held(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in {STATUS}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
