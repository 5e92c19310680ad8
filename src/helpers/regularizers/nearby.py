"""Gradients from other points nearby: SAM takes the worst, GMP random ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from helpers._checks import non_negative, positive, whole
from helpers.regularizers.wrapper import Closure, Wrapper, gradient_norm


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


class SAM(Wrapper):
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
        norm = gradient_norm(gradients)
        if norm > 0:
            with _moved({p: g * (self.rho / norm) for p, g in gradients.items()}), _frozen_buffers():
                self._evaluate(closure)
        self.base.step()
        return loss


class GMP(Wrapper):
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
