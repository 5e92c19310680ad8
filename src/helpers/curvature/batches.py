"""A sample in batches, on the model's device: sums over examples that do not depend on the batching."""

import warnings
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from helpers.curvature.contracts import on_model
from helpers.data import Split
from helpers.models import trainable

BATCH = {"cpu": 128}  # examples at a time, by kind of device
ACCELERATOR_BATCH = 1024
_fitting: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()  # what was left after running out of memory


def usual_batch(model: nn.Module) -> int:
    """Examples that a batch holds on the model's device."""
    return BATCH.get(trainable(model)[0].device.type, ACCELERATOR_BATCH)


def batches(model: nn.Module, split: Split, batch_size: int | None = None) -> Iterator[Split]:
    """The split in consecutive batches, on the model's device and in its floating type."""
    size = batch_size or usual_batch(model)
    for start in range(0, len(split), size):
        yield on_model(model, split, slice(start, start + size))


def over_batches(
    work: Callable[[Split], Tensor], model: nn.Module, split: Split, batch_size: int | None = None
) -> Iterator[Tensor]:
    """``work(batch)`` for consecutive batches; on running out of memory, again with batches of half the size.

    The size that fitted is remembered with the model, so that the next sum starts with it.

    Raises:
        torch.OutOfMemoryError: if even a single example does not fit.
    """
    start, size = 0, min(batch_size or usual_batch(model), _fitting.get(model, len(split)))
    while start < len(split):
        result = None
        try:
            result = work(on_model(model, split, slice(start, start + size)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if result is None:  # outside the handler, which keeps the failed attempt's tensors alive
            size //= 2
            _fitting[model] = size
            warnings.warn(f"out of memory: going on with batches of {size} examples", stacklevel=2)
        else:
            yield result
            start += size


def total(pieces: Iterator[Tensor]) -> Tensor:
    """Their sum, one at a time."""
    result = next(pieces).clone()
    for piece in pieces:
        result += piece
    return result
