"""Gradients, Hessian-vector products and dense Hessians of the mean loss over a split.

L(w) = (1/n) sum_i loss(f(w, x_i), y_i), a mean over *examples*, so results do not depend on how the examples are
batched, nor on a short last batch. Derivatives are with respect to the d trainable weights as one vector
(``models.weights``). Models must be in evaluation mode: with BatchNorm in training mode the loss of one example would
depend on its batch, and L would not be a mean over examples. Nothing here touches ``.grad``, the mode, frozen
parameters or buffers of a model.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.func import functional_call

from helpers.data import Split
from helpers.losses import Loss
from helpers.models import split_like, trainable

BATCH = 128
PRODUCT_BATCH = 64  # a product holds the activations and their tangents: half the batch for the same memory
DENSE_LIMIT = 5_000
ROWS = 128  # of a dense Hessian, computed at a time

BatchProduct = Callable[[nn.Module, Callable[[Tensor, Tensor], Tensor], Split, Tensor], Tensor]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: the estimate.
        standard_error: of the value; 0.0 where nothing was sampled.
        probes: number of random probes (or of runs averaged over).
        method: how it was computed, e.g. "exact", "gauss-newton", "hutchinson".
        reason: why ``method="auto"`` chose that method; empty where it was asked for.
    """

    value: float
    standard_error: float
    probes: int
    method: str
    reason: str = ""


# --- Batches ----------------------------------------------------------------------------------------------------------


def batches(model: nn.Module, split: Split, batch_size: int | None = None) -> Iterator[Split]:
    """The split in consecutive batches (of 128), on the model's device and in its floating type.

    Raises:
        ValueError: if the model, or a part of it, is in training mode.
    """
    check_evaluation_mode(model)
    size = batch_size or BATCH
    for start in range(0, len(split), size):
        yield on_model(model, split, slice(start, start + size))


def over_batches(
    work: Callable[[Split], Tensor], model: nn.Module, split: Split, batch_size: int | None = None
) -> Iterator[Tensor]:
    """``work(batch)`` for consecutive batches; on running out of memory, again with batches of half the size.

    Raises:
        ValueError: if the model, or a part of it, is in training mode.
        torch.OutOfMemoryError: if even a single example does not fit.
    """
    check_evaluation_mode(model)
    start, size = 0, batch_size or BATCH
    while start < len(split):
        result = None
        try:
            result = work(on_model(model, split, slice(start, start + size)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if result is None:  # outside the handler, which keeps the failed attempt's tensors alive
            size //= 2
            warnings.warn(f"out of memory: going on with batches of {size} examples", stacklevel=2)
        else:
            yield result
            start += size


def on_model(model: nn.Module, split: Split, rows: slice) -> Split:
    """The rows of a split on the model's device, floating inputs in its type."""
    weight = trainable(model)[0]
    batch = Split(split.inputs[rows], split.targets[rows], split.classes, split.edition)
    return batch.to(device=weight.device, dtype=weight.dtype if split.inputs.is_floating_point() else None)


def check_evaluation_mode(model: nn.Module) -> None:
    """Raise a ValueError if the model, or a part of it, is in training mode."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where BatchNorm and dropout make an example's loss depend on its batch; "
            "call model.eval() first"
        )


# --- Values, gradients, products --------------------------------------------------------------------------------------


@torch.no_grad()
def values(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Per-example losses, shape (n,)."""
    return torch.cat(list(over_batches(lambda batch: loss(model(batch.inputs), batch.targets), model, split)))


def gradient(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of the mean loss over the split, shape (d,)."""
    parameters = trainable(model)

    def summed(batch: Split) -> Tensor:
        return derivative(loss(model(batch.inputs), batch.targets).sum(), parameters)

    return total(over_batches(summed, model, split)) / len(split)


def hvp(model: nn.Module, loss: Loss, split: Split, v: Tensor) -> Tensor:
    """Hessian of the mean loss times ``v``; v is (d,) or a block (d, m), and so is the result.

    Raises:
        ValueError: if v does not have d rows.
    """
    return hessian_operator(model, loss, split)(v)


def hessian_operator(model: nn.Module, loss: Loss, split: Split) -> Callable[[Tensor], Tensor]:
    """The map v -> H v of ``hvp``, for many products at the same weights: how to multiply is settled once."""
    product = batch_product(model, split)

    def matvec(v: Tensor) -> Tensor:
        if v.ndim == 2:
            return torch.stack([matvec(column) for column in v.unbind(1)], dim=1)
        return summed_product(product, model, loss, split, v) / len(split)

    return matvec


def summed_product(product: BatchProduct, model: nn.Module, loss: Loss, split: Split, v: Tensor) -> Tensor:
    """Hessian of the summed loss over the split times v (d,), by ``product`` batch by batch."""
    return total(over_batches(lambda batch: product(model, loss, batch, v), model, split, PRODUCT_BATCH))


def batch_product(model: nn.Module, split: Split) -> BatchProduct:
    """The faster of the two ways to multiply a batch's Hessian with a vector, if it is right for this network.

    Some operations of PyTorch have no forward derivative, the gradient of some that have one is silently wrong (layer
    normalisation), and of tied parameters only one is moved. So the first way is tried on two examples, along a random
    direction, as the model is and in float64, on a projection of the outputs; where it fails or differs from the
    second, the second is taken.
    """
    check_evaluation_mode(model)

    def projection(outputs: Tensor, targets: Tensor) -> Tensor:
        rows = outputs.reshape(len(outputs), -1)
        return rows @ torch.linspace(1, 2, rows.shape[1], dtype=rows.dtype, device=rows.device)

    def tried(network: nn.Module, multiply: BatchProduct) -> Tensor:
        batch, like = on_model(network, split, slice(2)), flat(trainable(network))
        direction = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
        return multiply(network, projection, batch, direction)

    try:
        tried(model, reverse_over_forward)
        twin = deepcopy(model).double()
        fast = tried(twin, reverse_over_forward)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):  # no forward derivative; no float64 on this device
        return reverse_over_reverse
    slow = tried(twin, reverse_over_reverse)
    return reverse_over_forward if (fast - slow).norm() <= 1e-8 * slow.norm() else reverse_over_reverse


def reverse_over_forward(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: Split, v: Tensor) -> Tensor:
    """Hessian of the batch's summed loss times v (d,): the gradient of the loss' slope along v.

    The derivative dz of the outputs z along v travels forward beside them; the slope is <grad loss(z), dz>. Work: 8
    forward passes against 6 for two gradients, where two backward passes need 9.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with forward_ad.dual_level(), warnings.catch_warnings():
        # PyTorch loads its own rules at the first dual number, by a route that it warns against itself.
        warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)
        pieces = zip(named.items(), split_like(model, v), strict=True)
        moved = {name: forward_ad.make_dual(p, piece) for (name, p), piece in pieces}
        z, dz = forward_ad.unpack_dual(functional_call(model, moved, (batch.inputs,), tie_weights=False))
    value = loss(z, batch.targets).sum()
    if dz is None or not value.requires_grad:
        return torch.zeros_like(v)
    (slope,) = torch.autograd.grad(value, z, create_graph=True)
    return derivative((slope * dz).sum(), list(named.values()))


def reverse_over_reverse(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: Split, v: Tensor) -> Tensor:
    """The same by double backpropagation, for any network that can be differentiated twice."""
    parameters = trainable(model)
    value = loss(model(batch.inputs), batch.targets).sum()
    if not value.requires_grad:
        return torch.zeros_like(v)
    slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    along = [(slope * piece).sum() for slope, piece in zip(slopes, split_like(model, v), strict=True)]
    return derivative(torch.stack(along).sum(), parameters)


def per_example_gradients(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of each example's loss, shape (n, d). For small n d: the matrix is stored whole."""
    parameters = trainable(model)
    rows = [
        derivative(value, parameters, keep_graph=True)
        for batch in batches(model, split)
        for value in loss(model(batch.inputs), batch.targets)
    ]
    return torch.stack(rows)


def hessian(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Hessian of the mean loss, shape (d, d), symmetrised.

    Raises:
        ValueError: if d is above the limit for dense work.
    """
    parameters = trainable(model)
    eye = _identity(model)
    H = torch.zeros_like(eye)
    for batch in batches(model, split):
        value = loss(model(batch.inputs), batch.targets).sum()
        slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
        stacked = torch.cat([slope.reshape(-1) for slope in slopes])
        if not stacked.requires_grad:  # a loss that is linear in the weights
            continue
        for rows, block in zip(H.split(ROWS), eye.split(ROWS), strict=True):
            products = torch.autograd.grad(
                stacked, parameters, block, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            pieces = [
                p.new_zeros(len(block), p.numel()) if product is None else product.reshape(len(block), -1)
                for p, product in zip(parameters, products, strict=True)
            ]
            rows += torch.cat(pieces, dim=1)
    return (H + H.T) / (2 * len(split))


def gauss_newton(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gauss-Newton matrix (1/n) sum_i J_i^T (Hessian of the loss in the outputs) J_i, shape (d, d).

    For cross-entropy this is the Fisher information of the model at the split's inputs; for squared error it is
    (1/n) sum_i grad f_i grad f_i^T. Positive semi-definite, and equal to the Hessian where the residuals vanish.

    Raises:
        ValueError: if d is above the limit for dense work.
    """
    parameters = trainable(model)
    G = torch.zeros_like(_identity(model))
    for batch in batches(model, split):
        for inputs, target in zip(batch.inputs, batch.targets, strict=True):
            outputs = model(inputs[None])
            jacobian = torch.stack([derivative(f, parameters, keep_graph=True) for f in outputs.reshape(-1)])
            shape = outputs.shape

            def one(logits: Tensor, target: Tensor = target, shape: torch.Size = shape) -> Tensor:
                return loss(logits.view(shape), target[None]).sum()

            curvature = torch.func.hessian(one)(outputs.detach().reshape(-1))
            G += jacobian.T @ curvature @ jacobian
    return G / len(split)


def _identity(model: nn.Module) -> Tensor:
    weight = trainable(model)[0]
    d = sum(p.numel() for p in trainable(model))
    if d > DENSE_LIMIT:
        raise ValueError(
            f"a dense matrix of d = {d} weights is too large (limit {DENSE_LIMIT}); use hvp or trace instead"
        )
    return torch.eye(d, dtype=weight.dtype, device=weight.device)


# --- Lists of tensors as one vector -----------------------------------------------------------------------------------


def flat(pieces: Sequence[Tensor]) -> Tensor:
    """The tensors, detached, flattened and concatenated: shape (d,)."""
    return torch.cat([piece.detach().reshape(-1) for piece in pieces])


def total(tensors: Iterator[Tensor]) -> Tensor:
    """Their sum, one at a time."""
    result = next(tensors).clone()
    for tensor in tensors:
        result += tensor
    return result


def derivative(scalar: Tensor, parameters: list[nn.Parameter], *, keep_graph: bool = False) -> Tensor:
    """Gradient of a scalar in the parameters, shape (d,); zero where it does not depend on them."""
    if not scalar.requires_grad:
        return torch.zeros_like(flat(parameters))
    return flat(torch.autograd.grad(scalar, parameters, retain_graph=keep_graph, materialize_grads=True))
