"""An optimiser around another: what SAM, GMP and the clipping rules have in common."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers._generators import generator_from

Closure = Callable[[], Tensor | float]


class NotFinite(ValueError):
    """A loss or a gradient is NaN or infinite; weights and buffers are what they were before the step."""


def either_form(construct: Callable[..., None]) -> Callable[..., None]:
    """Let ``Wrapper(base_optimizer, ...)`` be called as ``Wrapper(parameters, base_class, ..., **base_options)`` too.

    Both may come by name, ``params=model.parameters(), base_optimizer=torch.optim.SGD``. Options that the constructor
    does not take go to the base; a name that both take is the wrapper's.
    """
    known = inspect.signature(construct).parameters.keys() - {"self", "base_optimizer"}

    @functools.wraps(construct)
    def constructed(self: "Wrapper", *settings: Any, **options: Any) -> None:
        named = options.pop("base_optimizer", None)
        if not settings and "params" in options:
            settings = (options.pop("params"),)
        first, settings = (settings[0], settings[1:]) if settings else (named, ())
        base_class = named if isinstance(named, type) else None
        if settings and isinstance(settings[0], type):
            base_class, *settings = settings  # type: ignore[assignment]
        if base_class is not None:
            if first is base_class or isinstance(first, nn.Module | torch.optim.Optimizer):
                raise _unfit(self, first)
            taken = {name: options.pop(name) for name in known & options.keys()}
            first, options = base_class(first, **options), taken
        if not isinstance(first, torch.optim.Optimizer):
            raise _unfit(self, first)
        construct(self, first, *settings, **options)

    return constructed


def _unfit(wrapper: "Wrapper", given: object) -> ValueError:
    name = type(wrapper).__name__
    return ValueError(
        f"{name} goes around an optimiser, {name}(torch.optim.SGD(model.parameters(), lr=0.1), ...), or takes "
        f"parameters and the class of one, {name}(model.parameters(), torch.optim.SGD, ..., lr=0.1); got a "
        f"{type(given).__name__} first"
    )


def _evaluates(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of the optimiser calls the closure, as LBFGS and the wrappers with draws do."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    asked_for = closure is not None and closure.default is inspect.Parameter.empty
    return asked_for or getattr(optimizer, "needs_closure", False)


class Wrapper(torch.optim.Optimizer):
    """An optimiser around a base optimiser: same parameter groups, same state, a ``step`` of its own.

    Attributes:
        base: the optimiser that makes the update.
        needs_closure: whether a step evaluates the batch, as only the outermost optimiser may.

    Raises:
        ValueError: if the first argument is no optimiser, or one whose step evaluates the batch itself.
    """

    needs_closure = False

    def __init__(self, base_optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(base_optimizer, torch.optim.Optimizer):
            raise _unfit(self, base_optimizer)
        if _evaluates(base_optimizer):
            raise ValueError(
                f"{type(self).__name__} gives its base one gradient, but {type(base_optimizer).__name__} evaluates the "
                "batch itself in every step; put it around a first-order optimiser such as torch.optim.SGD"
            )
        super().__init__(base_optimizer.param_groups, base_optimizer.defaults)
        self.base = base_optimizer
        self._share()

    def _share(self) -> None:
        """One list of groups and one state for both, so that a schedule may hold either optimiser."""
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group; ValueError for complex parameters, whose gradients have a norm and a noise of their own."""
        parameters = param_group["params"]
        for p in [parameters] if isinstance(parameters, Tensor) else list(parameters):
            if p.is_complex():
                raise ValueError(
                    f"{type(self).__name__} is for real parameters, got one of {p.dtype}; keep its real and imaginary "
                    "parts, as torch.view_as_real makes them, and put them together in the model"
                )
        super().add_param_group(param_group)

    @property
    def parameters(self) -> list[Tensor]:
        """Of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

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

    def _evaluate(self, closure: Closure | None) -> Tensor | float:
        """The loss of the closure, and its gradients alone in ``.grad``.

        Raises:
            ValueError: without a closure, or if it returns anything but one number.
            NotFinite: if the loss is NaN or infinite.
        """
        if closure is None:
            raise ValueError(f"{type(self).__name__} evaluates a batch more than once; call step(closure)")
        self.zero_grad()
        with torch.inference_mode(False), torch.enable_grad():
            loss = closure()
        try:
            value = float(loss)
        except (TypeError, ValueError) as error:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)[:60]
            raise ValueError(f"the closure returned {what}; let it return the loss, one number") from error
        if not math.isfinite(value):
            raise NotFinite(f"the loss is {value}: training diverged; lower the learning rate")
        return loss

    def _gradients(self) -> dict[Tensor, Tensor]:
        """The parameters that have a gradient, and their gradients; ValueError if none has."""
        gradients = {p: p.grad for p in self.parameters if p.grad is not None}
        if not gradients:
            raise ValueError("no parameter has a gradient; call loss.backward() before the step, or in the closure")
        return gradients


class Drawing(Wrapper):
    """A wrapper whose step evaluates the batch at places that it draws, from a generator of its own.

    Args:
        seed: of the draws, which do not touch the global random state.
    """

    needs_closure = True

    def __init__(self, base_optimizer: torch.optim.Optimizer, seed: int) -> None:
        super().__init__(base_optimizer)
        self._generator = generator_from(seed, self.parameters[0].device)

    def _memory(self) -> dict:
        return {"generator": self._generator.get_state()}

    def _recall(self, memory: dict) -> None:
        self._generator.set_state(memory["generator"])

    def _normal_like(self, p: Tensor) -> Tensor:
        return torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=self._generator)


def finite_norm(gradients: dict[Tensor, Tensor]) -> float:
    """Euclidean norm of all gradients together.

    Raises:
        NotFinite: if it is NaN or infinite.
    """
    pieces = [g.coalesce().values() if g.is_sparse else g for g in gradients.values()]
    pieces = [piece for piece in pieces if piece.numel()]
    if not pieces:
        return 0.0
    largest = torch.stack([piece.abs().max().float() for piece in pieces]).max().item()
    if not math.isfinite(largest):
        raise NotFinite(f"the gradient norm is {largest}: training diverged; lower the learning rate")
    if largest == 0:
        return 0.0
    # In units of the largest entry, so that no square leaves the range of the type.
    squares = [(piece / largest).to(torch.promote_types(piece.dtype, torch.float32)).square().sum() for piece in pieces]
    return largest * float(torch.stack(squares).double().sum().sqrt().item())
