"""The whole program at a tiny size, without judging time; peers that are not installed are said to be so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

program = pytest.importorskip("benchmarks.__main__", reason="the benchmarks are only in the checkout")
from benchmarks import chain, floor, peers, programs, targets  # noqa: E402

TINY = {**programs.TINY_MODEL, "training.batch": 10}


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    """The program sets torch's threads for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a tiny run of all parts but the start-up writes."""
    out = tmp_path_factory.mktemp("benchmarks")
    threads = torch.get_num_threads()
    assert (
        program.main(["chain", "others", "step", "likelihood", "growth", "--tiny", "--threads=1", f"--out={out}"]) == 0
    )
    torch.set_num_threads(threads)
    return out


def test_every_part_writes_its_cells_with_machine_versions_and_contenders(folder: Path) -> None:
    records = program.read(folder)
    assert list(records) == ["chain", "others", "step", "likelihood", "growth"]
    for record in records.values():
        assert record["tiny"] is True
        assert record["machine"]["threads"] == 1 and "torch" in record["machine"]["versions"]
        for cell in record["cells"]:
            assert all(spread["median"] > 0 and spread["count"] == 2 for spread in cell["times"].values())


def test_contenders_are_timed_or_said_to_be_missing(folder: Path) -> None:
    record = program.read(folder)["chain"]
    timed = set(record["cells"][0]["times"])
    assert {"flowvi", "reference", "flowvi static", "flowvi head", "head alone"} <= timed
    assert timed | record["missing"].keys() | {"compiled"} == record["contenders"].keys()
    # Where a peer is installed, it took part: it did not fail and agreed with the reference
    assert set(record["missing"].values()) <= {"not installed"}


def test_what_the_readme_reads(folder: Path) -> None:
    record = json.loads((folder / "foundation.json").read_text(encoding="utf-8"))
    assert [(row["job"], row["length"]) for row in record["results"]] == [("training_step", 0), ("training_step", 2)]
    assert all(row[key]["median"] > 0 for row in record["results"] for key in ("earlier", "flowvi", "ratio"))


def test_the_figure_is_drawn_from_the_files_alone(folder: Path) -> None:
    before = [(folder / f"benchmarks.{ending}") for ending in ("svg", "png")]
    for file in before:
        file.unlink()
    assert program.main(["report", f"--out={folder}"]) == 0
    assert all(file.stat().st_size > 1000 for file in before)


def test_start_up(tmp_path: Path) -> None:
    assert program.main(["startup", "--tiny", "--threads=1", f"--out={tmp_path}"]) == 0
    (cell,) = program.read(tmp_path)["startup"]["cells"]
    assert cell["times"]["import flowvi"]["median"] > 0
    assert cell["times"]["first step cached"]["median"] < cell["times"]["ready cached"]["median"]


def test_a_wrong_word_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([f"--out={tmp_path}", "flow.lenght=3"]) == 1
    assert "flow.length" in capsys.readouterr().err
    assert program.main([f"--out={tmp_path}", "chian"]) == 1
    assert "chain" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_target_is_the_ratio_of_medians_to_the_fastest() -> None:
    spread = {"lower": 9.0, "upper": 11.0}
    times = {"pyro static": {"median": 30.0}, "normflows static": {"median": 20.0}, "flowvi static": {"median": 2.0}}
    ratios = {"flowvi static": {"pyro static": spread, "normflows static": spread}}
    cell: dict[str, Any] = {"sizes": {"K": 80, "D": 40, "B": 100}, "times": times, "ratios": ratios}
    found = [each for each in targets.findings({"chain": {"cells": [cell]}}) if each.measured is not None]
    assert [(each.measured, each.lower, each.met) for each in found] == [(10.0, 9.0, True)]
    assert "normflows static / flowvi static" in targets.table({"chain": {"cells": [cell]}})


def test_a_contender_that_computes_something_else_is_not_timed() -> None:
    problem = chain.Problem(2, 3, 4)
    truth = problem.given_by(chain.reference.planar_forward)
    functions = {"right": truth, "wrong": lambda: tuple(2 * out for out in truth())}
    found = dict(chain.checked(problem, functions, truth, [problem.z, problem.given]))
    assert not isinstance(found["right"], str)
    assert "differs" in found["wrong"]


def test_the_floor_has_every_matrix_of_the_model_once() -> None:
    engine = programs.engine_of(programs.config_of(2, TINY))
    x = engine.dataset.train.batch(torch.arange(10))
    products = floor.products_of(engine.model, lambda: engine.module(x, torch.ones(())))
    sizes = sorted((product.outputs, product.inputs) for product in products)
    assert sizes == sorted(tuple(p.shape) for p in engine.model.parameters() if p.dim() == 2)
    assert [product.inner for product in products].count(False) == 1  # the images need no gradient
    assert {product.rows for product in products} == {10}


def test_the_floor_refuses_a_model_whose_matrices_it_does_not_see() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    with pytest.raises(RuntimeError, match="1 linear layers ran"):
        floor.products_of(model, lambda: model[0](torch.ones(1, 2)))


@pytest.mark.skipif(bool(peers.missing("pyro-ppl")), reason="pyro-ppl is not installed")
def test_pyros_posterior_has_the_density_of_ours() -> None:
    """The same parameters in pyro's layers and in ours, whose first form of û is the paper's."""
    problem = chain.Problem(3, 4, 5)
    ours = problem.given_by(chain.planar_forward)()
    theirs = peers.pyro_given(3, 4)(problem.z, problem.given)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
