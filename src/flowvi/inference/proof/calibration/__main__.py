"""Calibration: `python -m flowvi.inference.proof.calibration [--sets 50] [--effort fast] [--only MODEL …] --out FILE`.

For each data set θ is drawn from the prior and the data from the model, the posterior is fitted, and θ is ranked among
99 of its draws: over many data sets the ranks are uniform if the fits are right on average, whatever the data (Talts
et al. 2018, arXiv:1804.06788). A record is written as each fit ends, and what a file has already is not done again.
`--print` only prints the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from flowvi.inference.fitting import EFFORTS
from flowvi.inference.proof.calibration.models import MODELS
from flowvi.inference.proof.calibration.records import calibrate
from flowvi.inference.proof.calibration.table import calibration_table
from flowvi.inference.proof.records import Record, keep, read
from flowvi.provenance import provenance


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, print the tables; returns the exit status."""
    options = _options(words)
    done = {(record["model"], record["data_set"], record["effort"]) for record in read(options.out)}
    todo = product(range(0 if options.print else options.sets), options.only)
    missing = [(name, each, options.effort) for each, name in todo if (name, each, options.effort) not in done]
    about = provenance()
    made = ({**calibrate(*each), **about} for each in missing)
    if not keep(options.out, made, _line, "calibration"):
        return 130
    records = [record for record in read(options.out) if record["effort"] == options.effort]
    print(calibration_table([record for record in records if record["model"] in options.only]))
    return 0


def _line(record: Record) -> str:
    said = record.get("verdict", "refused")
    return f"{record['model']}, data set {record['data_set']}: {said}, {record['seconds']:.0f} s"


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    name = "python -m flowvi.inference.proof.calibration"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("--effort", choices=list(EFFORTS), default="fast")
    parser.add_argument("--sets", type=int, default=50, help="data sets of each model (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=list(MODELS), help="a model; all by default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--print", action="store_true", help="print the tables of what is on file")
    options = parser.parse_args(words)
    options.only = options.only or list(MODELS)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
