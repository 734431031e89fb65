"""The registry: complete, importable, light, and helpful about mistakes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import torch

import flowvi.flows
from flowvi.errors import ConfigError, ContextError, ShapeError
from flowvi.flows import FAMILIES, Composed, Flow, Planar, Radial, build
from flowvi.flows.registry import check_options, family

KINDS = sorted(FAMILIES)


def run(code: str) -> None:
    """Run code in a fresh interpreter; its assertions are the test's."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_what_its_entry_says(kind: str) -> None:
    entry = FAMILIES[kind]
    module, name = entry.target.split(":")
    constructor = getattr(import_module(module), name)
    assert getattr(flowvi.flows, name) is constructor
    assert name in flowvi.flows.__all__
    assert issubclass(constructor, torch.nn.Module)
    assert constructor.__doc__
    assert entry.reference
    assert entry.cost
    assert entry.inverse
    signature = inspect.signature(constructor).parameters
    assert list(signature)[:3] == ["features", "context", "length"]
    assert set(signature) - {"features", "context", "length"} == set(entry.options)
    for option, description in entry.options.items():
        assert signature[option].default == description.default
        assert description.allowed.take(description.default)
        assert str(description.allowed)
        assert description.help


@pytest.mark.parametrize("kind", [*FAMILIES, "planar+radial", "full_rank+iaf"])
@pytest.mark.parametrize("features", [1, 2, 40])
def test_the_defaults_are_valid_at_every_size(kind: str, features: int) -> None:
    length = 2 if family(kind).chain else 0
    for context in (0, 3):
        if features < family(kind).least:
            with pytest.raises(ShapeError, match="features = 1: expected a whole number of at least 2"):
                build(kind, features, context, length)
            continue
        flow = build(kind, features, context, length)
        assert isinstance(flow, Flow)
        assert flow(torch.randn(context) if context else None).event_shape == (features,)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("plannar", {}, "unknown flow kind 'plannar': did you mean 'planar'?"),
        ("Planar", {}, "did you mean 'planar'?"),
        ("xyz", {}, f"known kinds are {', '.join(KINDS)}, zuko.NAME, and several joined by +"),
        ("planar+xyz", {}, "unknown flow kind 'xyz'"),
        ("zuko.", {}, "unknown flow kind 'zuko.'"),
        ("planar", {"invertability": "paper"}, "did you mean 'invertibility'?"),
        ("planar", {"zzz": 1}, "its options are h, init, invertibility, parameters"),
        ("planar", {"init": "zero"}, "cannot be 'zero': allowed are identity, xavier, normal"),
        ("planar", {"init": None}, "cannot be None"),
        ("planar", {"h": "relu"}, "option 'h' of flow kind 'planar' cannot be 'relu': allowed are tanh, leaky_relu"),
        ("gaussian", {"init": "xavier"}, "its options are none"),
        ("full_rank", {"init": "xavier"}, "its options are parameters"),
        ("iaf", {"init": "identity"}, "allowed are gate, xavier, normal"),
        ("iaf", {"gate_bias": "two"}, "cannot be 'two': allowed are finite numbers"),
        ("iaf", {"gate_bias": float("nan")}, "allowed are finite numbers"),
        ("iaf", {"gate_bias": True}, "allowed are finite numbers"),
        ("nice", {"hidden": []}, "allowed are lists of whole numbers of at least 1, such as [64,64]"),
        ("nice", {"hidden": 64}, "allowed are lists of whole numbers"),
        ("realnvp", {"hidden": [64, 0]}, "allowed are lists of whole numbers"),
        ("sylvester", {"bottleneck": 0}, "cannot be 0: allowed are auto and whole numbers of at least 1"),
        ("sylvester", {"bottleneck": "all"}, "allowed are auto and whole numbers of at least 1"),
        ("sylvester", {"reflections": 0}, "cannot be 0: allowed are auto and whole numbers of at least 1"),
        ("sylvester", {"variant": "diagonal"}, "allowed are orthogonal, householder, triangular"),
        ("householder", {"reflections": 3}, "cannot be 3: allowed are 2, 4, 6, …"),
        ("householder", {"reflections": True}, "cannot be True"),
        ("planar+radial", {"h": "x"}, "option 'h' of flow kind 'planar+radial' cannot be 'x'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_what_is_allowed(kind: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        build(kind, 2, 0, 0, **options)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_a_wrong_size_or_context_is_refused_through_build() -> None:
    with pytest.raises(ShapeError):
        build("gaussian", 2, 0, 3)
    with pytest.raises(ShapeError):
        build("full_rank", 2, 0, 3)
    with pytest.raises(ShapeError):
        build("planar", 0, 0, 3)
    with pytest.raises(ShapeError, match="bottleneck = 3: expected a whole number of at most features = 2"):
        build("sylvester", 2, 0, 3, bottleneck=3)
    with pytest.raises(ContextError):
        build("planar", 2, 0, 3, parameters="amortised")


def test_options_are_completed_with_their_defaults() -> None:
    assert check_options("iaf", {"gate_bias": 1}) == {
        "parameters": "auto", "init": "gate", "gate_bias": 1, "hidden": (64, 64),
    }  # fmt: skip


# --- several kinds as one -----------------------------------------------------------------------------------


def test_a_composition_is_its_chains_one_after_the_other() -> None:
    first, second = Planar(3, 5, 2, init="normal").double(), Radial(3, 5, 4, init="normal").double()
    context, noise = torch.randn(6, 5).double(), torch.randn(7, 6, 3).double()
    z, log_q = Composed([first, second])(context).push(noise)
    middle, log_q_first = first(context).push(noise)
    parts = second(context).parts
    expected, log_det = parts[0].chain.forward(middle, parts[0].conditioning)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(log_q, log_q_first - log_det)


def test_a_composition_takes_the_first_base_and_shares_the_chains() -> None:
    flows = [Planar(2, length=2), Radial(2, length=3)]
    composed = Composed(flows)
    assert composed.base is flows[0].base
    assert [link.chain for link in composed.links] == [flow.links[0].chain for flow in flows]
    assert not any(p is flows[1].base.location for p in composed.parameters())


def test_what_cannot_be_composed_is_named() -> None:
    with pytest.raises(ShapeError, match="none: expected one or more of the same"):
        Composed([])
    with pytest.raises(ShapeError, match="2 and 0, 3 and 0: expected"):
        Composed([Planar(2), Planar(3)])
    with pytest.raises(ShapeError, match="2 and 0, 2 and 4: expected"):
        Composed([Planar(2), Planar(2, 4)])


def test_a_built_composition_gives_each_part_its_options_and_length() -> None:
    flow = build("planar+full_rank+iaf", 3, 5, 4, h="leaky_relu", init="gate", hidden=[7])
    planar, full_rank, iaf = (link.chain for link in flow.links)
    assert planar.h == "leaky_relu"
    assert len(iaf.layers) == 4
    assert iaf.layers[0].network.layers[0].out_features == 7
    q = flow(torch.randn(5))
    assert [part.conditioning.shape for part in q.parts[:2]] == [(4, planar.size), (1, full_rank.size)]


def test_a_compositions_state_is_saved_and_loaded() -> None:
    torch.manual_seed(1)
    flow, other = (build("planar+nice", 3, 5, 2, init="normal", hidden=[7]).double() for _ in range(2))
    context, z = torch.randn(6, 5).double(), torch.randn(6, 3).double()
    assert not torch.equal(flow(context).log_prob(z), other(context).log_prob(z))
    assert not any(other.load_state_dict(flow.state_dict()))
    assert torch.equal(flow(context).log_prob(z), other(context).log_prob(z))


# --- what importing does ------------------------------------------------------------------------------------


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Plannar'"):
        _ = flowvi.flows.Plannar


def test_the_registry_imports_no_torch() -> None:
    run("import sys, flowvi.flows.registry, flowvi.flows; assert 'torch' not in sys.modules")


def test_flows_change_nothing_global_in_torch() -> None:
    run(
        """
import torch
def state():
    return (
        torch.distributions.Distribution._validate_args, torch.get_default_dtype(), torch.is_grad_enabled(),
        torch.initial_seed(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(), torch.get_rng_state().tolist(),
    )
before = state()
import flowvi, flowvi.flows, flowvi.flows.audit
for name in flowvi.flows.__all__:
    getattr(flowvi.flows, name)
assert state() == before
flowvi.flows.build("planar", 2, 3, 4)(torch.zeros(3)).log_prob(torch.zeros(2))
assert state()[:-1] == before[:-1]
import sys
assert "zuko" not in sys.modules
"""
    )


def test_an_option_that_parts_have_in_common_is_for_those_that_take_it() -> None:
    """Unless it is given, each keeps its own default, whatever the order."""
    for kind in ("sylvester+householder", "householder+sylvester"):
        reflections = {type(link.chain).__name__: link.chain.reflections for link in build(kind, 4, length=1).links}
        assert reflections == {"SylvesterChain": 8, "HouseholderChain": 2}
    flow = build("householder+sylvester", 4, length=1, variant="householder", reflections=3)
    assert [link.chain.reflections for link in flow.links] == [2, 3]
    with pytest.raises(ConfigError, match=r"unknown flow kind 'planar\+': expected kinds joined by \+"):
        build("planar+", 2)


def test_reflections_are_of_one_variant() -> None:
    with pytest.raises(ConfigError, match="they are of variant='householder', found 'triangular'"):
        build("sylvester", 3, length=1, variant="triangular", reflections=4)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed are finite numbers"):
        build("iaf", 2, gate_bias=10**400)
