"""Gradients, Hessian-vector products and dense Hessians of the mean loss over a split.

L(w) = (1/n) sum_i loss(f(w, x_i), y_i), a mean over *examples*, so results do not depend on how the examples are
batched, nor on a short last batch. Derivatives are with respect to the d trainable weights as one vector
(``models.weights``). Models must be in evaluation mode: with BatchNorm in training mode the loss of one example would
depend on its batch, and L would not be a mean over examples. Nothing here touches ``.grad``, the mode, frozen
parameters or buffers of a model.

A product is short to follow: ``hvp`` sums over batches what a route (``routes``) gives for one, and divides by n.
Everywhere ``split`` may also be a Dataset, a DataLoader or a pair (X, y) of arrays (``data.as_split``), and a model or
sample that does not fit is refused with a ValueError of one sentence (``contracts``).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from helpers.curvature.batches import batches, over_batches, total, usual_batch
from helpers.curvature.contracts import admitted, check_linearised, differentiable, twice_differentiable
from helpers.curvature.precision import precise, precisely
from helpers.curvature.routes import (
    PlainOperations,
    by_differences,
    derivative,
    summed_loss,
    trusted_product,
    with_plain_operations,
)
from helpers.data import Split
from helpers.losses import Loss, per_example
from helpers.models import outputs, split_like, trainable

DENSE_LIMIT = 5_000
ROWS = 128  # of a dense Hessian, computed at a time


class NotFiniteError(ValueError):
    """A loss or derivative that overflowed, or was never finite."""


# --- Values, gradients, products --------------------------------------------------------------------------------------


@precise
def values(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Per-example losses, shape (n,).

    Raises:
        ValueError: if a loss is not finite.
    """
    split = admitted(model, loss, split)
    with torch.no_grad():
        work = over_batches(lambda b: per_example(loss, outputs(model, b.inputs), b.targets), model, split)
        return _finite("a loss", torch.cat(list(work)))


@precise
def gradient(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of the mean loss over the split, shape (d,)."""
    split = differentiable(model, loss, split)
    return _finite("the gradient", _summed_gradient(model, loss, split) / len(split))


def _summed_gradient(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    parameters = trainable(model)
    return total(over_batches(lambda batch: derivative(summed_loss(model, loss, batch), parameters), model, split))


def hvp(model: nn.Module, loss: Loss, split: Split, v: Tensor) -> Tensor:
    """Hessian of the mean loss times ``v``; v is (d,) or a block (d, m), and so is the result.

    Raises:
        ValueError: if v is no floating tensor of d rows, or a product is not finite.
    """
    return hessian_operator(model, loss, split)(v)


@precise
def hessian_operator(model: nn.Module, loss: Loss, split: Split) -> Callable[[Tensor], Tensor]:
    """The map v -> H v of ``hvp``, for many products at the same weights: sample and route are checked once."""
    split = twice_differentiable(model, loss, split)
    return _operator(model, lambda v: summed_product(model, loss, split, v) / len(split))


def summed_product(model: nn.Module, loss: Loss, split: Split, v: Tensor) -> Tensor:
    """Hessian of the summed loss over a split times v (d,), batch by batch.

    A product holds the activations and their tangents: half the batch for the same memory.
    """
    route = trusted_product(model, split)
    size = max(usual_batch(model) // 2, 1)
    return total(over_batches(lambda batch: route(model, loss, batch, v), model, split, size))


def _operator(model: nn.Module, product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The product of a vector (d,) as one of vectors and blocks (d, m), computed precisely."""

    def matvec(v: Tensor) -> Tensor:
        if not isinstance(v, Tensor) or not v.is_floating_point():
            kind = v.dtype if isinstance(v, Tensor) else type(v).__name__
            raise ValueError(f"v must be a real floating tensor of shape (d,) or (d, m), got a {kind}")
        if v.is_sparse or v.layout != torch.strided:
            raise ValueError("v must be a dense tensor, got a sparse one; give v.to_dense()")
        if not bool(torch.isfinite(v).all()):
            raise NotFiniteError("v holds entries that are not finite; a product with it would, too")
        if v.ndim == 2:
            columns = [matvec(column) for column in v.unbind(1)]
            return torch.stack(columns, dim=1) if columns else v.clone()
        with precisely(model):
            return _finite("a Hessian product", product(v.to(trainable(model)[0].dtype)))

    return matvec


@precise
def gauss_newton_operator(model: nn.Module, loss: Loss, split: Split) -> Callable[[Tensor], Tensor]:
    """The map v -> G v, G = (1/n) sum_i J_i^T (Hessian of the loss in the outputs) J_i, without forming a matrix.

    v is (d,) or a block (d, m). The Jacobian product J v is the derivative in u of <J^T u, v>, so reverse
    differentiation serves throughout. Errors as in ``hvp``.

    Raises:
        ValueError: if an operation of the model cannot be differentiated twice, which that derivative asks for.
    """
    split = twice_differentiable(model, loss, split)
    parameters = trainable(model)
    with PlainOperations():
        check_linearised(model, split, "a product without a matrix, unlike gauss_newton,", entering=0.0)

    def product(batch: Split, v: Tensor) -> Tensor:
        with PlainOperations():
            z = outputs(model, batch.inputs)
            pushed = _pushed(z, parameters, split_like(model, v))
            curved = _output_curvature(loss, z.detach(), batch.targets, pushed)
            return derivative((z * curved).sum(), parameters)

    return _operator(model, lambda v: total(over_batches(lambda b: product(b, v), model, split)) / len(split))


def _pushed(z: Tensor, parameters: list[nn.Parameter], pieces: list[Tensor]) -> Tensor:
    """J v, of the shape of the outputs z."""
    u = torch.zeros_like(z, requires_grad=True)
    pulled = torch.autograd.grad(z, parameters, u, create_graph=True, materialize_grads=True)
    along = [(slope * piece).sum() for slope, piece in zip(pulled, pieces, strict=True)]
    (result,) = torch.autograd.grad(torch.stack(along).sum(), u, retain_graph=True)
    return result


def _output_curvature(loss: Loss, z: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
    """Hessian of the summed loss in the outputs, times a direction of their shape."""
    z = z.requires_grad_()
    value = per_example(loss, z, targets).sum()
    if not value.requires_grad:
        return torch.zeros_like(z)
    (slope,) = torch.autograd.grad(value, z, create_graph=True)
    if not slope.requires_grad:
        return torch.zeros_like(z)
    (curved,) = torch.autograd.grad(slope, z, direction, materialize_grads=True)
    return curved


# --- Dense ------------------------------------------------------------------------------------------------------------


@precise
def per_example_gradients(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of each example's loss, shape (n, d). For small n d: the matrix is stored whole."""
    split = differentiable(model, loss, split)
    parameters = trainable(model)
    rows = [
        derivative(value, parameters, keep_graph=True)
        for batch in batches(model, split)
        for value in per_example(loss, outputs(model, batch.inputs), batch.targets)
    ]
    return _finite("a gradient", torch.stack(rows))


@precise
def hessian(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Hessian of the mean loss, shape (d, d), symmetrised.

    Raises:
        ValueError: if d is above the limit for dense work, or an entry is not finite.
    """
    eye = _identity(model)
    split = twice_differentiable(model, loss, split)
    if trusted_product(model, split) in (with_plain_operations, by_differences):
        columns = [summed_product(model, loss, split, column) for column in eye]
        H = torch.stack(columns, dim=1)
    else:
        H = total(iter([_batch_hessian(model, loss, batch, eye) for batch in batches(model, split)]))
    return _finite("the Hessian", (H + H.T) / (2 * len(split)))


def _batch_hessian(model: nn.Module, loss: Loss, batch: Split, eye: Tensor) -> Tensor:
    """Hessian of the batch's summed loss, some rows at a time."""
    parameters = trainable(model)
    value = summed_loss(model, loss, batch)
    if not value.requires_grad:
        return torch.zeros_like(eye)
    slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    stacked = torch.cat([slope.reshape(-1) for slope in slopes])
    if not stacked.requires_grad:  # a loss that is linear in the weights
        return torch.zeros_like(eye)
    rows = []
    for block in eye.split(ROWS):
        products = torch.autograd.grad(
            stacked, parameters, block, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        pieces = [
            p.new_zeros(len(block), p.numel()) if product is None else product.reshape(len(block), -1)
            for p, product in zip(parameters, products, strict=True)
        ]
        rows.append(torch.cat(pieces, dim=1))
    return torch.cat(rows)


@precise
def gauss_newton(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gauss-Newton matrix (1/n) sum_i J_i^T (Hessian of the loss in the outputs) J_i, shape (d, d).

    For cross-entropy this is the Fisher information of the model at the split's inputs; for squared error it is
    (1/n) sum_i grad f_i grad f_i^T. Positive semi-definite, and equal to the Hessian where the residuals vanish.

    Raises:
        ValueError: if d is above the limit for dense work, or an entry is not finite.
    """
    parameters = trainable(model)
    G = torch.zeros_like(_identity(model))
    split = twice_differentiable(model, loss, split)
    for example in batches(model, split, 1):
        z = outputs(model, example.inputs)
        jacobian = torch.stack([derivative(f, parameters, keep_graph=True) for f in z.reshape(-1)])
        basis = torch.eye(z.numel(), dtype=z.dtype, device=z.device)
        rows = [_output_curvature(loss, z.detach(), example.targets, e.view(z.shape)).reshape(-1) for e in basis]
        G += jacobian.T @ torch.stack(rows) @ jacobian
    return _finite("the Gauss-Newton matrix", G / len(split))


def _identity(model: nn.Module) -> Tensor:
    weight = trainable(model)[0]
    d = sum(p.numel() for p in trainable(model))
    if d > DENSE_LIMIT:
        raise ValueError(
            f"a dense matrix of d = {d} weights is too large (limit {DENSE_LIMIT}); use hvp or trace instead"
        )
    return torch.eye(d, dtype=weight.dtype, device=weight.device)


# --- Results ----------------------------------------------------------------------------------------------------------


def _finite(what: str, result: Tensor) -> Tensor:
    if not bool(torch.isfinite(result).all()):
        raise NotFiniteError(f"{what} is not finite; the weights or the loss diverged")
    return result


@precise
def check_deterministic(model: nn.Module, loss: Loss, split: Split) -> None:
    """A guard to call before long work: two passes over the examples, the second in reverse order, must agree.

    Losses, gradient and one Hessian product are compared, to the root of the machine precision.

    Raises:
        ValueError: naming what differs and by how much, relative to its size.
    """
    split = twice_differentiable(model, loss, split)
    turned = split.take(torch.arange(len(split) - 1, -1, -1))
    v = torch.ones(sum(p.numel() for p in trainable(model))).to(trainable(model)[0])

    def passes(part: Split) -> Iterator[tuple[str, Tensor]]:
        yield "losses", values(model, loss, part)
        yield "gradient", gradient(model, loss, part)
        yield "Hessian product", hvp(model, loss, part, v)

    for (what, once), (_, again) in zip(passes(split), passes(turned), strict=True):
        again = again.flip(0) if what == "losses" else again
        difference, size = (once - again).norm().item(), once.norm().item()
        if difference > torch.finfo(once.dtype).eps ** 0.5 * size:
            raise ValueError(
                f"two passes over the same examples disagree: their {what} differ by {difference / size:.1e} of their "
                "size; look for randomness, or for outputs that depend on the batch"
            )
