"""The table at a sweep's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowvi.experiments.sweeps.grid import plan
from flowvi.experiments.sweeps.jobs import Outcome, log_file
from flowvi.reports.sweeps import sweep_table


def test_all_jobs_and_why_some_are_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWVI_RUNS", raising=False)
    a, b, c, d = plan("dlgm.nf10.mnist", {"seed": range(4)})
    log_file(c.folder).parent.mkdir(parents=True)
    log_file(c.folder).touch()
    result = {"free_energy": 95.0, "nll": 90.728, "nll_se": 0.23, "train_seconds": 2040.4}
    table = sweep_table(
        [
            Outcome(a, "done", earlier=True, result=result),
            Outcome(b, "done", result={**result, "nll": float("nan")}),
            Outcome(c, "failed", message="update 6: loss not finite"),
            Outcome(d, "stopped", message="asked to stop"),
        ]
    )
    assert table.splitlines() == [
        "job                     state               F  −ln p(x)    ± s.e.   seconds",
        "dlgm.nf10.mnist seed=0  done before     95.00     90.73      0.23     2,040",
        "dlgm.nf10.mnist seed=1  done            95.00       NaN      0.23     2,040",
        "dlgm.nf10.mnist seed=2  failed              –         –         –         –",
        "dlgm.nf10.mnist seed=3  stopped             –         –         –         –",
        "",
        "failed: dlgm.nf10.mnist seed=2: update 6: loss not finite (more in runs/dlgm.nf10.mnist/2/log.txt)",
        "stopped: dlgm.nf10.mnist seed=3: asked to stop",
        "",
        "4 jobs: 1 done, 1 done before (skipped), 1 failed, 1 stopped; "
        "the same command with --retry tries those that failed again",
    ]
