"""Fused chains equal the reference, values and gradients, and behave as torch's own operators do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.flows import Planar, Radial, build
from flowvi.kernels import choice, fused
from flowvi.kernels.fused import chain

Options = tuple[bool, bool, bool]
SIZES = {
    "planar": lambda features: 2 * features + 1,
    "radial": lambda features: features + 2,
    "householder": lambda features: 4 * features,
}
KINDS = ["moderate", "large", "50", "200", "1e-30", "0"]


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused kernel runs, or the test fails."""
    monkeypatch.setenv("FLOWVI_KERNEL", "cpu")


def options_of(family: str) -> Iterator[Options]:
    for inverse in (False, True):
        if family == "planar":
            yield from ((inverse, centred, leaky) for centred in (False, True) for leaky in (False, True))
        else:
            yield inverse, False, False


CASES = [pytest.param(family, options, id=f"{family}-{options}") for family in SIZES for options in options_of(family)]


def numbers(kind: str, *shape: int) -> Tensor:
    if kind in ("moderate", "large"):
        return torch.randn(*shape) * (0.5 if kind == "moderate" else 3 / shape[1] ** 0.5)
    return torch.randn(*shape).sign() * float(kind)


def outcome(function: object, z: Tensor, parameters: Tensor, weights: Tensor) -> list[Tensor]:
    """Image, log-determinant, and the gradients of a random sum of both."""
    z, parameters = z.detach().clone().requires_grad_(), parameters.detach().clone().requires_grad_()
    out, log_det = function(z, parameters)  # type: ignore[operator]
    loss = (out * weights[..., 1:].to(out)).sum() + (log_det * weights[..., 0].to(out)).sum()
    return [out.detach(), log_det.detach(), *torch.autograd.grad(loss, (z, parameters), materialize_grads=True)]


def assert_as_good(found: list[Tensor], narrow: list[Tensor], exact: list[Tensor], size: float) -> None:
    """As near to the reference in float64 as its own rounding makes it, which float32 (`narrow`) shows magnified.

    But what saturates in float32 is not shown: a = wᵀz + b is of the parameters' `size`, and its rounding moves e^a.
    Where the reference has left the floats, its answers and gradients need not be met.
    """
    eps, wide = torch.finfo(found[0].dtype).eps, torch.finfo(torch.float32).eps
    for ours, theirs, truth in zip(found, narrow, exact, strict=True):
        held = theirs.isfinite() & truth.isfinite()
        if held.any():
            assert ours.isfinite()[held].all()
            error = (ours.double() - truth)[held].abs().max()
            rounding = (theirs.double() - truth)[held].abs().max() * eps / wide
            bound = 10 * rounding + 400 * eps * (1 + size) * (1 + truth[held].abs().max())
            assert error <= bound, (error, bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "options"), CASES)
def test_values_and_gradients_are_the_references(family: str, options: Options, kind: str, dtype: torch.dtype) -> None:
    for features, length in ((1, 1), (2, 3), (5, 8), (40, 20)):
        if family == "householder" and features == 1:
            continue
        for samples, batch, rows in ((1, 3, 3), (2, 3, 3), (2, 3, 1), (40, 1, 1)):
            z, weights = torch.randn(samples, batch, features).to(dtype), torch.randn(samples, batch, features + 1)
            parameters = numbers(kind, rows, length, SIZES[family](features)).to(dtype)
            if family == "planar" and options[2] and kind in ("large", "50", "200"):
                z, weights, parameters = (
                    z[:1],
                    weights[:1],
                    parameters[:, :1],
                )  # longer, they may pass a kink either way

            def plain(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
                return fused._reference(z, parameters, family, options)

            assert_as_good(
                outcome(lambda z, parameters: chain(family, z, parameters, options), z, parameters, weights),
                outcome(plain, z.float(), parameters.float(), weights),
                outcome(plain, z.double(), parameters.double(), weights),
                parameters.abs().max().item(),
            )


@pytest.mark.parametrize(("family", "options"), CASES)
def test_derivatives_of_the_first_and_second_order(family: str, options: Options) -> None:
    z = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    for rows in (1, 3):
        parameters = torch.randn(rows, 2, SIZES[family](4), dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z, p: chain(family, z, p, options), (z, parameters))
        assert torch.autograd.gradgradcheck(lambda z, p: chain(family, z, p, options), (z, parameters))


@pytest.mark.parametrize("family", SIZES)
def test_tensors_without_order_in_memory_and_without_entries(family: str, dtype: torch.dtype) -> None:
    size = SIZES[family](4)
    z, parameters = (
        torch.randn(4, 3, 2, dtype=dtype).mT.transpose(0, 2),
        torch.randn(size, 3, 3, dtype=dtype).permute(2, 1, 0),
    )
    assert not z.is_contiguous() and not parameters.is_contiguous()
    expected = chain(family, z.contiguous(), parameters.contiguous())
    for found, want in zip(chain(family, z, parameters), expected, strict=True):
        assert torch.equal(found, want)
    for shape, length in (((0, 3, 4), 3), ((2, 0, 4), 3), ((2, 3, 4), 0)):
        given = torch.randn(shape, dtype=dtype)
        out, log_det = chain(family, given, torch.randn(shape[1], length, size, dtype=dtype))
        assert torch.equal(out, given) and torch.equal(log_det, torch.zeros(shape[:2], dtype=dtype))


def test_an_expanded_gradient_and_one_that_is_missing() -> None:
    z, parameters = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, 2, 9, requires_grad=True)
    chain("planar", z, parameters)[0].sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()
    (found,) = torch.autograd.grad(chain("planar", z.detach(), parameters)[1].sum(), parameters)
    assert found.isfinite().all()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    z, weights = torch.randn(3, 70, 40), torch.randn(3, 70, 41)
    for rows in (1, 70):
        parameters = torch.randn(rows, 20, 81)
        before = torch.get_num_threads()
        try:
            found = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(outcome(lambda z, p: chain("planar", z, p), z, parameters, weights))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


def test_two_threads_of_a_program_may_train_at_once() -> None:
    finals: dict[int, Tensor] = {}

    def train(number: int, seed: int) -> None:
        z, values = (
            torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for shape in ((64, 50, 9), (4, 19))
        )
        values.requires_grad_()
        for _ in range(20):
            out, log_det = chain("planar", z, values[None])
            (grad,) = torch.autograd.grad((out.square().sum(-1) - log_det).mean(), values)
            values = (values - 0.1 * grad).detach().requires_grad_()
        finals[number] = values.detach()

    train(0, 0)
    train(1, 1)
    threads = [threading.Thread(target=train, args=(number, number % 2)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(finals[number], finals[number % 2]) for number in range(2, 6))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_and_spawned_workers_give_the_same_numbers(tmp_path: Path) -> None:
    code = """
import multiprocessing, os, sys, torch
from flowvi.kernels.fused import chain

def work():
    torch.manual_seed(0)
    z, parameters = torch.randn(3, 70, 40), torch.randn(70, 20, 81, requires_grad=True)
    out, log_det = chain("planar", z, parameters)
    (grad,) = torch.autograd.grad(out.sum() + log_det.sum(), parameters)
    return out.detach().numpy().tobytes(), grad.numpy().tobytes()  # not sums, whose order follows the threads

if __name__ == "__main__":
    expected = work()  # the parent has threads
    for method in ("fork", "spawn"):
        # torch's own operators hang in a forked child with more
        single = {"initializer": torch.set_num_threads, "initargs": (1,)} if method == "fork" else {}
        with multiprocessing.get_context(method).Pool(2, **single) as pool:
            assert pool.apply_async(work).get(timeout=100) == expected, method
    print("same")
"""
    script = tmp_path / "work.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "same", done.stderr


def test_transforms_of_torch_func_take_the_reference() -> None:
    flow = Planar(features=3, length=2, init="normal")
    points = torch.randn(5, 3)
    one = torch.func.vmap(torch.func.jacrev(lambda row: flow().push(row)[0]))(points)
    other = torch.func.vmap(torch.func.jacfwd(lambda row: flow().push(row)[0]))(points)
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", ["planar", "radial"])
def test_the_compiler_takes_the_operator_whole(family: str) -> None:
    flow = build(family, 3, 4, 2, init="normal")
    h = torch.randn(5, 4)

    def loss(h: Tensor) -> Tensor:
        z, log_q = flow(h).push(torch.ones(5, 3))
        return (z.square().sum(-1) + log_q).mean()

    compiled = torch.compile(loss, backend="aot_eager")
    expected = torch.autograd.grad(loss(h), list(flow.parameters()))
    for found, want in zip(torch.autograd.grad(compiled(h), list(flow.parameters())), expected, strict=True):
        assert torch.allclose(found, want, atol=1e-5)


def test_networks_in_bfloat16_leave_the_chain_in_float32() -> None:
    flow = Radial(features=3, context=4, length=2, init="normal")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, log_q = flow(torch.randn(5, 4)).rsample_and_log_prob()
        (z.sum() + log_q.sum()).backward()
    assert z.dtype == log_q.dtype == torch.float32


def test_200_updates_agree_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    finals = []
    for kernel in ("cpu", "reference"):
        monkeypatch.setenv("FLOWVI_KERNEL", kernel)
        torch.manual_seed(0)
        flow, losses = Planar(features=2, length=8, init="xavier"), []
        optimiser = torch.optim.Adam(flow.parameters(), 0.01)
        for _ in range(200):
            z, log_q = flow().rsample_and_log_prob((50,))
            loss = (log_q + 2 * (z.norm(dim=-1) - 2).square()).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        finals.append(torch.tensor(losses))
    assert finals[0][0] - finals[0][-20:].mean() > 1
    assert torch.allclose(*finals, atol=1e-3)


def test_what_cannot_be_chosen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Planar(features=2, length=1)
    monkeypatch.setenv("FLOWVI_KERNEL", "fast")
    with pytest.raises(ConfigError, match="FLOWVI_KERNEL=fast: allowed are reference, cpu and cuda"):
        flow().rsample()
    monkeypatch.setenv("FLOWVI_KERNEL", "cuda")
    with pytest.raises(ConfigError, match="the chain is on the device cpu"):
        flow().rsample()


def test_without_numba_the_reference_runs_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    choice._chosen.cache_clear()
    try:
        with pytest.raises(ConfigError, match="FLOWVI_KERNEL=cpu needs numba: pip install numba"):
            Planar(features=2, length=1)().rsample()
        monkeypatch.delenv("FLOWVI_KERNEL")
        for _ in range(2):
            Planar(features=2, length=1)().rsample()
        assert [record.message for record in caplog.records] == [
            "numba is not installed: flows run layer by layer, many times slower (pip install numba)"
        ]
    finally:
        choice._chosen.cache_clear()


def test_importing_flowvi_imports_no_compiler() -> None:
    code = "import sys, flowvi.flows; assert not {'numba', 'llvmlite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
