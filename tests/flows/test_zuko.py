"""Flows of the zuko package as a family of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal

from flowvi.errors import ConfigError, ShapeError
from flowvi.flows import Zuko, build
from flowvi.flows.zuko import zuko_flows


def test_it_says_how_to_install_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    validates = Distribution._validate_args
    with pytest.raises(ConfigError, match=r"need the package zuko: pip install 'flowvi\[zuko\]'"):
        build("zuko.NSF", 2, 0, 3)
    assert Distribution._validate_args == validates


@pytest.fixture
def zuko() -> None:
    try:
        zuko_flows()
    except ConfigError:
        pytest.skip("zuko is not installed")


@pytest.mark.usefixtures("zuko")
@pytest.mark.parametrize("validates", [True, False])
def test_the_import_leaves_torchs_validation_as_it_was(validates: bool) -> None:
    code = f"""
import torch
from torch.distributions import Distribution
Distribution.set_default_validate_args({validates})
import flowvi.flows
flowvi.flows.build("zuko.NSF", 2, 0, 1)
assert Distribution._validate_args == {validates}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.usefixtures("zuko")
@pytest.mark.parametrize("name", ["NSF", "MAF", "NICE"])
@pytest.mark.parametrize("context", [0, 4])
def test_the_density_is_zukos_own(name: str, context: int) -> None:
    """Its transform between points and a standard normal base is that of zuko's flow."""
    flow = Zuko(name, 3, context, 2, hidden=(8,)).double()
    with torch.no_grad():
        for parameter in flow.base.parameters():
            parameter.zero_()
    from zuko.distributions import NormalizingFlow

    given = torch.randn(5, context).double() if context else None
    base = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    (link,) = flow.links
    peer = NormalizingFlow(link.chain.transform(given), base.expand((5,)) if context else base)
    z = torch.randn(6, 5, 3).double() if context else torch.randn(6, 3).double()
    torch.testing.assert_close(flow(given).log_prob(z), peer.log_prob(z))
    found, log_q = flow(given).rsample_and_log_prob((7,))
    torch.testing.assert_close(peer.log_prob(found), log_q, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("zuko")
def test_what_zuko_does_not_have_is_named() -> None:
    for name in ("Planar", "NCSF", "CNF", "GF", "UNAF"):  # the last three: inverses by a solver
        with pytest.raises(ConfigError, match=f"'zuko.{name}': of zuko's flows, allowed are MAF, NICE, NSF, RealNVP"):
            Zuko(name, 2)
    with pytest.raises(ConfigError, match="transforms is zuko's word: say length and hidden"):
        Zuko("NSF", 2, transforms=5)
    with pytest.raises(ConfigError, match=r"zuko\.flows\.NSF refuses its settings: .*colour"):
        Zuko("NSF", 2, colour="red")
    with pytest.raises(ConfigError, match="its options are hidden, parameters"):
        build("zuko.NSF", 2, 0, 2, bins=4)


@pytest.mark.usefixtures("zuko")
def test_sizes_that_are_refused_are_named() -> None:
    with pytest.raises(ShapeError, match="features = 1: expected a whole number of at least 2"):
        Zuko("NSF", 1)
    with pytest.raises(ConfigError, match="hidden = "):
        Zuko("NSF", 2, hidden=())


@pytest.mark.usefixtures("zuko")
@pytest.mark.parametrize("name", ["MAF", "NICE", "NSF", "RealNVP"])
@pytest.mark.parametrize("context", [0, 4])
def test_samples_have_the_density_that_comes_with_them(name: str, context: int) -> None:
    q = build(f"zuko.{name}", 2, context, 3)(torch.randn(context) if context else None)
    z, log_q = q.rsample_and_log_prob((2000,))
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("zuko")
def test_no_layers_leave_the_base() -> None:
    assert not Zuko("NSF", 2, length=0)().parts


@pytest.mark.usefixtures("zuko")
def test_settings_of_the_class_are_passed_on() -> None:
    few, many = (sum(p.numel() for p in Zuko("NSF", 2, bins=bins).parameters()) for bins in (4, 16))
    assert few < many
