"""The report: its chapters, its page looked at in a browser, and what it says where there is nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowvi.errors import RunError
from flowvi.experiments.arms.gallery import IMAGES, SAMPLES
from flowvi.experiments.arms.store import Store
from flowvi.experiments.lines import write_lines
from flowvi.reports.page import inline
from flowvi.reports.report import chapters, report

Make = Callable[..., Path]
FIGURES = {"gaussian-0": (98.4, 92.6), "planar-10": (95.3, 90.2), "nice-10": (96.0, 91.0)}
ABLATION = {"source/amortised/K = 10": (95.0, 90.0), "source/static/K = 10": (97.5, 91.0)}
CURVE = {"update": [1000, 2000], "free_energy": [120.0, 100.0], "validation_free_energy": [121.0, 103.0]}


@pytest.fixture
def results(make_results: Make, record: dict[str, Any]) -> Path:
    """Results of four kinds, made up."""
    make_results("figure4", FIGURES)
    folder = make_results("ablations", ABLATION)
    store = Store(folder, "figure4")
    write_lines(store.lines, [{**line, "curve": CURVE} for line in store.records])
    random = np.random.default_rng(0)
    kept = {"images": IMAGES, "reconstructions": IMAGES, "samples": SAMPLES}
    pixels = {f"{arm}/{key}": random.integers(0, 255, (n, 784), np.uint8) for arm in FIGURES for key, n in kept.items()}
    np.savez(folder / "figure4-gallery.npz", **pixels, **{f"{arm}/config": np.array(arm) for arm in FIGURES})
    about = {"arms": ["modern-20"], "budget": "default", "overrides": {}, "config_hash": "a", "seed": 0}
    course = {"rise": 4.0, "gradient_norm": 50.0, "validation_free_energy": 101.0}
    Store(folder, "stability").add([({**record, **about, **course}, None)])
    Store(folder, "mine").add([({**record, **about, "budget": None}, None)])
    return folder


def test_the_chapters(results: Path) -> None:
    made = chapters(results)
    titles = [section.title for chapter in made for section in chapter.sections]
    assert titles == [
        "Findings", "Protocol and deviations", "Figure 4", "Table 2", "Cost, at equal updates", "Claims", "Training",
        "Reconstructions and samples", "Ablation: binarisation", "Ablation: source", "Ablation: init",
        "Ablation: invertibility", "Stability of training", "Other models", "Every run",
    ]  # fmt: skip
    commands = [chapter.command for chapter in made if chapter.command]
    assert commands == [
        "flowvi reproduce figure4 seed=0,1,2 --budget short",
        "flowvi reproduce ablations seed=0,1,2 --budget short",
        "flowvi reproduce stability seed=0 --budget default",
    ]
    (findings,) = made[0].sections[0].parts
    assert isinstance(findings, tuple)
    assert "Training, modern, K = 20: 0 of 1 runs blew up." in findings
    assert any(line.endswith("the inference network must give them.") for line in findings)


class _Page(HTMLParser):
    """The tags of a page, and every address that one points at."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.addresses, self.ids = list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "srcset", "poster"):
                self.addresses.append(str(value))
            if key == "id":
                self.ids.append(str(value))


def test_the_page_needs_nothing_but_itself(results: Path, tmp_path: Path) -> None:
    files = report(results, tmp_path / "page")
    text = files[0].read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert all(each.startswith(("#", "data:")) for each in page.addresses)
    assert {each[1:] for each in page.addresses if each.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.findall(r"url\((?!#)|@import", text)
    assert page.tags.count("figure") == 4  # Figure 4, training, gallery, one ablation
    assert [file.name for file in files[1:]] == [
        *(f"{name}.{kind}" for name in ("figure4", "figure4-training", "figure4-gallery", "ablation-source")
          for kind in ("svg", "png")), "report.md",
    ]  # fmt: skip
    assert files[0].read_bytes() == report(results, tmp_path / "again")[0].read_bytes()


def test_a_reproduction_that_has_no_result_yet_is_left_out(results: Path) -> None:
    (results / "rates.jsonl").write_text("")
    assert "Learning rates" not in [section.title for chapter in chapters(results) for section in chapter.sections]


def test_words_are_escaped(results: Path, tmp_path: Path) -> None:
    lines = results / "mine.jsonl"
    lines.write_text(lines.read_text().replace('"modern"', '"<script>alert(1)</script>"'))
    text = report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text


def test_a_picture_keeps_its_ids_apart_and_takes_the_page_s_colours() -> None:
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9pt" height="9pt" viewBox="0 0 9 9">'
        "<metadata><a/>\n</metadata>"
        '<g id="p" clip-path="url(#c)" style="fill: #ffffff; stroke: #1c1c1c"><use xlink:href="#p"/></g></svg>\n'
    )
    assert inline(svg, "x", 'a "b"') == (
        '<svg role="img" aria-label="a &quot;b&quot;" viewBox="0 0 9 9" style="min-width: 9pt">'
        '<g id="x-p" clip-path="url(#x-c)" style="fill: var(--paper); stroke: var(--ink)">'
        '<use xlink:href="#x-p"/></g></svg>'
    )


def test_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there are no results in .*: name a folder that `flowvi reproduce"):
        report(tmp_path, tmp_path / "page")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "light"), (390, "dark")])
def test_the_page_in_a_browser(results: Path, tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    file = report(results, tmp_path / "page")[0]
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said, asked = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # what is wide scrolls in its own box
    boxes = page.evaluate("[...document.querySelectorAll('figure svg')].map(e => [e.clientWidth, e.clientHeight])")
    assert len(boxes) == 4 and all(wide > 300 and high > 40 for wide, high in boxes)
    drawn = page.evaluate("[...document.querySelectorAll('figure svg image')].every(e => e.getBBox().width > 0)")
    assert drawn
    shapes = "[...document.querySelectorAll('figure svg')].map(e => [...e.querySelectorAll('path, use')]"
    counts = page.evaluate(f"{shapes}.filter(p => p.getBoundingClientRect().width > 0).length)")
    assert min(counts) > 20  # each figure has lines and letters
    fills = page.evaluate(f"{shapes}.map(p => getComputedStyle(p).fill)).flat()")
    assert "rgb(0, 0, 0)" not in fills  # the default black would vanish in the dark
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light")
    page.close()
