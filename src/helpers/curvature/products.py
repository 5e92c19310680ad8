"""Gradients, Hessian-vector products and dense Hessians of the mean loss over a split.

L(w) = (1/n) sum_i loss(f(w, x_i), y_i), a mean over *examples*, so results do not depend on how the examples are
batched, nor on a short last batch. Derivatives are with respect to the d trainable weights as one vector
(``models.weights``). Models must be in evaluation mode: with BatchNorm in training mode the loss of one example would
depend on its batch, and L would not be a mean over examples. Nothing here touches ``.grad``, the mode, frozen
parameters or buffers of a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.losses import Loss
from helpers.models import split_like, trainable

BATCH = 256
DENSE_LIMIT = 5_000
ROWS = 128  # of a dense Hessian, computed at a time


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


def batches(model: nn.Module, split: Split, batch_size: int = BATCH) -> Iterator[Split]:
    """The split in consecutive batches, on the model's device and in its floating type.

    Raises:
        ValueError: if the model, or a part of it, is in training mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where BatchNorm and dropout make an example's loss depend on its batch; "
            "call model.eval() first"
        )
    weight = trainable(model)[0]
    floating = split.inputs.is_floating_point()
    for start in range(0, len(split), batch_size):
        rows = slice(start, start + batch_size)
        batch = Split(split.inputs[rows], split.targets[rows], split.classes, split.edition)
        yield batch.to(device=weight.device, dtype=weight.dtype if floating else None)


@torch.no_grad()
def values(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Per-example losses, shape (n,)."""
    return torch.cat([loss(model(batch.inputs), batch.targets) for batch in batches(model, split)])


def gradient(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of the mean loss over the split, shape (d,)."""
    parameters = trainable(model)
    total = torch.zeros_like(flat(parameters))
    for batch in batches(model, split):
        value = loss(model(batch.inputs), batch.targets).sum()
        total += derivative(value, parameters)
    return total / len(split)


def hvp(model: nn.Module, loss: Loss, split: Split, v: Tensor) -> Tensor:
    """Hessian of the mean loss times ``v``; v is (d,) or a block (d, m), and so is the result.

    Double backpropagation; a block shares the forward and the first backward pass of each batch.

    Raises:
        ValueError: if v does not have d rows.
    """
    parameters = trainable(model)
    columns = v.unsqueeze(1) if v.ndim == 1 else v
    directions = [split_like(model, column) for column in columns.unbind(1)]
    total = columns.new_zeros(columns.shape[1], columns.shape[0])
    for batch in batches(model, split):
        value = loss(model(batch.inputs), batch.targets).sum()
        slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
        for row, direction in zip(total, directions, strict=True):
            row += derivative(inner(slopes, direction), parameters)
    return (total.T / len(split)).reshape(v.shape)


def per_example_gradients(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gradient of each example's loss, shape (n, d). For small n d: the matrix is stored whole."""
    parameters = trainable(model)
    rows = [
        derivative(value, parameters)
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
    total = torch.zeros_like(eye)
    for batch in batches(model, split):
        value = loss(model(batch.inputs), batch.targets).sum()
        slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
        stacked = torch.cat([slope.reshape(-1) for slope in slopes])
        if not stacked.requires_grad:  # a loss that is linear in the weights
            continue
        for rows, block in zip(total.split(ROWS), eye.split(ROWS), strict=True):
            products = torch.autograd.grad(
                stacked, parameters, block, retain_graph=True, is_grads_batched=True, materialize_grads=True
            )
            rows += torch.cat([product.reshape(len(block), -1) for product in products], dim=1)
    return (total + total.T) / (2 * len(split))


def gauss_newton(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """Gauss-Newton matrix (1/n) sum_i J_i^T (Hessian of the loss in the outputs) J_i, shape (d, d).

    For cross-entropy this is the Fisher information of the model at the split's inputs; for squared error it is
    (1/n) sum_i grad f_i grad f_i^T. Positive semi-definite, and equal to the Hessian where the residuals vanish.

    Raises:
        ValueError: if d is above the limit for dense work.
    """
    parameters = trainable(model)
    total = torch.zeros_like(_identity(model))
    for batch in batches(model, split):
        for inputs, target in zip(batch.inputs, batch.targets, strict=True):
            outputs = model(inputs[None])
            jacobian = torch.stack([derivative(output, parameters) for output in outputs.reshape(-1)])
            shape = outputs.shape

            def one(logits: Tensor, target: Tensor = target, shape: torch.Size = shape) -> Tensor:
                return loss(logits.view(shape), target[None]).sum()

            curvature = torch.func.hessian(one)(outputs.detach().reshape(-1))
            total += jacobian.T @ curvature @ jacobian
    return total / len(split)


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


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Inner product of two lists of tensors of equal shapes, a scalar that can be differentiated."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def derivative(scalar: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Gradient of a scalar in the parameters, shape (d,), keeping its graph; zero where it does not depend on them."""
    if not scalar.requires_grad:
        return torch.zeros_like(flat(parameters))
    return flat(torch.autograd.grad(scalar, parameters, retain_graph=True, materialize_grads=True))
