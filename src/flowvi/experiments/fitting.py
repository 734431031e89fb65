"""`flowvi fit`: a log density in a user's own file is fitted; draws, diagnostics and the fit itself are written."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowvi.errors import ConfigError
from flowvi.experiments.config import runs_root
from flowvi.experiments.run import atomic_write
from flowvi.experiments.their_file import blamed, parse_target, their_function
from flowvi.inference.spelling import Spelled, parse_supports, support

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from flowvi.inference.fitting import Fit
    from flowvi.inference.fitting.search import Progress

__all__ = ["Fitted", "default_folder", "fit_file", "marginal"]

_PLAIN_SECONDS = 10.0  # between two lines of progress


@dataclass(frozen=True)
class Fitted:
    """A fit of a file's function, and its draws by column: each entry of each parameter, then `log_q` and `log_p`."""

    fit: Fit
    folder: Path
    settings: Mapping[str, Any]
    seconds: float
    columns: Mapping[str, npt.NDArray[np.float64]]

    @property
    def parameters(self) -> dict[str, npt.NDArray[np.float64]]:
        """The columns of parameters, (draws,) each."""
        return {name: column for name, column in self.columns.items() if name not in ("log_q", "log_p")}


def fit_file(
    target: str,
    out: Path,
    *,
    supports: str | None = None,
    dim: int | None = None,
    effort: str = "default",
    flow: str | None = None,
    one_point: bool = False,
    seed: int = 0,
    draws: int = 4000,
) -> Fitted:
    """Fit `FILE.py:FUNCTION`; write `draws.csv`, `diagnostics.json` and the fit as `flowvi.load` takes it.

    Ctrl-C ends the search: what it had found is written, marked as interrupted.

    Args:
        target: the file and its function, of points by name (n, *shape), or (n, D), that gives ln f (n,).
        out: the folder: new, empty, or of a fit before.
        supports: of the parameters, such as `mu=real,theta=real:8`; or
        dim: D, of a plain vector.
        effort: `fast`, `default` or `thorough`.
        flow: a kind of `flowvi.flows.build`; without one those of the effort.
        one_point: whether the function takes one point, (D,) or by name (*shape), and gives ().
        seed: of the fit and of the draws.
        draws: how many are written.

    Raises:
        ConfigError: arguments that are not allowed, all before any work.
        DensityError: a log density that cannot be fitted, or that raises: its own lines are shown.
        RunError: the folder holds something else, or cannot be written.
    """
    spelled = _parameters(supports, dim)
    if draws < 1:
        raise ConfigError(f"draws = {draws}: expected at least 1")
    file, name = parse_target(target)
    function = their_function(file, name)
    from flowvi.inference.fitting import fit
    from flowvi.inference.fitting.saved import check_folder

    check_folder(out)
    started = time.monotonic()
    parameters = spelled if isinstance(spelled, int) else {each: support(*words) for each, words in spelled.items()}
    with blamed(file, f"{name} raises when it is called"):
        found = fit(
            function, parameters, seed=seed, effort=effort, flow=flow, vectorised=not one_point, progress=_progress()
        )
        columns = _columns(found, draws, seed)
    settings = {"target": target, "support": supports, "dim": dim, "effort": effort, "flow": flow}
    settings |= {"one-point": one_point, "seed": seed, "draws": draws}
    made = Fitted(found, out, settings, time.monotonic() - started, columns)
    found.save(out)
    _write(made)
    return made


def default_folder(target: str, seed: int) -> Path:
    """Where a fit is written that no folder is named for.

    Example:
        >>> default_folder("models/eight.py:log_density", 0).as_posix()
        'runs/fit.eight.log_density/0'
    """
    file, name = parse_target(target)
    return runs_root() / f"fit.{file.stem}.{name}" / str(seed)


def _parameters(supports: str | None, dim: int | None) -> int | dict[str, Spelled]:
    if (supports is None) == (dim is None):
        both = "neither --support nor --dim is" if dim is None else "both --support and --dim are"
        raise ConfigError(f"{both} given: say either --support mu=real,theta=real:8, or --dim 8 for a plain vector")
    if supports is not None:
        return parse_supports(supports)
    if dim is None or dim < 1:
        raise ConfigError(f"--dim {dim}: expected a whole number of at least 1")
    return dim


def _progress() -> Callable[[Progress], None]:
    """A line on standard error at each new stage, and every ten seconds."""
    shown: dict[str, float] = {}

    def show(now: Progress) -> None:
        if time.monotonic() - shown.get(now.stage, -math.inf) > _PLAIN_SECONDS:
            shown[now.stage] = time.monotonic()
            print(f"{now.stage:<12} ELBO {now.elbo:.3f} ± {now.se:.3f}", file=sys.stderr, flush=True)

    return show


def _columns(found: Fit, draws: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    import numpy as np
    import torch

    from flowvi.inference.fitting.draws import draw

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        drawn = draw(found, draws)
    columns = {}
    for name, value in found.joint._listed(drawn.values).items():
        array = value.double().cpu().numpy()
        for place in np.ndindex(array.shape[1:]):
            columns[f"{name}[{','.join(map(str, place))}]" if place else name] = array[:, *place]
    columns["log_q"] = drawn.log_q.double().cpu().numpy()
    if drawn.log_p is not None:
        columns["log_p"] = drawn.log_p.double().cpu().numpy()
    return columns


def _write(made: Fitted) -> None:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(made.columns)
    writer.writerows([f"{number:.9g}" for number in row] for row in zip(*made.columns.values(), strict=True))
    with atomic_write(made.folder / "draws.csv") as out:
        out.write(rows.getvalue().encode())
    with atomic_write(made.folder / "diagnostics.json") as out:
        text = json.dumps(_plain(_diagnostics(made)), indent=2, ensure_ascii=False, allow_nan=False)
        out.write(f"{text}\n".encode())


def _diagnostics(made: Fitted) -> dict[str, Any]:
    from flowvi.inference.fitting.summary import summary, versions

    stages = [
        {"posterior": each.name, "elbo": each.elbo, "elbo_se": each.elbo_se, "steps": each.trace.steps,
         "converged": each.converged, "cpu_seconds": each.seconds}
        for each in made.fit.stages
    ]  # fmt: skip
    restarts = [
        {"start": each.start, "posterior": each.kind, "elbo": each.elbo, "elbo_se": each.elbo_se}
        for each in made.fit.restarts
    ]
    return {
        **summary(made.fit),
        "parameters": {name: marginal(column) for name, column in made.parameters.items()},
        "stages": stages,
        "restarts": restarts,
        "settings": dict(made.settings),
        "effort": asdict(made.fit.effort),
        "seconds": round(made.seconds, 2),
        "versions": versions(),
    }


def marginal(column: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean, standard deviation, and the 5, 50 and 95 % quantiles of draws (n,).

    Example:
        >>> import numpy as np
        >>> marginal(np.array([1.0, 2.0, 3.0]))["median"]
        2.0
    """
    import numpy as np

    with np.errstate(invalid="ignore"):  # infinite draws have no spread
        low, middle, high = np.quantile(column, [0.05, 0.5, 0.95]).tolist()
        mean, sd = float(column.mean()), float(column.std())
    return {"mean": mean, "sd": sd, "q5": low, "median": middle, "q95": high}


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as the words `nan`, `inf` and `-inf`."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
