"""Markdown tables of results beside published figures."""

from __future__ import annotations

import math
from typing import Any

from flowvi.reports.comparison import results_markdown
from flowvi.reports.published import PAPER, PUBLISHED


def cells(markdown: str) -> list[list[str]]:
    """The rows of the tables, without header and rule."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] not in ("posterior", "---")]


def test_ours_then_what_was_published_for_the_same_posterior(record: dict[str, Any]) -> None:
    ours, theirs = cells(results_markdown([record]))
    assert ours[:2] == ["planar flow, K = 20", "**flowvi, modern**"]
    assert ours[2:] == ["94.65 ± 0.24", "4.53 ± 0.02", "90.12 ± 0.23", "1", "20,000", "25 min"]
    assert theirs[:2] == ["planar flow, K = 20", PAPER.label]
    assert theirs[2:] == ["≈ 91.9", "≈ 5.4", "86.5", "–", "500,000", "–"]
    assert PAPER.note in results_markdown([record])


def test_figures_stand_only_beside_results_of_their_own_binarisation(record: dict[str, Any]) -> None:
    table = results_markdown([{**record, "binarisation": "threshold"}])
    assert [row[1] for row in cells(table)] == [
        "**flowvi, modern**",
        "earlier reproduction",
    ]
    assert PAPER.note not in table
    own_data = results_markdown([{**record, "data": "mine"}])
    assert len(cells(own_data)) == 1


def test_seeds_are_averaged_and_their_spread_told(record: dict[str, Any]) -> None:
    records = [
        {**record, "seed": seed, "nll": nll, "train_seconds": 60.0} for seed, nll in enumerate((90.0, 91.0, 92.0))
    ]
    ours = cells(results_markdown(records, published=()))
    assert len(ours) == 1
    assert ours[0][4:] == ["91.00 ± 0.23", "3, s.d. 1.00", "20,000", "60 s"]


def test_a_figure_that_is_not_finite_or_absent_spoils_the_mean(record: dict[str, Any]) -> None:
    good = {**record, "seed": 1}
    ours = cells(results_markdown([{**record, "nll": math.nan, "kl": None, "free_energy": math.inf}, good], ()))[0]
    assert ours[2:6] == ["inf ± 0.24", "– ± 0.02", "NaN ± 0.23", "2, s.d. –"]


def test_configs_are_kept_apart_and_say_how_they_differ(record: dict[str, Any]) -> None:
    other = {
        **record,
        "config_hash": "0",
        "maxout": "400-100",
        "init": "xavier",
        "objective": "iwae",
        "training_samples": 5,
    }
    small = {**record, "samples": 5000, "images": 1000}
    labels = {row[1] for row in cells(results_markdown([record, other, small], ()))}
    assert labels == {
        "**flowvi, modern**",
        "**flowvi, modern, maxout 400-100, xavier start, iwae, 5 training samples**",
        "**flowvi, modern, S = 5,000, 1,000 images**",
    }


def test_one_table_for_each_binarisation_in_order_of_k(record: dict[str, Any]) -> None:
    gaussian = {"flow": "gaussian", "length": 0, "config_hash": "0", "invertibility": None, "init": None}
    records = [record, {**record, "length": 80, "config_hash": "8"}, {**record, **gaussian}]
    records += [{**one, "binarisation": "threshold"} for one in records]
    table = results_markdown(reversed(records), published=())
    assert table.count("| --- |") == 2
    assert [row[0] for row in cells(table)] == [
        "Gaussian, K = 0",
        "planar flow, K = 20",
        "planar flow, K = 80",
    ] * 2


def test_nothing_yet() -> None:
    assert results_markdown([]) == "*No results yet.*"


def test_the_paper_s_kl_is_the_difference_of_its_own_figures_to_what_a_plot_can_tell() -> None:
    for row in PUBLISHED:
        assert row.kl is not None and row.free_energy is not None
        tolerance = 0.011 if not row.source.from_plot else 0.25
        assert abs(row.free_energy - row.nll - row.kl) <= tolerance, row
