"""Every example's gradient against the mean of the others, in a few passes and without storing a gradient an example.

With g_i the gradient of example i and g their mean, g_i - (mean of the others) is n / (n - 1) (g_i - g), and
|g_i - g|^2 = |g_i|^2 - 2 <g_i, g> + |g|^2. The norms come from one backward pass to the layers' outputs, where
gradients are outer products (``curvature.per_example``). The products <g_i, g> are the derivative, in weights u_i of
the examples, of <sum_i u_i g_i, g>: two backward passes for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from helpers.curvature.contracts import on_model
from helpers.curvature.per_example import Layers, SquaredNorms
from helpers.curvature.precision import precisely
from helpers.curvature.routes import derivative
from helpers.curvature.trials import spread
from helpers.data import Split
from helpers.data.inputs import each
from helpers.losses import per_example
from helpers.models import flat, outputs, trainable
from helpers.training.arguments import PerExampleLoss

ENTRIES = 2**20  # of inputs, held with their graph at a time


@dataclass(frozen=True)
class Batch:
    """Gradients of a batch.

    Attributes:
        losses: (b,).
        gradient: the mean gradient, (d,).
        squared_norms: |g_i|^2, (b,).
        products: <g_i, mean gradient>, (b,).
    """

    losses: Tensor
    gradient: Tensor
    squared_norms: Tensor
    products: Tensor

    @property
    def distances(self) -> Tensor:
        """|g_i - mean of the others|^2, (b,), float64; a difference that rounding makes negative is 0."""
        b = len(self.losses)
        mean = self.gradient.double().square().sum()
        squares = self.squared_norms.double() - 2 * self.products.double() + mean
        return squares.clamp(min=0) * (b / (b - 1)) ** 2


class Gradients:
    """What a network's layers allow, found out once: norms from outer products, or one backward pass an example."""

    def __init__(self, model: nn.Module, loss: PerExampleLoss) -> None:
        self.model, self.loss = model, loss
        self.squared_norms = SquaredNorms(model)

    def of(self, batch: Split) -> Batch:
        """Gradients of all examples of a batch at the model's weights."""
        size = max(ENTRIES // max(batch.inputs[0].numel(), 1), 1) if isinstance(batch.inputs, Tensor) else len(batch)
        pieces = [on_model(self.model, batch, slice(i, i + size)) for i in range(0, len(batch), size)]
        if len(pieces) == 1:
            (whole,) = map(self._passes, pieces)
            mean = whole.summed / len(batch)
            return Batch(whole.losses, mean, whole.squared_norms, whole.products(mean))
        first = [self._passes(piece).plain() for piece in pieces]
        mean = torch.stack([piece.gradient for piece in first]).sum(0) / len(batch)
        products = [self._passes(piece, norms=False).products(mean) for piece in pieces]
        return Batch(
            torch.cat([piece.losses for piece in first]), mean,
            torch.cat([piece.squared_norms for piece in first]), torch.cat(products),
        )  # fmt: skip

    def _passes(self, batch: Split, *, norms: bool = True) -> "_Passes":
        layers = Layers(self.model)
        losses = per_example(self.loss, layers.forward(batch.inputs), batch.targets)
        parameters = trainable(self.model)
        shares = torch.ones_like(losses, requires_grad=True)
        slopes = torch.autograd.grad(losses, parameters, shares, create_graph=True, materialize_grads=True)
        squares = self.squared_norms.of(layers, [losses])[0].sum(1).detach() if norms else torch.zeros_like(losses)
        return _Passes(losses.detach(), shares, slopes, squares)


def gradient_rows(model: nn.Module, loss: PerExampleLoss, split: Split) -> Callable[[Split], Tensor]:
    """A function from examples to their gradients as rows, (b, d), at the weights that the model then has.

    Vectorised over examples where ``torch.func`` takes the network and agrees with one backward pass an example, on few
    of ``split``; else that.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    few = spread(split)

    def value(parameters: dict[str, Tensor], x: Any, y: Tensor) -> Tensor:
        one = each(lambda tensor: tensor[None], x)
        arguments = ((), one) if isinstance(one, dict) else (one if isinstance(one, tuple) else (one,), {})
        return per_example(loss, functional_call(model, parameters, *arguments), y[None])[0]

    vectorised = vmap(grad(value), in_dims=(None, 0, 0))

    def together(batch: Split) -> Tensor:
        parameters = {name: p.detach() for name, p in model.named_parameters() if name in names}
        with torch.no_grad():
            slopes = vectorised(parameters, *_placed(model, batch))
        return torch.cat([slopes[name].flatten(1) for name in names], dim=1)

    def one_by_one(batch: Split) -> Tensor:
        inputs, targets = _placed(model, batch)
        with torch.enable_grad():
            losses = per_example(loss, outputs(model, inputs), targets)
            return torch.stack([derivative(one, trainable(model), keep_graph=True) for one in losses])

    with precisely(model):
        slow = one_by_one(few)
        try:
            fast = together(few)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # somebody's network or loss may refuse to be vectorised in any words
            return one_by_one
    return together if torch.allclose(fast, slow, rtol=1e-3, atol=1e-4 * slow.abs().max().item()) else one_by_one


def _placed(model: nn.Module, batch: Split) -> tuple[Any, Tensor]:
    """Inputs and targets beside the weights, floating inputs in their type."""
    weight = trainable(model)[0]

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device=weight.device, dtype=weight.dtype if tensor.is_floating_point() else None)

    return each(moved, batch.inputs), batch.targets.to(weight.device)


@dataclass(frozen=True)
class _Passes:
    """A batch with the graph that its products are taken from."""

    losses: Tensor
    shares: Tensor
    slopes: tuple[Tensor, ...]
    squared_norms: Tensor

    @property
    def summed(self) -> Tensor:
        return flat(self.slopes)

    def products(self, v: Tensor) -> Tensor:
        """<g_i, v> for every example."""
        pieces = v.split([slope.numel() for slope in self.slopes])
        along = sum((slope.reshape(-1) * piece).sum() for slope, piece in zip(self.slopes, pieces, strict=True))
        (products,) = torch.autograd.grad(along, self.shares, materialize_grads=True)
        return products

    def plain(self) -> Batch:
        """Losses, norms and the summed gradient, without the graph."""
        return Batch(self.losses, self.summed, self.squared_norms, torch.zeros_like(self.losses))
