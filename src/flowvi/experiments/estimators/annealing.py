"""`estimator=ais` and `estimator=bdmc`: annealing from the run's posterior, or from the prior, to p(x, z).

Wu, Burda, Salakhutdinov & Grosse 2017 (arXiv:1611.04273) judge decoders so; Grosse, Ghahramani & Adams 2015
(arXiv:1511.02543) bound ln p(x) from both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Size, Tensor

from flowvi.data import Dataset
from flowvi.experiments.estimators.importance import evidence_of_images
from flowvi.experiments.estimators.measured import Measured, noise, summary, test_rows
from flowvi.experiments.estimators.registry import IMAGES
from flowvi.experiments.progress import counting
from flowvi.inference.evidence import (
    Annealed,
    Settings,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
)
from flowvi.models import DLGM

__all__ = ["Prior", "ais", "bdmc"]

PAIRS_AT_ONCE = 400  # of chain and image
COMPARED = 5000  # importance samples for each image, beside the chains


class Prior:
    """p(z) of a model, for a batch of images alike: what annealing begins from.

    Args:
        model: whose prior.
        batch: how many images.
    """

    def __init__(self, model: DLGM, batch: int) -> None:
        self.model, self.batch = model, batch

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (S…, batch, Σ latents), from the global generator."""
        shape = Size([*sample_shape, self.batch])
        return self.model.sample_prior(shape.numel()).reshape(*shape, -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p(z), (S…, batch), in nats."""
        return self.model.log_prior(z)


def ais(model: DLGM, dataset: Dataset, settings: Mapping[str, Any], seed: int) -> Measured:
    """−ln p(x) of test images by annealed importance sampling, and by importance sampling with S = 5,000.

    Free energy comes from the importance samples, and KL = F + ln p̂(x) from it and the chains. `is_excess` is the
    paired difference of the two −ln p̂(x), importance sampling's less the chains'.

    Raises:
        ConfigError: more images than there are, or a density without a gradient.
        NonFiniteError: no chain started where the model has a density.
    """
    rows = test_rows(dataset, settings["images"], usual=IMAGES)
    sampled = evidence_of_images(model, dataset.test, rows, COMPARED, seed)
    parts = []
    with noise(dataset.test.pixels.device, seed), counting(len(rows), "test images annealed") as advance:
        for some in rows.split(_at_once(settings)):
            x = dataset.test.batch(some)
            initial = _initial(model, settings["initial"], x)
            parts.append(annealed_importance_sampling(partial(model.log_joint, x), initial, _annealing(settings)))
            advance(len(some))
    log_evidence = torch.cat([part.log_evidence for part in parts]).cpu()
    values = {
        "free_energy": sampled.free_energy,
        "nll": -log_evidence,
        "kl": sampled.free_energy + log_evidence,
        "is_nll": -sampled.log_evidence,
        "is_excess": log_evidence - sampled.log_evidence,
    }
    figures = {**summary(values), "is_samples": COMPARED, "split": "test", "images": len(rows)}
    chains, effective = _of_chains(parts)
    images = {
        "row": rows,
        "free_energy": sampled.free_energy,
        "log_evidence": log_evidence,
        "is_log_evidence": sampled.log_evidence,
        "effective_chains": effective,
    }
    return Measured({**figures, **chains}, images)


def bdmc(model: DLGM, dataset: Dataset, settings: Mapping[str, Any], seed: int) -> Measured:
    """Bounds of ln p(x) on images that the model makes from `seed`, the same whatever the other settings.

    q(z|x) is as valid a start as the prior: it is a function of x alone, so that given x the z that made x is still
    an exact draw of p(z|x), and the way back from it to q has E[1/w] = 1/p(x). It is nearer, and so the default: the
    gap of a small trained model was about a tenth of that from the prior (see docs/quickstart.md).

    Raises:
        ConfigError: a density without a gradient.
        NonFiniteError: no chain started where the model has a density.
    """
    parts = []
    with noise(dataset.test.pixels.device, seed), counting(settings["images"], "simulated images annealed") as advance:
        simulated = model.simulate(settings["images"])
        for pair in zip(*(values.split(_at_once(settings)) for values in simulated), strict=True):
            initial = partial(_initial, model, settings["initial"])
            count, annealing = len(pair[0]), _annealing(settings)
            parts.append(bidirectional_monte_carlo(_always(pair), model.log_joint, initial, count, annealing))
            advance(count)
    images = {
        "log_evidence_lower": torch.cat([part.lower for part in parts]).cpu(),
        "log_evidence_upper": torch.cat([part.upper for part in parts]).cpu(),
    }
    gap = images["log_evidence_upper"] - images["log_evidence_lower"]
    chains, effective = _of_chains([part.forward for part in parts])
    reverse, _ = _of_chains([part.reverse for part in parts])
    figures = {
        **summary({**images, "gap": gap}),
        **chains,
        "reverse_acceptance": reverse["acceptance"],
        "split": "simulated",
        "simulation_seed": seed,
        "images": len(gap),
    }
    return Measured(figures, {**images, "effective_chains": effective})


def _at_once(settings: Mapping[str, Any]) -> int:
    return max(1, PAIRS_AT_ONCE // int(settings["chains"]))


def _annealing(settings: Mapping[str, Any]) -> Settings:
    return Settings(distributions=settings["distributions"], chains=settings["chains"])


def _initial(model: DLGM, name: str, x: Tensor) -> Any:
    with torch.no_grad():
        return model.posterior(x) if name == "posterior" else Prior(model, len(x))


def _always(pair: tuple[Tensor, Tensor]) -> Callable[[int], tuple[Tensor, Tensor]]:
    return lambda n: pair


def _of_chains(parts: list[Annealed]) -> tuple[dict[str, float], Tensor]:
    """How the chains of all images went, and the effective chains of each, (images,)."""
    effective = torch.cat([part.effective_chains for part in parts]).cpu()
    lost = torch.cat([part.lost for part in parts]).double().mean() / len(parts[0].log_weights)
    figures = {
        "acceptance": float(torch.cat([part.acceptance for part in parts]).mean()),
        **summary({"effective_chains": effective}),
        "effective_chains_min": float(effective.min()),
        "lost": float(lost),
    }
    return figures, effective
