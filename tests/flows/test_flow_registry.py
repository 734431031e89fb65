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
from flowvi.flows import FAMILIES, Flow, build


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
    signature = inspect.signature(constructor).parameters
    assert list(signature)[:3] == ["features", "context", "length"]
    assert set(signature) - {"features", "context", "length"} == set(entry.options)
    for option, description in entry.options.items():
        assert signature[option].default == description.default
        assert description.default in description.allowed
        assert description.help


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("features", [1, 2, 40])
def test_the_defaults_are_valid_at_every_size(kind: str, features: int) -> None:
    for context in (0, 3):
        flow = build(kind, features, context, 2 if FAMILIES[kind].chain else 0)
        assert isinstance(flow, Flow)
        assert flow(torch.randn(context) if context else None).event_shape == (features,)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("plannar", {}, "unknown flow kind 'plannar': did you mean 'planar'?"),
        ("Planar", {}, "did you mean 'planar'?"),
        ("xyz", {}, "known kinds are gaussian, planar"),
        ("planar", {"invertability": "paper"}, "did you mean 'invertibility'?"),
        ("planar", {"zzz": 1}, "its options are init, invertibility, parameters"),
        ("planar", {"init": "zero"}, "cannot be 'zero': allowed are identity, xavier, normal"),
        ("planar", {"init": None}, "cannot be None"),
        ("gaussian", {"init": "xavier"}, "its options are none"),
    ],
)
def test_a_mistake_is_answered_with_what_is_allowed(kind: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        build(kind, 2, 0, 0, **options)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_a_wrong_size_or_context_is_refused_through_build() -> None:
    with pytest.raises(ShapeError):
        build("gaussian", 2, 0, 3)
    with pytest.raises(ShapeError):
        build("planar", 0, 0, 3)
    with pytest.raises(ContextError):
        build("planar", 2, 0, 3, parameters="amortised")


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
import flowvi, flowvi.flows
for name in flowvi.flows.__all__:
    getattr(flowvi.flows, name)
assert state() == before
flowvi.flows.build("planar", 2, 3, 4)(torch.zeros(3)).log_prob(torch.zeros(2))
assert state()[:-1] == before[:-1]
"""
    )
