"""Noisy gradient descent on a supersample: how soon does the path give a coin away?

Given the supersample and all coins but U_i, the path W_0, W_1, ... is a sequence of Gaussian steps with one of two
means, (lr / n) |g_i0 - g_i1| apart. A reader of the path has a posterior for U_i, and what the next step tells is at
most the squared distance of its mean from the posterior's guess, over 2 sigma^2. Once the coin is known nothing more is
told: the sum saturates by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from helpers.curvature.contracts import differentiable
from helpers.curvature.precision import precisely
from helpers.langevin.gradients import gradient_rows
from helpers.langevin.streams import stream, stream_seed
from helpers.langevin.walk import normal
from helpers.langevin.walk_arguments import made, walk_settings
from helpers.models import set_weights, weights
from helpers.supersample import Supersample
from helpers.training import Diverged, seeded
from helpers.training.arguments import PerExampleLoss
from helpers.training.ensemble import CrossEntropy

CHUNK = 64  # pairs whose gradients are stored at a time


@dataclass(frozen=True)
class PairedWalk:
    """A walk on a supersample, and what its path tells about each coin.

    Attributes:
        model: at the end, in evaluation mode.
        information: sum over steps of lr^2 / (2 sigma^2 n^2) |g_i0 - g_i1|^2 (1 - p_t)^2, p_t the posterior of the
            true coin before step t, (n,), float64. Its expectation bounds I(W; U_i | supersample, other coins).
        blind: the same with p_t = 1/2, (n,): a reader who never looks back.
        posterior: of the true coin at the end, (n,).
        by_step: (T,): mean over pairs of what each step added to ``information``.
    """

    model: nn.Module
    information: Tensor
    blind: Tensor
    posterior: Tensor
    by_step: Tensor


def train_paired(
    make_model: Callable[[], nn.Module],
    pairs: Supersample,
    coins: Tensor,
    *,
    steps: int,
    lr: float,
    temperature: float,
    seed: int,
    loss: PerExampleLoss | None = None,
) -> PairedWalk:
    """Full-batch noisy gradient descent on the examples that the coins choose; the same walk as ``train`` on them.

    Costs a gradient for each of the 2n examples a step, ``CHUNK`` pairs at a time where the network can be vectorised
    over examples; one by one where it cannot (recurrent layers, branches on the data, backward passes of your own).

    Args:
        pairs, coins: the supersample, and one coin for each pair, (n,).
        make_model, steps, lr, temperature, seed, loss: as in ``train``.

    Raises:
        ValueError: as ``train``, or if pairs is no supersample or the coins do not fit.
        Diverged: if a gradient stops being finite.
    """
    steps, lr, sigma = walk_settings(make_model, steps, lr, temperature)
    if not isinstance(pairs, Supersample):
        raise ValueError(f"pairs must be a Supersample, got a {type(pairs).__name__}; Supersample(split) makes one")
    examples = pairs.examples
    loss = loss or CrossEntropy(examples.classes)
    sample, ghosts = pairs.sample(coins), pairs.ghosts(coins)
    with seeded(stream_seed("initial weights", seed)):
        model = made(make_model).eval()
    sample, ghosts = (differentiable(model, loss, half) for half in (sample, ghosts))  # type: ignore[arg-type]
    n, noise, w = len(sample), stream("noise", seed), weights(model)
    gradients = gradient_rows(model, loss, sample)
    log_ratio = torch.zeros(n, dtype=torch.float64)  # of the true coin against the other, along the path
    information, blind = torch.zeros_like(log_ratio), torch.zeros_like(log_ratio)
    by_step = []
    for t in range(1, steps + 1):
        xi = normal(w, noise)
        total, squares, along = torch.zeros_like(w), [], []
        for start in range(0, n, CHUNK):
            rows = slice(start, start + CHUNK)
            with precisely(model), torch.no_grad():
                mine, theirs = (gradients(half.take(rows)) for half in (sample, ghosts))
                total += mine.sum(0)
                offset = mine - theirs
                squares.append(offset.double().square().sum(1))
                along.append((offset @ xi).double())
        if not isfinite(total.double().square().sum().item()):
            raise Diverged(f"the walk is not finite after {t} steps; lower lr or the temperature")
        distance = (lr / (n * sigma)) ** 2 * torch.cat(squares)
        missing = torch.sigmoid(-log_ratio)  # 1 - p_t
        added = distance * missing**2 / 2
        information += added
        blind += distance / 8
        by_step.append(added.mean().item())
        # The step is at its true mean plus sigma xi; under the other coin the mean lies lr / n (g_true - g_other) off.
        log_ratio += distance / 2 - lr / (n * sigma) * torch.cat(along)
        if not bool(torch.isfinite(log_ratio).all()):
            raise ValueError(f"the noise is too small to divide by (lr / sigma = {lr / sigma:.3g}); raise temperature")
        w = w - lr * total / n + sigma * xi
        set_weights(model, w)
    return PairedWalk(model, information, blind, torch.sigmoid(log_ratio), torch.tensor(by_step, dtype=torch.float64))
