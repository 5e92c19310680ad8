"""What a model takes: one tensor, or several as a tuple or a dictionary, with the examples along the first axis."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def each(function: Callable[[Any], Tensor], inputs: Any) -> Any:
    """The function of every tensor, in the same form."""
    if isinstance(inputs, Mapping):
        return {name: function(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(function(value) for value in inputs)
    return function(inputs)


def tensors(inputs: Any) -> list[Tensor]:
    """The tensors, in order."""
    return (
        list(inputs.values())
        if isinstance(inputs, Mapping)
        else list(inputs)
        if isinstance(inputs, tuple)
        else [inputs]
    )


def length(inputs: Any) -> int:
    """Number of examples.

    Raises:
        ValueError: if there is no tensor, or they differ in length.
    """
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors(inputs)}
    if len(sizes) != 1:
        raise ValueError(f"all inputs must have one row an example, got {sorted(sizes) or 'no tensor'} rows")
    return sizes.pop()


def types(inputs: Any) -> list[torch.dtype]:
    """Of each tensor, in order."""
    return [tensor.dtype for tensor in tensors(inputs)]


def flat_rows(inputs: Any, *, dtype: torch.dtype | None = None) -> list[bytes]:
    """The values of every example as bytes, of equal examples the same; in their own types unless one is given.

    A dictionary says the same in any order.
    """
    columns = []
    in_order = dict(sorted(inputs.items(), key=lambda item: str(item[0]))) if isinstance(inputs, Mapping) else inputs
    for tensor in tensors(in_order):
        column = tensor.detach().cpu().flatten(1) if tensor.ndim > 1 else tensor.detach().cpu()[:, None]
        column = column if dtype is None else column.to(dtype)
        if column.is_floating_point():
            column = column + 0  # -0.0 and 0.0 are one number in two bit patterns
        columns.append(column.contiguous().view(torch.uint8).flatten(1).numpy())
    return [b"".join(parts) for parts in zip(*([row.tobytes() for row in column] for column in columns), strict=True)]
