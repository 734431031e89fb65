"""A fit computes in one thread where the log density is small, and leaves torch's threads as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.threads import few_threads, largest


@pytest.fixture
def two() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def of_data(n: int) -> Density:
    data = torch.randn(n)
    return Density(lambda z: -(z[:, :1] - data).square().sum(-1), Joint.of(2))


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(("n", "threads"), [(100, 1), (1000, 2)])
def test_one_thread_for_a_small_density_alone(n: int, threads: int) -> None:
    with pytest.raises(KeyboardInterrupt), few_threads(of_data(n), torch.zeros(256, 2)):
        assert torch.get_num_threads() == threads
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_the_size_of_a_density() -> None:
    assert largest(of_data(30), torch.zeros(20, 2)) == 600
    one = Density(lambda z: -z.square().sum(), Joint.of(2), vectorised=False)
    assert largest(one, torch.zeros(20, 2)) == 40
    assert largest(Density(lambda z: torch.zeros(len(z)), Joint.of(2)), torch.zeros(20, 2)) == 40
    matrix = torch.randn(3000, 2)

    def product(z: Tensor) -> Tensor:
        return -(z @ matrix.mT).sum(-1)

    assert largest(Density(product, Joint.of(2)), torch.zeros(20, 2)) == 6000  # the data, which the gradient needs
