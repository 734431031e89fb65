"""The model card, from results and a config alone."""

from __future__ import annotations

from typing import Any

import pytest

from flowvi.experiments.command import config_words
from flowvi.experiments.config import Config, parse_overrides, resolve
from flowvi.reports.card import mark, model_card

PRESET = "dlgm.nf20.mnist"


def test_a_card_of_mnist(record: dict[str, Any]) -> None:
    card = model_card(resolve(PRESET), [record], "ab12")
    assert card.startswith("---\nlibrary_name: flowvi\n")
    assert mark(resolve(PRESET)) in card
    for text in (
        "# dlgm.nf20.mnist: planar flow, K = 20, on mnist",
        "| 10,000 test images of mnist, fixed binarisation | 200 | 94.65 ± 0.24 | 90.12 ± 0.23 | 4.53 ± 0.02 |",
        "| weights | the best on validation images (update 19,000) |",
        "| SHA-256 of `model.safetensors` | `ab12` |",
        "CC BY-SA 3.0",
        'model = flowvi.load("path/to/this/folder")',
        "\nflowvi train --config=dlgm.nf20.mnist\nflowvi test --config=dlgm.nf20.mnist\n",
    ):
        assert text in card, text


def test_what_a_record_lacks_is_a_dash(record: dict[str, Any]) -> None:
    lacking = "versions", "parameter_count", "latents", "kl_se", "commit"
    card = model_card(resolve(PRESET), [{k: value for k, value in record.items() if k not in lacking}], "ab12")
    assert "| parameters | – |" in card and "| latents | – |" in card and "4.53 ± – |" in card
    assert "None" not in card


def test_what_else_has_to_be_installed_is_said(record: dict[str, Any]) -> None:
    config = resolve("dlgm.nsf4.mnist", {"model.encoder": "my_pkg.nets:Encoder"})
    card = model_card(config, [record], "ab12")
    assert "flowvi[zuko]" in card and "`my_pkg.nets:Encoder`" in card


@pytest.mark.parametrize(
    ("preset", "overrides", "words"),
    [
        (PRESET, {}, ""),
        (PRESET, {"seed": 3, "training.protocol": "paper"}, " training.protocol=paper seed=3"),
        (PRESET, {"flow.kind": "sylvester"}, " flow.kind=sylvester"),
        (PRESET, {"flow.kind": "gaussian", "flow.length": 0}, " flow.kind=gaussian flow.length=0"),
        (PRESET, {"model.latents": [64, 32]}, " 'model.latents=[64,32]'"),
        (PRESET, {"data.path": "/some/where/my data.npz"}, " 'data.path=my data.npz'"),
        (PRESET, {"training.clip": None, "training.momentum": 0.0}, " training.clip=none"),
    ],
)  # fmt: skip
def test_the_words_that_make_a_config(preset: str, overrides: dict[str, Any], words: str) -> None:
    config = resolve(preset, overrides)
    assert config_words(config) == f"--config={preset}{words}"
    if " data" not in words and "'" not in words:
        again = resolve(preset, parse_overrides(words.split()))
        assert again == config


def test_a_config_of_another_version_has_no_words(record: dict[str, Any]) -> None:
    config = Config.from_dict({**resolve(PRESET).to_dict(), "preset": "dlgm.gone"})
    assert config_words(config) is None
    assert "Another version of flowvi" in model_card(config, [record], "ab12")
