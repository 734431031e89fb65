"""Maxout against a plain loop, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowvi.errors import ShapeError
from flowvi.models import Decoder, Encoder, Maxout


def loop(maxout: Maxout, x: Tensor, units: int, outputs: int) -> Tensor:
    linear = x @ maxout.linear.weight.T + maxout.linear.bias
    columns = []
    for j in range(outputs):
        group = [linear[..., i] for i in range(j, units, outputs)]
        columns.append(torch.stack(group).max(0).values)
    return torch.stack(columns, -1)


@pytest.mark.parametrize(("units", "outputs"), [(12, 3), (12, 12), (5, 1), (8, 4)])
@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_maxout_equals_a_plain_loop(units: int, outputs: int, batch: tuple[int, ...]) -> None:
    maxout, x = Maxout(6, units, outputs).double(), torch.randn(*batch, 6, dtype=torch.float64)
    out = maxout(x)
    assert out.shape == (*batch, outputs)
    torch.testing.assert_close(out, loop(maxout, x, units, outputs))
    out.square().sum().backward()
    gradients = [p.grad.clone() for p in maxout.parameters()]
    maxout.zero_grad()
    loop(maxout, x, units, outputs).square().sum().backward()
    for ours, truth in zip(gradients, maxout.parameters(), strict=True):
        torch.testing.assert_close(ours, truth.grad)


def test_maxout_is_the_same_with_and_without_gradients() -> None:
    maxout, x = Maxout(6, 12, 3), torch.randn(50, 6)
    with torch.no_grad():
        quick = maxout(x)
    assert torch.equal(maxout(x), quick)


def test_a_tie_has_one_winner_in_the_backward_pass() -> None:
    """The gradient goes to one of the tied units, whole."""
    maxout = Maxout(2, 4, 1)
    with torch.no_grad():
        maxout.linear.weight.fill_(1.0)
        maxout.linear.bias.zero_()
    maxout(torch.ones(2)).sum().backward()
    assert sorted(maxout.linear.bias.grad.tolist()) == [0, 0, 0, 1]


@pytest.mark.parametrize(("units", "outputs"), [(10, 3), (4, 8), (0, 4), (8, 0), (8, -2)])
def test_units_must_be_a_multiple_of_outputs(units: int, outputs: int) -> None:
    with pytest.raises(ShapeError, match=f"{units} units onto {outputs}"):
        Maxout(6, units, outputs)


def test_encoder_and_decoder_are_what_the_paper_has() -> None:
    encoder, decoder = Encoder(784, 400, 1600), Decoder(40, 784, 400, 1600)
    count = sum(p.numel() for network in (encoder, decoder) for p in network.parameters())
    assert count == (784 + 1) * 1600 + (40 + 1) * 1600 + (400 + 1) * 784
    x, z = torch.randn(3, 784), torch.randn(2, 3, 40)
    assert encoder(x).shape == (3, 400) and decoder(z).shape == (2, 3, 784)
    torch.testing.assert_close(decoder(z), decoder.hidden(z) @ decoder.output.weight.T + decoder.output.bias)
