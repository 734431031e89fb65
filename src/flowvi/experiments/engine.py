"""One update of training: the objective, the gradient, the guard against what is not finite, the step.

The only module that knows lightning-fabric: devices, and data-parallel training by averaged gradients.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from flowvi.data import Dataset, epoch_order
from flowvi.errors import ConfigError, NonFiniteError
from flowvi.experiments.assembly import assemble, choose_device
from flowvi.experiments.bounds import ImageBound
from flowvi.experiments.config import Config
from flowvi.experiments.graph import (
    CUDARecorder,
    Recorder,
    Replayed,
    graphs_wanted,
    make_capturable,
    portable_state,
    set_rate,
)
from flowvi.inference import RMSprop, annealing_weight, free_energy
from flowvi.models import DLGM

__all__ = ["Engine", "make_fabric"]

PARTS = ("loss", "log_q", "log_prior", "log_likelihood", "gradient")
CUDA_CHECK_EVERY = 100  # updates between two looks at the device's guard

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # here, so that processes it starts are quiet too


class Objective(nn.Module):
    """The model's loss as a module, so that data-parallel wrappers see one forward pass."""

    def __init__(self, model: DLGM, config: Config) -> None:
        super().__init__()
        self.model = model
        self.samples, self.objective = config.training.samples, config.training.objective
        self.annealing = config.training.annealing

    def forward(self, x: Tensor, beta: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sums over the batch of the loss, ln q(z|x), ln p(z), ln p(x|z): (4,), in nats."""
        terms = free_energy(
            self.model,
            x,
            samples=self.samples,
            annealing=self.annealing,
            beta=beta,
            objective=self.objective,
            noise=noise,
        )
        return torch.stack([t.sum() for t in (terms.loss, terms.log_q, terms.log_prior, terms.log_likelihood)])


class Engine:
    """The state of training and the step that moves it; everything but files and the loop."""

    def __init__(self, fabric: Fabric, config: Config, dataset: Dataset) -> None:
        self.fabric, self.config, self.dataset = fabric, config, dataset
        torch.manual_seed(config.seed)
        self.model = assemble(config, dataset.features)
        if config.training.output_bias == "mean":
            self.model.start_at(dataset.mean.cpu())
        self.model.to(fabric.device)
        self.optimiser = _optimiser(self.model, config)
        clip_image = config.training.clip_image
        self._image_bound = None if clip_image is None else ImageBound(self.model.flows, clip_image, fabric.device)
        self.module, self._stepper = fabric.setup(Objective(self.model, config), self.optimiser)
        self.update = 0
        self.sums = torch.zeros(len(PARTS), device=fabric.device, dtype=torch.float64)
        self.count = 0
        self.masks = fabric.device.type == "cuda"  # a bad update is masked, and found later: looking costs a wait
        # what an update reads, where a graph can read it; and what it finds: the first bad one, and what broke in it
        self._beta = torch.zeros((), device=fabric.device)
        self._number = torch.zeros((), device=fabric.device, dtype=torch.int64)
        self._first_bad = torch.full((), -1, device=fabric.device)
        self._broken = torch.zeros(len(PARTS), dtype=torch.bool, device=fabric.device)
        self._order: tuple[int, Tensor] | None = None
        self._replayed: Replayed | None = None
        if graphs_wanted(fabric.device, fabric.world_size):
            self.replay_by(CUDARecorder(fabric.device))

    def replay_by(self, recorder: Recorder) -> None:
        """Capture updates by the recorder, and replay them."""
        make_capturable(self.optimiser, self.fabric.device)
        rows = min(self.config.training.batch, len(self.dataset.train))
        x = torch.zeros(rows, self.dataset.features, device=self.fabric.device)
        self._replayed = Replayed(x, recorder)

    @property
    def beta(self) -> float:
        """β of the next update."""
        training = self.config.training
        return annealing_weight(training.annealing, self.update, training.warmup)

    @property
    def learning_rate(self) -> float:
        """Step size of the next update."""
        training = self.config.training
        if training.schedule == "cosine":
            return training.learning_rate * 0.5 * (1 + math.cos(math.pi * self.update / training.updates))
        return training.learning_rate

    def step(self) -> None:
        """One update.

        Raises:
            NonFiniteError: a loss or gradient is not finite; it did not reach the weights.
        """
        x, noise = self._batch()
        self.prepare()
        if self._replayed is None:
            self._advance(x, noise)
        else:
            self._replayed(self._advance, x)
        self.update += 1
        self.count += 1
        # several processes wait for one another at each update anyway, and have to stop at the same one
        if self.masks and (self.fabric.world_size > 1 or self.update % CUDA_CHECK_EVERY == 0):
            self.check()

    def prepare(self) -> None:
        """Write β, the step size and the number of the next update where the update reads them."""
        self._beta.fill_(self.beta)
        self._number.fill_(self.update + 1)
        set_rate(self.optimiser, self.learning_rate)

    def _advance(self, x: Tensor, noise: Tensor | None = None) -> None:
        """What can be captured of an update: on CUDA, nothing in it changes with the update, or waits, but tensors."""
        self.gradient(x, noise)
        self._stepper.step()

    def gradient(self, x: Tensor, noise: Tensor | None) -> None:
        """Leave the guarded, clipped gradient of the mean loss over the whole batch in the parameters.

        Every process takes its share of the rows. A share's sum counts world/batch: averaged over the processes
        this is the gradient of the joint mean, whatever the shares' sizes.
        """
        world, rank = self.fabric.world_size, self.fabric.global_rank
        mine = slice(rank * len(x) // world, (rank + 1) * len(x) // world)
        self._stepper.zero_grad()
        if self._image_bound is not None:
            self._image_bound.set_share(world / len(x))
        sums = self.module(x[mine], self._beta, None if noise is None else noise[:, mine])
        self.fabric.backward(sums[0] * (world / len(x)))
        self._guard(sums.detach() * (world / len(x)))

    def _guard(self, means: Tensor) -> None:
        """Clip the gradient, and keep a bad one from the weights: by a mask on CUDA, by stopping on a CPU."""
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if self.fabric.world_size > 1:
            reduced: Any = self.fabric.all_reduce(means, reduce_op="mean")  # annotated for nested collections
            means = reduced
        parts = torch.cat([means, norm.unsqueeze(0)])
        broken = ~parts.isfinite()
        bad = broken.any()
        first = bad & (self._first_bad < 0)
        torch.where(first, self._number, self._first_bad, out=self._first_bad)
        torch.where(first, broken, self._broken, out=self._broken)
        if self.masks:
            for grad in grads:
                grad.masked_fill_(bad, 0.0)
            parts = parts.masked_fill(bad, 0.0)
            norm = norm.masked_fill(bad, 0.0)
        else:
            self.check()
        clip = self.config.training.clip
        # a factor of 1 costs a pass over all gradients; but to look at the norm costs a wait on CUDA
        if clip is not None and (self.masks or norm > clip):
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), clip, norm)
        self.sums += parts

    def check(self) -> None:
        """Look at the guard; on CUDA this waits for the device.

        Raises:
            NonFiniteError: an update since the start was not finite.
        """
        first = int(self._first_bad)
        if first < 0:
            return
        names = [name for name, broken in zip(PARTS, self._broken.tolist(), strict=True) if broken]
        raise NonFiniteError(
            f"update {first}: {', '.join(names)} not finite. Its gradient was not used, and the last checkpoint, if "
            "there is one, is good; try a lower training.learning_rate or training.clip"
        )

    def read_means(self) -> dict[str, float]:
        """Means since the last call, in nats; starts anew."""
        loss, log_q, log_prior, log_likelihood, norm = (self.sums / max(1, self.count)).tolist()
        self.sums.zero_()
        self.count = 0
        return {
            "loss": loss,
            "free_energy": log_q - log_prior - log_likelihood,
            "reconstruction": -log_likelihood,
            "kl": log_q - log_prior,
            "gradient_norm": norm,
        }

    def state(self) -> dict[str, Any]:
        """Everything that a resume needs to go on bit for bit."""
        return {
            "update": self.update,
            "model": self.model.state_dict(),
            "optimiser": portable_state(self.optimiser),
            "sums": self.sums,
            "count": self.count,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.fabric.device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state` gave."""
        self.update, self.count = state["update"], state["count"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self._replayed is not None:  # the optimiser's tensors are others now
            make_capturable(self.optimiser, self.fabric.device)
            self._replayed.forget()
        self.sums.copy_(state["sums"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"])

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """The images, and noise if it is not the posterior's own, of the next update.

        Of several processes each draws the whole batch, pixels and noise, from the same generator state and later
        takes its share: the number of processes does not change the run.
        """
        size, count = self.config.training.batch, len(self.dataset.train)
        epoch, index = divmod(self.update, -(-count // size))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(count, self.config.seed, epoch).to(self.fabric.device)
        x = self.dataset.train.batch(self._order[1][index * size : (index + 1) * size])
        if self.fabric.world_size == 1:
            return x, None
        return x, torch.randn(self.config.training.samples, len(x), sum(self.model.latents), device=x.device)


def make_fabric(config: Config) -> Fabric:
    """The devices that the config asks for.

    Raises:
        ConfigError: they are not there.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(f"devices={config.devices}, but there are {torch.cuda.device_count()} CUDA devices")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    strategy: Any = DDPStrategy(start_method="spawn") if config.devices > 1 else "auto"
    return Fabric(accelerator=device.type, devices=config.devices, strategy=strategy, precision="32-true")


def _optimiser(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    training = config.training
    parameters: Iterable[nn.Parameter] = model.parameters()
    if training.optimiser == "rmsprop":
        return RMSprop(parameters, training.learning_rate, momentum=training.momentum, foreach=True)
    return torch.optim.Adam(parameters, training.learning_rate, fused=True)
