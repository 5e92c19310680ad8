"""What curvature asks of a model, a loss and a sample, checked where they enter.

The mean loss L(w) = (1/n) sum_i loss(f(w, x_i), y_i) is a mean over examples only if model and loss treat each example
by itself, and it is a function of w only if they do not depend on chance: ``admitted`` tests both. Its derivatives are
those of the book only if what PyTorch calls the gradient is the derivative: ``differentiable`` tests that, too, and
``twice_differentiable`` the second derivative of the loss. What depends on the architecture alone is tried once a model
(``trials``), what depends on the loss once a loss.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from helpers._generators import shared_generators, unchanged
from helpers.curvature.derivatives import (
    check_curved,
    check_gradient,
    check_graph,
    check_pushed,
    check_smooth,
)
from helpers.curvature.keys import Losses, Verdicts
from helpers.curvature.precision import precise
from helpers.curvature.trials import EXAMPLES, places, spread, tells
from helpers.data import Split, as_split, as_splits
from helpers.data.inputs import tensors
from helpers.losses import Loss, check_callable, check_separable, check_targets, per_example
from helpers.models import channels_last, check_initialised, outputs, set_weights, trainable, weights

EXACT_TYPES = (torch.float32, torch.float64)
MANY = 64  # examples of a batch in which a model is tried
_independent = Verdicts[bool]()
_separable = Losses()


@precise
def admitted(model: nn.Module, loss: Loss, examples: Any, *, name: str = "split") -> Split:
    """The examples as a Split, once model, loss and examples are known to fit together.

    Raises:
        ValueError: in one sentence, if the model is in training mode, in low precision or on several devices; if model
            or loss depends on the batch or on chance, or changes what it is given; if inputs or targets are not finite;
            if targets, outputs and loss do not fit.
    """
    split = finite_split(examples, name)
    check_model(model)
    check_callable(loss)
    with torch.no_grad(), unchanged(shared_generators(trainable(model)[0].device)):
        check_independence(model, split)
        few = few_of(model, split).take(slice(2))
        pair = _taken(model, few)
        check_targets(loss, pair, split.targets.to(pair.device))
        per_example(loss, pair, few.targets)
        if not _separable.holds(loss, pair, few.targets):
            few = few_of(model, split)
            losses = check_separable(loss, outputs(model, few.inputs), few.targets)
            if len(losses) > 1 and bool((losses != losses[0]).any()):
                _separable.note(loss, pair, few.targets)
    return split


@precise
def differentiable(model: nn.Module, loss: Loss, examples: Any, *, name: str = "split") -> Split:
    """The examples as a Split, once ``admitted``, and the gradients of model and loss are derivatives.

    Raises:
        ValueError: as ``admitted``; if model or loss cuts the graph; if a gradient is not the derivative.
    """
    return _derived(model, loss, examples, name)[0]


@precise
def twice_differentiable(model: nn.Module, loss: Loss, examples: Any, *, name: str = "split") -> Split:
    """The examples as a Split, once ``differentiable``, and the loss has the right second derivative in the outputs.

    That of the model is tried where a route is chosen (``routes``).

    Raises:
        ValueError: as ``differentiable``; if PyTorch has no second derivative of the loss, or a wrong one.
    """
    split, few, z = _derived(model, loss, examples, name)
    check_curved(loss, z, few)
    return split


def _derived(model: nn.Module, loss: Loss, examples: Any, name: str) -> tuple[Split, Split, Tensor]:
    """The split, few of its examples, and the outputs for these, once ``differentiable``."""
    split = admitted(model, loss, examples, name=name)
    few = few_of(model, split)
    z = check_graph(model, loss, few)
    check_gradient(model, few)
    check_smooth(loss, z, few)
    return split, few, z


@precise
def check_linearised(model: nn.Module, split: Split, what: str, *, entering: float) -> None:
    """Refuse a model whose backward pass is not differentiable in what enters it, as ``what`` must have it."""
    check_pushed(model, few_of(model, split), what, entering)


def finite_splits(samples: Any, name: str) -> list[Split]:
    """One finite split for each of several samples; ValueError, with the position, as ``finite_split``."""
    return [finite_split(one, f"{name}[{i}]") for i, one in enumerate(as_splits(samples, name=name))]


def finite_split(examples: Any, name: str) -> Split:
    """The examples as a Split; ValueError, with ``name``, if they are none, or inputs or targets are not finite."""
    try:
        split = as_split(examples)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    for part, values in (("inputs", tensors(split.inputs)), ("targets", [split.targets])):
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise ValueError(f"{name} holds {part} that are not finite; leave those examples out")
    return split


def check_model(model: nn.Module) -> None:
    """Refuse a model whose Hessian would mean nothing: in training mode, in low precision, in parts."""
    check_initialised(model)
    check_evaluation_mode(model)
    parameters = trainable(model)
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "the model was made under torch.inference_mode(), so its weights can have no gradient; make it outside, or "
            "give copy.deepcopy(model)"
        )
    if not any(p.numel() for p in parameters):
        raise ValueError("the model's trainable parameters have no entries (a layer of width zero?), so there is no W")
    types = {p.dtype for p in parameters}
    if any(p.is_complex() for p in parameters):
        raise ValueError(
            "curvature needs real weights, the model has complex ones; hold them as pairs of real numbers, and make "
            "complex numbers of them in its forward pass (torch.view_as_complex)"
        )
    if len(types) > 1 or types.isdisjoint(EXACT_TYPES):
        raise ValueError(
            "curvature needs all weights in float32 or all in float64, the model has "
            f"{', '.join(sorted(map(str, types)))}; call model.float() or model.double()"
        )
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError("the model lies on the meta device, where weights have no values; make it on the CPU or a GPU")
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


# --- Each example by itself, and no chance ----------------------------------------------------------------------------


def check_independence(model: nn.Module, split: Split) -> None:
    """Refuse a model whose output for an example depends on the rest of the batch or on chance; tried once a model.

    On few examples together and one by one, where the model is and beside it; and on many, against few at a time in
    reverse order, for a model may sort its batch, or mix it only where it is large.
    """
    if _independent.of(model, split.inputs):
        return
    told = False
    for place, few in places(model, few_of(model, split)):
        rows = [few.take(slice(i, i + 1)) for i in range(len(few))]
        with unchanged(shared_generators(trainable(place)[0].device)) as drawn:
            together = _first_outputs(place, few)
            again = outputs(place, few.inputs)
            by_chance = drawn()
        scale = _tolerance(together)
        if by_chance or (together - again).abs().max() > scale:
            raise ValueError(
                "the model draws at random in evaluation mode (dropout that is always on?), or remembers what it has "
                "seen, so two passes over the same examples may differ; such a function has no curvature"
            )
        try:
            alone = torch.cat([outputs(place, row.inputs) for row in rows])
        except ValueError as error:
            if "Expected more than 1 value per channel" not in str(error):
                raise
            raise ValueError(_DEPENDS_ON_BATCH) from error
        if (together - alone).abs().max() > scale:
            raise ValueError(_DEPENDS_ON_BATCH)
        told = told or tells(few)
    if _depends_on_order(model, split):
        raise ValueError(_DEPENDS_ON_BATCH)
    if told:
        _independent.note(model, split.inputs, True)


def _depends_on_order(model: nn.Module, split: Split, many: int = MANY) -> bool:
    rows = torch.linspace(0, len(split) - 1, min(many, len(split))).round().long()
    try:
        together = outputs(model, on_model(model, split.take(rows), slice(None)).inputs)
    except torch.OutOfMemoryError:
        if many <= EXAMPLES:
            raise
        return _depends_on_order(model, split, many // 2)
    pieces = [on_model(model, split.take(piece), slice(None)).inputs for piece in rows.flip(0).split(EXAMPLES)]
    turned = torch.cat([outputs(model, piece) for piece in pieces]).flip(0)
    return bool(((together - turned).abs() > _tolerance(together)).any())


def _first_outputs(model: nn.Module, few: Split) -> Tensor:
    """The outputs, once it is known that the model takes the inputs, changes nothing and returns real numbers."""
    given, parameters = tensors(few.inputs), trainable(model)
    versions, at_first = [[tensor._version for tensor in part] for part in (given, parameters)], weights(model)
    z = _taken(model, few)
    if versions[1] != [p._version for p in parameters]:
        set_weights(model, at_first)
        raise ValueError(
            "the model changes its weights whenever it is called (F.embedding with max_norm?), so that W is not the "
            "point that the loss belongs to; let it leave them as they are"
        )
    if versions[0] != [tensor._version for tensor in given]:
        raise ValueError(
            "the model changes its inputs in place, so a second pass sees others; let it make a new tensor"
        )
    if not z.is_floating_point() or z.numel() == 0:
        raise ValueError(
            f"the model must return real floating numbers, but returns {z.dtype} of shape {tuple(z.shape)}; give real "
            "and imaginary parts as outputs of their own, and logits instead of classes"
        )
    return z


def _taken(model: nn.Module, few: Split) -> Tensor:
    """The outputs; a ValueError with the shapes if the model does not take the inputs."""
    try:
        return outputs(model, few.inputs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors(few.inputs))
        raise ValueError(f"the model does not take these inputs, {shapes} ({str(error).splitlines()[0]})") from error


def _tolerance(values: Tensor) -> Tensor:
    """What two computations of the same values may differ by."""
    result: Tensor = values.detach().abs().max() * torch.finfo(values.dtype).eps ** 0.5
    return result


_DEPENDS_ON_BATCH = (
    "an example's output depends on the rest of its batch, even in evaluation mode (BatchNorm without running "
    "statistics, a batch that is sorted?), so the loss is no mean over examples; give the model running statistics or "
    "another normalisation"
)


# --- Examples as the model takes them ---------------------------------------------------------------------------------


def few_of(model: nn.Module, split: Split) -> Split:
    """Some examples from all over the split, in memory of their own."""
    few = spread(split)
    return on_model(model, few, slice(len(few)))


def on_model(model: nn.Module, split: Split, rows: slice) -> Split:
    """The rows of a split on the model's device, floating inputs in its type.

    Images of float32 lie with channels last where that is faster (``models.channels_last``); float64 has no such
    kernels.
    """
    weight = trainable(model)[0]
    batch = split.take(rows).to(device=weight.device, dtype=weight.dtype)
    images = isinstance(batch.inputs, Tensor) and batch.inputs.ndim == 4 and batch.inputs.dtype == torch.float32
    if images and channels_last(model):
        return replace(batch, inputs=batch.inputs.contiguous(memory_format=torch.channels_last))
    return batch
