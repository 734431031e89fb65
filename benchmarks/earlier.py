"""A plain eager re-implementation of the earlier reproduction's program: the baseline of our timings.

The program is `drawcodeboy/Normalizing-Flow` v1.0.0 (2025), a reproduction of Rezende & Mohamed,
*Variational Inference with Normalizing Flows* (ICML 2015).  Here is its algorithm in our own words: the work
that it does for each training step and for each test image, product for product, so that the time of one
stands for the time of the other:

- one process, eager float32, no compilation, no lower precision; the batch is in memory as floats (the
  program's own reading of images, which is slow, is left out in its favour);
- inference network 784 → 1600, maxout over windows of 4 → 400, then one linear head each for μ, log σ², and,
  with a flow, for u, w and b of all K layers;
- a planar flow as a Python loop over the layers.  Each layer computes û from u and w (paper, Appendix A.1)
  and goes through wᵀz + b and its tanh twice: once for the map, once more for the log-determinant, which is
  ln |1 + ûᵀψ(z)| with nothing to keep the argument from 0;
- decoder 40 → 1600, maxout → 400 → 784, a sigmoid, and the Bernoulli likelihood from probabilities,
  not from logits (`binary_cross_entropy` clamps each logarithm at −100);
- training: the free energy from one sample for each image, −H[q₀] in closed form, the energy terms multiplied
  by β = min(1, 0.01 + t/10,000), `RMSprop(lr=1e-5, momentum=0.9)`, and the loss read back after each step,
  because the program prints it;
- testing: −ln p(x) of one image at a time, by importance sampling from S copies of the image: the encoder and
  every head run on all S copies.

It is there to be timed, not to be used: the flows and the model to use are flowvi's own.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

WINDOW = 4


def maxout(pre_activation: Tensor) -> Tensor:
    """The largest of each `WINDOW` neighbouring units: (batch, 4H) -> (batch, H)."""
    return pre_activation.view(pre_activation.shape[0], -1, WINDOW).max(dim=-1).values


def planar_layer(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One layer: z (n, D), u (n, D, 1), w (n, 1, D), b (n, 1, 1) -> its image (n, D) and ln |det| (n,)."""
    column = z.unsqueeze(-1)
    squashed = torch.tanh(torch.bmm(w, column) + b)

    alignment = torch.bmm(w, u)
    shift = (F.softplus(alignment) - 1.0 - alignment) * w / torch.bmm(w, w.transpose(1, 2))
    u_hat = u + shift.transpose(1, 2)

    moved = (column + u_hat * squashed).squeeze(-1)
    # The program goes through the same projection again instead of keeping `squashed`.
    psi = (1 - torch.tanh(torch.bmm(w, column) + b) ** 2) * w
    log_det = torch.log(torch.abs(1 + torch.bmm(psi, u_hat)))
    return moved, log_det.view(-1)


class EarlierDLGM(nn.Module):
    """The earlier program's model: amortised planar flow of `length` layers on one layer of `latents`."""

    def __init__(self, length: int, *, pixels: int = 784, hidden: int = 400, latents: int = 40) -> None:
        super().__init__()
        self.length, self.latents = length, latents
        self.encoder = nn.Linear(pixels, hidden * WINDOW)
        self.mean = nn.Linear(hidden, latents)
        self.log_variance = nn.Linear(hidden, latents)
        if length:
            self.u = nn.Linear(hidden, length * latents)
            self.w = nn.Linear(hidden, length * latents)
            self.b = nn.Linear(hidden, length)
        self.decoder = nn.Linear(latents, hidden * WINDOW)
        self.pixels = nn.Linear(hidden, pixels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x (n, pixels) -> pixel probabilities, z0, zK, mean, log variance, sum of log-determinants (n,)."""
        n = x.shape[0]
        h = maxout(self.encoder(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        if self.length:
            u = self.u(h).view(n, self.length, self.latents, 1)
            w = self.w(h).view(n, self.length, 1, self.latents)
            b = self.b(h).view(n, self.length, 1, 1)

        scale = torch.exp(0.5 * log_variance)
        z0 = mean + torch.randn_like(scale) * scale
        z, log_det = z0, torch.zeros(n, device=x.device)
        for k in range(self.length):
            z, layer_log_det = planar_layer(z, u[:, k], w[:, k], b[:, k])
            log_det += layer_log_det

        probabilities = torch.sigmoid(self.pixels(maxout(self.decoder(z))))
        return probabilities, z0, z, mean, log_variance, log_det

    def free_energy(self, x: Tensor, beta: float = 1.0) -> Tensor:
        """The annealed bound, averaged over the batch x (n, pixels): a scalar, in nats at `beta` = 1."""
        probabilities, _, z, mean, log_variance, log_det = self(x)
        log_q0 = -Normal(mean, (0.5 * log_variance).exp()).entropy().sum(dim=-1).mean()
        reconstruction = F.binary_cross_entropy(probabilities, x, reduction="sum") / x.shape[0]
        prior = -Normal(torch.zeros_like(z), torch.ones_like(z)).log_prob(z).sum(dim=-1).mean()
        loss: Tensor = log_q0 + beta * (reconstruction + prior) - log_det.mean()
        return loss

    def nll(self, x: Tensor, samples: int = 200) -> Tensor:
        """−ln p(x) of one image x (1, pixels), in nats, by importance sampling from copies of it."""
        copies = x.repeat(samples, 1)
        probabilities, z0, z, mean, log_variance, log_det = self(copies)
        log_likelihood = -F.binary_cross_entropy(probabilities, copies, reduction="none").sum(dim=1)
        log_prior = Normal(torch.zeros_like(z), torch.ones_like(z)).log_prob(z).sum(dim=1)
        log_q0 = Normal(mean, (0.5 * log_variance).exp()).log_prob(z0).sum(dim=1)
        log_weights = log_likelihood + log_prior - log_q0 + log_det
        return math.log(samples) - torch.logsumexp(log_weights, dim=0)


class EarlierTrainer:
    """The earlier program's training loop, one step at a time."""

    def __init__(self, model: EarlierDLGM) -> None:
        self.model = model.train()
        self.optimiser = torch.optim.RMSprop(model.parameters(), lr=1e-5, momentum=0.9)
        self.updates = 0

    def step(self, x: Tensor) -> float:
        """One update on the batch x (n, pixels); returns the loss, which the program prints."""
        beta = min(1.0, 0.01 + self.updates / 10_000)
        self.optimiser.zero_grad()
        loss = self.model.free_energy(x, beta)
        loss.backward()
        self.optimiser.step()
        self.updates += 1
        return loss.item()
