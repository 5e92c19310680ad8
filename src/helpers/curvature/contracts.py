"""What curvature asks of a model, a loss and a sample, checked where they enter; and the arithmetic it is computed in.

The mean loss L(w) = (1/n) sum_i loss(f(w, x_i), y_i) is a mean over examples only if f(w, x_i) depends on example i
alone, and it is a function of w only if f does not depend on chance. ``admitted`` tests both once a model, on two
examples; ``check_deterministic`` tests on whole samples that two passes agree.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers.data import Split, as_split
from helpers.data.inputs import tensors
from helpers.losses import Demanding, Loss, per_example
from helpers.models import outputs, trainable

P = ParamSpec("P")
T = TypeVar("T")

EXACT_TYPES = (torch.float32, torch.float64)
_independent: "WeakKeyDictionary[nn.Module, tuple[str, ...]]" = WeakKeyDictionary()


# --- The arithmetic ---------------------------------------------------------------------------------------------------


@contextmanager
def precisely(model: nn.Module) -> Iterator[None]:
    """Gradients on, whatever surrounds the block; no autocast, no TF32, attention by its mathematical kernel.

    TF32 rounds to 10 bits: harmless for training, an error of a hundredth in a Hessian product. Fused attention has no
    second derivative, its mathematical kernel has. Embeddings have their derivative (``_plain_embeddings``).
    """
    with ExitStack() as stack:
        stack.enter_context(_plain_embeddings(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        before = (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.mha.get_fastpath_enabled(),
        )
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]
            torch.backends.mha.set_fastpath_enabled(before[2])


def precise(function: Callable[P, T]) -> Callable[P, T]:
    """The function of a model, which is its first argument, computed ``precisely``."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        model: Any = args[0] if args else kwargs["model"]
        with precisely(model):
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def _plain_embeddings(model: nn.Module) -> Iterator[None]:
    """Embedding layers without the options that replace their derivative by something else.

    ``padding_idx`` drops the derivative in one row, which training shall not move; the outputs depend on that row all
    the same, and it is a part of W. ``scale_grad_by_freq`` divides by counts within a batch.
    """
    with ExitStack() as stack:
        for layer in model.modules():
            plain: dict[str, Any] = {}
            if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
                plain = {"scale_grad_by_freq": False, "sparse": False}
            if isinstance(layer, nn.Embedding):  # a bag leaves its padding out of the outputs, too
                plain["padding_idx"] = None
            before = {name: getattr(layer, name) for name in plain}
            if before != plain:
                stack.callback(vars(layer).update, before)
                vars(layer).update(plain)
        yield


# --- Admission --------------------------------------------------------------------------------------------------------


def admitted(model: nn.Module, loss: Loss, examples: Any, *, name: str = "split") -> Split:
    """The examples as a Split, once model, loss and examples are known to fit together.

    Raises:
        ValueError: in one sentence, if the model is in training mode, in low precision or on several devices, depends
            on the batch or on chance; if inputs or targets are not finite; if targets, outputs and loss do not fit.
    """
    split = as_split(examples)
    check_model(model)
    for part, values in (("inputs", tensors(split.inputs)), ("targets", [split.targets])):
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise ValueError(f"{name} holds {part} that are not finite; leave those examples out")
    few = on_model(model, split, slice(2))
    with torch.no_grad():
        check_independence(model, few)
        pair = outputs(model, few.inputs)
        targets = split.targets.to(pair.device)
        if isinstance(loss, Demanding):
            loss.check(pair, targets)
        per_example(loss, pair, few.targets)
    return split


def check_model(model: nn.Module) -> None:
    """Refuse a model whose Hessian would mean nothing: in training mode, in low precision, in parts."""
    check_evaluation_mode(model)
    parameters = trainable(model)
    types = {p.dtype for p in parameters}
    if len(types) > 1 or types.isdisjoint(EXACT_TYPES):
        raise ValueError(
            "curvature needs all weights in float32 or all in float64, the model has "
            f"{', '.join(sorted(map(str, types)))}; call model.float() or model.double()"
        )
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise ValueError("the model's weights are not finite: the run that made them diverged")
    if any(isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.max_norm is not None for m in model.modules()):
        raise ValueError(
            "an embedding with max_norm changes its weights whenever it is called, so that W is not the point that the "
            "loss belongs to; set max_norm = None after training"
        )
    devices = {str(p.device) for p in parameters}
    if len(devices) > 1:
        raise ValueError(f"the model's weights lie on several devices ({', '.join(sorted(devices))}); move them to one")


def check_evaluation_mode(model: nn.Module) -> None:
    """Raise a ValueError if the model, or a part of it, is in training mode."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where BatchNorm and dropout make an example's loss depend on its batch; "
            "call model.eval() first"
        )


def check_independence(model: nn.Module, few: Split) -> None:
    """Refuse a model whose output for an example depends on the rest of the batch or on chance; tried once a model."""
    layout = architecture(model)
    if _independent.get(model) == layout:
        return
    try:
        alone = torch.cat([outputs(model, few.take(slice(i, i + 1)).inputs) for i in range(len(few))])
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ValueError(_DEPENDS_ON_BATCH) from error
    together, again = outputs(model, few.inputs), outputs(model, few.inputs)
    scale = together.abs().max() * torch.finfo(together.dtype).eps ** 0.5
    if (together - again).abs().max() > scale:
        raise ValueError(
            "two passes over the same examples differ: the model draws at random in evaluation mode (dropout that is "
            "always on?); the curvature of a random function is not defined"
        )
    if (together - alone).abs().max() > scale:
        raise ValueError(_DEPENDS_ON_BATCH)
    _independent[model] = layout


_DEPENDS_ON_BATCH = (
    "an example's output depends on the rest of its batch, even in evaluation mode (BatchNorm without running "
    "statistics?), so the loss is no mean over examples; give the model running statistics or another normalisation"
)


def architecture(model: nn.Module) -> tuple[str, ...]:
    """What a check that was made once may rely on: names and types of the modules and of the weights."""
    modules = [f"{name}:{type(module).__qualname__}" for name, module in model.named_modules()]
    return (*modules, *(f"{name}:{p.dtype}:{p.requires_grad}" for name, p in model.named_parameters()))


def on_model(model: nn.Module, split: Split, rows: slice) -> Split:
    """The rows of a split on the model's device, floating inputs in its type, float32 images in channels_last.

    Convolutions of a processor are half as fast again in channels_last; float64 has no such kernels.
    """
    weight = trainable(model)[0]
    batch = split.take(rows).to(device=weight.device, dtype=weight.dtype)
    if isinstance(batch.inputs, Tensor) and batch.inputs.ndim == 4 and batch.inputs.dtype == torch.float32:
        return replace(batch, inputs=batch.inputs.contiguous(memory_format=torch.channels_last))
    return batch
