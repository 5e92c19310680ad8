"""Gradients clipped by their own history: the algorithm and the rule of the main text of Wang & Mao (2022)."""

import math
from abc import ABC, abstractmethod
from collections import deque

import torch
from torch import Tensor

from helpers._checks import positive, whole
from helpers.regularizers.buffers import buffers_kept_on_error
from helpers.regularizers.wrapper import Closure, Wrapper, either_form, finite_norm


class _Clipping(Wrapper, ABC):
    """The base sees the gradient, shortened to a norm that depends on the norms before."""

    @abstractmethod
    def _target(self, norm: float) -> float:
        """Norm that is left of a gradient of this norm: what a rule of clipping has to say."""

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """One step on the gradients at hand, or on those of the closure, whose loss is returned."""
        with buffers_kept_on_error(self.parameters):
            loss = None if closure is None else self._evaluate(closure)
            gradients = self._gradients()
            norm = finite_norm(gradients)
        target = self._target(norm)
        if target < norm:
            for gradient in gradients.values():
                gradient.mul_(target / norm)
        self.base.step()
        return loss


class DynamicClipping(_Clipping):
    """Wang & Mao's Algorithm 1. At step t > start, with g the gradient and G the state:

        ||g|| > G:  the base sees alpha G g / ||g||, and G stays;    else  G <- ||g||, and the base sees g.

    After ``start`` G is thus the running minimum of gradient norms; up to then it is not touched. Once a
    gradient is zero, every later one is clipped to zero.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        alpha: share of G that is left of a longer gradient; 0.1 in the paper.
        start: T_c, number of steps without clipping.
        initial: first value of G; infinity makes the first norm after ``start`` the first minimum.

    Raises:
        ValueError: if alpha is not in (0, 1], initial not positive or start negative; in ``step``, if no
            parameter has a gradient.
        NotFinite: in ``step``, if the loss or a gradient is NaN or infinite.
    """

    @either_form
    def __init__(
        self, base_optimizer: torch.optim.Optimizer, alpha: float, start: int, initial: float = math.inf
    ) -> None:
        super().__init__(base_optimizer)
        self.alpha, self.start = _fraction(alpha), whole("start", start, least=0)
        self.minimum = initial if initial == math.inf else positive("initial", initial)
        self.steps = 0

    def _memory(self) -> dict:
        return {"minimum": self.minimum, "steps": self.steps}

    def _recall(self, memory: dict) -> None:
        self.minimum, self.steps = memory["minimum"], memory["steps"]

    def _target(self, norm: float) -> float:
        self.steps += 1
        if self.steps > self.start:
            if norm > self.minimum:
                return self.alpha * self.minimum
            self.minimum = norm
        return norm


class LaggedClipping(_Clipping):
    """The rule in Wang & Mao's main text, which is not that of their Algorithm 1: at step t > K,

        ||g_t|| > ||g_{t-K}||:  the base sees alpha ||g_{t-K}|| g_t / ||g_t||.

    Norms are compared as they were before any clipping.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        alpha: share that is left; below 1 in the paper.
        lag: K.

    Raises:
        ValueError: if alpha is not in (0, 1] or lag not a positive whole number; in ``step``, if no parameter
            has a gradient.
        NotFinite: in ``step``, if the loss or a gradient is NaN or infinite.
    """

    @either_form
    def __init__(self, base_optimizer: torch.optim.Optimizer, alpha: float, lag: int) -> None:
        super().__init__(base_optimizer)
        self.alpha, self.lag = _fraction(alpha), whole("lag", lag)
        self._norms: deque[float] = deque(maxlen=self.lag)

    def _memory(self) -> dict:
        return {"norms": list(self._norms)}

    def _recall(self, memory: dict) -> None:
        self._norms = deque(memory["norms"], maxlen=self.lag)

    def _target(self, norm: float) -> float:
        earlier = self._norms[0] if len(self._norms) == self.lag else math.inf
        self._norms.append(norm)
        return self.alpha * earlier if norm > earlier else norm


def _fraction(alpha: float) -> float:
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must lie in (0, 1], got {alpha}")
    return alpha
