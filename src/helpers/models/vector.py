"""A model's weights seen as one vector.

Every bound speaks of a weight vector W in R^d. Here that vector is the concatenation of a model's *trainable*
parameters in the order of ``model.parameters()``: frozen parameters and buffers (the running statistics of
BatchNorm) are part of the model, not of W.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_LAZY = (
    "the model has lazy layers, which have no weights before their first batch (nn.LazyLinear?); call it on a few "
    "examples first, for a training inside make_model"
)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that make up W, in order; a parameter that several layers share counts once.

    Raises:
        ValueError: if the model has none, or one whose shape is not known yet (a lazy layer before its first batch).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("the model has no trainable parameters; set requires_grad on those that make up W")
    if any(map(is_lazy, parameters)):
        raise ValueError(_LAZY)
    return parameters


def check_initialised(model: nn.Module) -> None:
    """Refuse a model with a lazy layer before its first batch, also one that has no weights but statistics."""
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        raise ValueError(_LAZY)


def layers(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters that each module holds itself, by the module's name, in the order of ``trainable``.

    A parameter that several modules share belongs to the first of them. The model itself is called "(model)".

    Raises:
        ValueError: as ``trainable``.
    """
    wanted, groups = {id(p) for p in trainable(model)}, {}
    for name, module in model.named_modules():
        members = [p for p in module.parameters(recurse=False) if id(p) in wanted]
        wanted -= {id(p) for p in members}
        if members:
            groups[name or "(model)"] = members
    return groups


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that has just run and keeps what it computed; the model itself is not touched.

    What a forward pass leaves in a module with the graph that made it (a penalty, an activation, the weight that weight
    normalisation in its old form makes) is in the copy without its graph, since no tensor can be copied with one. Hooks
    on the gradients of weights, which PyTorch's copy loses, are registered anew.

    Raises:
        RuntimeError, TypeError: if a part of the model cannot be copied.
    """
    made = [tensor for module in model.modules() for tensor in _with_graph(list(vars(module).values()))]
    twin = deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in made})
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        for hook in (p._backward_hooks or {}).values():
            q.register_hook(hook)
    return twin


def _with_graph(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors that were computed from others, among the values and in lists, tuples and dictionaries of them."""
    for value in values:
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                yield value
        elif isinstance(value, Mapping):
            yield from _with_graph(list(value.values()))
        elif isinstance(value, list | tuple):
            yield from _with_graph(value)


def weights(model: nn.Module) -> Tensor:
    """The weight vector W, shape (d,): a detached copy."""
    return flat(trainable(model)).clone()


def flat(pieces: Sequence[Tensor]) -> Tensor:
    """Tensors of any memory format, detached, flattened and concatenated: shape (d,)."""
    return torch.cat([piece.detach().reshape(-1) for piece in pieces])


def split_like(model: nn.Module, vector: Tensor) -> list[Tensor]:
    """The vector (d,), cut and reshaped into views that match ``trainable(model)``.

    Raises:
        ValueError: if the vector has another length than W.
    """
    parameters = trainable(model)
    sizes = [p.numel() for p in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"the model has d = {sum(sizes)} trainable weights, the vector has shape {tuple(vector.shape)}"
        )
    return [piece.view(p.shape) for p, piece in zip(parameters, vector.split(sizes), strict=True)]


@torch.no_grad()
def set_weights(model: nn.Module, vector: Tensor) -> None:
    """Move the model to the weight vector, shape (d,), in place.

    Raises:
        ValueError: if the vector has another length than W, or holds a value that is not finite.
    """
    if not torch.isfinite(vector).all():
        raise ValueError("the weight vector holds values that are not finite: the run or solve that made it diverged")
    for parameter, piece in zip(trainable(model), split_like(model, vector), strict=True):
        parameter.copy_(piece)


@contextmanager
def at(model: nn.Module, vector: Tensor) -> Iterator[nn.Module]:
    """The model placed at ``vector`` (d,) inside the block, and back where it was afterwards, to the bit."""
    before = weights(model)
    set_weights(model, vector)
    try:
        yield model
    finally:
        with torch.no_grad():
            for parameter, piece in zip(trainable(model), split_like(model, before), strict=True):
                parameter.copy_(piece)
