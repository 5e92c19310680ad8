"""Three routes to a batch's Hessian times a vector, and which of them a network may be trusted to.

Some operations of PyTorch have no forward derivative; the gradient of some that have one is silently wrong (layer
normalisation); of tied parameters only one is moved; and some have a wrong second derivative, or none. So a route is
tried on two examples before it is used: in float64, against a difference of gradients, which needs first derivatives
only, or on the symmetry that every Hessian has.
"""

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import combinations
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from helpers.curvature.contracts import architecture, on_model
from helpers.data import Split
from helpers.losses import per_example
from helpers.models import at, flat, outputs, split_like, trainable, weights

LossFunction = Callable[[Tensor, Tensor], Tensor]
BatchProduct = Callable[[nn.Module, LossFunction, Split, Tensor], Tensor]

_trusted: "WeakKeyDictionary[nn.Module, tuple[tuple[str, ...], BatchProduct]]" = WeakKeyDictionary()


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


def with_plain_weight_norm(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """``reverse_over_reverse`` with weight normalisation written out: its fused form has a wrong second derivative."""
    with _PlainWeightNorm():
        return reverse_over_reverse(model, loss, batch, v)


def by_differences(model: nn.Module, loss: LossFunction, batch: Split, v: Tensor) -> Tensor:
    """The same from gradients at w +- h v and w +- h v / 2 in float64 (Richardson), for any network with a gradient.

    Raises:
        ValueError: if the two steps disagree, as they do beside a kink: there is then no second derivative to be had.
    """
    if not v.any():
        return torch.zeros_like(v)
    twin, batch, direction = _doubled(model), batch.to(dtype=torch.float64), v.double()
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
        with at(model, w + sign * shift):
            sides.append(derivative(summed_loss(model, loss, batch), trainable(model)))
    return (sides[0] - sides[1]) / 2


class _PlainWeightNorm(TorchFunctionMode):
    """v g / |v| by elementary operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._weight_norm:
            v, g, dim = (*args, 0)[:3]
            normalised: Tensor = v * (g / torch.norm_except_dim(v, 2, dim))
            return normalised
        return func(*args, **(kwargs or {}))


# --- Which of them ----------------------------------------------------------------------------------------------------


def trusted_product(model: nn.Module, split: Split) -> BatchProduct:
    """The fastest route that is right for this network; tried once a network, and remembered."""
    layout = architecture(model)
    if model in _trusted and _trusted[model][0] == layout:
        return _trusted[model][1]
    chosen = _first_right(model, split)
    _trusted[model] = (layout, chosen)
    return chosen


def _first_right(model: nn.Module, split: Split) -> BatchProduct:
    few = on_model(model, split, slice(2))
    try:
        twin = _doubled(model)
    except (RuntimeError, TypeError):  # no float64 on this device
        return reverse_over_reverse
    pair = few.to(dtype=torch.float64)
    for route in (reverse_over_forward, reverse_over_reverse, with_plain_weight_norm):
        if _is_right(route, twin, pair) and _runs(route, model, few):
            return route
    warnings.warn(
        "PyTorch's second derivative of this network is wrong or missing: products are differences of gradients in "
        "float64, good to about six digits, and several times slower",
        stacklevel=2,
    )
    u, v = _directions(twin)
    if not _symmetric(
        u, v, by_differences(twin, _projection, pair, u), by_differences(twin, _projection, pair, v), 1e-4
    ):
        raise ValueError(_NO_GRADIENT)
    return by_differences


_NO_GRADIENT = (
    "the model's gradient is not the derivative of its loss (its differences are not symmetric): an operation drops, "
    "scales or replaces a derivative (F.embedding with padding_idx, gradient reversal, straight-through rounding?); "
    "replace that operation"
)


def _doubled(model: nn.Module) -> nn.Module:
    """A copy in float64, without the graph that weight normalisation leaves in a module between two passes."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())  # made anew in every forward pass
    return deepcopy(model).double()


def _projection(rows: Tensor, targets: Tensor) -> Tensor:
    """A scalar an example that every output enters: its curvature is the network's own."""
    rows = rows.reshape(len(rows), -1)
    return torch.mv(rows, torch.linspace(1, 2, rows.shape[1], dtype=rows.dtype, device=rows.device))


def _runs(route: BatchProduct, model: nn.Module, few: Split) -> bool:
    """Whether the route runs as the model is: some operations lack a rule in float32 alone."""
    try:
        route(model, _projection, few, torch.ones_like(weights(model)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
    return True


def _is_right(route: BatchProduct, twin: nn.Module, pair: Split) -> bool:
    """Whether the product is symmetric, and equals a difference of gradients where differences settle.

    A kink may spoil a difference, so three steps are tried. Weights that sit on a jump, as a Householder
    parametrisation's do, spoil all of them.
    """
    w, (u, v) = weights(twin), _directions(twin)
    try:
        Hu, Hv = (route(twin, _projection, pair, direction) for direction in (u, v))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
    scale = derivative(summed_loss(twin, _projection, pair), trainable(twin)).norm() * v.norm() / (1 + w.norm())
    differences = [_difference(twin, _projection, pair, w, h * v) / h for h in _steps(w, v)]

    def agree(one: Tensor, other: Tensor) -> bool:
        return bool((one - other).norm() <= 1e-5 * one.norm() + 1e-6 * scale)

    symmetric = _symmetric(u, v, Hu, Hv, 1e-8, scale)
    if any(agree(Hv, difference) for difference in differences):
        return symmetric
    return symmetric and not any(agree(one, other) for one, other in combinations(differences, 2))


def _directions(twin: nn.Module) -> tuple[Tensor, Tensor]:
    """Two random vectors, (d,) each."""
    w = weights(twin)
    u, v = (torch.randn(w.shape, generator=torch.Generator().manual_seed(seed)).to(w) for seed in (0, 1))
    return u, v


def _symmetric(u: Tensor, v: Tensor, Hu: Tensor, Hv: Tensor, rtol: float, scale: Tensor | float = 0.0) -> bool:
    """Whether <u, Hv> = <v, Hu>, as far as rounding allows."""
    return bool((u.dot(Hv) - v.dot(Hu)).abs() <= rtol * (u.norm() * (Hv.norm() + scale) + v.norm() * Hu.norm()))


def _steps(w: Tensor, v: Tensor) -> Iterator[float]:
    for size in (1e-5, 1e-6, 1e-7):
        yield size * (1 + w.norm().item()) / v.norm().item()


# --- Building blocks --------------------------------------------------------------------------------------------------


def summed_loss(model: nn.Module, loss: LossFunction, batch: Split) -> Tensor:
    """Sum of the examples' losses, shape (), with its graph.

    Raises:
        ValueError: if there is no graph although the loss should have a derivative.
    """
    z = outputs(model, batch.inputs)
    value = per_example(loss, z, batch.targets).sum()
    if not z.requires_grad or not (value.requires_grad or getattr(loss, "piecewise_constant", False)):
        part = "loss" if z.requires_grad else "model"
        raise ValueError(
            f"the {part} cuts the graph between weights and loss (detach, numpy or no_grad inside it?), so its "
            "derivative would be zero without being so; compute it in differentiable operations"
        )
    return value


def derivative(scalar: Tensor, parameters: list[nn.Parameter], *, keep_graph: bool = False) -> Tensor:
    """Gradient of a scalar in the parameters, shape (d,); zero where it does not depend on them."""
    if not scalar.requires_grad:
        return torch.zeros_like(flat(parameters))
    return flat(torch.autograd.grad(scalar, parameters, retain_graph=keep_graph, materialize_grads=True))


def _functional_outputs(model: nn.Module, parameters: dict[str, Any], inputs: Any) -> Tensor:
    arguments = ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    result: Tensor = functional_call(model, parameters, *arguments, tie_weights=False)
    return result
