"""One step of k runs at once.

The weights of the runs are the rows of one buffer (k, d) of which the modules' parameters are views. So the SGD update
of all runs is one expression, and so is the cross-run variance of that update: Wang & Mao's gradient dispersion
(Lemma 5, estimator 1), which costs nothing extra.

Everything that a step reads or writes lies in tensors that keep their place in memory, the number of the step and the
learning rate included. A step is therefore the same sequence of kernels every time and can be recorded once and
replayed (``steppers``).

Images lie in memory with the channels of a pixel side by side where that is faster (``models.channels_last``); it is
brought about once instead of at every step.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.data.inputs import each
from helpers.losses import per_example
from helpers.models import channels_last, outputs, trainable
from helpers.training.arguments import PerExampleLoss


class Lockstep:
    """k runs that advance together, one minibatch each.

    The arguments are those of ``train_ensemble``; ``models`` must be copies of one model.

    Attributes:
        weights: shape (k, d); the models' parameters are views of its rows.
        inputs, targets: for each run its examples, in the order of its split, on the device of the models; floating
            ones have the type of the weights, others (tokens) keep theirs.
        orders: shape (k, batches * batch_size), which examples each run visits in this epoch, and in which order.
        rate: learning rate, shape ().
        batch: number of the next step within its epoch, shape (1,), int64; back at 0 after the last.
        dispersion: shape (batches,), float64 (float32 on MPS, which has no other): trace of the cross-run covariance
            (ddof 1) of each update of the epoch; NaN for a single run.
        losses: shape (k,): sum over the epoch's steps of the mean training loss before the update.
        autocast: type of the forward and backward passes, None for that of the weights; weights and update keep theirs.
    """

    def __init__(
        self,
        models: list[nn.Module],
        splits: Sequence[Split],
        *,
        batch_size: int,
        momentum: float,
        weight_decay: float,
        loss: PerExampleLoss,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.models = models
        self.momentum, self.weight_decay, self.loss, self.autocast = momentum, weight_decay, loss, autocast
        self.weights = _share_storage(models)
        self.gradients = torch.zeros_like(self.weights)
        self.velocity = torch.zeros_like(self.weights)
        splits = [_prepared(split, models[0], self.weights) for split in splits]
        self.inputs = [split.inputs for split in splits]
        self.targets = [split.targets for split in splits]
        device = self.weights.device
        self.within = torch.arange(batch_size, device=device)
        batches = len(splits[0]) // batch_size
        self.orders = torch.zeros(len(models), batches * batch_size, dtype=torch.int64, device=device)
        self.rate = self.weights.new_zeros(())
        self.batch = torch.zeros(1, dtype=torch.int64, device=device)
        self.dispersion = torch.zeros(batches, dtype=_summing(device), device=device)
        self.losses = self.weights.new_zeros(len(models))
        self.streams = [torch.cuda.Stream(device) for _ in models] if device.type == "cuda" else []

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return len(self.dispersion)

    def begin_epoch(self, orders: Sequence[Tensor], rate: float) -> None:
        """Set the order of visits, (at least batches * batch_size,) for each run, and the learning rate."""
        for visits, order in zip(self.orders, orders, strict=True):
            visits.copy_(order[: len(visits)])
        self.rate.fill_(rate)
        self.losses.zero_()
        for model in self.models:
            model.train()

    def state(self) -> list[Tensor]:
        """The tensors that a step changes and a later step depends on."""
        buffers = [buffer for model in self.models for buffer in model.buffers()]
        return [self.weights, self.velocity, self.batch, self.dispersion, self.losses, *buffers]

    def step(self) -> None:
        """Gradients of every run on its next batch, then one SGD update of all."""
        rows = self.batch * len(self.within) + self.within
        if self.streams:
            self._gradients_side_by_side(rows)
        else:
            for run in range(len(self.models)):
                self._gradient(run, rows)
        self._update()

    def _gradients_side_by_side(self, rows: Tensor) -> None:
        """A stream for each run: small kernels of one run fill the gaps that another leaves."""
        main = torch.cuda.current_stream(self.weights.device)
        for run, stream in enumerate(self.streams):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                self._gradient(run, rows)
        for stream in self.streams:
            main.wait_stream(stream)

    def _gradient(self, run: int, rows: Tensor) -> None:
        model = self.models[run]
        examples = self.orders[run].index_select(0, rows)
        inputs = each(lambda tensor: rows_of(tensor, examples), self.inputs[run])
        targets = rows_of(self.targets[run], examples)
        with (
            nullcontext()
            if self.autocast is None
            else torch.autocast(self.weights.device.type, self.autocast, cache_enabled=False)
        ):
            answers = outputs(model, inputs)
        value = per_example(self.loss, answers.to(self.weights.dtype), targets).mean()
        slopes = torch.autograd.grad(value, trainable(model), allow_unused=True, materialize_grads=True)
        slopes = tuple(slope.to_dense() if slope.is_sparse else slope for slope in slopes)
        torch.cat([slope.reshape(-1) for slope in slopes], out=self.gradients[run])
        self.losses[run] += value.detach()

    @torch.no_grad()
    def _update(self) -> None:
        """torch.optim.SGD's update on every row, and the variance of that update across rows."""
        if self.weight_decay:
            self.gradients.add_(self.weights, alpha=self.weight_decay)
        update = self.velocity.mul_(self.momentum).add_(self.gradients) if self.momentum else self.gradients
        self.weights.addcmul_(update, self.rate, value=-1)
        spread = self.rate.to(self.dispersion.dtype).square() * trace_covariance(update)
        self.dispersion.index_copy_(0, self.batch, spread.unsqueeze(0))
        self.batch.add_(1).remainder_(self.batches)


def trace_covariance(rows: Tensor) -> Tensor:
    """Trace of the sample covariance (ddof 1) of the rows (k, d), summed in float64 (float32 on MPS).

    NaN for a single row: one run says nothing about the spread between runs.
    """
    if len(rows) == 1:
        return torch.full((), torch.nan, dtype=_summing(rows.device), device=rows.device)
    return (rows - rows.mean(0)).square_().sum(dtype=_summing(rows.device)) / (len(rows) - 1)


def rows_of(tensor: Tensor, rows: Tensor) -> Tensor:
    """``tensor[rows]`` in the memory layout of ``tensor``, copied once; both on one device."""
    if _is_channels_last(tensor):
        return tensor.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return tensor.index_select(0, rows)


def release(model: nn.Module) -> None:
    """Give a model storage of its own again, and the state it is handed out in: evaluation mode, no gradients."""
    for p in trainable(model):
        p.data = p.data.clone()
        p.grad = None
    model.eval()


def _prepared(split: Split, model: nn.Module, weights: Tensor) -> Split:
    """The split beside the weights, in the type and the memory layout in which the model reads it fastest."""

    def moved(tensor: Tensor) -> Tensor:  # the type first: float64 cannot live on every device
        return (tensor.to(weights.dtype) if tensor.is_floating_point() else tensor).to(weights.device)

    def laid_out(tensor: Tensor) -> Tensor:
        tensor = moved(tensor)
        if not (fast and tensor.ndim == 4):
            return tensor
        return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)  # for one channel, too

    fast = weights.dtype != torch.float64 and channels_last(model)  # float64 has no fast convolutions in either order
    return replace(split, inputs=each(laid_out, split.inputs), targets=moved(split.targets))


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.stride(1) == 1 and tensor.is_contiguous(memory_format=torch.channels_last)


def _summing(device: torch.device) -> torch.dtype:
    """The type that long sums are taken in."""
    return torch.float32 if device.type == "mps" else torch.float64


def _share_storage(models: Sequence[nn.Module]) -> Tensor:
    """One buffer (k, d) with the weights of model i in row i, and the models' parameters made views of it."""
    rows = torch.stack([torch.cat([p.detach().reshape(-1) for p in trainable(model)]) for model in models])
    for model, row in zip(models, rows, strict=True):
        parameters = trainable(model)
        for p, values in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
            p.data = values.view_as(p)
    return rows
