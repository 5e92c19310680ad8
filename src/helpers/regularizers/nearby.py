"""Gradients from other points nearby: SAM and AMP take the worst, GMP and NVRM random ones.

A gradient that an evaluation leaves out is zero there; a parameter without one at w is not perturbed. A loss or
gradient that is NaN or infinite, in any evaluation, ends the step with ``NotFinite``: weights and buffers are then what
they were (in halves, the buffers are what the caller's own forward pass has left).
"""

from contextlib import ExitStack

import torch
from torch import Tensor

from helpers._checks import non_negative, positive, whole
from helpers.regularizers.buffers import buffers_kept_on_error, frozen_buffers
from helpers.regularizers.moving import moved
from helpers.regularizers.wrapper import Closure, Drawing, Wrapper, either_form, finite_norm


class SAM(Wrapper):
    """Sharpness-aware minimisation: the base sees grad L(w + rho g / ||g||), g = grad L(w).

    To first order w + rho g / ||g|| maximises L over the ball of radius rho. ``adaptive`` measures the ball in units of
    the weights, T = |w| entry by entry (ASAM, Kwon et al. 2021, with eta = 0): the perturbation is rho T^2 g / ||T g||,
    and the loss there stays the same when weights are rescaled without a change of the function. Costs two gradients a
    step. Where no direction is steepest (g = 0, or T g = 0) the base sees g.

    Besides ``step(closure)`` a step can be taken in halves, each after a ``backward``, as a ``GradScaler`` needs it::

        for half in (optimizer.first_step, optimizer.second_step):
            scaler.scale(criterion(model(inputs), targets)).backward()
            scaler.unscale_(optimizer)
            try:
                half(zero_grad=True)
            except NotFinite:  # the scale was too large: the weights are back, and update() lowers it
                optimizer.zero_grad()
                break
            finally:
                scaler.update()

    A closure must not scale its loss: the base would see the gradient times the scale, and nothing here can tell.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        rho: radius of the ball; a parameter group may have its own, under "rho".
        adaptive: whether the radius is relative to each weight.

    Raises:
        ValueError: if rho is negative, that of a parameter group in a step; in ``step`` without a closure; in
            ``first_step`` and ``second_step`` out of turn; if no parameter has a gradient.
        NotFinite: in a step whose loss or gradient is NaN or infinite.
    """

    needs_closure = True

    @either_form
    def __init__(self, base_optimizer: torch.optim.Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        super().__init__(base_optimizer)
        self.rho = rho
        self._scale = torch.abs if adaptive else torch.ones_like
        self._perturbed: ExitStack | None = None  # between the two halves of a step

    @property
    def rho(self) -> float:
        """The radius of all groups that have none of their own; each holds its radius under "rho"."""
        return self._rho

    @rho.setter
    def rho(self, value: float) -> None:
        before, self._rho = getattr(self, "_rho", None), non_negative("rho", value)
        for group in self.param_groups:
            if group.get("rho", before) == before:
                group["rho"] = self._rho
        self.defaults = {**self.defaults, "rho": self._rho}  # of groups still to come

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float:  # type: ignore[override]
        """One step; returns the loss at the unperturbed weights."""
        self._check_turn(perturbed=False)
        with buffers_kept_on_error(self.parameters):
            loss = self._evaluate(closure)
            gradients = self._gradients()
            if shifts := self._ascent(gradients):
                with moved(shifts), frozen_buffers(self.parameters):
                    self._evaluate(closure)
                    self._finish(gradients)
        self.base.step()
        return loss

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Move the weights to the worst point nearby, by the gradients at hand."""
        self._check_turn(perturbed=False)
        self._first = self._gradients()
        shifts = self._ascent(self._first)
        self._perturbed = ExitStack()
        self._perturbed.enter_context(moved(shifts))
        self._perturbed.enter_context(frozen_buffers(self.parameters))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Move the weights back and let the base step by the gradients at hand, those of the perturbed weights."""
        self._check_turn(perturbed=True)
        with self._perturbed:  # type: ignore[union-attr]
            self._perturbed = None
            self._finish(self._first)
        self.base.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self) -> dict:
        """State of the base and of this wrapper; not between the two halves of a step."""
        self._check_turn(perturbed=False)
        return super().state_dict()

    def __getstate__(self) -> dict:
        self._check_turn(perturbed=False)
        return super().__getstate__()

    def _check_turn(self, *, perturbed: bool) -> None:
        if perturbed and self._perturbed is None:
            raise ValueError("second_step comes after first_step; call first_step and evaluate the batch again")
        if not perturbed and self._perturbed is not None:
            raise ValueError("the weights are perturbed; call second_step, which moves them back, first")

    def _ascent(self, gradients: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """The perturbation of every parameter; empty where no direction is steepest."""
        scales = {p: self._scale(p) for p in gradients}
        norm = finite_norm({p: scales[p] * g for p, g in gradients.items()})
        if norm == 0:
            return {}
        radius = {
            p: non_negative("rho of a parameter group", group.get("rho", self.rho))
            for group in self.param_groups
            for p in group["params"]
        }
        return {p: scales[p] ** 2 * g * (radius[p] / norm) for p, g in gradients.items()}

    def _finish(self, first: dict[Tensor, Tensor]) -> None:
        """Check the gradients of the perturbed weights; a missing one is zero."""
        finite_norm(self._gradients())
        for p in first:
            if p.grad is None:
                p.grad = torch.zeros_like(p)


class AMP(SAM):
    """Adversarial model perturbation: the base sees grad L(w + d), d = rate grad L(w) cut to the ball ||d|| <= rho.

    One ascent step, projected onto the ball: the algorithm of Zheng et al. (2021) with one inner step, as Wang & Mao's
    tables have it. Where the step leaves the ball this is ``SAM``. Where the gradient is small it is less: near a
    minimum SAM still goes the whole radius, and AMP comes to rest. Costs two gradients a step, which can be taken in
    halves like SAM's.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        rho: radius of the ball; a parameter group may have its own, under "rho".
        rate: size of the ascent step.

    Raises:
        ValueError: if rho is negative or rate not positive, and as for ``SAM``.
        NotFinite: in a step whose loss or gradient is NaN or infinite.
    """

    @either_form
    def __init__(self, base_optimizer: torch.optim.Optimizer, rho: float = 0.5, rate: float = 1.0) -> None:
        super().__init__(base_optimizer, rho)
        self.rate = positive("rate", rate)

    def _ascent(self, gradients: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        norm = finite_norm(gradients)
        if norm == 0:
            return {}
        radius = {p: group.get("rho", self.rho) for group in self.param_groups for p in group["params"]}
        return {p: g * min(self.rate, radius[p] / norm) for p, g in gradients.items()}


class GMP(Drawing):
    """Gaussian model perturbation: the base sees, for fresh d_j ~ N(0, sigma^2 I) and the same batch,

        (1 - rho) grad L(w) + (rho / k) sum_{j <= k} grad L(w + d_j).

    Its mean is the gradient of L + rho (E L(w + d) - L(w)) = L + (rho sigma^2 / 2) Tr H + O(sigma^4). Costs
    k + 1 gradients a step. Wang & Mao use rho = 0.5, sigma = 0.03 and k = 3 or 10.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        sigma: standard deviation of the perturbation of every weight.
        rho: weight of the flatness term.
        draws: k.
        seed: of the perturbations, which do not touch the global random state.

    Raises:
        ValueError: if sigma is not positive, rho negative or draws not a positive whole number; in ``step``,
            without a closure, or if no parameter has a gradient at w.
        NotFinite: in ``step``, if a loss or gradient is NaN or infinite.
    """

    @either_form
    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        sigma: float,
        rho: float = 0.5,
        draws: int = 3,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(base_optimizer, seed)
        self.sigma, self.rho = positive("sigma", sigma), non_negative("rho", rho)
        self.draws = whole("draws", draws)

    def _share_of(self, change: float) -> float:
        """Coefficient of grad L(w + d_j) - grad L(w) where the loss changes by ``change`` on the way."""
        return self.rho / self.draws

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float:  # type: ignore[override]
        """One step; returns the loss at the unperturbed weights."""
        with buffers_kept_on_error(self.parameters):
            loss = self._evaluate(closure)
            plain = self._gradients()
            finite_norm(plain)
            mixed = {p: g.clone() for p, g in plain.items()}
            for _ in range(self.draws):
                with moved({p: self.sigma * self._normal_like(p) for p in plain}), frozen_buffers(self.parameters):
                    change = float(self._evaluate(closure)) - float(loss)
                    nearby = self._gradients()
                    finite_norm(nearby)
                self._mix(mixed, plain, nearby, self._share_of(change))
        for p, gradient in mixed.items():
            p.grad = gradient
        self.base.step()
        return loss

    def _mix(
        self, mixed: dict[Tensor, Tensor], plain: dict[Tensor, Tensor], nearby: dict[Tensor, Tensor], share: float
    ) -> None:
        """Add share (nearby - plain) to the mixed gradients; one that is missing is zero."""
        for p in plain | nearby:
            zero = torch.zeros_like(p)
            mixed.setdefault(p, zero.clone()).add_(nearby.get(p, zero) - plain.get(p, zero), alpha=share)


class AbsoluteGMP(GMP):
    """GMP with the penalty rho E|L(w + d) - L(w)|: a draw counts with the sign of its change of the loss.

    At a minimum, where no draw lowers the loss, this is ``GMP``; elsewhere the penalty asks that the loss of
    the batch does not change in either direction. Arguments, errors and cost as there.
    """

    def _share_of(self, change: float) -> float:
        return self.rho / self.draws * ((change > 0) - (change < 0))


class NVRM(GMP):
    """Neural variable risk minimisation: the base sees grad L(w + d) alone, a fresh d ~ N(0, sigma^2 I) each step.

    ``GMP`` with rho = 1 and one draw, at the price of one gradient: the mean step descends E L(w + d), with no share of
    L(w) itself (Xie et al. 2021, who add the noise before a step and take it out after). What a step sees, buffers
    included, is the network at w + d: running statistics of BatchNorm are those of perturbed weights.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        sigma: standard deviation of the perturbation of every weight.
        seed: of the perturbations, which do not touch the global random state.

    Raises:
        ValueError: if sigma is not positive; in ``step``, without a closure, or if no parameter has a gradient.
        NotFinite: in ``step``, if a loss or gradient is NaN or infinite.
    """

    @either_form
    def __init__(self, base_optimizer: torch.optim.Optimizer, sigma: float, *, seed: int = 0) -> None:
        super().__init__(base_optimizer, sigma, rho=1.0, draws=1, seed=seed)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float:  # type: ignore[override]
        """One step; returns the loss at the perturbed weights, the only ones that are seen."""
        noise = {p: self.sigma * self._normal_like(p) for p in self.parameters if p.requires_grad}
        with buffers_kept_on_error(self.parameters), moved(noise):
            loss = self._evaluate(closure)
            finite_norm(self._gradients())
        self.base.step()
        return loss
