"""The outputs of a model on a batch, whatever it takes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def refuse_backward(error: RuntimeError) -> None:
    """Say what to do about a backward pass that fails for a known reason; of any other the caller raises the error."""
    if "use_reentrant" in str(error):
        raise ValueError(
            "the model checkpoints activations in PyTorch's old way, which gives no gradients but those of backward(); "
            "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        ) from error


def outputs(model: nn.Module, inputs: Any) -> Tensor:
    """``model(x)``; ``model(x1, x2, ...)`` for a tuple of inputs, ``model(name=x, ...)`` for a dictionary.

    Raises:
        ValueError: if the model returns anything but one tensor with a row for each example.
    """
    if isinstance(inputs, Mapping):
        result = model(**inputs)
        n = len(next(iter(inputs.values())))
    elif isinstance(inputs, tuple):
        result = model(*inputs)
        n = len(inputs[0])
    else:
        result = model(inputs)
        n = len(inputs)
    if not isinstance(result, Tensor):
        raise ValueError(
            f"model must return one tensor, a row an example, but returns a {type(result).__name__}; "
            "wrap it in a module that picks the logits"
        )
    if result.ndim == 0 or len(result) != n:
        raise ValueError(
            f"model must return a row for each of the {n} examples, but returns shape {tuple(result.shape)}; "
            "the first axis of inputs and outputs counts examples (batch_first=True)"
        )
    return result
