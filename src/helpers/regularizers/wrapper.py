"""An optimiser around another: what SAM, GMP and the clipping rules have in common."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Closure = Callable[[], Tensor]


class Wrapper(torch.optim.Optimizer):
    """An optimiser around a base optimiser: same parameter groups, same state, own ``step``.

    Attributes:
        base: the optimiser that makes the update.
    """

    def __init__(self, base_optimizer: torch.optim.Optimizer) -> None:
        super().__init__(base_optimizer.param_groups, base_optimizer.defaults)
        self.base = base_optimizer
        self._share()

    def _share(self) -> None:
        """One list of groups and one state for both, so that a schedule may hold either optimiser."""
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def _memory(self) -> dict:
        """What this wrapper remembers between steps."""
        return {}

    def _recall(self, memory: dict) -> None:
        """Inverse of ``_memory``."""

    def state_dict(self) -> dict:
        """State of the base and of this wrapper."""
        return {"wrapper": type(self).__name__, "memory": self._memory(), "base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from ``state_dict``.

        Raises:
            ValueError: if it was saved by another class.
        """
        saved = state_dict.get("wrapper", "an optimiser without a wrapper")
        if saved != type(self).__name__:
            raise ValueError(f"this state was saved by {saved}, not by {type(self).__name__}; load it into that one")
        self.base.load_state_dict(state_dict["base"])
        self._share()
        self._recall(state_dict["memory"])

    def __getstate__(self) -> dict:
        return self.__dict__  # the inherited one would leave the base out of a copy

    def _evaluate(self, closure: Closure | None) -> Tensor:
        """The loss of the closure, and its gradients alone in ``.grad``."""
        if closure is None:
            raise ValueError(f"{type(self).__name__} evaluates a batch more than once; call step(closure)")
        self.zero_grad()
        with torch.enable_grad():
            return closure()

    def _gradients(self) -> dict[Tensor, Tensor]:
        """The parameters that have a gradient, and their gradients; ValueError if none has."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = {p: p.grad for p in parameters if p.grad is not None}
        if not gradients:
            raise ValueError("no parameter has a gradient; call loss.backward() before the step, or in the closure")
        return gradients


def gradient_norm(gradients: dict[Tensor, Tensor]) -> float:
    """Euclidean norm of all gradients together; ValueError if it is not finite."""
    norm = nn.utils.get_total_norm(gradients.values()).item()
    if not math.isfinite(norm):
        raise ValueError(f"the gradient norm is {norm}: training diverged; lower the learning rate")
    return norm
