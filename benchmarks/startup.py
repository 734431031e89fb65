"""From nothing to the first step: times of imports, and of the first training step, cold and with compiled kernels.

Every number is from a process of its own, the processes taking turns. *Cold*: the folder of compiled kernels is empty,
as on a machine that has never run flowvi; *cached*: the same folder again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import Contest
from benchmarks.settings import Record, Settings

CONTENDERS = {
    "python": "python -c pass",
    "import torch": "python -c 'import torch'",
    "import flowvi": "python -c 'import flowvi'",
    "flowvi configs": "flowvi configs, the command that lists the presets",
    "import training": "python -c 'import flowvi.experiments.train', everything that training imports",
    "first step cold": "Engine.step for the first time, K = 80, no kernel compiled before",
    "first step cached": "the same, kernels compiled by an earlier process",
    "second step": "the step after it",
    "ready cold": "from the start of python to the end of the first step, cold",
    "ready cached": "the same, kernels compiled by an earlier process",
}
COMMANDS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import flowvi": ["-c", "import flowvi"],
    "flowvi configs": ["-m", "flowvi", "configs"],
    "import training": ["-c", "import flowvi.experiments.train"],
}
ROOT = Path(__file__).resolve().parents[1]


def measure(settings: Settings) -> dict[str, Any]:
    """Rounds of all processes; prints a line."""
    record = Record("startup", settings, "ms", CONTENDERS)
    length, rounds = (2, 2) if settings.tiny or settings.prepare else (80, 5)
    commands = dict(list(COMMANDS.items())[2:3]) if settings.tiny else COMMANDS
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, words in commands.items():
            times.setdefault(name, []).append(_process(words)[0])
        with tempfile.TemporaryDirectory() as kernels:
            for state in ("cached",) if settings.tiny else ("cold", "cached"):
                where = {} if settings.tiny else {"NUMBA_CACHE_DIR": kernels}
                for name, value in _first_steps(where, state, length, settings).items():
                    times.setdefault(name, []).append(value)
    record.add({"K": length}, Contest(times, dict.fromkeys(times, 1)), ("python",) if "python" in times else ())
    return record.to_dict()


def _first_steps(where: Mapping[str, str], state: str, length: int, settings: Settings) -> dict[str, float]:
    question = json.dumps([length, settings.threads, dict(settings.overrides)])
    whole, out = _process(["-m", "benchmarks.startup", question], where)
    first, second = json.loads(out.splitlines()[-1])
    found = {f"first step {state}": first, f"ready {state}": whole}
    return found if state == "cold" else {**found, "second step": second}


def _process(words: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Milliseconds that `python WORDS` took, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return 1e3 * (time.perf_counter() - start), done.stdout


def main(question: str) -> int:
    """In the process: the first two steps, ms."""
    import torch

    from benchmarks.programs import config_of, engine_of

    length, threads, overrides = json.loads(question)
    torch.set_num_threads(threads)
    engine = engine_of(config_of(length, overrides))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        engine.step()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps(times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
