"""Train k models from one initialisation, each on its own data, and record what the bounds need."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.data import Split
from helpers.models import weights
from helpers.training.lockstep import Lockstep, PerExampleLoss, release
from helpers.training.steppers import stepper_for

Augment = Callable[[Tensor, torch.Generator], Tensor]


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
        """Sum over steps of the cross-run variance of the update: estimates sum_t lr_t^2 E[V_t] for plain SGD."""
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
    loss: PerExampleLoss = _cross_entropy,
    augment: Augment | None = None,
    until_loss: float | None = None,
    observe: Callable[[int, list[nn.Module]], None] | None = None,
) -> Run:
    """Train one model on each split by minibatch SGD, all from the same initial weights.

    Each epoch visits a run's examples in a fresh random order, independent between runs; a last batch that is not
    full is dropped, so that every step averages ``batch_size`` examples. The update is that of ``torch.optim.SGD``.
    Same seed, same device: same weights, on a processor to the bit.

    On CUDA a step is one recorded graph, and float32 models run forward and backward in bfloat16; weights, momentum
    and update stay float32. float64 models stay float64 throughout.

    Args:
        make_model: called once, under ``seed``; its k copies are the runs.
        splits: k training samples; give disjoint ones (``data.disjoint``) for the bounds to apply.
        epochs: passes over the data; with ``until_loss``, the most passes.
        lr: learning rate, or a function of the epoch (0, 1, ...).
        loss: per-example training loss; cross-entropy unless given.
        augment: maps inputs (n, ...) and a generator to inputs of the same shape; called for every run and epoch on
            the run's whole sample, on the device (``augment.crop_and_flip``).
        until_loss: stop after the first epoch in which the mean training loss over runs is at most this.
        observe: called with the epoch and the models in evaluation mode, before training (epoch 0) and after
            every epoch (1, 2, ...). It must leave the weights as they are.

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
    data = [split.to(device=initial.device, dtype=initial.dtype) for split in splits]
    generators = [torch.Generator(initial.device).manual_seed(1_000_003 * seed + run) for run in range(len(splits))]
    lockstep = Lockstep(
        models, data, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, loss=loss,
        autocast=_autocast(initial),
    )  # fmt: skip
    if augment is not None:
        lockstep.inputs = [own.clone() for own in lockstep.inputs]
    step = stepper_for(lockstep)

    def watch(epoch: int) -> None:
        if observe is not None:
            for model in models:
                model.eval()
            observe(epoch, models)

    dispersion: list[Tensor] = []
    losses: list[Tensor] = []
    watch(0)
    for epoch in range(epochs):
        orders = [
            torch.randperm(len(s), generator=g, device=initial.device) for s, g in zip(data, generators, strict=True)
        ]
        if augment is not None:
            for own, split, generator in zip(lockstep.inputs, data, generators, strict=True):
                own.copy_(augment(split.inputs, generator))
        lockstep.begin_epoch(orders, lr(epoch) if callable(lr) else lr)
        for _ in range(lockstep.batches):
            step()
        dispersion.append(lockstep.dispersion.cpu().clone())
        losses.append((lockstep.losses / lockstep.batches).cpu())
        _refuse_divergence(lockstep.weights, losses[-1], epoch)
        watch(epoch + 1)
        if until_loss is not None and losses[-1].mean() <= until_loss:
            break
    for model in models:
        release(model)
    steps = torch.cat(dispersion) if dispersion else torch.zeros(0, dtype=torch.float64)
    history = torch.stack(losses) if losses else torch.zeros(0, len(models))
    return Run(models, initial, len(steps), steps, history)


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


def _autocast(like: Tensor) -> torch.dtype | None:
    """bfloat16 for float32 weights on CUDA, which needs no scaling of gradients; else the weights' own type."""
    return torch.bfloat16 if like.is_cuda and like.dtype == torch.float32 else None


def _refuse_divergence(rows: Tensor, losses: Tensor, epoch: int) -> None:
    finite = torch.isfinite(rows).all(1).cpu() & torch.isfinite(losses)
    if not finite.all():
        runs = (~finite).nonzero().flatten().tolist()
        raise Diverged(
            f"runs {runs} diverged in epoch {epoch + 1}: a loss or weight is not finite; lower the learning rate"
        )
