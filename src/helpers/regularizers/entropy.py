"""A gradient from a walk nearby: Entropy-SGD descends the local entropy."""

import torch
from torch import Tensor

from helpers._checks import non_negative, positive, whole
from helpers.regularizers.buffers import buffers_kept_on_error, frozen_buffers
from helpers.regularizers.moving import returned
from helpers.regularizers.wrapper import Closure, Drawing, either_form, finite_norm


class EntropySGD(Drawing):
    """Entropy-SGD: the base sees gamma (w - mu), mu a running mean of a Langevin walk y that is tied to w,

        y_0 = mu_0 = w,    y_l = y_{l-1} - rate (grad L(y_{l-1}) + gamma (y_{l-1} - w)) + sqrt(rate) noise N(0, I),
        mu_l = (1 - alpha) mu_{l-1} + alpha y_l,    l = 1, ..., steps

    (Chaudhari et al. 2017, algorithm 1). A long walk of a small rate has a density proportional to exp(-b U(y)), with
    U(y) = L(y) + gamma ||y - w||^2 / 2 and b = 2 / noise^2, and gamma (w - E y) is the gradient of F(w) = -(1 / b) log
    of the integral of exp(-b U): F is minus the local entropy. Without noise F(w) is the least U(y), the Moreau
    envelope. Costs ``steps`` gradients a step.

    A base of learning rate 1 / gamma goes to mu itself. The closure may take another batch at every call, as the source
    does; buffers see the first, at w.

    Args:
        base_optimizer: an optimiser; or parameters, followed by the class of one, its options given by name.
        gamma: strength of the tie; 1 / sqrt(gamma) is about the distance over which the loss is looked at.
        steps: of the walk.
        rate: of the walk.
        noise: of the walk; the source has 1e-4.
        alpha: share of the newest point in the mean.
        seed: of the noise, which does not touch the global random state.

    Raises:
        ValueError: if gamma or rate is not positive, noise negative, steps not a positive whole number, or alpha not
            in (0, 1]; in ``step``, without a closure, or if no parameter has a gradient at w.
        NotFinite: in ``step``, if a loss or gradient is NaN or infinite.
    """

    @either_form
    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        gamma: float,
        *,
        steps: int = 5,
        rate: float = 0.1,
        noise: float = 1e-4,
        alpha: float = 0.75,
        seed: int = 0,
    ) -> None:
        super().__init__(base_optimizer, seed)
        self.gamma, self.rate = positive("gamma", gamma), positive("rate", rate)
        self.noise, self.steps = non_negative("noise", noise), whole("steps", steps)
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must lie in (0, 1], got {alpha}")
        self.alpha = alpha

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float:  # type: ignore[override]
        """One step; returns the loss at w, of the first batch."""
        with buffers_kept_on_error(self.parameters):
            loss = self._evaluate(closure)
            gradients = self._gradients()
            finite_norm(gradients)
            with returned(gradients) as start:
                mean = {p: w.clone() for p, w in start.items()}
                self._walk(start, gradients, mean)
                for _ in range(self.steps - 1):
                    with frozen_buffers(self.parameters):
                        self._evaluate(closure)
                        gradients = self._gradients()
                        finite_norm(gradients)
                    self._walk(start, gradients, mean)
        for p, w in start.items():
            p.grad = self.gamma * (w - mean[p])
        self.base.step()
        return loss

    def _walk(self, start: dict[Tensor, Tensor], gradients: dict[Tensor, Tensor], mean: dict[Tensor, Tensor]) -> None:
        """One step of y, which the parameters hold, and of its mean; a gradient that is missing is zero."""
        for p, w in start.items():
            drift = self.gamma * (p - w)
            if p in gradients:
                drift += gradients[p]
            p.add_(drift, alpha=-self.rate).add_(self._normal_like(p), alpha=self.rate**0.5 * self.noise)
            mean[p].lerp_(p, self.alpha)
