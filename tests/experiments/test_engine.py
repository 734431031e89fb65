"""One update: objective, gradient, guard, clipping, schedule, optimiser, average, state."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from flowvi.errors import ConfigError, NonFiniteError
from flowvi.experiments.assembly import load_data
from flowvi.experiments.bounds import bound_rows
from flowvi.experiments.config import resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.inference import annealing_weight, free_energy

Settings = dict[str, Any]


def engine_of(settings: Settings, **more: Any) -> Engine:
    config = resolve("dlgm.nf10.mnist", {**settings, **more})
    fabric = make_fabric(config)
    return Engine(fabric, config, load_data(config, fabric.device))


def weights(engine: Engine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine.model.parameters()])


def gradients(engine: Engine) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])


def test_the_gradient_is_that_of_the_mean_loss(tiny: Settings) -> None:
    engine = engine_of(tiny, **{"training.annealing": "joint", "training.clip": None})
    engine.update = 3
    engine.prepare()
    x = engine.dataset.train.batch(torch.arange(20))
    noise = torch.randn(1, 20, 2)
    engine.gradient(x, noise)
    found = gradients(engine)
    engine.model.zero_grad()
    loss = free_energy(engine.model, x, annealing="joint", beta=0.01 + 3 / 20, noise=noise).loss.mean()
    loss.backward()
    torch.testing.assert_close(found, gradients(engine))
    means = engine.read_means()
    assert means["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert means["gradient_norm"] == pytest.approx(found.norm().item(), rel=1e-5)
    assert means["free_energy"] == pytest.approx(means["reconstruction"] + means["kl"])
    assert engine.read_means()["loss"] == 0.0


def test_noise_that_is_passed_in_is_the_noise_that_is_drawn(tiny: Settings) -> None:
    engine = engine_of(tiny)
    x = engine.dataset.train.batch(torch.arange(20))
    torch.manual_seed(5)
    engine.gradient(x, None)
    drawn = gradients(engine)
    torch.manual_seed(5)
    engine.gradient(x, torch.randn(1, 20, 2))
    assert torch.equal(drawn, gradients(engine))


@pytest.mark.parametrize(("clip", "expected"), [(1e-3, 1e-3), (1e6, None), (None, None)])
def test_clipping_bounds_the_norm_and_metrics_tell_the_one_before(
    tiny: Settings, clip: float | None, expected: float | None
) -> None:
    engine = engine_of(tiny, **{"training.clip": clip})
    engine.gradient(engine.dataset.train.batch(torch.arange(20)), None)
    before = engine.read_means()["gradient_norm"]
    assert gradients(engine).norm().item() == pytest.approx(expected or before, rel=1e-3)
    assert before > 0.01


def test_an_image_s_gradient_is_bounded_before_it_reaches_the_weights(tiny: Settings) -> None:
    """The bound on each image, alone in its batch, is the bound on its part of a batch's gradient."""
    settings = {"training.clip": None, "training.clip_image": 1e-2}
    bounded, free = engine_of(tiny, **settings), engine_of(tiny, **{**settings, "training.clip_image": None})
    x = bounded.dataset.train.batch(torch.arange(20))
    noise = torch.randn(1, 20, 2)
    for engine in (bounded, free):
        engine.prepare()
        engine.gradient(x, noise)
    heads = [name for name, _ in bounded.model.named_parameters() if name.startswith("flows") and "bias" in name]
    assert len(heads) == 2  # the base's and the chain's
    ours, theirs = ({name: p.grad.clone() for name, p in each.model.named_parameters()} for each in (bounded, free))
    assert all(float(ours[name].norm()) <= 1e-2 < float(theirs[name].norm()) for name in heads)
    assert torch.equal(ours["decoder.output.weight"], theirs["decoder.output.weight"])
    parts = []
    for row in range(20):
        bounded.gradient(x[row : row + 1], noise[:, row : row + 1])
        parts.append(torch.cat([dict(bounded.model.named_parameters())[name].grad for name in heads]))
        assert float(parts[-1].norm()) <= 2**0.5 * 1e-2 * (1 + 1e-5)
    torch.testing.assert_close(torch.stack(parts).mean(0), torch.cat([ours[name] for name in heads]))


def test_a_bound_that_nothing_reaches_changes_nothing(tiny: Settings) -> None:
    one, other = (engine_of(tiny, **{"training.clip_image": bound}) for bound in (1e9, None))
    for engine in (one, other):
        torch.manual_seed(3)
        engine.prepare()
        engine.gradient(engine.dataset.train.batch(torch.arange(20)), None)
    assert torch.equal(gradients(one), gradients(other))


def test_rows_are_bounded_and_nan_stays() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [torch.nan, 1.0], [torch.inf, 1.0]])
    bounded = bound_rows(rows, 1.0)
    assert bounded[0].tolist() == pytest.approx([0.6, 0.8]) and bounded[1].tolist() == [0, 0]
    assert not bounded[2].isfinite().all() and not bounded[3].isfinite().all()  # and so are found by the guard
    far = bound_rows(torch.tensor([[3e30, 4e30], [-3e-30, 4e-30]]), 1.0)  # whose squares leave the floats
    assert far[0].tolist() == pytest.approx([0.6, 0.8]) and far[1].tolist() == pytest.approx([-3e-30, 4e-30])


def test_schedules(tiny: Settings) -> None:
    engine = engine_of(tiny, **{"training.schedule": "cosine", "training.learning_rate": 0.1})
    rates = []
    for engine.update in (0, 10, 15, 29):
        rates.append(engine.learning_rate)
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.05 * (1 + math.cos(math.pi * 29 / 30))])
    assert rates[-1] > 0
    constant = engine_of(tiny, **{"training.schedule": "constant", "training.learning_rate": 0.1})
    constant.update = 29
    assert constant.learning_rate == 0.1


def test_the_rate_of_the_schedule_is_the_one_that_is_used(tiny: Settings) -> None:
    engine = engine_of(tiny)
    for _ in range(4):
        rate = engine.learning_rate
        engine.step()
        assert [group["lr"] for group in engine.optimiser.param_groups] == [rate]


def test_rmsprop_is_that_of_the_paper(tiny: Settings) -> None:
    paper = {"training.protocol": "paper", "training.learning_rate": 1e-3, "training.clip": None}
    engine = engine_of(tiny, **paper)
    assert isinstance(engine.optimiser, torch.optim.RMSprop)
    assert engine.optimiser.defaults["momentum"] == 0.9
    before = weights(engine)
    for _ in range(3):
        engine.step()
    assert not torch.equal(before, weights(engine))
    assert weights(engine).isfinite().all()


@pytest.mark.parametrize("annealing", ["joint", "kl", "none"])
def test_beta_is_that_of_the_next_update(tiny: Settings, annealing: str) -> None:
    engine = engine_of(tiny, **{"training.annealing": annealing})
    for update in (0, 7, 25):
        engine.update = update
        assert engine.beta == annealing_weight(annealing, update, 20)


def test_every_image_once_an_epoch_and_the_last_batch_is_what_is_left(tiny: Settings) -> None:
    engine = engine_of(tiny, **{"training.batch": 150})  # 320 images: 150, 150, 20
    sizes = []
    for engine.update in range(6):
        sizes.append(len(engine._batch()[0]))
    assert sizes == [150, 150, 20] * 2


@pytest.mark.parametrize(
    ("network", "parts"),
    [("NaNLoss", "loss, log_q, log_prior, log_likelihood, gradient"), ("NaNGradient", "gradient")],
)
def test_a_processor_stops_at_once_and_the_weights_are_untouched(
    tiny: Settings, monkeypatch: pytest.MonkeyPatch, network: str, parts: str
) -> None:
    monkeypatch.setenv("BREAKS_AT", "4")
    engine = engine_of(tiny, **{"model.encoder": f"broken_networks:{network}"})
    for _ in range(3):
        engine.step()
    before = weights(engine).clone()
    with pytest.raises(NonFiniteError, match=rf"^update 4: {parts} not finite"):
        engine.step()
    assert torch.equal(before, weights(engine))
    assert before.isfinite().all()
    assert engine.update == 3


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
@pytest.mark.parametrize(
    ("network", "parts"),
    [("NaNLoss", "loss, log_q, log_prior, log_likelihood, gradient"), ("NaNGradient", "gradient")],
)
def test_a_mask_keeps_bad_updates_from_the_weights_and_the_first_is_told(
    tiny: Settings, monkeypatch: pytest.MonkeyPatch, network: str, parts: str, optimiser: str
) -> None:
    monkeypatch.setenv("BREAKS_AT", "4")
    more = {"model.encoder": f"broken_networks:{network}", "training.optimiser": optimiser}
    engine = engine_of(tiny, **more, **{"training.updates": 1000})
    engine.masks = True  # as on CUDA
    for _ in range(8):
        engine.step()
    assert engine.update == 8
    assert weights(engine).isfinite().all()
    assert all(math.isfinite(value) for value in engine.read_means().values())
    with pytest.raises(NonFiniteError, match=rf"^update 4: {parts} not finite"):
        engine.check()
    with pytest.raises(NonFiniteError, match=r"^update 4:"):
        while engine.update < 100:
            engine.step()
    assert engine.update == 100


def test_a_mask_lets_good_updates_through_as_they_are(tiny: Settings) -> None:
    plain, masked = engine_of(tiny), engine_of(tiny)
    masked.masks = True
    for engine in (plain, masked):
        torch.manual_seed(3)
        for _ in range(5):
            engine.step()
        engine.check()
    assert torch.equal(weights(plain), weights(masked))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"training.optimiser": "rmsprop", "training.momentum": 0.9},
        {"data.binarisation": "dynamic"},
    ],
)
def test_a_state_restores_everything(tiny: Settings, grey: Any, more: Settings) -> None:
    settings = {**tiny, "data.path": str(grey), **more}
    one = engine_of(settings)
    for _ in range(13):
        one.step()
    state = copy.deepcopy(one.state())
    for _ in range(12):
        one.step()
    other = engine_of(settings)
    other.step()
    other.restore(state)
    for _ in range(12):
        other.step()
    assert torch.equal(weights(one), weights(other))
    assert one.read_means() == other.read_means()


@pytest.mark.parametrize(
    "more",
    [
        {"precision": "bf16"},
        {"training.objective": "iwae", "training.samples": 3},
        {"training.samples": 4},
        {"model.latents": [3, 2]},
        {"model.latents": [3, 2, 2], "flow.kind": "gaussian", "flow.length": 0, "precision": "bf16"},
        {"flow.parameters": "static"},
        {"training.batch": 1},
        {"training.batch": 1000},
    ],
)
def test_variants_train(tiny: Settings, more: Settings) -> None:
    engine = engine_of(tiny, **more)
    before = weights(engine)
    for _ in range(3):
        engine.step()
    after = weights(engine)
    assert after.dtype == torch.float32
    assert after.isfinite().all()
    assert not torch.equal(before, after)


def test_the_output_starts_at_the_mean_of_the_data(tiny: Settings) -> None:
    engine = engine_of(tiny, **{"training.output_bias": "mean"})
    mean = engine.dataset.mean
    bias = engine.model.decoder.output.bias
    torch.testing.assert_close(torch.sigmoid(bias), mean, atol=0.01, rtol=0)


def test_devices_that_are_not_there(tiny: Settings) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match="no CUDA device"):
        engine_of(tiny, device="cuda")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_package:Net", "cannot import 'no_such_package'"),
        ("broken_networks:Absent", "has no 'Absent'"),
        ("broken_networks:Narrow", r"gave shape \(2, 3\) for an input of \(2, 16\), expected \(2, 4\)"),
        ("broken_networks:Refusing", r"called with a tensor of shape \(2, 16\), it failed"),
        ("broken_networks:Picky", r"called with \(inputs, outputs\)"),
        ("math:hypot", "expected a torch.nn.Module"),
    ],
)
def test_networks_that_cannot_be_made(tiny: Settings, path: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"model.encoder={path}.*{says}") as error:
        engine_of(tiny, **{"model.encoder": path})
    assert "\n" not in str(error.value)
