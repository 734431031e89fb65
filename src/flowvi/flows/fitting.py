"""Fitting a flow to samples by maximum likelihood, through its inverse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowvi.errors import ConfigError, ContextError, DataError, NonFiniteError, ShapeError
from flowvi.flows.registry import Whole

if TYPE_CHECKING:
    from flowvi.flows.flow import Flow

__all__ = ["fit_to"]

_LARGEST_NORM = 10.0  # of the gradient: one far sample must not throw a flow away


def fit_to(
    flow: Flow,
    samples: Tensor,
    context: Tensor | None = None,
    *,
    updates: int = 1000,
    batch: int = 256,
    learning_rate: float = 5e-3,
) -> list[float]:
    """Maximise the mean ln q(sample) by Adam, with a cosine decay, over random batches.

    A static base starts at the mean and standard deviation of the samples pulled back to it, which is the best one for
    the chain as it is. Batches are drawn from the global generator.

    Args:
        flow: any flow; trained in place.
        samples: (N, D), of the flow's dtype.
        context: (N, context), where the flow takes one: each sample's own.
        updates: how many steps.
        batch: samples for each; all of them where N is smaller.
        learning_rate: of Adam, at the start.

    Returns:
        The mean of −ln q over the batch at each update, in nats.

    Raises:
        ShapeError: samples or a context of another shape.
        ContextError: a context that is missing or unexpected.
        DataError: samples that are no tensor, not finite, of another dtype, that do not vary, or none.
        ConfigError: updates or batch below 1, or a learning rate that is not above 0.
        NonFiniteError: a likelihood that is not finite; the flow keeps the weights of the update before.

    Example:
        >>> from flowvi.flows import Planar
        >>> _ = torch.manual_seed(0)
        >>> samples = 3 + 0.5 * torch.randn(1000, 2)
        >>> flow = Planar(features=2, length=2)
        >>> history = flow.fit_to(samples, updates=50)
        >>> len(history), history[-1] < 2
        (50, True)
    """
    _check_samples(flow, samples, context)
    if not (Whole().take(updates) and Whole().take(batch) and 0 < learning_rate < math.inf):
        raise ConfigError(
            f"updates = {updates!r}, batch = {batch!r}, learning_rate = {learning_rate!r}: expected whole numbers of "
            "at least 1, and a number above 0"
        )
    if context is None and flow.base.location.requires_grad:
        _start(flow, samples)
    optimiser = torch.optim.Adam(flow.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    history = []
    for update in range(updates):
        rows = torch.randint(len(samples), (min(batch, len(samples)),), device=samples.device)
        loss = -flow(None if context is None else context[rows]).log_prob(samples[rows]).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), _LARGEST_NORM)
        if not (loss.isfinite() and norm.isfinite()):
            raise NonFiniteError(
                f"update {update}: −ln q = {loss.item()}, gradient {norm.item()}; try a smaller learning_rate, "
                "or samples scaled to about 1"
            )
        optimiser.step()
        schedule.step()
        history.append(loss.item())
    return history


@torch.no_grad()
def _start(flow: Flow, samples: Tensor) -> None:
    q = flow()
    z0 = q.base_mean + q.base_log_scale.exp() * q.pull(samples)[0]
    scale = z0.std(0, correction=0)
    if not scale.all():
        flat = scale.argmin().item()
        raise DataError(f"samples whose feature {flat} does not vary: there is no density, leave it out or add noise")
    flow.base.location.copy_(torch.cat([z0.mean(0), scale.log()]))


def _check_samples(flow: Flow, samples: Tensor, context: Tensor | None) -> None:
    if not isinstance(samples, Tensor):
        raise DataError(f"samples are a {type(samples).__name__}: expected a torch.Tensor, (N, {flow.features})")
    if samples.dim() != 2 or samples.shape[1] != flow.features:
        raise ShapeError(f"samples of shape {tuple(samples.shape)}: expected (N, {flow.features})")
    dtype = next(flow.parameters()).dtype
    if len(samples) == 0 or samples.dtype != dtype or not samples.isfinite().all():
        raise DataError(f"{len(samples)} samples of {samples.dtype}: expected one or more, of {dtype}, all finite")
    if (context is None) != (flow.context == 0):
        raise ContextError(
            f"this flow takes no context: found one of shape {tuple(context.shape)}"
            if context is not None
            else f"this flow needs a context of shape (N, {flow.context}): none was given"
        )
    if context is not None and context.shape != (len(samples), flow.context):
        raise ShapeError(f"context of shape {tuple(context.shape)}: expected ({len(samples)}, {flow.context})")
