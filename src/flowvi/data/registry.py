"""The named data sets and the binarisations. Imports neither torch nor numpy.

A new data set is one module with a `read` and one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BINARISATIONS", "DATASETS", "Entry", "entry_of"]


@dataclass(frozen=True)
class Entry:
    """A data set.

    Attributes:
        reader: `module:function`, which gives a `Source`; called with the path of a file, or None, if `takes_file`.
        training_images: how many it has, before any are held out.
        likelihood: of its pixels, by name: `bernoulli` where they are binarised, else `logit_normal`.
        licence: whose it is, and under what it may be passed on; a model card quotes it.
        takes_file: whether `data.path` names a file of this data set; else it names a user's own data, in its place.
    """

    reader: str
    training_images: int
    licence: str | None = None
    likelihood: Literal["bernoulli", "logit_normal"] = "bernoulli"
    takes_file: bool = False

    @property
    def binarised(self) -> bool:
        """Whether its pixels become binary."""
        return self.likelihood == "bernoulli"


DATASETS: dict[str, Entry] = {
    "mnist": Entry(
        "flowvi.data.mnist:read", 60_000, "MNIST (Yann LeCun, Corinna Cortes, Christopher J. C. Burges), CC BY-SA 3.0"
    ),
    "cifar10": Entry("flowvi.data.cifar10:read", 50_000, likelihood="logit_normal", takes_file=True),
}
"""The data sets by name."""

_OWN = Entry("flowvi.data.files:read_file", 0)

BINARISATIONS: tuple[str, ...] = ("fixed", "dynamic", "threshold")
"""How grey levels become binary pixels; see `load`."""


def entry_of(name: str, path: object = None) -> Entry:
    """The entry that `data.name` and `data.path` choose; a user's own data have one too, and so has an unknown name.

    Example:
        >>> entry_of("cifar10").likelihood, entry_of("mnist", "mine.npz").training_images
        ('logit_normal', 0)
    """
    entry = DATASETS.get(name, _OWN)
    return entry if path is None or entry.takes_file else _OWN
