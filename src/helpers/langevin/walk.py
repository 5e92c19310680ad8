"""Noisy gradient descent that records, on its way, what its bounds need."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from helpers import curvature
from helpers._checks import whole
from helpers.curvature.contracts import check_linearised, differentiable
from helpers.curvature.precision import precisely
from helpers.data import as_split
from helpers.langevin.gradients import Gradients
from helpers.langevin.streams import stream, stream_seed
from helpers.langevin.walk_arguments import made, walk_settings
from helpers.models import set_weights, trainable, weights
from helpers.training import Diverged, seeded
from helpers.training.arguments import PerExampleLoss
from helpers.training.ensemble import CrossEntropy


@dataclass(frozen=True)
class Walk:
    """A walk W_t = W_{t-1} - lr g(W_{t-1}, B_t) + sigma xi_t and its record.

    Attributes:
        model: at the end, in evaluation mode.
        sigma: standard deviation of the noise of one step: sqrt(2 lr temperature).
        incoherence: (n,), float64: for each example the sum over the steps t that use it of
            (n / b)^2 lr^2 / sigma^2 |g_i - mean of the others in the batch|^2; in full batches n / b is 1, and the
            others are all others. ``certificates.leave_one_out`` takes it.
        by_step: (T,), float64: mean over examples of what each step added to it.
        moments: (T,), float64: |g_t|^2, the batch gradient squared.
        held_out_moments: (T,): |g_t - gradient of the held-out sample|^2; None without one.
        losses: (T,): mean training loss over the batch, before its step.
        steps, lr, temperature: as given.
    """

    model: nn.Module
    sigma: float
    incoherence: Tensor
    by_step: Tensor
    moments: Tensor
    held_out_moments: Tensor | None
    losses: Tensor
    steps: int
    lr: float
    temperature: float


def train(
    make_model: Callable[[], nn.Module],
    split: Any,
    *,
    steps: int,
    lr: float,
    temperature: float,
    seed: int,
    batch_size: int | None = None,
    loss: PerExampleLoss | None = None,
    held_out: Any | None = None,
    observe: Callable[[int, nn.Module], None] | None = None,
    device: torch.device | str | None = None,
) -> Walk:
    """Walk for ``steps`` steps of noisy gradient descent: stochastic gradient Langevin dynamics, Welling & Teh (2011).

    Same seed, same numbers; the caller's generators stay where they were. Initial weights, noise and orders come from
    streams that are independent of each other and of the data's (``streams``), as the theorems ask.

    The model is in evaluation mode all along: dropout is off, and BatchNorm keeps the statistics that it was made
    with. A walk that runs away and stays finite is returned: its incoherence is huge, and its bound says nothing.

    Args:
        make_model: a function that makes the model, under a seed of its own that comes from ``seed``; called twice,
            to see that it makes a new one each time. W_0 must not depend on the sample: a copy of a model that was
            trained on it cannot be told from a new one here, and makes the certificate void.
        split: the training sample, n examples.
        lr: learning rate of every step.
        seed: a whole number from 0, of any size; of initial weights, noise and orders.
        temperature: 1 / beta; sigma^2 = 2 lr temperature for the mean loss. Without noise there is no bound.
        batch_size: b >= 2, examples of a step, in a fresh random order each pass, a last batch that is not full
            dropped; all examples unless given.
        loss: per-example training loss; cross-entropy unless given. Any other loss may be evaluated.
        held_out: examples whose mean gradient is a centre for ``certificates.whole_sample``; a gradient more a step.
        observe: called with t and the model, before the first step (0) and after each (1, ..., T); what it draws at
            random comes from its own generators.

    Raises:
        ValueError: if make_model returns the same weights twice, a number is out of range, or model, loss and sample do
            not fit together; the model must treat examples one by one (``curvature.contracts.admitted``); if the noise
            is too small to divide by.
        Diverged: if a loss or a gradient stops being finite.
    """
    examples = as_split(split)
    steps, lr, sigma = walk_settings(make_model, steps, lr, temperature)
    n = len(examples)
    b = n if batch_size is None else whole("batch_size", batch_size, least=2)
    if not 2 <= b <= n:
        raise ValueError(f"batch_size must lie between 2 and {n}, the number of examples, got {b}")
    if observe is not None and not callable(observe):
        raise ValueError(f"observe must be a function of t and the model, got a {type(observe).__name__}")
    loss = loss or CrossEntropy(examples.classes)
    with seeded(stream_seed("initial weights", seed), device):
        model = made(make_model).to(device).eval()
    examples = differentiable(model, loss, examples)  # type: ignore[arg-type]
    check_linearised(model, examples, "the product of an example's gradient with the mean", entering=1.0)
    other = None if held_out is None else differentiable(model, loss, held_out, name="held_out")  # type: ignore[arg-type]
    noise, orders = stream("noise", seed), _batches(n, b, stream("orders", seed))
    gradients, w = Gradients(model, loss), weights(model)
    incoherence = torch.zeros(n, dtype=torch.float64)
    record: list[tuple[float, float, float, float]] = []
    if observe is not None:
        observe(0, model)
    for t in range(1, steps + 1):
        rows = next(orders)
        with precisely(model):
            batch = gradients.of(examples if b == n else examples.take(rows))
            off = torch.nan if other is None else _squared(batch.gradient - curvature.gradient(model, loss, other))  # type: ignore[arg-type]
        added = (n / b * lr / sigma) ** 2 * batch.distances.cpu()
        incoherence[rows] += added
        value = batch.losses.double().mean().item()
        record.append((added.sum().item() / n, _squared(batch.gradient), off, value))
        if not isfinite(value + record[-1][1]):
            raise Diverged(f"the walk is not finite after {t} steps; lower lr or the temperature")
        if not isfinite(record[-1][0]):
            raise ValueError(f"the noise is too small to divide by (lr / sigma = {lr / sigma:.3g}); raise temperature")
        w = w - lr * batch.gradient + sigma * normal(w, noise)
        set_weights(model, w)
        if observe is not None:
            observe(t, model)
    by_step, moments, held_out_moments, losses = torch.tensor(record, dtype=torch.float64).T
    for parameter in trainable(model):
        parameter.grad = None
    return Walk(
        model, sigma, incoherence, by_step, moments, None if other is None else held_out_moments, losses, steps, lr,
        float(temperature),
    )  # fmt: skip


def normal(like: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, type and device of ``like``."""
    return torch.randn(like.shape, generator=source, dtype=like.dtype).to(like.device)


def _batches(n: int, b: int, source: torch.Generator) -> Iterator[Tensor]:
    """Rows of one step after the other: all of them, or n // b batches of each fresh order."""
    while True:
        if b == n:
            yield torch.arange(n)
        else:
            yield from torch.randperm(n, generator=source)[: n // b * b].split(b)


def _squared(v: Tensor) -> float:
    return v.double().square().sum().item()
