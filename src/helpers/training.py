"""k models from one initialisation on disjoint data, and what the bounds need from the way there.

The k runs advance in step. Their weights are the rows of one buffer (k, d) of which the modules' parameters are
views, so the SGD update of all runs is one expression, and so is the cross-run variance of that update: Wang & Mao's
gradient dispersion (Lemma 5, estimator 1), which costs nothing extra.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.data import Split
from helpers.models import trainable, weights


class Diverged(RuntimeError):
    """A run reached weights or a loss that are not finite; the message says which run and when."""


@dataclass(frozen=True)
class Run:
    """k trained models and the record of their way.

    Attributes:
        models: k models in evaluation mode.
        initial: common initial weights, shape (d,).
        steps: number of updates T.
        step_dispersion: shape (T,): trace of the cross-run covariance (ddof 1) of each update W_t - W_{t-1};
            for plain SGD this estimates lr_t^2 E[V_t]. float64.
        losses: shape (epochs, k): mean training loss over each epoch's minibatches, before their updates.
    """

    models: list[nn.Module]
    initial: Tensor
    steps: int
    step_dispersion: Tensor
    losses: Tensor

    @property
    def dispersion(self) -> float:
        """Sum over steps of the cross-run variance of the update (theory 4, estimator 1)."""
        return self.step_dispersion.sum().item()


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def train_ensemble(
    make_model: Callable[[], nn.Module],
    splits: Sequence[Split],
    *,
    epochs: int,
    batch_size: int,
    lr: float | Callable[[int], float],
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int,
    device: torch.device | str | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = _cross_entropy,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    until_loss: float | None = None,
    observe: Callable[[int, list[nn.Module]], None] | None = None,
) -> Run:
    """Train one model on each split by minibatch SGD, all from the same initial weights.

    Each epoch visits a run's examples in a fresh random order, independent between runs; a last batch that is not
    full is dropped, so that every step averages ``batch_size`` examples. The update is that of ``torch.optim.SGD``.

    Args:
        make_model: called once, under ``seed``; its k copies are the runs.
        splits: k training samples; give disjoint ones (``data.disjoint``) for the bounds to apply.
        epochs: passes over the data; with ``until_loss``, the most passes.
        lr: learning rate, or a function of the epoch (0, 1, ...).
        loss: per-example training loss; cross-entropy unless given.
        augment: maps a batch of inputs and a generator to a batch of inputs.
        until_loss: stop after the first epoch in which the mean training loss over runs is at most this.
        observe: called with the epoch and the models in evaluation mode, before training (epoch 0) and after
            every epoch (1, 2, ...).

    Raises:
        ValueError: if there is no split, a batch is larger than a split, or a number is out of range.
        Diverged: if a loss or a weight stops being finite.
    """
    _check(splits, epochs, batch_size, lr)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = make_model()
    first = first.to(device)
    models = [deepcopy(first) for _ in splits]
    initial = weights(first)
    buffer, gradients = _flatten(models, initial)
    velocity = torch.zeros_like(buffer)
    data = [split.to(device=initial.device, dtype=initial.dtype) for split in splits]
    generators = [torch.Generator(initial.device).manual_seed(1_000_003 * seed + run) for run in range(len(splits))]
    batches = min(len(split) for split in splits) // batch_size

    def watch(epoch: int) -> None:
        if observe is not None:
            for model in models:
                model.eval()
            observe(epoch, models)

    dispersion: list[Tensor] = []
    losses: list[Tensor] = []
    watch(0)
    for epoch in range(epochs):
        rate = lr(epoch) if callable(lr) else lr
        orders = [
            torch.randperm(len(s), generator=g, device=initial.device) for s, g in zip(data, generators, strict=True)
        ]
        totals = initial.new_zeros(len(models))
        for model in models:
            model.train()
        for batch in range(batches):
            gradients.zero_()
            for run, (model, split, order) in enumerate(zip(models, data, orders, strict=True)):
                rows = order[batch * batch_size : (batch + 1) * batch_size]
                inputs = split.inputs[rows]
                inputs = inputs if augment is None else augment(inputs, generators[run])
                value = loss(model(inputs), split.targets[rows]).mean()
                value.backward()
                totals[run] += value.detach()
            with torch.no_grad():
                velocity.mul_(momentum).add_(gradients).add_(buffer, alpha=weight_decay)
                buffer.sub_(velocity, alpha=rate)
                dispersion.append(rate**2 * _trace_covariance(velocity))
        losses.append(totals / batches)
        _refuse_divergence(buffer, losses[-1], epoch)
        watch(epoch + 1)
        if until_loss is not None and losses[-1].mean() <= until_loss:
            break
    for model in models:
        _release(model)
    steps = torch.stack(dispersion).cpu() if dispersion else torch.zeros(0, dtype=torch.float64)
    history = torch.stack(losses).cpu() if losses else torch.zeros(0, len(models))
    return Run(models, initial, len(dispersion), steps, history)


def _check(splits: Sequence[Split], epochs: int, batch_size: int, lr: float | Callable[[int], float]) -> None:
    if not splits:
        raise ValueError("there is nothing to train on: give at least one split (data.disjoint makes k of them)")
    smallest = min(len(split) for split in splits)
    if not 1 <= batch_size <= smallest:
        raise ValueError(
            f"the batch size must lie between 1 and {smallest}, the size of the smallest split, got {batch_size}"
        )
    if epochs < 0:
        raise ValueError(f"the number of epochs must not be negative, got {epochs}")
    if not callable(lr) and lr <= 0:
        raise ValueError(f"the learning rate must be positive, got {lr}")


def _flatten(models: list[nn.Module], initial: Tensor) -> tuple[Tensor, Tensor]:
    """Make the parameters of model i views into row i of one buffer (k, d), and their gradients of another."""
    buffer = initial.repeat(len(models), 1)
    gradients = torch.zeros_like(buffer)
    for model, row, gradient in zip(models, buffer, gradients, strict=True):
        parameters = trainable(model)
        sizes = [p.numel() for p in parameters]
        for p, values, slopes in zip(parameters, row.split(sizes), gradient.split(sizes), strict=True):
            p.data = values.view_as(p)
            p.grad = slopes.view_as(p)
    return buffer, gradients


def _release(model: nn.Module) -> None:
    """Give a model storage of its own again, and the state it is handed out in: evaluation mode, no gradients."""
    for p in trainable(model):
        p.data = p.data.clone()
        p.grad = None
    model.eval()


def _trace_covariance(rows: Tensor) -> Tensor:
    """Trace of the sample covariance (ddof 1) of the rows (k, d), in float64; zero for a single row."""
    if len(rows) == 1:
        return torch.zeros((), dtype=torch.float64, device=rows.device)
    return (rows - rows.mean(0)).square().sum(dtype=torch.float64) / (len(rows) - 1)


def _refuse_divergence(buffer: Tensor, losses: Tensor, epoch: int) -> None:
    finite = torch.isfinite(buffer).all(1) & torch.isfinite(losses)
    if not finite.all():
        runs = (~finite).nonzero().flatten().tolist()
        raise Diverged(
            f"runs {runs} diverged in epoch {epoch + 1}: a loss or weight is not finite; lower the learning rate"
        )
