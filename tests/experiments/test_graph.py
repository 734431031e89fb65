"""Captured updates: that a graph could repeat them, that a failing capture harms nothing; on a GPU, real graphs."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import flowvi
from flowvi.errors import ConfigError, NonFiniteError
from flowvi.experiments.assembly import load_data
from flowvi.experiments.checkpoints import read_checkpoint, write_checkpoint
from flowvi.experiments.config import resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.graph import WARM_UPS, Replayed, graphs_wanted

Settings = dict[str, Any]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def engine_of(settings: Settings, **more: Any) -> Engine:
    config = resolve("dlgm.nf10.mnist", {**settings, **more})
    fabric = make_fabric(config)
    return Engine(fabric, config, load_data(config, fabric.device))


def tensors(engine: Engine) -> list[Tensor]:
    """All that an update reads and writes."""
    found = [*engine.model.state_dict().values(), engine.sums, engine._beta, engine._number]
    found += [engine._first_bad, engine._broken, engine.optimiser.param_groups[0]["lr"]]
    return found + [each for state in engine.optimiser.state.values() for each in state.values()]


class Tape:
    """Stands for a graph: what is replayed sees the tensors as they are, and Python's numbers as they were."""

    def __init__(self, engine: Engine, reason: str = "", error: Exception | None = None) -> None:
        self.engine, self.reason, self.error = engine, reason, error
        self.asides = self.captures = self.replays = 0

    def aside(self, work: Callable[[], None]) -> str:
        self.asides += 1
        work()
        return self.reason

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        if self.error:
            raise self.error
        engine, update, count = self.engine, self.engine.update, self.engine.count
        places = [each.data_ptr() for each in tensors(engine)]

        def replay() -> None:
            now = engine.update, engine.count
            engine.update, engine.count = update, count
            work()
            assert (engine.update, engine.count) == (update, count)
            engine.update, engine.count = now
            assert [each.data_ptr() for each in tensors(engine)] == places
            self.replays += 1

        return replay


def taped(settings: Settings, **more: Any) -> tuple[Engine, Tape]:
    engine = engine_of(settings, **more)
    engine.masks = True  # as on CUDA
    tape = Tape(engine)
    engine.replay_by(tape)
    return engine, tape


def eager(settings: Settings, **more: Any) -> Engine:
    """An engine with a step size in a tensor too, of which no update is replayed."""
    engine = engine_of(settings, **more)
    engine.masks = True
    engine.replay_by(Tape(engine, "not to be captured"))
    return engine


def run(engine: Engine, updates: int) -> list[dict[str, float]]:
    """The means of each update; from the same noise."""
    torch.manual_seed(3)
    found = []
    for _ in range(updates):
        engine.step()
        found.append(engine.read_means())
    return found


def weights(engine: Engine) -> Tensor:
    return torch.cat([p.detach().flatten() for p in engine.model.parameters()])


def same(one: Engine, other: Engine) -> None:
    for a, b in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(a, b)


OPTIMISERS: list[Settings] = [{}, {"training.optimiser": "rmsprop", "training.momentum": 0.9}]
VARIANTS: list[Settings] = [
    *OPTIMISERS,
    {"training.batch": 150},  # 150, 150, 20
    {"training.clip": 1e-3, "training.annealing": "joint"},
    {"training.clip": None, "training.schedule": "constant", "training.batch": 1000},
    {"training.objective": "iwae", "training.samples": 3, "precision": "bf16"},
    {"model.latents": [3, 2], "data.binarisation": "dynamic"},
]


@pytest.mark.parametrize("more", VARIANTS)
def test_a_replay_depends_on_tensors_alone(tiny: Settings, grey: Path, more: Settings) -> None:
    settings = {**tiny, "data.path": str(grey), **more}
    plain, (replayed, tape) = eager(settings), taped(settings)
    expected, found = run(plain, 20), run(replayed, 20)
    assert found == expected
    same(plain, replayed)
    small = 6 if more.get("training.batch") == 150 else 0
    assert (tape.asides, tape.captures, tape.replays) == (WARM_UPS + small, 1, 20 - WARM_UPS - small)
    ordinary = engine_of(settings)  # its step size is of double precision
    for means, other in zip(found, run(ordinary, 20), strict=True):
        assert means == pytest.approx(other, rel=1e-3, abs=1e-3)
    assert replayed.read_means()["loss"] == 0.0


def test_means_are_over_the_updates_that_were_replayed_too(tiny: Settings) -> None:
    engine, _ = taped(tiny)
    each = run(engine, 12)
    again, _ = taped(tiny)
    torch.manual_seed(3)
    for _ in range(12):
        again.step()
    assert again.count == 12
    means = again.read_means()
    for key in means:
        assert means[key] == pytest.approx(sum(line[key] for line in each) / 12)


@pytest.mark.parametrize("more", OPTIMISERS)
def test_the_number_of_a_bad_update_is_told(tiny: Settings, more: Settings) -> None:
    engine, tape = taped(tiny, **more)
    run(engine, 6)
    with torch.no_grad():
        engine.model.decoder.output.bias[0] = math.nan
    before = weights(engine).isnan().sum()
    run(engine, 5)
    assert tape.replays == 8
    with pytest.raises(NonFiniteError, match=r"^update 7: loss, log_likelihood, gradient not finite"):
        engine.check()
    assert weights(engine).isnan().sum() == before


@pytest.mark.parametrize("more", [*OPTIMISERS, {"training.batch": 150}])
def test_a_restored_engine_is_captured_anew(tiny: Settings, more: Settings) -> None:
    one, tape = taped(tiny, **more)
    for _ in range(9):
        one.step()
    state = copy.deepcopy(one.state())
    for _ in range(12):
        one.step()
    other, _ = taped(tiny, **more)
    other.step()
    other.restore(copy.deepcopy(state))
    for _ in range(12):
        other.step()
    same(one, other)
    one.restore(state)
    for _ in range(12):
        one.step()
    assert tape.captures == 2
    same(one, other)


@pytest.mark.parametrize("more", OPTIMISERS)
def test_checkpoints_do_not_tell_whether_updates_were_captured(tiny: Settings, tmp_path: Path, more: Settings) -> None:
    captured, ordinary = taped(tiny, **more)[0], engine_of(tiny, **more)
    files = []
    for engine in (captured, ordinary):
        run(engine, 8)
        files.append(tmp_path / f"{len(files)}")
        write_checkpoint(files[-1], engine.state())
    groups = [read_checkpoint(file)["optimiser"]["param_groups"] for file in files]
    assert groups[0][0].pop("lr") == pytest.approx(groups[1][0].pop("lr"))
    assert groups[0] == groups[1]
    for file in files:  # each goes on from either
        state = read_checkpoint(file)
        ends = []
        for engine in (taped(tiny, **more)[0], engine_of(tiny, **more)):
            engine.restore(copy.deepcopy(state))
            for _ in range(8):
                engine.step()
            ends.append(weights(engine))
            rate = engine.optimiser.param_groups[0]["lr"]
            assert isinstance(rate, Tensor if engine._replayed else float)
        torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("more", OPTIMISERS)
@pytest.mark.parametrize("way", ["fails", "is not tried"])
def test_without_a_capture_updates_go_on_as_they_are(
    tiny: Settings, caplog: pytest.LogCaptureFixture, more: Settings, way: str
) -> None:
    plain, (engine, tape) = eager(tiny, **more), taped(tiny, **more)
    if way == "fails":
        tape.error = RuntimeError("CUDA error: operation not permitted when stream is capturing\nand much more")
    else:
        tape.reason = "nets.py, line 3, waits for the device"
    run(plain, 12)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flowvi"):
        run(engine, 12)
    same(plain, engine)
    assert (tape.captures, tape.replays) == (int(way == "fails"), 0)
    (line,) = caplog.messages
    reason = "CUDA error: operation not permitted when stream is capturing" if way == "fails" else tape.reason
    assert line == f"updates run without a CUDA graph, and slower: {reason}"
    engine.restore(copy.deepcopy(engine.state()))
    run(engine, 5)
    assert tape.captures == int(way == "fails")


def test_the_reason_is_the_first_of_two_errors(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Tape):
        def capture(self, work: Callable[[], None]) -> Callable[[], None]:
            try:
                raise ValueError("the reason")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    replayed, total = Replayed(torch.zeros(()), Failing.__new__(Failing)), torch.zeros(())
    replayed._recorder.asides, replayed._recorder.reason = 0, ""  # type: ignore[attr-defined]
    for _ in range(5):
        replayed(total.add_, torch.ones(()))
    assert total == 5
    assert "the reason" in caplog.text


def test_who_wants_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWVI_GRAPH", raising=False)
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert graphs_wanted(cuda, 1)
    assert not graphs_wanted(cuda, 2)
    assert not graphs_wanted(cpu, 1)
    monkeypatch.setenv("FLOWVI_GRAPH", "off")
    assert not graphs_wanted(cuda, 1)
    monkeypatch.setenv("FLOWVI_GRAPH", "on")
    with pytest.raises(ConfigError, match="FLOWVI_GRAPH=on: allowed is off, or nothing"):
        graphs_wanted(cpu, 1)


@needs_gpu
@pytest.mark.parametrize("more", VARIANTS)
def test_on_a_gpu_a_graph_does_what_updates_do(
    tiny: Settings, grey: Path, caplog: pytest.LogCaptureFixture, more: Settings
) -> None:
    settings = {**tiny, "data.path": str(grey), "device": "cuda", "training.updates": 50, **more}
    settings["training.learning_rate"] = 1e-3  # at which roundings do not grow
    captured = engine_of(settings)
    found = run(captured, 50)
    assert not caplog.messages
    assert captured._replayed is not None
    assert captured._replayed._replay is not None
    expected = run(eager(settings), 50)
    for means, other in zip(found, expected, strict=True):
        assert means == pytest.approx(other, rel=1e-3, abs=1e-3)


@needs_gpu
@pytest.mark.parametrize("more", [*OPTIMISERS, {"training.batch": 150, "data.binarisation": "dynamic"}])
def test_on_a_gpu_a_resumed_run_ends_as_one_that_was_not_stopped(tiny: Settings, grey: Path, more: Settings) -> None:
    settings = {**tiny, "data.path": str(grey), "device": "cuda", **more}
    one = engine_of(settings)
    for _ in range(13):
        one.step()
    state = copy.deepcopy(one.state())
    noise = torch.cuda.get_rng_state()
    for _ in range(12):
        one.step()
    assert not torch.equal(noise, torch.cuda.get_rng_state())
    end = torch.cuda.get_rng_state()
    other = engine_of(settings)
    other.restore(state)
    for _ in range(12):
        other.step()
    assert torch.equal(end, torch.cuda.get_rng_state())
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-4, atol=1e-6)


@needs_gpu
def test_on_a_gpu_a_run_with_validation_between_updates_goes_through(tiny: Settings, tmp_path: Path) -> None:
    end = flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **{**tiny, "device": "cuda", "training.batch": 150})
    assert end.finished


@needs_gpu
@pytest.mark.parametrize("network", ["Waiting", "WaitingUnseen", "Raising"])
def test_on_a_gpu_a_network_that_cannot_be_captured_trains_as_it_is(
    tiny: Settings, caplog: pytest.LogCaptureFixture, network: str
) -> None:
    settings = {**tiny, "device": "cuda", "model.encoder": f"broken_networks:{network}"}
    settings["training.learning_rate"] = 1e-3
    engine = engine_of(settings)
    stream = torch.cuda.current_stream()
    found = run(engine, 20)
    assert torch.cuda.current_stream() == stream
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("updates run without a CUDA graph")
    torch.cuda.empty_cache()  # torch refuses, where it believes that a capture is under way
    expected = run(eager(settings), 20)
    for means, other in zip(found, expected, strict=True):
        assert means == pytest.approx(other, rel=1e-3, abs=1e-3)
    after = engine_of({**tiny, "device": "cuda"})  # another engine of this process can still be captured
    run(after, 6)
    assert after._replayed is not None
    assert after._replayed._replay is not None
