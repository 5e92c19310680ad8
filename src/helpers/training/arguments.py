"""What ``train_ensemble`` asks of its arguments; each check raises ValueError with one sentence."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from helpers._checks import non_negative, positive, real, seed_of, whole
from helpers._generators import shared_generators, unchanged
from helpers.data import Split, as_splits
from helpers.data.inputs import tensors
from helpers.losses import check_separable, check_targets, per_example
from helpers.models import check_initialised, copied, outputs, refuse_backward, trainable

EXAMPLES = 8  # of a batch, on which a loss is tried
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
Precision = Literal["float32", "bf16"]


def splits_of(splits: Iterable[Any], *, own_loss: bool) -> list[Split]:
    """Splits of one size, whose targets the loss can take; ``own_loss``: the caller gave the loss."""
    examples = as_splits(splits, name="splits")
    if not examples:
        raise ValueError("there is nothing to train on: give at least one split (data.disjoint makes k of them)")
    sizes = [len(split) for split in examples]
    if len(set(sizes)) > 1:
        raise ValueError(f"all splits must hold the same number of examples, got {sizes}; data.disjoint makes such")
    for run, split in enumerate(examples):
        if not all(bool(torch.isfinite(part).all()) for part in tensors(split.inputs)):
            raise ValueError(f"split {run} has inputs that are not finite; leave those examples out")
        _check_targets(run, split, own_loss=own_loss)
    return examples


def _check_targets(run: int, split: Split, *, own_loss: bool) -> None:
    targets = split.targets
    if targets.is_floating_point():
        if not (own_loss or targets.ndim == 2):
            raise ValueError(
                f"split {run} has {targets.dtype} targets of shape {tuple(targets.shape)}, cross-entropy takes class "
                "indices (n,) or class probabilities (n, classes); give loss= for others"
            )
        if not torch.isfinite(targets).all():
            raise ValueError(f"split {run} has a target that is not finite; leave that example out")
    elif not own_loss and not (targets.ndim == 1 and split.classes):
        raise ValueError(
            f"split {run} has {split.classes} classes and targets of shape {tuple(targets.shape)}, cross-entropy takes "
            "class indices (n,); give loss= for others"
        )
    elif split.classes and not 0 <= targets.min() <= targets.max() < split.classes:
        raise ValueError(
            f"split {run} has {split.classes} classes, so its targets must lie between 0 and {split.classes - 1}, "
            f"got values from {targets.min()} to {targets.max()}"
        )


def network_of(make_model: Callable[[], nn.Module]) -> nn.Module:
    """A network that copies of can be trained, one update a step."""
    if not callable(make_model) or isinstance(make_model, nn.Module):
        raise ValueError("make_model must be a function without arguments that makes the network; give lambda: ...")
    model = make_model()
    if not isinstance(model, nn.Module):
        raise ValueError(f"make_model must make a torch.nn.Module, but made a {type(model).__name__}")
    check_initialised(model)
    parameters = trainable(model)
    types = {p.dtype for p in parameters}
    if len(types) > 1 or not parameters[0].is_floating_point():
        names = ", ".join(sorted(map(str, types)))
        raise ValueError(f"all weights must have one real floating type, make_model gives {names}; convert the model")
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "make_model keeps tensors made under torch.inference_mode(), which cannot be trained; make them outside"
        )
    if any(getattr(layer, "max_norm", None) is not None for layer in model.modules() if isinstance(layer, EMBEDDINGS)):
        raise ValueError(
            "an embedding with max_norm changes its weights beside the update, so the dispersion of the updates would "
            "miss that; leave max_norm out"
        )
    if any(p._post_accumulate_grad_hooks for p in parameters):
        raise ValueError(
            "make_model registers a hook after the accumulation of gradients, and no gradient is accumulated here; use "
            "register_hook, which sees the gradient itself"
        )
    return model


def copies_of(model: nn.Module, k: int) -> list[nn.Module]:
    """k deep copies."""
    try:
        return [copied(model) for _ in range(k)]
    except Exception as error:  # a part of somebody's model may refuse to be copied in any words
        raise ValueError(
            f"the network cannot be copied for each run ({str(error).splitlines()[0]}); keep what cannot be copied "
            "outside of the network"
        ) from error


def check_batch(model: nn.Module, splits: Sequence[Split], loss: PerExampleLoss, batch_size: int) -> None:
    """Refuse what fails on the first examples: in training mode, on a model that may be thrown away.

    A loss that draws at random may be trained, and cannot be seen to take examples one by one.
    """
    split = splits[0]
    weight = trainable(model)[0]
    batch = split.take(torch.arange(batch_size)).to(dtype=weight.dtype).to(device=weight.device)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "None of the inputs have requires_grad=True")
            z = outputs(model.train(), batch.inputs)
    except torch.OutOfMemoryError:
        raise
    except UserWarning as error:
        raise ValueError(
            "the network checkpoints activations in PyTorch's old way, which leaves out the gradient of a first layer; "
            "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        ) from error
    except (RuntimeError, TypeError, IndexError) as error:
        given = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors(batch.inputs))
        raise ValueError(f"the network does not take a batch of {given} ({str(error).splitlines()[0]})") from error
    except ValueError as error:
        if batch_size == 1 and "Expected more than 1 value per channel" in str(error):
            raise ValueError(
                "BatchNorm cannot normalise a batch of one example; take a batch_size of at least 2, or GroupNorm"
            ) from error
        raise
    for each in splits:
        check_targets(loss, z.detach(), each.targets.to(z.device))
    with unchanged(shared_generators(z.device)) as drawn:
        beside_outputs = per_example(loss, z.detach(), batch.targets)
        again = per_example(loss, z.detach(), batch.targets)
        by_chance = drawn() or not torch.equal(again, beside_outputs)
    if not by_chance:
        check_separable(loss, z.detach()[:EXAMPLES], batch.targets[:EXAMPLES])
    if beside_outputs.requires_grad:
        raise ValueError(
            "the loss has weights of its own, which no run trains (a penalty that one network keeps, a temperature?); "
            "let the network return what the loss needs of it, or detach those weights"
        )
    values = per_example(loss, z, batch.targets)
    if not values.requires_grad:
        part = "loss" if z.requires_grad else "network"
        raise ValueError(
            f"the {part} cuts the graph between weights and loss (detach, numpy, no_grad or a checkpoint with "
            "use_reentrant=True inside it?), so that nothing would be trained; compute it in differentiable operations"
        )
    try:
        torch.autograd.grad(values.mean(), trainable(model), allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        refuse_backward(error)
        raise


def check_settings(
    *, size: int, epochs: int, batch_size: int, lr: float | Callable[[int], float], momentum: float,
    weight_decay: float, seed: int, until_loss: float | None,
) -> None:  # fmt: skip
    """Numbers in their ranges; ``size`` is the number of examples of a split."""
    if whole("batch_size", batch_size) > size:
        raise ValueError(
            f"batch_size must lie between 1 and {size}, the number of examples of a split, got {batch_size}"
        )
    whole("epochs", epochs, least=0)
    seed_of(seed)
    if not callable(lr):
        positive("lr", lr)
    if not 0 <= real("momentum", momentum) < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    non_negative("weight_decay", weight_decay)
    if until_loss is not None and not isfinite(real("until_loss", until_loss)):
        raise ValueError(f"until_loss must be a finite number, or None to train for all epochs, got {until_loss}")


def rate_of(lr: float | Callable[[int], float], epoch: int) -> float:
    """The learning rate of an epoch; a schedule may go down to zero."""
    return non_negative(f"the value of lr in epoch {epoch}", lr(epoch)) if callable(lr) else lr


def precision_of(precision: Precision | None, weights: Tensor) -> str:
    """What the passes compute in: "bf16", or the name of the weights' own type."""
    exact = str(weights.dtype).removeprefix("torch.")
    if precision is None or precision == exact:
        return exact
    if precision not in get_args(Precision):
        raise ValueError(f'precision must be "float32", "bf16" or None, got {precision!r}')
    if weights.dtype != torch.float32:
        raise ValueError(f"precision={precision!r} needs float32 weights, make_model gives {exact}; convert the model")
    if not _computes_bf16(weights.device):
        raise ValueError(f'precision="bf16" needs a device that computes in bfloat16, {weights.device} does not')
    return precision


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
