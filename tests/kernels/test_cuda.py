"""The Triton kernels against the reference and its gradients by autograd.

Without a GPU they run under Triton's interpreter, in a process of its own: the interpreter must be asked for before
Triton is imported, which any other test may have done. What the interpreter lets pass and the compiler refuses is
found by compiling for a GPU that need not be there.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowvi.kernels import fused

# where the development requirements have Triton
needs_triton = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="no Triton for this system"
)

_WORKER = """
import sys, torch
torch.set_num_threads(1)
from flowvi.kernels import cuda, fused
from flowvi.kernels.cuda import tiles
def run(z, parameters, family, options, keep):
    *given, table = fused.empty(z, parameters, family, keep)
    given.append(table.to(z.dtype))  # as on CUDA, where the table has the points' dtype
    cuda.run(z, parameters, *given, family, options)
    return given
results = []
for few, programs, family, options, z, parameters, *grads in torch.load(sys.argv[1]):
    tiles.FEW, tiles.PROGRAMS = few, programs
    out, log_det, *kept = run(z, parameters, family, options, True)
    if len(results) % 4 == 0:
        plain = run(z, parameters, family, options, False)
        torch.testing.assert_close([out, log_det], list(plain[:2]), rtol=0, atol=0, equal_nan=True)
    results.append([out, log_det, *cuda.gradient(*grads, z, parameters, *kept, family, options)])
torch.save(results, sys.argv[2])
"""

_COMPILER = """
import inspect, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from flowvi.kernels.cuda import householder, planar, radial
real, inverse, leaky, points, features = sys.argv[1:]
size = dict(BLOCK_N=int(points), BLOCK_D=int(features))
if features == "1":
    size |= dict(features=1)  # a constant for the launcher
def compile(function, **constants):
    names = list(inspect.signature(function.fn).parameters)
    constants = {name: value for name, value in (constants | size).items() if name in names}
    kinds = {name: "*" + real if name.endswith("_at") else "i32" for name in names}
    kinds |= {name: "constexpr" for name in constants}
    source = ASTSource(function, kinds, {(names.index(name),): value for name, value in constants.items()})
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["cubin"]
ways = dict(INVERSE=inverse == "1", LEAST=2.0**-126)
for family in householder, radial:
    for function in family._run, family._gradient:
        compile(function, **ways)
ways |= dict(CENTRED=leaky == "0", LEAKY=leaky == "1", LAYERS=32)
compile(planar._run, KEEP=True, ALONE=points == "1", **ways)
compile(planar._gradient, **ways)
compile(planar._tabulate, **ways)
"""

_VECTORS = 2  # reflections of a layer
_WIDTHS: dict[str, Callable[[int], int]] = {
    "planar": lambda features: 2 * features + 1,
    "radial": lambda features: features + 2,
    "householder": lambda features: _VECTORS * features,
}
_HOSTILE = 0.0, 1e-30, 50.0, -50.0, 200.0, -200.0, "alternating"


def _ways() -> Iterator[tuple[str, tuple[int, int, int]]]:
    for inverse in (0, 1):
        yield from (("planar", (inverse, *others)) for others in product((0, 1), (0, 1)))
        yield "radial", (inverse, 0, 0)
        yield "householder", (inverse, 0, 0)


@dataclass(frozen=True)
class Case:
    family: str
    options: tuple[int, int, int]
    dtype: torch.dtype
    points: int
    rows: int
    features: int
    length: int
    few: int  # points in all, up to which each has a program to itself
    programs: int
    seed: int

    def __str__(self) -> str:
        shape = f"N{self.points}-R{self.rows}-D{self.features}-K{self.length}"
        options = "".join(map(str, self.options))
        return f"{self.family}{options}-{str(self.dtype)[6:]}-{shape}-{'alone' if self.few else 'tiled'}"

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z, parameters, and gradients by the image and by the log-determinant; every other row is hostile."""
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        width = _WIDTHS[self.family](self.features)
        parameters = normal(self.rows, self.length, width) * (2 / math.sqrt(self.features))
        for row in range(self.seed % 2, self.rows, 2):
            for k in range(self.length):
                value = _HOSTILE[(self.seed // 2 + row + k) % len(_HOSTILE)]
                if isinstance(value, str):
                    parameters[row, k] = 50 * (-1.0) ** torch.arange(width)
                else:
                    parameters[row, k] = value
        shape = self.points, self.rows
        tensors = normal(*shape, self.features), parameters, normal(*shape, self.features), normal(*shape)
        return tuple(tensor.to(self.dtype) for tensor in tensors)  # type: ignore[return-value]


def _cases() -> Iterator[Case]:
    """The sizes take turns, so that each family meets all of them; half of a way's cases are in either precision."""
    sizes = [40, 1, 2, 5]
    for index, (family, options) in enumerate(_ways()):
        first, second, third = (sizes[(index + shift) % 4] for shift in range(3))
        one, other = (torch.float32, torch.float64)[:: -1 if index % 2 else 1]
        yield Case(family, options, one, 1, 3, first, 1, 10_000, 512, 4 * index)
        yield Case(family, options, one, 4, 1, second, 3, 0, 512, 4 * index + 1)
        yield Case(family, options, other, 2, 3, third, 1, 0, 512, 4 * index + 2)
        yield Case(family, options, other, 1, 1, third, 3, 10_000, 512, 4 * index + 3)


CASES = list(_cases())
OTHERS = [
    *(Case(family, (0, 1, 0), torch.float32, 1, 1, 200, 4, 10_000, 512, 0) for family in _WIDTHS),
    # rounds of a program that sums over its points, and programs that share a row
    *(Case(family, (0, 1, 0), torch.float32, 3, 1, 3, 1, 10_000, 2, 1) for family in _WIDTHS),
    # the last tile is not full
    *(Case(family, (1, 1, 0), torch.float64, 19, 1, 5, 2, 0, 1, 0) for family in _WIDTHS),
]
LARGEST = [Case(family, (0, 1, 0), torch.float32, 1, 1, 512, 256, 10_000, 512, 0) for family in _WIDTHS]


def _interpret(cases: list[Case], folder: Path) -> dict[Case, list[Tensor]]:
    asked, given = folder / "cases.pt", folder / "results.pt"
    torch.save([[c.few, c.programs, c.family, c.options, *_order(c)] for c in cases], asked)
    _python(_WORKER, folder, str(asked), str(given), TRITON_INTERPRET="1")
    return dict(zip(cases, torch.load(given), strict=True))


def _order(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    z, parameters, *grads = case.tensors()
    return z, parameters, *grads


def _python(script: str, folder: Path, *arguments: str, **environment: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=others | {"OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(folder / "triton")} | environment,
        check=True,
    )


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, list[Tensor]]:
    return _interpret(CASES + OTHERS, tmp_path_factory.mktemp("interpreted"))


def _by_definition(case: Case, dtype: torch.dtype, noise: float = 0.0) -> list[Tensor]:
    """Image, log-determinant and gradients, in float64, of inputs each changed by `noise` of itself."""
    z, parameters, *grads = (tensor.to(dtype) for tensor in case.tensors())
    z, parameters = (t * (1 + noise * (torch.rand_like(t).round() * 2 - 1)) for t in (z, parameters))
    z.requires_grad_(), parameters.requires_grad_()
    out, log_det = fused._reference(z, parameters, case.family, case.options)
    log_det = log_det + 0 * z.sum(-1)  # of reflections it has no gradient
    found = torch.autograd.grad((out, log_det), (z, parameters), grads)
    return [tensor.detach().double() for tensor in (out, log_det, *found)]


def _check(case: Case, results: list[Tensor]) -> None:
    """As near to the definition in float64 as rounded inputs are, or the definition in the dtype at hand."""
    eps = torch.finfo(case.dtype).eps
    truths, plain = _by_definition(case, torch.float64), _by_definition(case, case.dtype)
    changed = [_by_definition(case, torch.float64, eps) for _ in range(3)]
    names = "image", "log-determinant", "gradient by z", "gradient by the parameters"
    for name, result, *others in zip(names, results, truths, plain, *changed, strict=True):
        assert result.dtype == case.dtype
        of_rows = [t if "parameters" in name else t.movedim(1, 0) for t in (result.double(), *others)]
        for row, (one, truth, known, *near) in enumerate(zip(*of_rows, strict=True)):
            there = known.isfinite() & (truth.abs() < torch.finfo(case.dtype).max / 16)
            if there.any():
                # at least 1: the gradients of ln(1 + c·h′(a)) that nearly cancel
                scale = truth[there].abs().max().clamp_min(1)
                slack = max((other - truth)[there].abs().max() for other in (known, *near))
                error = (one - truth)[there].abs().max()
                assert error <= 8 * slack + 64 * eps * scale, f"{name}, row {row}: {error / eps / scale} eps"


@needs_triton
@pytest.mark.parametrize("case", CASES + OTHERS, ids=str)
def test_interpreted(case: Case, interpreted: dict[Case, list[Tensor]]) -> None:
    _check(case, interpreted[case])


@needs_triton
@pytest.mark.slow
def test_the_largest_layers(tmp_path: Path) -> None:
    for case, results in _interpret(LARGEST, tmp_path).items():
        _check(case, results)


@needs_triton
@pytest.mark.parametrize(
    "arguments",
    [
        "fp32 0 0 1 64",  # the amortised posterior
        *(
            pytest.param(" ".join(each), marks=pytest.mark.slow)
            for each in product(("fp32", "fp64"), "01", "01", "14", ("64", "1"))
            if each != ("fp32", "0", "0", "1", "64")
        ),
    ],
)
def test_compiles(arguments: str, tmp_path: Path) -> None:
    _python(_COMPILER, tmp_path, *arguments.split())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "case",
    [
        *CASES,
        *OTHERS,
        *LARGEST,
        *(Case(family, options, torch.float32, 1, 100, 40, 80, 0, 0, 0) for family, options in _ways()),
        *(Case(family, options, torch.float32, 3000, 1, 40, 5, 0, 0, 1) for family, options in _ways()),
        *(Case(family, options, torch.float64, 30, 100, 7, 5, 0, 0, 1) for family, options in _ways()),
    ],
    ids=str,
)
def test_on_a_gpu(case: Case) -> None:
    z, parameters, *grads = (tensor.cuda() for tensor in case.tensors())
    z.requires_grad_(), parameters.requires_grad_()
    inverse, first, second = map(bool, case.options)
    found = fused.chain(case.family, z, parameters, (inverse, first, second))
    _check(case, [tensor.detach().cpu() for tensor in (*found, *torch.autograd.grad(found, (z, parameters), grads))])
