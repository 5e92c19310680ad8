"""Three routes to a batch's Hessian times a vector, and which of them a network may be trusted to.

Some operations of PyTorch have no forward derivative; the gradient of some that have one is silently wrong (layer
normalisation); of tied parameters only one is moved; and some have a wrong second derivative, or none. So a route is
tried on a few examples before it is used, where the network is and at a place with noise (``trials``): in float64,
against a difference of gradients, which needs first derivatives only, or on the symmetry that every Hessian has.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from helpers.curvature.contracts import on_model
from helpers.curvature.derivatives import projection
from helpers.curvature.keys import Verdicts
from helpers.curvature.trials import doubled, lent, places, tried
from helpers.data import Split
from helpers.losses import per_example
from helpers.models import flat, outputs, split_like, trainable, weights

LossFunction = Callable[[Tensor, Tensor], Tensor]
BatchProduct = Callable[[nn.Module, LossFunction, Split, Tensor], Tensor]

_trusted = Verdicts[BatchProduct]()


# --- The routes -------------------------------------------------------------------------------------------------------


def reverse_over_reverse(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """Hessian of the batch's summed loss times v (d,): the gradient of the gradient's component along v."""
    parameters = trainable(model)
    value = summed_loss(model, loss, batch)
    if not value.requires_grad:
        return torch.zeros_like(v)
    slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    along = [(slope * piece).sum() for slope, piece in zip(slopes, split_like(model, v), strict=True)]
    return derivative(torch.stack(along).sum(), parameters)


def reverse_over_forward(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """The same as the gradient of the loss' slope along v.

    The derivative dz of the outputs z along v travels forward beside them; the slope is <grad loss(z), dz>. Work: 8
    forward passes against 6 for two gradients, where two backward passes need 9.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with forward_ad.dual_level(), warnings.catch_warnings():
        # PyTorch loads its own rules at the first dual number, by a route that it warns against itself.
        warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)
        pieces = zip(named.items(), split_like(model, v), strict=True)
        moved = {name: forward_ad.make_dual(p, piece) for (name, p), piece in pieces}
        z, dz = forward_ad.unpack_dual(_functional_outputs(model, moved, batch.inputs))
    value = per_example(loss, z, batch.targets).sum()
    if dz is None or not value.requires_grad:
        return torch.zeros_like(v)
    (slope,) = torch.autograd.grad(value, z, create_graph=True)
    return derivative((slope * dz).sum(), list(named.values()))


def with_plain_operations(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """``reverse_over_reverse`` with operations written out whose fused form has a wrong second derivative, or none."""
    with PlainOperations():
        return reverse_over_reverse(model, loss, batch, v)


def by_differences(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """The same from gradients at w +- h v and w +- h v / 2 in float64 (Richardson), for any network with a gradient.

    Raises:
        ValueError: if the two steps disagree, as they do beside a kink: there is then no second derivative to be had.
    """
    if not v.any():
        return torch.zeros_like(v)
    twin = doubled(model)
    batch, direction = batch.to(dtype=trainable(twin)[0].dtype), v.to(trainable(twin)[0])
    w = weights(twin)
    step = 1e-4 * (1 + w.norm()) / direction.norm()
    coarse = _difference(twin, loss, batch, w, step * direction) / step
    fine = _difference(twin, loss, batch, w, step / 2 * direction) / (step / 2)
    if (fine - coarse).norm() > 1e-3 * fine.norm():
        raise ValueError(
            "PyTorch has no right second derivative of this model, and differences of its gradient do not settle; "
            "replace the operation that has none (its name is in PyTorch's message above, if it gave one)"
        )
    extrapolated: Tensor = (4 * fine - coarse) / 3
    return extrapolated.to(v)


def _difference(model: nn.Module, loss: LossFunction, batch: Split, w: Tensor, shift: Tensor) -> Tensor:
    """(gradient at w + shift - gradient at w - shift) / 2 of the summed loss, shape (d,)."""
    sides = []
    for sign in (1, -1):
        with lent(model, w + sign * shift):
            sides.append(derivative(summed_loss(model, loss, batch), trainable(model)))
    return (sides[0] - sides[1]) / 2


class PlainOperations(TorchFunctionMode):
    """Weight normalisation is v g / |v|, the hard sigmoid relu6(x + 3) / 6, by operations with second derivatives."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._weight_norm:
            v, g, dim = (*args, 0)[:3]
            normalised: Tensor = v * (g / torch.norm_except_dim(v, 2, dim))
            return normalised
        if func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6
        return func(*args, **(kwargs or {}))


# --- Which of them ----------------------------------------------------------------------------------------------------


def trusted_product(model: nn.Module, split: Split) -> BatchProduct:
    """The fastest route that is right for this network; tried once a network, and remembered."""
    chosen = _trusted.of(model, split.inputs)
    if chosen is None:
        chosen = tried(lambda some: _first_right(model, on_model(model, some, slice(None))), model, split)
        _trusted.note(model, split.inputs, chosen)
    return chosen


def has_second_derivative(model: nn.Module, few: Split) -> bool:
    """Whether two backward passes give it; tried beside the model alone, where no kink is hit."""
    return all(_is_right(with_plain_operations, *place) for place in islice(_doubled_places(model, few), 1, None))


def _first_right(model: nn.Module, few: Split) -> BatchProduct:
    for route in (reverse_over_forward, reverse_over_reverse, with_plain_operations):
        if _runs(route, model, few) and all(_is_right(route, *place) for place in _doubled_places(model, few)):
            return route
    if _on_kink(*next(_doubled_places(model, few))):
        raise ValueError(
            "the weights lie on a kink of the model, where it has no second derivative (the input of a ReLU is exactly "
            "zero, as it is where all weights are zero?); take weights that were drawn or trained, or add some noise"
        )
    warnings.warn(
        "PyTorch's second derivative of this network is wrong or missing: products are differences of gradients in "
        "float64, good to about six digits, and several times slower",
        stacklevel=2,
    )
    return by_differences  # of gradients that ``differentiable`` has tried


def _doubled_places(model: nn.Module, few: Split) -> Iterator[tuple[nn.Module, Split]]:
    """``places`` of the twin in float64; where there is none, of the model itself."""
    twin = doubled(model)
    return places(twin, few.to(dtype=trainable(twin)[0].dtype))


def _projected(rows: Tensor, targets: Tensor) -> Tensor:
    return projection(rows)


def _runs(route: BatchProduct, model: nn.Module, few: Split) -> bool:
    """Whether the route runs as the model is: some operations lack a rule in float32 alone."""
    try:
        route(model, _projected, few, torch.ones_like(weights(model)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
    return True


@dataclass(frozen=True)
class Digits:
    """How well a product and a difference of gradients can agree in one precision; steps relative to the weights."""

    steps: tuple[float, ...]
    relative: float
    absolute: float
    symmetry: float


DIGITS = {
    torch.float64: Digits((1e-5, 1e-6, 1e-7), relative=1e-5, absolute=1e-6, symmetry=1e-8),
    torch.float32: Digits((3e-2, 1e-2, 3e-3), relative=3e-2, absolute=1e-2, symmetry=1e-4),
}


def _is_right(route: BatchProduct, twin: nn.Module, few: Split) -> bool:
    """Whether the product is symmetric, and equals a difference of gradients where differences settle.

    A kink may spoil a difference, so three steps are tried. Weights that sit on a jump, as a Householder
    parametrisation's do, spoil all of them.
    """
    w, (u, v) = weights(twin), _directions(twin)
    try:
        Hu, Hv = (route(twin, _projected, few, direction) for direction in (u, v))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
    digits, unit, scale = DIGITS[w.dtype], (1 + w.norm()) / v.norm(), _scale(twin, few, v)
    differences = [_difference(twin, _projected, few, w, size * unit * v) / (size * unit) for size in digits.steps]
    symmetric = _symmetric(u, v, Hu, Hv, digits.symmetry, scale)
    if any(_agree(Hv, difference, scale) for difference in differences):
        return symmetric
    return symmetric and not _settled(differences, scale)


def _on_kink(twin: nn.Module, few: Split) -> bool:
    """Whether the gradient changes at one rate along a direction and at another against it: both settle, and differ."""
    w, (_, v) = weights(twin), _directions(twin)
    unit, scale = (1 + w.norm()) / v.norm(), _scale(twin, few, v)

    def rate(h: Tensor) -> Tensor:
        """(gradient at w + h v - gradient at w) / h."""
        return 2 * _difference(twin, _projected, few, w + h / 2 * v, h / 2 * v) / h

    ahead, behind = ([rate(sign * size * unit) for size in DIGITS[w.dtype].steps] for sign in (1, -1))
    differ = not any(_agree(one, other, scale) for one, other in zip(ahead, behind, strict=True))
    return differ and _settled(ahead, scale) and _settled(behind, scale)


def _scale(twin: nn.Module, few: Split, v: Tensor) -> Tensor:
    """What a product of the size of the gradient, changing over the length of the weights, would measure."""
    slope = derivative(summed_loss(twin, _projected, few), trainable(twin))
    scale: Tensor = slope.norm() * v.norm() / (1 + weights(twin).norm())
    return scale


def _agree(one: Tensor, other: Tensor, scale: Tensor) -> bool:
    digits = DIGITS[one.dtype]
    return bool((one - other).norm() <= digits.relative * one.norm() + digits.absolute * scale)


def _settled(differences: list[Tensor], scale: Tensor) -> bool:
    """Whether two differences, at different steps, agree."""
    return any(_agree(one, other, scale) for one, other in combinations(differences, 2))


def _directions(twin: nn.Module) -> tuple[Tensor, Tensor]:
    """Two random vectors, (d,) each."""
    w = weights(twin)
    u, v = (torch.randn(w.shape, generator=torch.Generator().manual_seed(seed)).to(w) for seed in (0, 1))
    return u, v


def _symmetric(u: Tensor, v: Tensor, Hu: Tensor, Hv: Tensor, rtol: float, scale: Tensor | float = 0.0) -> bool:
    """Whether <u, Hv> = <v, Hu>, as far as rounding allows."""
    return bool((u.dot(Hv) - v.dot(Hu)).abs() <= rtol * (u.norm() * (Hv.norm() + scale) + v.norm() * Hu.norm()))


# --- Building blocks --------------------------------------------------------------------------------------------------


def summed_loss(model: nn.Module, loss: LossFunction, batch: Split) -> Tensor:
    """Sum of the examples' losses, shape (), with its graph."""
    return per_example(loss, outputs(model, batch.inputs), batch.targets).sum()


def derivative(scalar: Tensor, parameters: list[nn.Parameter], *, keep_graph: bool = False) -> Tensor:
    """Gradient of a scalar in the parameters, shape (d,); zero where it does not depend on them."""
    if not scalar.requires_grad:
        return torch.zeros_like(flat(parameters))
    return flat(torch.autograd.grad(scalar, parameters, retain_graph=keep_graph, materialize_grads=True))


def _functional_outputs(model: nn.Module, parameters: dict[str, Any], inputs: Any) -> Tensor:
    arguments = ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    result: Tensor = functional_call(model, parameters, *arguments, tie_weights=False)
    return result
