"""Figures that others published on the same job, with their sources. Data only.

All but `CIFAR10_NLL` are means over MNIST's test images, in nats; −ln p(x) by importance sampling with S = 200 samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CIFAR10_NLL", "PAPER", "PUBLISHED", "QUOTED", "REPRODUCTION", "Published", "Quoted", "Source", "published"]


@dataclass(frozen=True)
class Source:
    """Where figures were published.

    Attributes:
        label: its name in a table's row.
        note: a sentence for below the table: the full source, and what a reader must know of its figures.
        binarisations: of those results of ours that these figures may stand beside.
        updates: of the training.
        from_plot: figures that were read off a printed plot, and so are approximate.
    """

    label: str
    note: str
    binarisations: tuple[str, ...]
    updates: int
    from_plot: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """One row: a posterior, and what its source says of it. `flow` is `gaussian` where K = `length` = 0."""

    source: Source
    flow: str
    length: int
    free_energy: float | None
    kl: float | None
    nll: float


@dataclass(frozen=True)
class Quoted:
    """A row that a table quotes from elsewhere: a model of another kind."""

    model: str
    nll: float


PAPER = Source(
    "Rezende & Mohamed 2015",
    "Rezende & Mohamed 2015: *Variational Inference with Normalizing Flows* (arXiv:1505.05770), −ln p(x) "
    "from its Table 2, F and KL (≈) read off its Figure 4. It does not say how it binarised the images.",
    ("fixed", "dynamic"),
    500_000,
    ("free_energy", "kl"),
)

REPRODUCTION = Source(
    "earlier reproduction",
    "Earlier reproduction: drawcodeboy/Normalizing-Flow v1.0.0, which binarises by threshold (pixel > 0.5).",
    ("threshold",),
    500_000,
)

PUBLISHED: tuple[Published, ...] = (
    Published(PAPER, "gaussian", 0, 96.8, 6.8, 89.9),
    Published(PAPER, "planar", 10, 93.5, 6.0, 87.5),
    Published(PAPER, "planar", 20, 91.9, 5.4, 86.5),
    Published(PAPER, "planar", 40, 90.6, 4.9, 85.7),
    Published(PAPER, "planar", 80, 89.6, 4.4, 85.1),
    Published(PAPER, "nice", 10, 94.9, 6.3, 88.6),
    Published(PAPER, "nice", 20, 93.9, 6.0, 87.9),
    Published(PAPER, "nice", 40, 93.0, 5.7, 87.3),
    Published(PAPER, "nice", 80, 92.8, 5.6, 87.2),
    Published(REPRODUCTION, "gaussian", 0, 79.25, 7.81, 71.44),
    Published(REPRODUCTION, "planar", 10, 74.38, 6.84, 67.54),
    Published(REPRODUCTION, "planar", 20, 72.87, 6.43, 66.44),
    Published(REPRODUCTION, "planar", 40, 72.57, 6.31, 66.27),
    Published(REPRODUCTION, "planar", 80, 72.11, 6.05, 66.06),
)

CIFAR10_NLL: Mapping[int, float] = {0: -293.7, 2: -308.6, 5: -317.9, 10: -320.7}
"""−ln p(x) of CIFAR-10's patches under K planar layers, in nats: Rezende & Mohamed 2015, Table 3."""

# the rest of the paper's Table 2: its rows from Salimans et al. 2015 (HVI: Hamiltonian variational inference, after so
# many leapfrog steps) and of DARN (Gregor et al. 2014), in its order
QUOTED: tuple[Quoted, ...] = (
    Quoted("DLGM + HVI, 1 leapfrog step", 88.08),
    Quoted("DLGM + HVI, 4 leapfrog steps", 86.40),
    Quoted("DLGM + HVI, 8 leapfrog steps", 85.51),
    Quoted("DARN", 84.71),
    Quoted("DARN", 84.13),
)


def published(source: Source, flow: str, length: int) -> Published | None:
    """What a source says of a posterior, if anything.

    Example:
        >>> published(PAPER, "planar", 80).nll
        85.1
    """
    found = [row for row in PUBLISHED if (row.source, row.flow, row.length) == (source, flow, length)]
    return found[0] if found else None
