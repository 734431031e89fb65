"""Streams and epoch orders: pure functions of their numbers, and independent of each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowvi.data import epoch_order
from flowvi.data.streams import stream
from flowvi.errors import ConfigError

SEEDS = st.integers(0, 2**64 - 1)


@settings(max_examples=50, deadline=None)
@given(images=st.integers(1, 500), seed=SEEDS, epoch=st.integers(0, 2**32 - 1))
def test_an_epoch_order_is_a_permutation(images: int, seed: int, epoch: int) -> None:
    order = epoch_order(images, seed, epoch)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(images))
    assert torch.equal(order, epoch_order(images, seed, epoch))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, epoch=st.integers(0, 2**31))
def test_epochs_and_seeds_differ(seed: int, epoch: int) -> None:
    order = epoch_order(1000, seed, epoch)
    assert not torch.equal(order, epoch_order(1000, seed, epoch + 1))
    assert not torch.equal(order, epoch_order(1000, (seed + 1) % 2**64, epoch))
    assert not torch.equal(order, epoch_order(1000, seed ^ 1 << 40, epoch))


def test_the_order_never_drifts() -> None:
    assert epoch_order(10, 0, 0).tolist() == [8, 4, 6, 7, 2, 9, 3, 0, 5, 1]


def test_the_order_is_not_the_split() -> None:
    assert epoch_order(1000, 2015, 0).tolist() != stream(2015, "split").permutation(1000).tolist()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed {seed} is out of range: allowed are whole numbers from 0 to"):
        epoch_order(10, seed, 0)
