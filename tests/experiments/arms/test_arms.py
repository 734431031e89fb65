"""Grids as data: the jobs that they come to, their run folders, the headline registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flowvi.errors import ConfigError
from flowvi.experiments.arms import ablations, figure4
from flowvi.experiments.arms.ablations import ABLATIONS, Contrast
from flowvi.experiments.arms.arm import Arm, Budget, Settings, config_of, jobs_of, split_seeds
from flowvi.experiments.arms.headline import headline, is_headline, main
from flowvi.experiments.config import run_folder

REGISTRY = Path(__file__).parents[3] / "results" / "headline.json"
SHORT = figure4.BUDGETS["short"]


def test_the_paper_s_rows_are_there_then_others() -> None:
    configs = {arm.name: config_of(arm, SHORT, {}) for arm in figure4.arms("short")}
    found = {name: (config.flow.kind, config.flow.length) for name, config in configs.items()}
    paper = {f"{kind}-{length}": (kind, length) for kind in ("planar", "nice") for length in (10, 20, 40, 80)}
    others = {"radial-10": ("radial", 10), "sylvester-10": ("sylvester", 10), "iaf-4": ("iaf", 4)}
    others |= {"nice_time-10": ("nice", 10)}
    assert found == {"gaussian-0": ("gaussian", 0), **paper, **others}
    assert {(c.data.binarisation, c.training.protocol) for c in configs.values()} == {("fixed", "modern")}
    paper_budget = [config_of(arm, figure4.BUDGETS["paper"], {}).training for arm in figure4.arms("paper")]
    assert {(t.optimiser, t.learning_rate, t.selection) for t in paper_budget} == {("rmsprop", 1e-5, "last")}
    assert {arm.name for arm in figure4.arms("smoke")} == {"gaussian-0", "planar-10", "nice-10"}


@pytest.mark.parametrize(("budget", "given", "usual"), [
    ("short", {}, 20_000), ("paper", {}, 500_000), ("short", {"training.updates": 50_000}, 50_000),
])  # fmt: skip
def test_one_row_has_the_time_of_another_in_place_of_its_updates(budget: str, given: Settings, usual: int) -> None:
    arms = figure4.arms(budget)
    updates = {arm.name: config_of(arm, figure4.BUDGETS[budget], given).training.updates for arm in arms}
    (_, job), *_ = jobs_of([arm for arm in arms if arm.share != 1], figure4.BUDGETS[budget], given)
    assert updates.pop(figure4.IN_TIME) == job.run.config.training.updates == round(0.55 * usual)
    assert {*updates.values()} == {usual}


def test_run_folders_are_those_of_train_named_by_what_is_not_usual() -> None:
    found = jobs_of(figure4.arms("short"), SHORT, {})
    folders = {job.folder for _, job in found}
    assert len(folders) == len(found) == 39
    chosen = {"training.learning_rate": figure4.RATE}
    named = {run_folder("dlgm.nf10.mnist", chosen), run_folder("dlgm.nice80.mnist", {**chosen, "seed": 1})}
    assert named <= folders
    (_, job), *_ = jobs_of(figure4.arms("short"), SHORT, {"data.binarisation": "threshold"})
    assert job.folder == run_folder("dlgm.dc.mnist", {**chosen, "data.binarisation": "threshold"})
    assert len({job.label for _, job in found}) == 39


def test_budgets_never_share_a_run() -> None:
    grids = [(figure4, name) for name in figure4.BUDGETS] + [(ablations, name) for name in ablations.BUDGETS]
    folders = [{job.folder for _, job in jobs_of(grid.arms(name), grid.BUDGETS[name], {})} for grid, name in grids]
    assert sum(map(len, folders)) == len(set.union(*folders))


def test_arms_that_are_the_same_run_share_a_job() -> None:
    found = jobs_of(ablations.arms("short"), ablations.BUDGETS["short"], {"seed": 0})
    shared = {
        arm.name for arm, job in found if job.folder == run_folder("dlgm.nf10.mnist", {"training.updates": 10_000})
    }
    assert shared == {
        "binarisation/fixed/1600-400/K = 10",
        "source/amortised/K = 10",
        "init/identity/amortised/Adam 1e-3",
        "invertibility/centred/K = 10",
    }


def test_the_ablations_are_what_was_asked() -> None:
    assert {each.name: len(list(each.points())) for each in ABLATIONS} == {
        "binarisation": 12,
        "source": 4,
        "init": 12,
        "invertibility": 4,
    }
    configs = {arm.name: config_of(arm, ablations.BUDGETS["short"], {}) for arm in ablations.arms("short")}
    one = configs["binarisation/threshold/400-100/K = 0"]
    assert (one.data.binarisation, one.model.maxout, one.flow.kind) == ("threshold", "400-100", "gaussian")
    two = configs["init/xavier/static/RMSprop 1e-4"]
    assert (two.flow.options["init"], two.flow.options["parameters"]) == ("xavier", "static")
    assert (two.training.optimiser, two.training.learning_rate, two.training.momentum) == ("rmsprop", 1e-4, 0.9)
    assert configs["invertibility/paper/K = 80"].flow.options["invertibility"] == "paper"


def test_a_contrast_is_of_one_factor() -> None:
    found = {each.name: list(each.contrasts()) for each in ABLATIONS}
    assert {name: len(some) for name, some in found.items()} == {
        "binarisation": 8 + 6 + 6,
        "source": 4,
        "init": 8 + 6 + 6 + 12,
        "invertibility": 4,
    }
    one = Contrast("parameters", "static", "amortised", "K = 40", "source/static/K = 40", "source/amortised/K = 40")
    assert one in found["source"]
    arms = "init/xavier/static/RMSprop 1e-4", "init/no flow/RMSprop 1e-4"
    assert Contrast("flow", "xavier, static", "no flow", "RMSprop 1e-4", *arms) in found["init"]


def test_every_contrast_is_of_arms_that_there_are() -> None:
    names = {arm.name for arm in ablations.arms("short")}
    for each in ABLATIONS:
        assert {name for contrast in each.contrasts() for name in (contrast.arm, contrast.against)} <= names
    none = next(arm for arm in ablations.arms("short") if arm.name == "init/no flow/RMSprop 1e-4")
    config = config_of(none, SHORT, {})
    assert (config.flow.length, config.training.optimiser) == (0, "rmsprop")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"flow.length": 5}, "flow.length cannot be given here: it is what the rows differ in"),
        ({"training.update": 5}, "unknown key 'training.update': did you mean 'training.updates'?"),
        ({"training.updates": 0}, "training.updates cannot be 0"),
    ],
)
def test_overrides_are_refused_in_a_line(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        jobs_of(figure4.arms("short"), SHORT, overrides)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_what_an_ablation_varies_cannot_be_given() -> None:
    with pytest.raises(ConfigError, match=r"data.binarisation cannot be given here"):
        jobs_of(ablations.arms("short"), ablations.BUDGETS["short"], {"data.binarisation": "fixed"})


@pytest.mark.parametrize("given", ["3,5", [3, 5]])
def test_seeds_are_asked_for(given: object) -> None:
    budget, rest = split_seeds(SHORT, {"seed": given, "training.batch": 50})
    assert (budget.seeds, rest) == ((3, 5), {"training.batch": 50})
    assert split_seeds(SHORT, {"seed": 7})[0].seeds == (7,)


@pytest.mark.parametrize("given", ["a", "1,1", [], "", 1.5, True, [0.5]])
def test_seeds_that_cannot_be_read(given: object) -> None:
    with pytest.raises(ConfigError, match=r"seed cannot be .*: it takes whole numbers, each once, such as seed=0,1,2"):
        split_seeds(SHORT, {"seed": given})


def test_a_setting_that_needs_another_is_kept() -> None:
    arm = Arm("a", "a", "dlgm.nf10.mnist", {"training.optimiser": "rmsprop", "training.momentum": 0.9})
    ((_, job),) = jobs_of([arm], Budget("", (0,)), {})
    assert (job.run.config.training.optimiser, job.run.config.training.momentum) == ("rmsprop", 0.9)


@pytest.mark.skipif(not REGISTRY.exists(), reason="the results are not in a source distribution")
def test_the_headline_registry_agrees_with_the_grid() -> None:
    hint = "the grid has changed: python -m flowvi.experiments.arms.headline results/headline.json"
    assert json.loads(REGISTRY.read_text()) == headline(), hint


def test_headline_rows_are_told_by_hash_and_seed(tmp_path: Path) -> None:
    row = headline()["short"]["planar-10"]
    record = {"budget": "short", "config_hash": row["config_hash"], "seed": 0}
    assert is_headline([record, {**record, "seed": 1}])
    assert not is_headline([record, {**record, "seed": 7}])
    assert not is_headline([{**record, "config_hash": "0"}])
    assert not is_headline([{**record, "budget": "paper"}])
    assert main([str(tmp_path / "headline.json")]) == 0
    assert json.loads((tmp_path / "headline.json").read_text()) == headline()
    assert main([]) == 2


def test_grids_import_no_torch() -> None:
    modules = "flowvi.experiments.arms.headline, flowvi.experiments.arms.ablations, flowvi.reports.reproductions"
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'numpy', 'matplotlib'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
