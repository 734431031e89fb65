"""What the ablations answer, from differences that are made up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flowvi.experiments.arms.ablations import ABLATIONS, Contrast
from flowvi.reports.answers import answer
from flowvi.reports.paired import Difference

BY_NAME = {each.name: each for each in ABLATIONS}


def given(name: str, means: Mapping[str, float], few: str = "") -> list[tuple[Contrast, Difference]]:
    """Each contrast of a level that is named, at K = 0 or 10; those of the level `few` have one seed."""
    found = []
    for contrast in BY_NAME[name].contrasts():
        if contrast.level in means and "K = 40" not in contrast.arm:
            seeds = (1, 1) if contrast.level == few else (3, 3)
            found.append((contrast, Difference(means[contrast.level], 0.01, 0.03, seeds)))
    return found


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ({"threshold": -17.0, "400-100": 1.0}, "It is the threshold, worth at least 16.9 nats"),
        ({"threshold": -17.0, "400-100": 6.0}, "It is first the threshold, worth at least 16.9 nats"),
        ({"threshold": -3.0, "400-100": 6.0}, "These results do not decide it."),
    ],
)
def test_the_binarisation_or_maxout(means: Mapping[str, float], said: str) -> None:
    assert said in str(answer(BY_NAME["binarisation"], given("binarisation", means)))


def test_what_has_seeds_enough_is_answered_whatever_the_rest_has() -> None:
    found = given("binarisation", {"threshold": -17.0, "400-100": 6.0, "dynamic": -1.0}, few="dynamic")
    words = str(answer(BY_NAME["binarisation"], found))
    assert "It is first the threshold" in words
    assert "dynamic for fixed: −1.00 to −1.00" in words
    assert "(one to 3 seeds)" in words


def test_one_seed_decides_nothing() -> None:
    words = str(answer(BY_NAME["source"], given("source", {"static": 2.0}, few="static")))
    assert words == "−ln p(x) moves by, in nats, static for amortised: 2.00 ± 0.01 (one seed)."


@pytest.mark.parametrize(
    ("mean", "said"), [(2.0, "cost over 0.5 nats"), (-2.0, "are the better ones"), (0.1, "do as well"), (0.5, "decide")]
)
def test_the_source_of_parameters(mean: float, said: str) -> None:
    assert said in str(answer(BY_NAME["source"], given("source", {"static": mean})))


STARTS = {"xavier": 1.0, "normal": 2.0, "xavier, amortised": -0.3, "normal, static": 0.4, "identity, static": -2.0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {},
            "Another start than the identity is worse in 4 of 4 under Adam 1e-3 and in 4 of 4 under RMSprop 1e-4 "
            "(static or amortised), better in none; a flow that starts so buys 0.4 nats at most.",
        ),
        ({"xavier, amortised": 0.3}, "a flow that starts so buys 0.0 nats at most."),
        ({"xavier": -0.2}, "in 2 of 4 under RMSprop 1e-4 (static or amortised), better in 4"),
        ({"xavier": 0.01}, "in 2 of 4 under RMSprop 1e-4 (static or amortised), better in none"),
    ],
)
def test_the_start(more: Mapping[str, float], said: str) -> None:
    assert said in str(answer(BY_NAME["init"], given("init", STARTS | more)))


def test_a_start_under_one_optimiser_alone_is_no_answer() -> None:
    found = [each for each in given("init", STARTS) if "Adam 1e-3" in each[0].arm]
    words = str(answer(BY_NAME["init"], found))
    assert words.endswith("(3 seeds).")


def test_nothing_measured_is_no_answer() -> None:
    assert answer(BY_NAME["init"], []) is None
