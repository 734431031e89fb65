"""A fit as a page of HTML that needs nothing but itself: verdict, parameters, marginals, pairs, the weights' tail."""

from __future__ import annotations

import io
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from flowvi.experiments.fitting import Fitted, marginal
from flowvi.experiments.run import atomic_write
from flowvi.inference.fitting.summary import summary, versions
from flowvi.reports.columns import Table
from flowvi.reports.comparison import duration
from flowvi.reports.fit_pictures import draw_marginal, draw_pairs, draw_tail
from flowvi.reports.page import inline, rendered, table_html
from flowvi.reports.tables import number

__all__ = ["write_report"]

Column = npt.NDArray[np.float64]
_PANELS = 24  # marginals that are drawn
_ROWS = 200  # of the table
_PAIRED = 6  # parameters in the picture of pairs


def write_report(made: Fitted) -> Path:
    """Write `report.html` into the fit's folder.

    Raises:
        RunError: it cannot be written.
    """
    weights = _weights(made.columns)
    varied = {name: column for name, column in made.parameters.items() if np.ptp(column) > 0 and _finite(column)}
    said = made.fit.verdict
    text = rendered(
        "fit.html.jinja",
        target=str(made.settings["target"]),
        lead=_lead(made),
        verdict=said.label,
        verdict_class=said.label.replace(" ", "-"),
        reasons=said.reasons,
        advice=said.advice,
        figures=table_html(_figures(made)),
        about_parameters=_about_parameters(made, weights),
        parameters=table_html(_parameters(made.parameters, weights)),
        marginals=_marginals(varied, weights),
        weighted=weights is not None,
        more=f"The first {_PANELS} of {len(varied)}; the others are in draws.csv." if len(varied) > _PANELS else "",
        **_pairs(varied),
        **_tail(made, weights),
        stages=table_html(_stages(made)),
        remarks=_remarks(made),
        command=_command(made.settings),
    )
    with atomic_write(made.folder / "report.html") as file:
        file.write(text.encode())
    return made.folder / "report.html"


def _finite(column: Column) -> bool:
    return bool(np.isfinite(column).all())


def _weights(columns: Mapping[str, Column]) -> Column | None:
    """Weights f/q that sum to one; None where they say nothing."""
    if "log_p" not in columns:
        return None
    log_weights = columns["log_p"] - columns["log_q"]
    top = log_weights.max()
    if not np.isfinite(top):  # NaN or +inf among them, or none above nought
        return None
    weights = np.exp(log_weights - top)
    normalised: Column = weights / weights.sum()
    return normalised


def _lead(made: Fitted) -> str:
    size = made.fit.joint.size
    free = f"{size} unconstrained dimension" + "s" * (size > 1)
    early = "The search was interrupted: this is what there was. " if made.fit.interrupted else ""
    return f"{early}{free}; {made.fit.winner} posterior; {len(made.columns['log_q']):,} draws shown."


def _figures(made: Fitted) -> Table:
    found = summary(made.fit)
    effective = f"{100 * found['effective_share']:.0f} % of {number(found['evidence_draws'], 0)}"
    limit = f"weights can be trusted up to {found['k_hat_limit']:.2f}"
    rows = [
        ("ln Z, the evidence", f"{_with_error(found['log_evidence'], found['log_evidence_se'])} nats",
         "by importance sampling from the posterior with heavier tails"),
        ("ELBO", f"{_with_error(found['elbo'], found['elbo_se'])} nats",
         "below ln Z by the divergence of the posterior from the target"),
        ("k̂ of these weights", number(found["k_hat"]), limit),
        ("effective draws", effective, "as many independent draws of the target would weigh as much"),
        ("total variation", number(found["total_variation"], 3), "no probability is off by more, as far as draws tell"),
    ]  # fmt: skip
    return Table(("", "", "what it says"), rows, left=3)


def _with_error(value: float, error: float) -> str:
    """Both to the second digit of the error, two to six decimals."""
    small = 0 < error < math.inf
    places = min(6, max(2, 1 - math.floor(math.log10(error)))) if small else 3
    return f"{number(value, places)} ± {number(error, places)}"


def _about_parameters(made: Fitted, weights: Column | None) -> str:
    by = f"Of {len(made.columns['log_q']):,} draws of the fitted posterior"
    if weights is None:
        return f"{by}."
    return f"{by}; the weighted mean is of the same draws by their weights, and differs where the fit is off."


def _parameters(columns: Mapping[str, Column], weights: Column | None) -> Table:
    rows = []
    for name, column in list(columns.items())[:_ROWS]:
        found = marginal(column)
        weighted = [] if weights is None else [_short(float(weights @ column))]
        rows.append((name, *map(_short, found.values()), *weighted))
    head = ("parameter", "mean", "sd", "5 %", "median", "95 %", *([] if weights is None else ["weighted mean"]))
    return Table(head, rows)


def _short(value: float, digits: int = 4) -> str:
    return f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def _marginals(columns: Mapping[str, Column], weights: Column | None) -> list[dict[str, Any]]:
    panels = []
    for i, (name, column) in enumerate(list(columns.items())[:_PANELS]):
        words = f"{_short(float(column.mean()), 3)} ± {_short(float(column.std()), 3)}"
        svg = _svg(draw_marginal(column, weights), f"marginal-{i}", f"the marginal of {name}", least=False)
        panels.append({"name": name, "words": words, "svg": svg})
    return panels


def _pairs(columns: Mapping[str, Column]) -> dict[str, Any]:
    if len(columns) < 2:
        return {"pairs": None}
    chosen = dict(list(columns.items())[:_PAIRED])
    which = "Each two parameters"
    if len(columns) > len(chosen):
        which = f"The first {len(chosen)} of {len(columns)} parameters, each two of them"
    about = f"{which}: the darker region holds half of the draws, both together 90 %; dots are draws."
    svg = _svg(draw_pairs(chosen), "pairs", "each two parameters against each other", least=len(chosen) > 4)
    return {"pairs": svg, "about_pairs": about}


def _tail(made: Fitted, weights: Column | None) -> dict[str, Any]:
    if weights is None or np.count_nonzero(weights) < 25 or np.ptp(weights) == 0:
        return {"tail": None}
    found = summary(made.fit)
    limit = found["k_hat_limit"]
    about = (
        f"The largest of {len(weights):,} weights f/q carries {100 * weights.max():.2g} % of the total. Dashed: a tail "
        f"as heavy as weights may have (k = {limit:.2f}); where the line falls more slowly than it, sums over weights "
        "hang on a few draws. They are of the posterior's own draws; ln Z is from others, with heavier tails."
    )
    svg = _svg(draw_tail(weights, limit), "tail", "the tail of the weights", least=False)
    return {"tail": svg, "about_tail": about}


def _svg(figure: Figure, name: str, words: str, *, least: bool) -> Markup:
    """The picture for the middle of the page; `least`: never smaller than drawn, but scrolled in its box."""
    drawn = io.StringIO()
    with rc_context({"svg.hashsalt": "flowvi", "svg.fonttype": "path", "savefig.transparent": True}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = inline(drawn.getvalue(), name, words)
    return Markup(svg if least else re.sub(r' style="min-width: \d+pt"', "", svg, count=1))


def _stages(made: Fitted) -> Table:
    rows = [
        (
            f"**{each.name}**" if each.name == made.fit.winner else each.name,
            _with_error(each.elbo, each.elbo_se),
            number(each.trace.steps, 0),
            "yes" if each.converged else "no",
        )
        for each in made.fit.stages
    ]
    return Table(("posterior", "ELBO, nats", "steps", "converged"), rows)


def _remarks(made: Fitted) -> list[str]:
    found = made.fit
    remarks = [f"{len(found.restarts)} starts; {found.counts.points:,} points of the log density; "
               f"{duration(made.seconds)}."]  # fmt: skip
    if found.counts.not_finite:
        counts = found.counts
        kinds = {"NaN": counts.nan, "−inf": counts.minus_inf, "+inf": counts.plus_inf}
        met = ", ".join(f"{kind} at {many:,}" for kind, many in kinds.items() if many)
        remarks.append(f"The log density was {met} of them.")
    made_by = versions()
    remarks.append(f"flowvi {made_by['flowvi']}, torch {made_by['torch']}, Python {made_by['python']}. The same "
                   "command gives the same draws on the same versions and machine.")  # fmt: skip
    return remarks


def _command(settings: Mapping[str, Any]) -> str:
    words = ["flowvi", "fit", str(settings["target"])]
    for key in ("support", "dim", "effort", "flow", "seed", "draws"):
        if settings[key] is not None:
            words += [f"--{key}", str(settings[key])]
    words += ["--one-point"] * settings["one-point"]
    return shlex.join(words)
