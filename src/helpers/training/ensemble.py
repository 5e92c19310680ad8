"""How far do k runs from one initialisation go apart? Train them, each on its own data, and record it step by step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.losses import ClippedCrossEntropy, check_callable
from helpers.models import trainable
from helpers.training.arguments import (
    PerExampleLoss,
    Precision,
    check_batch,
    check_settings,
    copies_of,
    network_of,
    precision_of,
    rate_of,
    splits_of,
)
from helpers.training.lockstep import Lockstep, release
from helpers.training.progress import Augment, Diverged, Progress
from helpers.training.randomness import Randomness
from helpers.training.resume import Interruptible, fingerprint_of, fingerprint_of_data, name_of


@dataclass(frozen=True)
class Run:
    """k trained models and the record of their way.

    Attributes:
        models: k models in evaluation mode.
        initial: common initial weights, shape (d,).
        steps: number of updates T.
        step_dispersion: shape (T,): trace of the cross-run covariance (ddof 1) of each update W_t - W_{t-1};
            for plain SGD this estimates lr_t^2 E[V_t]. float64. NaN for a single run, which has no spread.
        losses: shape (epochs, k): mean training loss over each epoch's minibatches, before their updates.
        precision: what the forward and backward passes computed in: "bf16", or the type of the weights, "float32" or
            "float64"; None where that was not recorded.
    """

    models: list[nn.Module]
    initial: Tensor
    steps: int
    step_dispersion: Tensor
    losses: Tensor
    precision: str | None = None

    def __repr__(self) -> str:
        kinds = sorted({type(model).__name__[:40] for model in self.models})
        kind = kinds[0] if len(kinds) == 1 else f"{len(kinds)} kinds"
        count = "1 model" if len(self.models) == 1 else f"{len(self.models)} models"
        return f"<Run: {count} ({kind}) of {self.initial.numel()} weights, {self.steps} steps>"

    @property
    def dispersion(self) -> float:
        """Sum over steps of the cross-run variance of the update: estimates sum_t lr_t^2 E[V_t] for plain SGD.

        NaN for a single run.
        """
        return self.step_dispersion.sum().item() if len(self.models) > 1 else float("nan")


@dataclass(frozen=True)
class CrossEntropy:
    """The training loss unless another is given: logits (n, at least ``classes``) and class indices (n,) to (n,)."""

    classes: int

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.ndim != 2 or logits.shape[1] < self.classes:
            raise ValueError(
                f"outputs of shape {tuple(logits.shape)} cannot hold a logit for each of the {self.classes} classes; "
                "give the model that many outputs, or give loss="
            )
        return F.cross_entropy(logits, targets, reduction="none")

    def check(self, logits: Tensor, targets: Tensor) -> None:
        """Refuse probabilities that are no distribution; what is wrong with classes is said of the split."""
        if targets.is_floating_point():
            ClippedCrossEntropy(1.0).check(logits, targets)


@torch.inference_mode(False)
@torch.enable_grad()
def train_ensemble(
    make_model: Callable[[], nn.Module],
    splits: Iterable[Any],
    *,
    epochs: int,
    batch_size: int,
    lr: float | Callable[[int], float],
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int,
    device: torch.device | str | None = None,
    loss: PerExampleLoss | None = None,
    augment: Augment | None = None,
    until_loss: float | None = None,
    observe: Callable[[int, list[nn.Module]], None] | None = None,
    precision: Precision | None = None,
    checkpoint: Path | str | None = None,
) -> Run:
    """Train one model on each split by minibatch SGD, all from the same initial weights.

    Each epoch visits a run's examples in a fresh random order, independent between runs; a last batch that is not
    full is dropped, so that every step averages ``batch_size`` examples. The update is that of ``torch.optim.SGD``.

    Same seed, same device: same weights, on a processor to the bit. That covers whatever the network draws
    (``nn.Dropout``) and trainings in other threads, which take turns epoch by epoch; processes run side by side. The
    caller's generators are left as they were. On CUDA a step is one recorded graph where it can be recorded.

    Args:
        make_model: called once, under ``seed``; its k copies are the runs.
        splits: k training samples of one size, each a ``data.Split`` or what ``data.as_split`` takes; give disjoint
            ones (``data.disjoint``) for the bounds to apply. One alone is allowed, and has no dispersion.
        epochs: passes over the data; with ``until_loss``, the most passes.
        lr: learning rate, or a function of the epoch (0, 1, ...).
        momentum, weight_decay: as in ``torch.optim.SGD``; momentum in [0, 1).
        loss: per-example training loss, (n,) from outputs and targets (n,); cross-entropy unless given.
        augment: maps inputs (n, ...) and a generator to inputs of the same shape; called for every run and epoch on
            the run's whole sample, on the device, which it must leave as it is (``augment.crop_and_flip``).
        until_loss: stop after the first epoch in which the mean training loss over runs is at most this.
        observe: called with the epoch and the models in evaluation mode, before training (epoch 0) and after
            every epoch (1, 2, ...), to measure them: weights and buffers are those of the epoch, and what it draws at
            random changes neither the training nor the caller's generators. It must leave the weights as they are.
        precision: of the forward and backward passes: "float32", or "bf16" for bfloat16 with weights and update in
            float32; None for the type of the weights.
        checkpoint: a file in which the state of the training is kept after every epoch, once ``observe`` has returned.
            Called again with the same arguments, an interrupted training goes on from there, to the same bits;
            epochs from which ``observe`` has returned are not observed again. The file is removed at the end.

    Raises:
        ValueError: if the splits are none, one sample instead of several, of unequal size or no examples, inputs are
            not finite, targets do not fit the loss, the loss is not per example or has no gradient, a number is out of
            range, there is no such device, the network cannot be copied or does not take a batch, or the precision does
            not fit weights or device.
        CheckpointError: if the checkpoint is damaged, of other settings, or cannot be written.
        Diverged: if a loss or a weight stops being finite.
    """
    splits = splits_of(splits, own_loss=loss is not None)
    if loss is not None:
        check_callable(loss)
    loss = loss or CrossEntropy(max(split.classes for split in splits))
    check_settings(
        size=len(splits[0]), epochs=epochs, batch_size=batch_size, lr=lr, momentum=momentum,
        weight_decay=weight_decay, seed=seed, until_loss=until_loss,
    )  # fmt: skip
    epochs, batch_size, seed = int(epochs), int(batch_size), int(seed)  # whole numbers of any type, now of Python's
    random = Randomness(seed, device)
    with random.turn():
        first = network_of(make_model).to(device)
    precision_used = precision_of(precision, trainable(first)[0])
    with random.aside():
        check_batch(copies_of(first, 1)[0], splits, loss, batch_size)
    lockstep = Lockstep(
        copies_of(first, len(splits)), splits, batch_size=batch_size, momentum=momentum,
        weight_decay=weight_decay, loss=loss, autocast=torch.bfloat16 if precision_used == "bf16" else None,
    )  # fmt: skip
    initial = lockstep.weights[0].clone()
    progress = Progress(lockstep, random, seed=seed, augment=augment)
    settings = {} if checkpoint is None else {
        "make_model": fingerprint_of(first), "splits": fingerprint_of_data(splits), "epochs": epochs,
        "batch_size": batch_size, "lr": [rate_of(lr, epoch) for epoch in range(epochs)], "momentum": momentum,
        "weight_decay": weight_decay, "seed": seed, "loss": name_of(loss), "augment": name_of(augment),
        "until_loss": until_loss, "precision": precision_used, "device": initial.device.type,
        "version of torch": torch.__version__,
    }  # fmt: skip
    kept = Interruptible(checkpoint, settings)

    def between_epochs() -> None:
        for model in lockstep.models:
            model.eval()
        if observe is not None:
            with random.aside():
                observe(progress.epochs, lockstep.models)
        kept.write(progress.state())

    if (state := kept.read()) is not None:
        progress.restore(state)
    else:
        between_epochs()
    try:
        while progress.epochs < epochs and not progress.reached(until_loss):
            progress.advance(rate_of(lr, progress.epochs))
            between_epochs()
    except Diverged:
        kept.remove()  # the same arguments would diverge again
        raise
    kept.remove()
    for model in lockstep.models:
        release(model)
    dispersion = progress.dispersion.flatten()
    return Run(lockstep.models, initial, len(dispersion), dispersion, progress.losses, precision_used)
