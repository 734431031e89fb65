"""The table that `flowvi test` prints: what it says, how wide it is, what it never passes off as a number."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowvi.reports.tables import number, result_table


def line(table: str, start: str) -> str:
    (found,) = [line for line in table.splitlines() if line.startswith(f"{start}  ")]
    return found


def test_it_says_what_was_tested_under_what_and_the_figures(record: dict[str, Any]) -> None:
    table = result_table(record)
    for words in (
        "dlgm.nf20.mnist, seed 0: planar flow, K = 20, 40 latents, maxout 1600-400",
        "modern protocol, 20,000 updates on 50,000 images; weights:",
        "weights: the best on validation images (update 19,000)",
        "10,000 test images of mnist, fixed binarisation; importance sampling, S = 200 for each image",
        "−ln p(x) is an estimate by importance sampling, biased up, and KL with it down",
    ):
        assert words in " ".join(table.split())
    assert line(table, "free energy F(x)").split()[-4:] == ["94.65", "±", "0.24", "nats"]
    assert line(table, "−ln p(x)").split()[-4:] == ["90.12", "±", "0.23", "nats"]
    assert line(table, "KL = F(x) + ln p(x)").split()[-4:] == ["4.53", "±", "0.02", "nats"]
    assert line(table, "effective sample size").split()[-5:] == ["12.34", "±", "0.11", "of", "200"]
    assert "do not use" not in table


def test_the_figures_are_aligned(record: dict[str, Any]) -> None:
    rows = [row for row in result_table(record).splitlines() if "±" in row]
    assert len(rows) == 4
    assert len({row.index("±") for row in rows}) == 1
    assert len({row.index("nats") for row in rows[:3]} | {rows[3].index("of")}) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "inf"),
        (-float("inf"), "−inf"),
        (None, "–"),
        ("90.1", "–"),
        (True, "–"),
    ],
)
def test_what_is_no_finite_number_is_never_shown_as_one(record: dict[str, Any], value: object, shown: str) -> None:
    table = result_table({**record, "nll": value, "nll_se": value})
    assert line(table, "−ln p(x)").split()[-4:] == [shown, "±", shown, "nats"]
    assert "do not use this result" in table


def test_an_empty_result_is_all_dashes() -> None:
    figures = [row for row in result_table({}).splitlines() if "±" in row]
    assert len(figures) == 4
    assert all(row.partition("±")[0].endswith("– ") and row.split("±")[1].split()[0] == "–" for row in figures)


def test_one_image_has_no_standard_error(record: dict[str, Any]) -> None:
    table = result_table({**record, "images": 1, "nll_se": float("nan")})
    assert "90.12 ± NaN" in table
    assert "One image alone has no standard error." in table


def test_without_a_flow_it_is_a_gaussian(record: dict[str, Any]) -> None:
    assert "Gaussian, K = 0" in result_table({**record, "flow": "gaussian", "length": 0})


@given(
    st.data(),
    st.none() | st.floats() | st.integers(-(10**12), 10**12),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=200),
)
def test_it_is_never_wider_than_88_columns(
    record: dict[str, Any], data: st.DataObject, value: object, name: str
) -> None:
    keys = data.draw(st.sets(st.sampled_from(sorted(record.keys() - {"latents"}))))
    table = result_table({**record, "data": name, **dict.fromkeys(keys, value)})
    assert max(map(len, table.splitlines())) <= 88


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (-1.5, "−1.50"), (1234567, "1,234,567.00"), (1e30, "1e+30"), (-2.5e-3, "−0.00")],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown


def test_tables_import_no_torch() -> None:
    modules = "flowvi.reports.tables, flowvi.reports.comparison, flowvi.reports.readme"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
