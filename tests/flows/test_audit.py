"""The audit finds what is wrong: families with one mistake each, caught by the property meant for it; its command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError
from flowvi.flows import Flow, Link, Planar
from flowvi.flows.audit import PROPERTIES, Finding, Sizes, Subject, audit, find, registered, render
from flowvi.flows.audit.__main__ import main
from flowvi.flows.flow import check_size
from flowvi.flows.networks import LayerChain

SIZES = Sizes((2, 3), (2,))


class Layer(nn.Module):
    """z·exp(s) turned by a rotation, plus a shift: right; each mistake below changes one thing."""

    def __init__(self, features: int, context: int, init: str = "identity") -> None:
        super().__init__()
        del context
        size = 0.0 if init == "identity" else 0.5
        self.log_scale = nn.Parameter(size * torch.randn(features))
        self.shift = nn.Parameter(size * torch.randn(features))
        self.entries = nn.Parameter(size * torch.randn(features * (features - 1) // 2))

    def rotation(self) -> Tensor:
        d = len(self.shift)
        rows, columns = torch.tril_indices(d, d, -1, device=self.shift.device)
        above = self.entries.new_zeros(d, d).index_put((columns, rows), self.entries)
        return torch.matrix_exp(above - above.mT)

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return z * self.log_scale.exp() @ self.rotation() + self.shift, self._log_det(z)

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z = (z - self.shift) @ self.rotation().mT
        return z * (-self.log_scale).exp(), self._log_det(z)

    def _log_det(self, z: Tensor) -> Tensor:
        return self.log_scale.sum().expand(z.shape[:-1])


class Right(Flow):
    """A flow of such layers."""

    layer: type[nn.Module] = Layer
    least = 2  # at D = 1 nothing turns, and the entries are idle

    def __init__(self, features: int, context: int = 0, length: int = 2, *, init: str = "identity") -> None:
        check_size("features", features, self.least)
        layers = [self.layer(features, context, init) for _ in range(length)]
        super().__init__(features, context, [Link(LayerChain(layers))])


class WrongSign(Layer):
    def _log_det(self, z: Tensor) -> Tensor:
        return -super()._log_det(z)


class WrongSignBackwards(Layer):
    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = super().inverse(z, context)
        return z, -log_det


class Transposed(Layer):
    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z = (z - self.shift) @ self.rotation()
        return z * (-self.log_scale).exp(), self._log_det(z)


class Doubled(Layer):
    def _log_det(self, z: Tensor) -> Tensor:
        return 2 * super()._log_det(z)


class Folding(nn.Module):
    """A planar layer without its constraint: ln|1 + wᵀu·h′| is right, but there is no one inverse."""

    def __init__(self, features: int, context: int, init: str) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(features)), nn.Parameter(torch.randn(features))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        h = (z @ self.w).tanh()
        return z + 5 * self.u * h[..., None], (1 + 5 * self.w @ self.u * (1 - h * h)).abs().log()

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x = z
        for _ in range(50):
            x = z - 5 * self.u * (x @ self.w).tanh()[..., None]
        return x, self.forward(x, context)[1]


class Unnormalised(nn.Module):
    """|z|: its log-determinant is 0 wherever there is one, but two points share an image."""

    def __init__(self, features: int, context: int, init: str) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(features))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return (z - self.shift).abs(), z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return z + self.shift, z.new_zeros(z.shape[:-1])


class Overflowing(Layer):
    def rotation(self) -> Tensor:
        size = self.entries.square().sum().pow(16)
        return super().rotation() * (size / size if size > 1e20 else 1)


class Unused(Layer):
    def __init__(self, features: int, context: int, init: str) -> None:
        super().__init__(features, context, init)
        self.idle = nn.Parameter(torch.randn(3))


class Detached(Layer):
    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z = (z - self.shift.detach()) @ self.rotation().mT
        return z * (-self.log_scale).exp(), self._log_det(z)


class NotIdentity(Layer):
    def __init__(self, features: int, context: int, init: str) -> None:
        super().__init__(features, context, init)
        nn.init.constant_(self.shift, 1e-3)


class Single(Layer):
    def __init__(self, features: int, context: int, init: str) -> None:
        super().__init__(features, context, init)
        self.one = torch.tensor([1.0])  # no buffer: stays on its device, in its dtype

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(z, context)
        return z * self.one, log_det


class Noisy(Layer):
    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(z, context)
        return z + 0.1 * torch.randn_like(z[:1, :1]), log_det


def flow_of(layer: type[nn.Module]) -> list[Subject]:
    """The two subjects of a flow of such layers."""
    made = type(layer.__name__, (Right,), {"layer": layer})
    return [
        Subject(layer.__name__, context, least=2, inits=("identity",), constructor=made) for context in (0, 5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (WrongSign, "log-det"),
        (WrongSign, "integral"),
        (WrongSignBackwards, "own samples"),
        (WrongSignBackwards, "there+back"),
        (WrongSignBackwards, "integral"),
        (Transposed, "there+back"),
        (Transposed, "back+there"),
        (Transposed, "own samples"),
        (Doubled, "log-det"),
        (Doubled, "integral"),
        (Folding, "there+back"),
        (Folding, "back+there"),
        (Folding, "integral"),
        (Unnormalised, "there+back"),
        (Unnormalised, "integral"),
        (Overflowing, "hostile"),
        (Unused, "gradients"),
        (Detached, "derivative"),
        (Detached, "gradients"),
        (NotIdentity, "identity"),
        (Single, "torch"),
        (Noisy, "torch"),
        (Noisy, "own samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_mistake_is_caught_by_the_property_that_is_meant_to(layer: type[nn.Module], name: str) -> None:
    (row,) = audit(flow_of(layer), SIZES, names=[name])
    assert row.broken
    assert all(line.startswith(f"{name}: {layer.__name__} ") for line in row.broken)
    assert "!" in row.cell(name)


def test_what_log_determinants_alone_would_not_see() -> None:
    """Why there are so many properties: these pass the one that most packages test."""
    for layer in (Folding, Unnormalised, Transposed, Unused, Detached, NotIdentity):
        (row,) = audit(flow_of(layer), SIZES, names=["log-det"])
        assert not row.broken, row.broken


def test_a_right_family_has_every_property() -> None:
    (row,) = audit(flow_of(Layer), SIZES)
    assert set(row.findings) == set(PROPERTIES)
    assert not row.broken, "\n".join(row.broken)


def test_what_a_flow_raises_is_a_finding() -> None:
    class Raising(Layer):
        def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            raise NotImplementedError("no inverse\nyet")

    (row,) = audit(flow_of(Raising), Sizes((2,), (1,)), names=["there+back"])
    assert "NotImplementedError: no inverse yet" in row.broken[0]
    assert row.cell("there+back") == "inf / inf !"


def test_numbers_that_are_not_finite_are_never_within_a_bound() -> None:
    for error in (torch.nan, torch.inf):
        finding = Finding.of(torch.tensor([0.0, error]), 1.0)
        assert not finding.holds
        assert Finding.of(torch.tensor([0.0, error]), 1.0, torch.tensor([True, False])).holds
    assert Finding.of(torch.zeros(2), 0.0).holds


def test_points_that_are_left_out_are_counted_and_are_not_most() -> None:
    class Flat(Layer):
        def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            return 1e-20 * z, self._log_det(z) - 20 * z.shape[-1] * torch.tensor(10.0).log()

        def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            return 1e20 * z, self._log_det(z) - 20 * z.shape[-1] * torch.tensor(10.0).log()

    (row,) = audit(flow_of(Flat), Sizes((2,), (1,)), names=["there+back"])
    assert "16 of 16 points are too ill conditioned to be judged" in row.broken[0]


def test_long_chains_may_scale_the_whole_space_step_by_step() -> None:
    (subject,) = (subject for subject in registered() if str(subject) == "iaf gate_bias=0.0 static")  # σ = ½ at first
    (row,) = audit([subject], Sizes((2,), (80,)), names=["there+back"])
    assert not row.broken, "\n".join(row.broken)


# --- what is audited ----------------------------------------------------------------------------------------


def test_every_kind_is_registered_static_and_amortised() -> None:
    names = [str(subject) for subject in registered()]
    assert len(set(names)) == len(names)
    for name in (
        "gaussian static", "planar invertibility=paper h=leaky_relu amortised", "sylvester bottleneck=1 static",
        "sylvester variant=triangular static", "nice mixing=orthogonal amortised", "householder reflections=4 static",
        "iaf gate_bias=0.0 amortised", "planar+radial static", "full_rank+iaf amortised",
    ):  # fmt: skip
        assert name in names


def test_an_audit_repeats_itself_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    names = [name for name in PROPERTIES if name != "compile"]
    first, second = (list(audit(find("planar", {}), Sizes((2,), (2,)), names=names)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert render(first) == render(second)


def test_the_table_is_readable() -> None:
    rows = list(audit([*find("planar", {}), *flow_of(WrongSign)], Sizes((2,), (2,)), names=["log-det", "hostile"]))
    text = render(rows)
    assert max(map(len, text.splitlines()[:5])) <= 120
    assert any(line.startswith("planar ") and " / " in line for line in text.splitlines())
    assert "Broken:" in text
    assert "times the bound" in text
    for name, asked in PROPERTIES.items():
        assert f"{asked.legend}" in text, name
        assert len(asked.legend) <= 105


# --- the command --------------------------------------------------------------------------------------------

MODULE = """
from flowvi.flows import Flow, Planar, build


def right(features, context=0, length=2, init="identity", h="tanh"):
    return Planar(features, context, length, init=init, h=h)


def rotating(features, context=0, length=2):
    return build("householder", features, context, length)


def nothing(features, context, length):
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_flows.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


QUICK = ["--features", "1,2", "--length", "2", "--properties", "log-det,there+back,identity,hostile"]


@pytest.mark.usefixtures("module")
def test_the_command_passes_a_right_family_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my_flows:right", "h=leaky_relu", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "my_flows:right h=leaky_relu" in shown
    assert "Broken" not in shown


@pytest.mark.usefixtures("module")
def test_the_command_leaves_out_sizes_that_a_constructor_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my_flows:rotating", *QUICK]) == 0
    assert "my_flows:rotating, D = 1, K = 2: features = 1: expected a whole number" in capsys.readouterr().out


def test_the_command_takes_kinds_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sylvester", "variant=householder", "reflections=2", "--dtype", "float64", *QUICK]) == 0
    assert "sylvester variant=householder reflections=2" in capsys.readouterr().out


def test_a_broken_property_is_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowvi.flows.audit.__main__.find", lambda kind, options: flow_of(WrongSign))
    assert main(["wrong", *QUICK]) == 1
    assert "log-det: WrongSign static, D = 2, K = 2, large, float32" in capsys.readouterr().out


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plannar"], "unknown flow kind 'plannar': did you mean 'planar'?"),
        (["planar", "h=relu"], "option 'h' of flow kind 'planar' cannot be 'relu'"),
        (["planar", "h"], "'h': expected name=value"),
        (["planar", "--features", "0,2"], "--features 0,2: expected whole numbers of at least 1, such as 2,5"),
        (["planar", "--length", "x"], "--length x: expected whole numbers"),
        (["planar", "--dtype", "float16"], "--dtype float16: allowed are float32, float64"),
        (["planar", "--properties", "magic"], "--properties magic: allowed are log-det, there+back"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["nice", "--features", "1"], "nothing to audit at these sizes"),
        (["my_flows:rotating", "--features", "1"], "nothing to audit at these sizes: features = 1: expected"),
        (["no_such_module:Flow"], "No module named 'no_such_module'; expected module:constructor"),
        (["my_flows:missing"], "has no attribute 'missing'; expected module:constructor"),
        (["my_flows:right", "zzz=1"], "cannot be built: right() got an unexpected keyword argument 'zzz'"),
        (["my_flows:nothing"], "my_flows:nothing gives a NoneType: expected a flowvi.flows.Flow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_a_constructor_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="torch:pi is not a constructor"):
        find("torch:pi", {})
    assert isinstance(find("flowvi.flows:Planar", {})[0].build(2, 3), Planar)
