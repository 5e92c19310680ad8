"""What curvature asks of a model, a loss and a sample, checked where they enter.

The mean loss L(w) = (1/n) sum_i loss(f(w, x_i), y_i) is a mean over examples only if model and loss treat each example
by itself, and it is a function of w only if they do not depend on chance: ``admitted`` tests both. Its derivatives are
those of the book only if what PyTorch calls the gradient is the derivative: ``differentiable`` tests that, too. What
depends on the architecture alone is tried once a model (``trials``), what depends on the loss once a loss.
"""

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from helpers._generators import shared_generators, unchanged
from helpers.curvature.keys import Key, architecture, settings
from helpers.curvature.trials import beside, is_derivative, lent, places, spread, steps_of, tells
from helpers.data import Split, as_split
from helpers.data.inputs import tensors
from helpers.losses import Demanding, Loss, check_callable, per_example
from helpers.models import outputs, trainable, weights

EXACT_TYPES = (torch.float32, torch.float64)
_independent: "WeakKeyDictionary[nn.Module, Key]" = WeakKeyDictionary()
_derived: "WeakKeyDictionary[nn.Module, Key]" = WeakKeyDictionary()
_separable: "WeakKeyDictionary[Any, set[Hashable]]" = WeakKeyDictionary()
_smooth: "WeakKeyDictionary[Any, set[Hashable]]" = WeakKeyDictionary()


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
    with torch.no_grad():
        check_independence(model, split)
        few = _few(model, split).take(slice(2))
        pair = outputs(model, few.inputs)
        if isinstance(loss, Demanding):
            loss.check(pair, split.targets.to(pair.device))
        per_example(loss, pair, few.targets)
        if not _tried(_separable, loss, pair, few.targets):
            check_separable(model, loss, split)
    return split


def differentiable(model: nn.Module, loss: Loss, examples: Any, *, name: str = "split") -> Split:
    """The examples as a Split, once ``admitted``, and the gradients of model and loss are derivatives.

    Raises:
        ValueError: as ``admitted``; if model or loss cuts the graph; if a gradient is not the derivative.
    """
    split = admitted(model, loss, examples, name=name)
    few = _few(model, split).take(slice(2))
    z = check_graph(model, loss, few)
    check_gradient(model, split)
    if not _tried(_smooth, loss, z, few.targets):
        check_smooth(model, loss, split)
    return split


def finite_split(examples: Any, name: str) -> Split:
    """The examples as a Split; ValueError, with ``name``, if inputs or targets are not finite."""
    split = as_split(examples)
    for part, values in (("inputs", tensors(split.inputs)), ("targets", [split.targets])):
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise ValueError(f"{name} holds {part} that are not finite; leave those examples out")
    return split


def check_model(model: nn.Module) -> None:
    """Refuse a model whose Hessian would mean nothing: in training mode, in low precision, in parts."""
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


# --- Each example by itself, and no chance ----------------------------------------------------------------------------


def check_independence(model: nn.Module, split: Split) -> None:
    """Refuse a model whose output for an example depends on the rest of the batch or on chance; tried once a model."""
    layout = architecture(model)
    if _independent.get(model) == layout:
        return
    told = False
    for place, few in places(model, _few(model, split)):
        rows = [few.take(slice(i, i + 1)) for i in range(len(few))]
        with unchanged(shared_generators(trainable(place)[0].device)) as drawn:
            together = _first_outputs(place, few)
            again = outputs(place, few.inputs)
            by_chance = drawn()
        scale = _scale(together)
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
    if told:
        _independent[model] = layout


def _first_outputs(model: nn.Module, few: Split) -> Tensor:
    """The outputs, once it is known that the model takes the inputs, leaves them alone and returns real numbers."""
    given = tensors(few.inputs)
    versions = [tensor._version for tensor in given]
    try:
        z = outputs(model, few.inputs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in given)
        raise ValueError(f"the model does not take these inputs, {shapes} ({str(error).splitlines()[0]})") from error
    if versions != [tensor._version for tensor in given]:
        raise ValueError("the model changes its inputs in place, so a second pass sees others; let it make a new tensor")
    if not z.is_floating_point() or z.numel() == 0:
        raise ValueError(
            f"the model must return real floating numbers, but returns {z.dtype} of shape {tuple(z.shape)}; give real "
            "and imaginary parts as outputs of their own, and logits instead of classes"
        )
    return z


def _scale(values: Tensor) -> Tensor:
    """What two computations of the same values may differ by."""
    return values.detach().abs().max() * torch.finfo(values.dtype).eps ** 0.5


_DEPENDS_ON_BATCH = (
    "an example's output depends on the rest of its batch, even in evaluation mode (BatchNorm without running "
    "statistics?), so the loss is no mean over examples; give the model running statistics or another normalisation"
)


def check_separable(model: nn.Module, loss: Loss, split: Split) -> None:
    """Refuse a loss whose value for an example depends on the rest of the batch or on chance."""
    few = _few(model, split)
    z = outputs(model, few.inputs)
    versions = z._version, few.targets._version
    with unchanged(shared_generators(z.device)) as drawn:
        together = per_example(loss, z, few.targets)
        if versions != (z._version, few.targets._version):
            raise ValueError("the loss changes outputs or targets in place; let it make new tensors")
        again = per_example(loss, z, few.targets)
        by_chance = drawn()
    alone = torch.cat([per_example(loss, z[i : i + 1], few.targets[i : i + 1]) for i in range(len(z))])
    scale = _scale(together)
    if by_chance or (together - again).abs().max() > scale:
        raise ValueError("the loss draws at random, so it is no function of the weights; take the randomness out of it")
    if (together - alone).abs().max() > scale:
        raise ValueError(
            "the loss of an example depends on the rest of its batch (outputs (n, 1) against targets (n,), a division "
            f"by n, or a mean?): outputs are {tuple(z.shape)}, targets {tuple(few.targets.shape)}; let it give each "
            "example its own value"
        )
    if len(together) > 1 and bool((together != together[0]).any()):
        _note(_separable, loss, z, few.targets)


# --- Derivatives ------------------------------------------------------------------------------------------------------


def check_graph(model: nn.Module, loss: Loss, few: Split) -> Tensor:
    """The outputs, unless the graph from weights to loss is cut, as by ``detach``, or there is one past the outputs."""
    with torch.enable_grad():
        z = outputs(model, few.inputs)
        value = per_example(loss, z, few.targets)
    if not z.requires_grad or not (value.requires_grad or getattr(loss, "piecewise_constant", False)):
        part = "loss" if z.requires_grad else "model"
        raise ValueError(
            f"the {part} cuts the graph between weights and loss (detach, numpy or no_grad inside it?), so its "
            "derivative would be zero without being so; compute it in differentiable operations"
        )
    with torch.enable_grad():
        beside_outputs = per_example(loss, z.detach(), few.targets)
    if beside_outputs.requires_grad and any(
        slope is not None
        for slope in torch.autograd.grad(beside_outputs.sum(), trainable(model), allow_unused=True)
    ):
        raise ValueError(
            "the loss depends on the weights past the outputs (weight decay inside it, or a penalty that the model "
            "keeps?), but curvature is that of a loss of outputs and targets; let the model return the penalty as one "
            "more output of each example, and the loss add that"
        )
    return z.detach()


def check_gradient(model: nn.Module, split: Split) -> None:
    """Refuse a model whose gradient is not the derivative of its outputs; tried once a model.

    Only at the place with noise: where the model is, an activation may sit on its kink to the bit.
    """
    layout = architecture(model)
    if _derived.get(model) == layout:
        return
    if not all(_slope_is_right(*place) for place in islice(places(model, _few(model, split)), 1, None)):
        raise ValueError(_NO_GRADIENT)
    _derived[model] = layout


def _slope_is_right(model: nn.Module, few: Split) -> bool:
    with torch.enable_grad():
        scalars = projection(outputs(model, few.inputs))
        slopes = torch.autograd.grad(scalars.sum(), trainable(model), materialize_grads=True)
    w = weights(model)
    slope = torch.cat([piece.reshape(-1) for piece in slopes]).to(w)
    v = torch.randn(w.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(w)
    v /= v.abs().max()
    differences = [(_summed(model, few, w + h * v) - _summed(model, few, w - h * v)) / (2 * h) for h in steps_of(w)]
    noise = [4 * torch.finfo(w.dtype).eps * scalars.detach().abs().sum().to(w) / h for h in steps_of(w)]
    return is_derivative(
        torch.dot(slope, v)[None], torch.stack(differences)[:, None].to(w), torch.stack(noise)[:, None]
    )


_NO_GRADIENT = (
    "the model's gradient is not the derivative of its loss: an operation drops, scales or replaces a derivative "
    "(detach, F.embedding with padding_idx, gradient reversal, straight-through rounding?); replace that operation"
)


def _summed(model: nn.Module, few: Split, w: Tensor) -> Tensor:
    with torch.no_grad(), lent(model, w):
        return projection(outputs(model, few.inputs)).sum()


def check_smooth(model: nn.Module, loss: Loss, split: Split) -> None:
    """Refuse a loss whose gradient in the outputs is not its derivative, where it has one.

    Tried in float64 beside the outputs, where no kink is hit; not at all where the loss does not take those.
    """
    few = _few(model, split)
    with torch.no_grad():
        seen = outputs(model, few.inputs)
    z = beside(seen.double())
    targets = few.targets.double() if few.targets.is_floating_point() else few.targets
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(z)
    try:
        with torch.enable_grad():
            losses = per_example(loss, z.requires_grad_(), targets)
            if not losses.requires_grad:
                return  # piecewise constant, and says so: see ``check_graph``
            (slopes,) = torch.autograd.grad(losses.sum(), z, materialize_grads=True)
        z = z.detach()
        with torch.no_grad():
            sides = [
                (per_example(loss, z + h * v, targets), per_example(loss, z - h * v, targets)) for h in steps_of(z)
            ]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # probabilities beyond 1, class weights in float32: in whatever words
        return
    differences = torch.stack([(up - down) / (2 * h) for (up, down), h in zip(sides, steps_of(z), strict=True)])
    noise = torch.stack([4 * torch.finfo(z.dtype).eps * losses.detach().abs() / h for h in steps_of(z)])
    if not is_derivative((slopes * v).reshape(len(z), -1).sum(1), differences, noise):
        raise ValueError(
            "the loss's gradient is not its derivative (a part of it is detached, scaled or rounded?), so its "
            "curvature would be that of another loss; compute all of it in differentiable operations"
        )
    _note(_smooth, loss, seen, few.targets)


def projection(rows: Tensor) -> Tensor:
    """A scalar an example that every output enters, (n,): its curvature is the network's own."""
    rows = rows.reshape(len(rows), -1)
    return torch.mv(rows, torch.linspace(1, 2, rows.shape[1], dtype=rows.dtype, device=rows.device))


# --- What was tried ---------------------------------------------------------------------------------------------------


def _few(model: nn.Module, split: Split) -> Split:
    few = spread(split)
    return on_model(model, few, slice(len(few)))


def _layout(loss: Loss, z: Tensor, targets: Tensor) -> Hashable:
    return settings(loss), z.shape[1:], z.dtype, targets.shape[1:], targets.dtype


def _tried(tried: "WeakKeyDictionary[Any, set[Hashable]]", loss: Loss, z: Tensor, targets: Tensor) -> bool:
    with suppress(TypeError):  # a loss that cannot be a key is tried every time
        return _layout(loss, z, targets) in tried.get(loss, set())
    return False


def _note(tried: "WeakKeyDictionary[Any, set[Hashable]]", loss: Loss, z: Tensor, targets: Tensor) -> None:
    with suppress(TypeError):
        tried.setdefault(loss, set()).add(_layout(loss, z, targets))


def on_model(model: nn.Module, split: Split, rows: slice) -> Split:
    """The rows of a split on the model's device, floating inputs in its type, float32 images in channels_last.

    Convolutions of a processor are half as fast again in channels_last; float64 has no such kernels.
    """
    weight = trainable(model)[0]
    batch = split.take(rows).to(device=weight.device, dtype=weight.dtype)
    if isinstance(batch.inputs, Tensor) and batch.inputs.ndim == 4 and batch.inputs.dtype == torch.float32:
        return replace(batch, inputs=batch.inputs.contiguous(memory_format=torch.channels_last))
    return batch
