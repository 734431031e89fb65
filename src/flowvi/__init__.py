"""flowvi: variational inference with normalizing flows, for PyTorch.

    run = flowvi.train("dlgm.nf10.mnist", seed=1, **{"flow.length": 20})
    flowvi.test(run)
    model = flowvi.load(run.folder)
    flowvi.export(run, "published/nf10")

    posterior = flowvi.fit(log_density, 2)
    posteriors = flowvi.fit(log_density, 2, context=data)

`flowvi.flows` holds the flows, `flowvi.supports` the constrained supports, `flowvi.adapters` what
takes in the log densities of NumPy, Stan, JAX and Pyro, `flowvi.evidence` the estimates of
ln p(x), `flowvi.targets` densities with known answers, `flowvi.errors` what is raised on purpose. Every name here is
imported upon its first use (PEP 562), so that `import flowvi`, the command's help and a config error never wait for
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi import errors, flows
    from flowvi.experiments.evaluate import test
    from flowvi.experiments.load import load
    from flowvi.experiments.sweep import sweep
    from flowvi.experiments.train import train
    from flowvi.inference import adapters, evidence, supports, targets
    from flowvi.inference.fitting.batches import Batches
    from flowvi.inference.fitting.entry import fit
    from flowvi.reports.export import export

__all__ = [
    "Batches",
    "__version__",
    "adapters",
    "errors",
    "evidence",
    "export",
    "fit",
    "flows",
    "load",
    "supports",
    "sweep",
    "targets",
    "test",
    "train",
]

__version__ = "0.1.0"

# Each function by the module that defines it: `flowvi.experiments.train` is that module as soon as anything
# has imported it, whatever the room's own `__init__` exports.
_HOMES = {
    "Batches": "flowvi.inference.fitting.batches",
    "export": "flowvi.reports.export",
    "fit": "flowvi.inference.fitting.entry",
    "load": "flowvi.experiments.load",
    "sweep": "flowvi.experiments.sweep",
    "test": "flowvi.experiments.evaluate",
    "train": "flowvi.experiments.train",
}
_MODULES = {
    "adapters": "flowvi.adapters",
    "errors": "flowvi.errors",
    "evidence": "flowvi.evidence",
    "flows": "flowvi.flows",
    "supports": "flowvi.supports",
    "targets": "flowvi.targets",
}

if not TYPE_CHECKING:  # a type checker that saw it would accept any name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(_MODULES[name])
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
