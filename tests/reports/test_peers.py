"""`fit` beside its peers, as tables."""

from __future__ import annotations

from typing import Any

from flowvi.reports.peers import fit_table, peers_markdown


def record(contender: str, elbo: float, **more: Any) -> dict[str, Any]:
    known = {"target": "a", "seed": 0, "effort": "fast", "seconds": 1.0, "log_z": 0.0, "marginal_error": 1.0}
    return {**known, "contender": contender, "elbo": elbo, "elbo_se": 0.01, **more}


def test_a_peer_stands_at_its_best_setting_and_a_draw_is_not_a_win() -> None:
    records = [
        record("flowvi", -0.1),
        record("AutoNormal (lr=0.01)", -0.5),
        record("AutoNormal (lr=0.03)", -0.11),
        {"target": "a", "contender": "NUTS", "seconds": 1.0, "marginal_error": 3.0},
    ]
    said = fit_table(records)
    assert "-0.500" not in said and "-0.110" in said
    assert "higher than AutoNormal's by more than twice the error on 0 of 1 targets" in said
    assert "NUTS's" not in said
    records[0]["elbo"] = -0.05
    assert "twice the error on 1 of 1 targets (by more than 0.01 nats too on 1), lower on 0" in fit_table(records)


def test_a_failure_stands_in_the_table() -> None:
    failed = {"target": "a", "contender": "AutoNormal (lr=0.01)", "seconds": 1.0, "error": "ValueError: no"}
    said = fit_table([record("flowvi", -0.1), failed])
    assert "failed: ValueError: no" in said and "AutoNormal's" not in said


def test_a_peer_that_blew_up_is_lower() -> None:
    said = fit_table([record("flowvi", -0.1), record("AutoNormal (lr=1)", 0.0) | {"elbo": "-inf", "elbo_se": "nan"}])
    assert "twice the error on 1 of 1 targets (by more than 0.01 nats too on 1), lower on 0" in said


def test_the_table_of_the_readme() -> None:
    said = peers_markdown(
        [
            record("flowvi", -0.1, seconds=12.4),
            record("AutoNormal (lr=0.01)", -0.5, marginal_error=7.0),
            record("AutoNormal (lr=0.1)", -0.6),
            {"target": "a", "seed": 0, "contender": "NUTS", "seconds": 1.0, "error": "RuntimeError: no"},
            record("flowvi", -2.0, target="b"),
        ]
    ).splitlines()
    assert said[0] == "| target | CPU s | flowvi | AutoNormal | NUTS |"
    assert said[2] == "| a | 12 | 0.100 / 1.0 | 0.500 / 7.0 | – / – |"
    assert said[3] == "| b | 1 | 2.000 / 1.0 | – / – | – / – |"
    assert said[-1].startswith("- flowvi's ELBO is higher than AutoNormal's") and "1 of 1 targets" in said[-1]
