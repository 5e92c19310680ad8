"""Training for flatness: optimisers to put around any other optimiser.

===================  =====================================================================================
``SAM``              the gradient at the worst point nearby (Foret et al. 2021; Wu's slides, eq. 1)
``GMP``              the mean gradient at random points nearby (Wang & Mao 2022, Section 6, Algorithm 2)
``AbsoluteGMP``      the same for losses that change either way (Wang & Mao 2022, E.7, Table 3)
``DynamicClipping``  clips to a running minimum of gradient norms (Wang & Mao 2022, Algorithm 1)
``LaggedClipping``   clips to the norm of some steps earlier (Wang & Mao 2022, Section 5, main text)
===================  =====================================================================================

Each wraps a *base* optimiser, shares its parameters, groups and state (so that learning-rate schedules work
on either), and changes only the gradients that the base sees: momentum and weight decay are the base's own::

    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)

    def closure():                   # the same batch at every call
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        return loss

    optimizer.step(closure)

SAM and GMP evaluate the batch at several points. Afterwards the weights are where they were, to the bit, and
buffers (running statistics of BatchNorm) have seen the batch once, at the unperturbed weights: buffers of
every module that runs in a further evaluation are put back. Random layers draw anew at every evaluation.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from helpers._checks import non_negative, positive, whole

Closure = Callable[[], Tensor]


class _Wrapper(torch.optim.Optimizer):
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


def _norm(gradients: dict[Tensor, Tensor]) -> float:
    """Euclidean norm of all gradients together; ValueError if it is not finite."""
    norm = nn.utils.get_total_norm(gradients.values()).item()
    if not math.isfinite(norm):
        raise ValueError(f"the gradient norm is {norm}: training diverged; lower the learning rate")
    return norm


# --- gradients from other points ----------------------------------------------------------------------------


@contextmanager
def _moved(shifts: dict[Tensor, Tensor]) -> Iterator[None]:
    """Every parameter at w + its shift inside the block, and back at w afterwards, to the bit."""
    before = {p: p.detach().clone() for p in shifts}
    try:
        for p, shift in shifts.items():
            p.add_(shift)
        yield
    finally:
        for p, old in before.items():
            p.copy_(old)


@contextmanager
def _frozen_buffers() -> Iterator[None]:
    """Buffers of every module that runs inside the block are put back at its end.

    An optimiser knows parameters, not modules. A hook on all forward passes meets the modules that own the
    buffers, before they change them; modules in evaluation mode change nothing and are put back to what they
    are.
    """
    before: dict[Tensor, Tensor] = {}

    def remember(module: nn.Module, _: object) -> None:
        for buffer in module.buffers():
            if buffer not in before:
                before[buffer] = buffer.detach().clone()

    handle = register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        handle.remove()
        with torch.no_grad():
            for buffer, old in before.items():
                buffer.copy_(old)


class SAM(_Wrapper):
    """Sharpness-aware minimisation: the base sees grad L(w + rho g / ||g||), g = grad L(w).

    To first order w + rho g / ||g|| maximises L over the ball of radius rho. Costs two gradients a step.
    Where g = 0 no direction is steepest, and the base sees g.

    Raises:
        ValueError: if rho is negative; in ``step``, without a closure or if the gradient norm is not finite.
    """

    def __init__(self, base_optimizer: torch.optim.Optimizer, rho: float = 0.05) -> None:
        super().__init__(base_optimizer)
        self.rho = non_negative("rho", rho)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One step; returns the loss at the unperturbed weights."""
        loss = self._evaluate(closure)
        gradients = self._gradients()
        norm = _norm(gradients)
        if norm > 0:
            with _moved({p: g * (self.rho / norm) for p, g in gradients.items()}), _frozen_buffers():
                self._evaluate(closure)
        self.base.step()
        return loss


class GMP(_Wrapper):
    """Gaussian model perturbation: the base sees, for fresh d_j ~ N(0, sigma^2 I) and the same batch,

        (1 - rho) grad L(w) + (rho / k) sum_{j <= k} grad L(w + d_j).

    Its mean is the gradient of L + rho (E L(w + d) - L(w)) = L + (rho sigma^2 / 2) Tr H + O(sigma^4). Costs
    k + 1 gradients a step. Wang & Mao use rho = 0.5, sigma = 0.03 and k = 3 or 10.

    Args:
        sigma: standard deviation of the perturbation of every weight.
        rho: weight of the flatness term.
        draws: k.
        seed: of the perturbations, which do not touch the global random state.

    Raises:
        ValueError: if sigma is not positive, rho negative or draws not a positive whole number; in ``step``,
            without a closure.
    """

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        sigma: float,
        rho: float = 0.5,
        draws: int = 3,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(base_optimizer)
        self.sigma, self.rho = positive("sigma", sigma), non_negative("rho", rho)
        self.draws = whole("draws", draws)
        device = self.param_groups[0]["params"][0].device
        self._generator = torch.Generator(device).manual_seed(seed)

    def _memory(self) -> dict:
        return {"generator": self._generator.get_state()}

    def _recall(self, memory: dict) -> None:
        self._generator.set_state(memory["generator"])

    def _share_of(self, change: Tensor) -> float:
        """Coefficient of grad L(w + d_j) - grad L(w) where the loss changes by ``change`` on the way."""
        return self.rho / self.draws

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One step; returns the loss at the unperturbed weights."""
        loss = self._evaluate(closure)
        plain = self._gradients()
        mixed = {p: g.clone() for p, g in plain.items()}
        for _ in range(self.draws):
            with _moved({p: self.sigma * self._normal_like(p) for p in plain}), _frozen_buffers():
                change = self._evaluate(closure) - loss
            share = self._share_of(change)
            for p, there in self._gradients().items():
                mixed[p].add_(there - plain[p], alpha=share)
        for p, gradient in mixed.items():
            p.grad = gradient
        self.base.step()
        return loss

    def _normal_like(self, p: Tensor) -> Tensor:
        return torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=self._generator)


class AbsoluteGMP(GMP):
    """GMP with the penalty rho E|L(w + d) - L(w)|: a draw counts with the sign of its change of the loss.

    At a minimum, where no draw lowers the loss, this is ``GMP``; elsewhere the penalty asks that the loss of
    the batch does not change in either direction. Arguments, errors and cost as there.
    """

    def _share_of(self, change: Tensor) -> float:
        return self.rho / self.draws * torch.sign(change).item()


# --- gradients clipped by their own history -----------------------------------------------------------------


class _Clipping(_Wrapper):
    """The base sees the gradient, shortened to a norm that depends on the norms before."""

    def _target(self, norm: float) -> float:
        """Norm that is left of a gradient of this norm."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | None:  # type: ignore[override]
        """One step on the gradients at hand, or on those of the closure, whose loss is returned."""
        loss = None if closure is None else self._evaluate(closure)
        gradients = self._gradients()
        norm = _norm(gradients)
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
        alpha: share of G that is left of a longer gradient; 0.1 in the paper.
        start: T_c, number of steps without clipping.
        initial: first value of G; infinity makes the first norm after ``start`` the first minimum.

    Raises:
        ValueError: if alpha is not in (0, 1], initial not positive or start negative; in ``step``, if no
            parameter has a gradient or the gradient norm is not finite.
    """

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
        alpha: share that is left; below 1 in the paper.
        lag: K.

    Raises:
        ValueError: if alpha is not in (0, 1] or lag not a positive whole number; in ``step``, if no parameter
            has a gradient or the gradient norm is not finite.
    """

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


# --- regularisers of the loss and of the data, for comparison -----------------------------------------------


def flooding(loss: Tensor, level: float) -> Tensor:
    """|loss - level| + level: gradient ascent where a batch loss is below the level (Ishida et al. 2020)."""
    return (loss - level).abs() + level


def mixup(inputs: Tensor, targets: Tensor, *, share: float, partners: Tensor) -> tuple[Tensor, Tensor]:
    """share x_i + (1 - share) x_{partners_i}, and the same of the targets (Zhang et al. 2018).

    Args:
        inputs: shape (n, ...).
        targets: class probabilities (one-hot where the class is known), shape (n, classes).
        share: in [0, 1]; drawn from Beta(a, a) once a batch.
        partners: a permutation of the batch, shape (n,).

    Raises:
        ValueError: if the share lies outside [0, 1], or targets are class indices.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(
            "mixup needs class probabilities (n, classes); pass one_hot(targets, classes) as floating values"
        )
    return share * inputs + (1 - share) * inputs[partners], share * targets + (1 - share) * targets[partners]
