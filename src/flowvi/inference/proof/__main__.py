"""The proof: `python -m flowvi.inference.proof [--effort fast] [--seeds 0,1] [--only PATTERN …] --out FILE`.

Each target is fitted with each seed; a record is written as each fit ends, and what a file has already is not done
again. `--print` only prints the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

from flowvi.inference.fitting import EFFORTS
from flowvi.inference.proof.records import Record, keep, prove, read
from flowvi.inference.proof.table import proof_table
from flowvi.inference.targets import TARGETS
from flowvi.provenance import provenance


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, print the tables; returns the exit status."""
    options = _options(words)
    names = [name for name in TARGETS if any(fnmatch(name, pattern) for pattern in options.only)]
    if not names:
        print(f"proof: no target is like {', '.join(options.only)}: see flowvi.targets.TARGETS", file=sys.stderr)
        return 2
    done = {(record["target"], record["seed"], record["effort"]) for record in read(options.out)}
    todo = product(() if options.print else options.seeds, names)
    missing = [(name, seed, options.effort) for seed, name in todo if (name, seed, options.effort) not in done]
    about = provenance()
    made = ({**prove(*each), **about} for each in missing)
    if not keep(options.out, made, _line, "proof"):
        return 130
    records = [record for record in read(options.out) if record["effort"] == options.effort]
    print(proof_table([record for record in records if record["target"] in names]))
    return 0


def _line(record: Record) -> str:
    said = record.get("verdict", "refused")
    return f"{record['target']}, seed {record['seed']}: {said}, {record['seconds']:.0f} s"


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flowvi.inference.proof", description=__doc__)
    parser.add_argument("--effort", choices=list(EFFORTS), default="fast")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1])
    parser.add_argument("--only", action="append", help="a target's name, or a pattern of names; all by default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--print", action="store_true", help="print the tables of what is on file")
    options = parser.parse_args(words)
    options.only = options.only or ["*"]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
