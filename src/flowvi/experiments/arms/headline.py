"""Which runs make the headline rows, fixed before they are tested: `python -m flowvi.experiments.arms.headline FILE`.

`results/headline.json` holds, for a budget and a row, the hash of the config and the seeds. A run of another config,
or of another seed, makes no headline row, however well it did. Imports no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowvi.experiments.arms.arm import config_of
from flowvi.experiments.arms.figure4 import BUDGETS, arms

__all__ = ["headline", "is_headline", "main"]

Rows = dict[str, dict[str, Any]]

HEADLINE_BUDGETS = "short", "paper"
SEEDS = 0, 1, 2  # as many as a claim takes; a budget of fewer begins with the first


def headline() -> dict[str, Rows]:
    """The headline rows of each budget, from the grid of Figure 4.

    Example:
        >>> headline()["short"]["planar-10"]["seeds"]
        [0, 1, 2]
    """
    return {
        budget: {
            arm.name: {
                "config": arm.preset,
                "config_hash": config_of(arm, BUDGETS[budget], {}).hash(),
                "seeds": list(SEEDS),
            }
            for arm in arms(budget)
        }
        for budget in HEADLINE_BUDGETS
    }


def is_headline(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether all of some results are of headline runs."""
    allowed = {
        (budget, row["config_hash"], seed)
        for budget, rows in headline().items()
        for row in rows.values()
        for seed in row["seeds"]
    }
    return all((record["budget"], record["config_hash"], record["seed"]) in allowed for record in records)


def main(words: list[str]) -> int:
    """Write the registry to the file that is named."""
    if len(words) != 1:
        print("usage: python -m flowvi.experiments.arms.headline FILE", file=sys.stderr)
        return 2
    Path(words[0]).write_text(json.dumps(headline(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
