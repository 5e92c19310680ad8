"""What a walk asks of its arguments, each refused by name."""

from collections.abc import Callable
from math import sqrt
from typing import Any

from torch import nn

from helpers._checks import positive, whole


def walk_settings(make_model: Any, steps: Any, lr: Any, temperature: Any) -> tuple[int, float, float]:
    """Steps, learning rate and the noise of a step, sigma = sqrt(2 lr temperature).

    Raises:
        ValueError: if ``make_model`` is a model and not a function that makes one, or a number is none or out of range.
    """
    if isinstance(make_model, nn.Module) or not isinstance(make_model, Callable):  # type: ignore[arg-type]
        kind = type(make_model).__name__
        raise ValueError(f"make_model must be a function that makes a model, such as lambda: Net(), got a {kind}")
    rate = positive("lr", lr)
    noise = sqrt(2 * rate * positive("temperature", temperature))
    if noise == 0:
        raise ValueError(
            f"the noise of a step, sqrt(2 lr temperature), is 0 in rounding; raise temperature or lr = {lr}"
        )
    return whole("steps", steps), rate, noise


def made(make_model: Callable[[], nn.Module]) -> nn.Module:
    """A model that is new: the function is called twice, and the second model is compared and dropped.

    Raises:
        ValueError: if it makes no model, or the two have trainable weights in common. Weights that were there before
            may depend on the sample, and the theorems ask that W_0 does not.
    """
    model, another = make_model(), make_model()
    if not isinstance(model, nn.Module):
        raise ValueError(f"make_model must return a torch.nn.Module, got a {type(model).__name__}")
    before = {id(weight) for weight in another.parameters() if weight.requires_grad}
    if any(id(weight) in before for weight in model.parameters()):
        raise ValueError("make_model must make a new model at each call, got one twice; write lambda: Net()")
    return model
