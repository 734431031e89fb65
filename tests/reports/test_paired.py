"""Paired differences on numbers worked out by hand, and the verdicts that they come to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowvi.errors import RunError
from flowvi.experiments.arms.store import Images
from flowvi.reports.claims import CLAIMS, Claim, difference_words, judge
from flowvi.reports.paired import Difference, difference


def images(seed: int, *values: float, row: int = 0) -> Images:
    found = np.array(values)
    return Images(seed, np.arange(row, row + len(values)), found, found / 2)


def test_images_and_seeds_are_paired() -> None:
    ours = [images(0, 1.0, 2.0, 3.0, 4.0), images(1, 2.0, 3.0, 4.0, 5.0)]
    theirs = [images(0, 1.0, 3.0, 3.0, 5.0), images(1, 5.0, 5.0, 7.0, 7.0)]
    # by seed and image: (0, −1, 0, −1) and (−3, −2, −3, −2); over seeds −1.5 each; seeds' means −0.5 and −2.5
    found = difference(ours, theirs, "free_energy")
    assert found is not None
    assert found.mean == pytest.approx(-1.5)
    assert found.image_error == pytest.approx(0.0)
    assert found.seed_error == pytest.approx(1.0)  # s.d. √2 over √2
    assert found.seeds == (2, 2)
    half = difference(ours, theirs, "nll")
    assert half is not None and half.mean == pytest.approx(-0.75)


def test_other_seeds_are_two_samples() -> None:
    ours = [images(0, 1.0, 2.0), images(1, 2.0, 3.0), images(2, 3.0, 4.0)]  # means 1.5, 2.5, 3.5
    theirs = [images(0, 0.0, 0.0), images(1, 2.0, 2.0)]  # means 0, 2
    found = difference(ours, theirs, "free_energy")
    assert found is not None
    assert found.mean == pytest.approx(1.5)
    assert found.image_error == pytest.approx(math.sqrt(0.5) / math.sqrt(2))  # of 1 and 2
    assert found.seed_error == pytest.approx(math.sqrt(1 / 3 + 2 / 2))
    assert found.seeds == (3, 2)
    assert not found.enough


def test_the_interval_is_of_images_and_seeds() -> None:
    found = Difference(-1.0, 0.1, 0.2, (3, 3))
    half = math.hypot(4.303 * 0.2, 1.960 * 0.1)
    assert found.interval == pytest.approx((-1 - half, -1 + half))
    assert math.isnan(Difference(-1.0, 0.1, math.nan, (1, 3)).interval[0])
    many = Difference(0.0, 0.0, 1.0, (50, 40)).interval[1]
    assert many == pytest.approx(2.228)  # no narrower than eleven seeds


def test_a_side_without_results_has_no_difference() -> None:
    assert difference([], [images(0, 1.0)], "nll") is None


def test_other_images_are_refused() -> None:
    with pytest.raises(RunError, match="tested on other images"):
        difference([images(0, 1.0, 2.0)], [images(0, 1.0, 2.0, row=5)], "nll")


CLAIM = Claim("a is below b, and b below c", "nll", (("a", "b"), ("b", "c")))
BELOW, ABOVE, UNCLEAR, FEW = (
    Difference(-1.0, 0.01, 0.01, (3, 3)),
    Difference(1.0, 0.01, 0.01, (3, 5)),
    Difference(-1.0, 0.01, 0.5, (3, 3)),
    Difference(-1.0, 0.01, 0.01, (3, 2)),
)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((BELOW, BELOW), "confirmed"),
        ((BELOW, UNCLEAR), "not confirmed"),
        ((UNCLEAR, ABOVE), "refuted"),
        ((BELOW, ABOVE), "refuted"),
        ((BELOW, FEW), "not enough seeds"),
        ((ABOVE, None), "refuted"),
        ((BELOW, None), "not enough seeds"),
        ((None, None), "not enough seeds"),
    ],
)
def test_verdicts(found: tuple[Difference | None, Difference | None], verdict: str) -> None:
    told = dict(zip(CLAIM.pairs, found, strict=True))
    finding = judge(CLAIM, lambda ours, theirs, figure: told[ours, theirs])
    assert finding.verdict == verdict
    lines = list(finding.lines())
    assert lines[0] == f"{verdict}: a is below b, and b below c"
    assert len(lines) == 1 + sum(each is not None for each in found) + (None in found)


def test_differences_in_words() -> None:
    assert difference_words(None) == "not measured"
    assert difference_words(FEW) == "−1.00 ± 0.01"
    assert difference_words(BELOW) == "−1.00 [−1.05, −0.95]"


def test_the_paper_s_claims_are_among_the_claims() -> None:
    steps = (
        ("planar-10", "gaussian-0"),
        ("planar-20", "planar-10"),
        ("planar-40", "planar-20"),
        ("planar-80", "planar-40"),
    )
    assert (CLAIMS[0].figure, CLAIMS[0].pairs) == ("free_energy", steps)
    ahead = [claim for claim in CLAIMS if claim.words == "planar is ahead of NICE at each K, by −ln p(x)"]
    assert ahead[0].pairs == tuple((f"planar-{k}", f"nice-{k}") for k in (10, 20, 40, 80))
