"""Supports in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowvi import supports as s
from flowvi.errors import ConfigError, ShapeError
from flowvi.inference.spelling import SPELLINGS, parse_supports, support

FUNCTIONS = [name for name in s.__all__ if name[0].islower()]


def test_every_support_has_its_spellings() -> None:
    assert list(SPELLINGS) and set(SPELLINGS) == set(FUNCTIONS)
    for name, ways in SPELLINGS.items():
        for way in ways.split(", "):
            ((_, spelled),) = parse_supports(f"x={way}").items()
            made = support(*spelled)
            assert made.name == name and support(made.name, made.arguments) == made


def test_a_line() -> None:
    found = parse_supports(" mu=real, theta=real:2:3,rho=interval:-1:1e3 ")
    made = {name: support(*spelled) for name, spelled in found.items()}
    assert made == {"mu": s.real(), "theta": s.real(2, 3), "rho": s.interval(-1, 1000)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mu", r"^'mu' is no parameter: expected NAME=SUPPORT, such as"),
        ("mu=real,", r"^'' is no parameter"),
        ("mu=", r"^'mu=' is no parameter"),
        ("mu=real,mu=real", r"^the parameter 'mu' is given twice$"),
        ("mu=posit", r"^unknown support 'posit': did you mean positive\? The supports are real, positive, "),
        ("mu=real:x", r"^'x' in 'mu=real:x' is no number: expected one, such as"),
    ],
)
def test_words_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_supports(text)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^interval:0 has too few or too many numbers: expected interval:-1:1, "):
        support("interval", (0,))
    with pytest.raises(ShapeError, match="whole numbers of at least 1"):
        support("real", (0.5,))


def test_no_torch() -> None:
    code = """
        import sys
        from flowvi.inference.spelling import parse_supports
        parse_supports("mu=real:3")
        assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))], check=True, timeout=120)
