"""The protocols side by side, and where ours differ from the paper's. Imports no torch."""

from __future__ import annotations

from typing import Any

from flowvi.experiments.protocols import PROTOCOLS
from flowvi.reports.columns import Section, Table
from flowvi.reports.tables import number

__all__ = ["section"]

_WORDS = {
    "training.updates": "updates, of 100 images each",
    "training.optimiser": "optimiser",
    "training.learning_rate": "learning rate",
    "training.momentum": "momentum",
    "training.schedule": "schedule of the rate",
    "training.clip": "largest norm of the gradient",
    "training.clip_image": "largest norm of an image's gradient at the posterior",
    "training.annealing": "annealed by β",
    "training.warmup": "updates until β = 1",
    "training.selection": "weights that are tested",
    "training.output_bias": "decoder's output bias at the start",
    "data.validation": "images held out of the 60,000",
    "flow.invertibility": "constraint of planar layers",
    "flow.init": "start of the flow",
}

_DEVIATIONS = (
    "Binarised MNIST: the paper does not say which. Ours name it: fixed (each pixel a Bernoulli draw, drawn once), "
    "dynamic (drawn anew each time), threshold (pixel > 0.5). Figures of different ones are not to be compared.",
    "Maxout: the paper says 400 units with a window of 4. Ours read it as 1600 units before the maximum and 400 after "
    "it; the other reading, 400 and 100, is an ablation.",
    "NICE: the paper gives neither the width of the coupling networks nor says whether the inference network enters "
    "them. Ours take its output as an input of each; parameter counts stand beside the results.",
    "The modern protocol is ours, for few updates. It holds out 10,000 images and tests the weights that do best on "
    "them; the paper's tests the last weights, trained on all. Results made before a setting was added are those "
    "without it: the bound on an image's gradient came last.",
    "Figure 4 and Table 2 take, of three learning rates, the one that is best on validation images after 5,000 "
    "updates: 0.002, and 0.001 for planar flows of K = 40 and 80.",
    "CIFAR-10's patches have gradients ten times as long: there modern's two bounds are 1,000 and 3,000.",
    "The paper's u-constraint m(x) = −1 + softplus(x) moves a layer with u = 0; the centred one, "
    "m(x) = −1 + softplus(x + ln(e − 1)), leaves it the identity, from which long chains start.",
    "The paper anneals the whole joint, β ln p(x, z); modern anneals the KL. Both are at β = 1 when validated or "
    "tested.",
    "−ln p(x) is estimated by importance sampling with S = 200 as in the paper: biased up, and KL = F + ln p(x) with "
    "it down.",
)


def section() -> Section:
    """What the paper's protocol and ours set, and the deviations in words."""
    paper, modern = PROTOCOLS["paper"], PROTOCOLS["modern"]
    rows = [(words, _spelled(paper[key]), _spelled(modern[key])) for key, words in _WORDS.items()]
    return Section("Protocol and deviations", [Table(("setting", "paper", "modern"), rows), _DEVIATIONS])


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int):
        return number(value, 0)
    return f"{value:g}".replace("e-0", "e−").replace("e+0", "e") if isinstance(value, float) else str(value)
