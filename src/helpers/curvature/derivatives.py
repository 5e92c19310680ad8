"""Is what PyTorch calls the gradient the derivative? Tried on a few examples, on the model's device and in its type."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn

from helpers.curvature.keys import Losses, Verdicts
from helpers.curvature.trials import beside, is_derivative, lent, places, rounding, steps_of
from helpers.data import Split
from helpers.losses import Loss, per_example
from helpers.models import outputs, refuse_backward, trainable, weights

_derived = Verdicts[bool]()
_smooth = Losses()
_curved = Losses()


def check_graph(model: nn.Module, loss: Loss, few: Split) -> Tensor:
    """Refuse a graph between weights and loss that is cut, as ``detach`` does, or goes past the outputs; these else."""
    with torch.enable_grad():
        z = outputs(model, few.inputs)
        value = per_example(loss, z, few.targets)
    if not z.requires_grad or not (value.requires_grad or getattr(loss, "piecewise_constant", False)):
        part = "loss" if z.requires_grad else "model"
        raise ValueError(
            f"the {part} cuts the graph between weights and loss (detach, numpy, no_grad or a checkpoint with "
            "use_reentrant=True inside it?), so its derivative would be zero without being so; compute it in "
            "differentiable operations"
        )
    with torch.enable_grad():
        beside_outputs = per_example(loss, z.detach(), few.targets)
    if beside_outputs.requires_grad and any(
        slope is not None for slope in torch.autograd.grad(beside_outputs.sum(), trainable(model), allow_unused=True)
    ):
        raise ValueError(
            "the loss depends on the weights past the outputs (weight decay inside it, or a penalty that the model "
            "keeps?), but curvature is that of a loss of outputs and targets; let the model return the penalty as one "
            "more output of each example, and the loss add that"
        )
    return z.detach()


def check_gradient(model: nn.Module, few: Split) -> None:
    """Refuse a model whose gradient is not the derivative of its outputs; tried once a model.

    Only at the place with noise: where the model is, an activation may sit on its kink to the bit.
    """
    if _derived.of(model, few.inputs):
        return
    if not all(_slope_is_right(*place) for place in islice(places(model, few), 1, None)):
        raise ValueError(_NO_GRADIENT)
    _derived.note(model, few.inputs, True)


def _slope_is_right(model: nn.Module, few: Split) -> bool:
    with torch.enable_grad():
        scalars = projection(outputs(model, few.inputs))
        try:
            slopes = torch.autograd.grad(scalars.sum(), trainable(model), materialize_grads=True)
        except RuntimeError as error:
            refuse_backward(error)
            raise
    w, v = weights(model), _direction(model)
    slope = torch.cat([piece.reshape(-1) for piece in slopes]).to(w)
    differences = [(_summed(model, few, w + h * v) - _summed(model, few, w - h * v)) / (2 * h) for h in steps_of(w)]
    unsure = rounding(lambda values: _summed(model, few, values), w)
    noise = [unsure.to(w) / h for h in steps_of(w)]
    return is_derivative(
        torch.dot(slope, v)[None], torch.stack(differences)[:, None].to(w), torch.stack(noise)[:, None]
    )


def _direction(model: nn.Module) -> Tensor:
    """A random direction in the weights, (d,), with largest entry 1."""
    w = weights(model)
    v = torch.randn(w.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(w)
    return v / v.abs().max()


def check_pushed(model: nn.Module, few: Split, what: str, entering: float) -> None:
    """Refuse a model whose backward pass is not differentiable in what enters it, as ``what`` (a noun) must have it.

    The derivative of the outputs along v, J v, is that of <J^T u, v> in u. A backward pass that is marked or written as
    one to go through once loses that derivative, often without a word; that of torch.logcumsumexp has none at u = 0.
    Tried against differences, at the place with noise alone, as in ``check_gradient``, where u is ``entering``.
    """
    if not all(_push_is_right(*place, entering) for place in islice(places(model, few), 1, None)):
        raise ValueError(
            f"an operation of the model cannot be differentiated twice, as {what} must (a backward pass of your own, "
            "with once_differentiable or a detach in it, nn.EmbeddingBag or torch.logcumsumexp?); write it in "
            "operations that can"
        )


def _push_is_right(model: nn.Module, few: Split, entering: float) -> bool:
    v = _direction(model)
    try:
        with torch.enable_grad():
            scalars = projection(outputs(model, few.inputs))
            u = torch.full_like(scalars, entering, requires_grad=True)
            slopes = torch.autograd.grad(scalars, trainable(model), u, create_graph=True, materialize_grads=True)
            along = torch.dot(torch.cat([piece.reshape(-1) for piece in slopes]), v)
            (pushed,) = torch.autograd.grad(along, u, materialize_grads=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    w = weights(model)

    def f(values: Tensor) -> Tensor:
        with torch.no_grad(), lent(model, values):
            return projection(outputs(model, few.inputs))

    differences = torch.stack([(f(w + h * v) - f(w - h * v)) / (2 * h) for h in steps_of(w)])
    unsure = rounding(f, w)
    noise = torch.stack([unsure / h for h in steps_of(w)])
    return bool(torch.isfinite(pushed).all()) and is_derivative(pushed, differences, noise)


_NO_GRADIENT = (
    "the model's gradient is not the derivative of its loss: an operation drops, scales or replaces a derivative "
    "(detach, F.embedding with padding_idx, a backward hook, straight-through rounding, a checkpoint with "
    "use_reentrant=True?); replace that operation"
)


def _summed(model: nn.Module, few: Split, w: Tensor) -> Tensor:
    with torch.no_grad(), lent(model, w):
        return projection(outputs(model, few.inputs)).sum()


def check_smooth(loss: Loss, seen: Tensor, few: Split) -> None:
    """Refuse a loss whose gradient in the outputs is not its derivative, where it has one; tried once a loss."""
    if _smooth.holds(loss, seen, few.targets):
        return
    targets = _doubled(few.targets)
    right = _has_right_slope(lambda z: per_example(loss, z, targets), seen)
    if right is False:
        raise ValueError(
            "the loss's gradient is not its derivative (a part of it is detached, scaled or rounded?), so its "
            "curvature would be that of another loss; compute all of it in differentiable operations"
        )
    if right:
        _smooth.note(loss, seen, few.targets)


def check_curved(loss: Loss, seen: Tensor, few: Split) -> None:
    """Refuse a loss that PyTorch cannot differentiate twice in the outputs, or does wrongly; tried once a loss."""
    if _curved.holds(loss, seen, few.targets):
        return
    try:
        with torch.enable_grad():
            z = seen.detach().clone().requires_grad_()
            slope = _slope(loss, z, few.targets)
            if slope.requires_grad:
                torch.autograd.grad(slope.sum(), z, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"loss has no second derivative in PyTorch ({str(error).splitlines()[0]}), so there is no curvature to be "
            "had of it; write it in operations that can be differentiated twice, such as F.relu for the positive part "
            "of a margin, or give another loss"
        ) from error
    targets = _doubled(few.targets)
    right = _has_right_slope(lambda z: _slope(loss, z, targets), seen)
    if right is False:
        raise ValueError(
            "loss has a gradient whose derivative PyTorch does not know (a backward pass of your own, which is not "
            "differentiable itself?), so its curvature would come out wrong; write it in operations that can be "
            "differentiated twice"
        )
    if right:
        _curved.note(loss, seen, few.targets)


def _slope(loss: Loss, z: Tensor, targets: Tensor) -> Tensor:
    """A scalar an example that every entry of the loss's gradient in the outputs enters, (n,), with its graph."""
    with torch.enable_grad():
        z = z if z.requires_grad else z.clone().requires_grad_()
        value = per_example(loss, z, targets).sum()
        if not value.requires_grad:
            return z.new_zeros(len(z))  # piecewise constant, and says so: see ``check_graph``
        (slopes,) = torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)
        return projection(slopes)


def _doubled(targets: Tensor) -> Tensor:
    return targets.double() if targets.is_floating_point() else targets


def _has_right_slope(f: Callable[[Tensor], Tensor], seen: Tensor) -> bool | None:
    """Whether the gradient of ``f``, from outputs to one scalar an example, is its derivative; None if f fails there.

    Tried in float64 beside the outputs that were seen, where no kink is hit, and at a size of 1 at most, where a loss
    of logits is not yet flat to the last digit; not at all where f does not take those.
    """
    z = beside(seen.double())
    z = z / max(1.0, z.square().mean().sqrt().item())
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(z)
    try:
        with torch.enable_grad():
            scalars = f(z.requires_grad_())
            slopes = torch.zeros_like(z)
            if scalars.requires_grad:
                (slopes,) = torch.autograd.grad(scalars.sum(), z, materialize_grads=True)
        z = z.detach()
        with torch.no_grad():
            differences = torch.stack([(f(z + h * v) - f(z - h * v)) / (2 * h) for h in steps_of(z)])
            unsure = rounding(f, z)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # probabilities beyond 1, class weights in float32: in whatever words
        return None
    noise = torch.stack([unsure / h for h in steps_of(z)])
    with torch.no_grad():
        return is_derivative((slopes * v).reshape(len(z), -1).sum(1), differences.detach(), noise.detach())


def projection(rows: Tensor) -> Tensor:
    """A scalar an example that every output enters, (n,): its curvature is the network's own."""
    rows = rows.reshape(len(rows), -1)
    return torch.mv(rows, torch.linspace(1, 2, rows.shape[1], dtype=rows.dtype, device=rows.device))
