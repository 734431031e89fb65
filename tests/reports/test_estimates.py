"""Results of annealing have tables of their own, and stand nowhere among those of importance sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowvi.reports import readme
from flowvi.reports.columns import Table
from flowvi.reports.estimates import estimate_parts
from flowvi.reports.report import chapters
from flowvi.reports.tables import result_table

_CHAINS: dict[str, Any] = {
    "distributions": 1000, "chains": 16, "initial": "posterior", "images": 100, "acceptance": 0.651, "lost": 0.0,
    "effective_chains": 12.5, "effective_chains_se": 0.2, "effective_chains_min": 3.25,
}  # fmt: skip


@pytest.fixture
def ais(record: dict[str, Any]) -> dict[str, Any]:
    own = {
        "estimator": "ais", "nll": 77.125, "is_samples": 5000, "is_nll": 78.0, "is_nll_se": 0.5, "is_excess": 0.875,
        "is_excess_se": 0.0625,
    }  # fmt: skip
    return {**{key: value for key, value in record.items() if key != "samples"}, **_CHAINS, **own}


@pytest.fixture
def bdmc(record: dict[str, Any]) -> dict[str, Any]:
    own = {
        "estimator": "bdmc", "split": "simulated", "simulation_seed": 3, "reverse_acceptance": 0.6,
        "log_evidence_lower": -90.5, "log_evidence_lower_se": 2.0, "log_evidence_upper": -90.25,
        "log_evidence_upper_se": 2.0, "gap": 0.25, "gap_se": 0.05,
    }  # fmt: skip
    tested = ("samples", "nll", "nll_se", "free_energy", "free_energy_se", "kl", "kl_se")
    return {**{key: value for key, value in record.items() if key not in tested}, **_CHAINS, **own}


def test_the_table_of_ais(ais: dict[str, Any]) -> None:
    table = " ".join(result_table(ais).split())
    for words in (
        "10,000" not in table and "100 test images of mnist, fixed binarisation; annealed importance sampling",
        "16 chains of 1,000 distributions from the posterior for each image",
        "−ln p(x), annealed 77.12 ± 0.23 nats",
        "−ln p(x), S = 5,000 78.00 ± 0.50 nats",
        "excess over annealed 0.875 ± 0.062 nats",
        "acceptance 0.65 of 1",
        "effective chains 12.50 ± 0.20 of 16",
        "of the worst image 3.25 of 16",
    ):
        assert str(words) in table
    assert "do not use" not in table
    assert "do not use" in result_table({**ais, "is_nll": float("nan")})


def test_the_table_of_bdmc(bdmc: dict[str, Any]) -> None:
    table = " ".join(result_table(bdmc).split())
    for words in (
        "100 images that the model made (seed 3); bidirectional Monte Carlo",
        "ln p(x), lower bound −90.50 ± 2.00 nats",
        "ln p(x), upper bound −90.25 ± 2.00 nats",
        "gap 0.250 ± 0.050 nats",
    ):
        assert words in table
    assert "mnist, fixed" not in table and "do not use" not in table


def test_a_table_for_each(record: dict[str, Any], ais: dict[str, Any], bdmc: dict[str, Any]) -> None:
    parts = estimate_parts([bdmc, record, ais, {**ais, "seed": 1}])
    tables = [part for part in parts if isinstance(part, Table)]
    assert [len(table.rows) for table in tables] == [2, 1]
    assert tables[0].rows[0][:5] == (
        "dlgm.nf20.mnist: planar flow, K = 20",
        "annealed importance sampling, 16 chains of 1,000 distributions from the posterior for each image",
        "0", "100", "94.65 ± 0.24",
    )  # fmt: skip
    assert "gap" in tables[1].head and "effective chains of 16" in tables[1].head
    assert estimate_parts([record, {"estimator": "magic"}]) == []


def test_a_report_keeps_them_apart(
    record: dict[str, Any], ais: dict[str, Any], bdmc: dict[str, Any], tmp_path: Path
) -> None:
    def written(*records: dict[str, Any]) -> list[str]:
        (tmp_path / "results").mkdir(exist_ok=True)
        lines = [json.dumps({"config_hash": "a", **each}) for each in records]
        (tmp_path / "results" / "all.jsonl").write_text("\n".join(lines) + "\n")
        made = [section for chapter in chapters(tmp_path / "results") for section in chapter.sections]
        return [f"{section.title}: {section.parts}" for section in made]

    alone, together = written(record), written(record, ais, bdmc)
    assert [text for text in together if not text.startswith("Other estimates")] == alone
    (own,) = set(together) - set(alone)
    assert own.startswith("Other estimates of −ln p(x)") and "77.12" in own and "0.250" in own
    assert [text.partition(":")[0] for text in written(ais)][-1] == "Other estimates of −ln p(x)"


def test_a_readme_has_importance_sampling_alone(record: dict[str, Any], ais: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name in ("all", "flows"):
        lines = [json.dumps({"config_hash": "a", **each}) for each in (record, {**ais, "protocol": "quick"})]
        (tmp_path / "results" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    blocks = {name: readme.BLOCKS[name](tmp_path) for name in ("fixed", "flows", "transcript")}
    assert "90.12" in blocks["fixed"] and "90.12" in blocks["flows"]
    assert not any("77.1" in text for text in blocks.values())


def test_the_block_of_the_readme(tmp_path: Path, record: dict[str, Any], ais: dict[str, Any]) -> None:
    assert readme.BLOCKS["estimates"](tmp_path) == "*No results yet.*"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "any.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in (record, ais)))
    said = readme.BLOCKS["estimates"](tmp_path)
    assert "77.12 ± 0.23" in said and "S = 200" not in said
    assert "77.12" not in readme.BLOCKS["fixed"](tmp_path)
