"""The last member of the family where the law of a pair's loss difference is known, charged in two ways.

Let D = (-1)^U Delta be the loss on the ghost minus the loss on the training example: the gap is E D. For a learner that
treats the two columns of a pair alike, Delta given U = 1 is -Delta given U = 0, so the law of D says everything.
Donsker-Varadhan on rho (-1)^U Delta gives, for all rho > 0,

    rho gap <= I(Delta; U) + log E cosh(rho D),

and the family's square root follows from cosh(rho D) <= exp(rho^2 c^2 / 2) where |D| <= c. That step charges the
largest loss difference there may be; the line above charges those that there are.
"""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from helpers._checks import positive
from helpers._tensors import floats_of

ROUNDING = 1e-13  # probabilities below it may be rounding of the transform they come from, and count for nothing


@dataclass(frozen=True)
class LossDifference:
    """Law of D, the loss on the ghost minus the loss on the training example of a pair.

    Attributes:
        values: (m,), symmetric about 0 and increasing.
        probabilities: (m,), of sum 1 but for rounding.

    Raises:
        ValueError: if these are no two rows of numbers, the values are not symmetric, or the probabilities are no
            distribution.
    """

    values: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        for name in ("values", "probabilities"):
            object.__setattr__(self, name, floats_of(name, getattr(self, name)).detach().cpu().double().numpy())
        if self.values.ndim != 1 or self.values.shape != self.probabilities.shape:
            raise ValueError("values and probabilities must be two rows of one length")
        if not np.allclose(self.values, -self.values[::-1]):
            raise ValueError("values must be symmetric about 0, so that a pair can be turned round")
        if abs(self.probabilities.sum() - 1) > 1e-9 or self.probabilities.min() < -ROUNDING:
            raise ValueError("probabilities must be at least 0 and sum to 1")

    @property
    def gap(self) -> float:
        """E D."""
        return float(self.values @ self.probabilities)

    @property
    def _mixed(self) -> np.ndarray:
        """The law of Delta: D with a fair sign."""
        mixed: np.ndarray = (self.probabilities + self.probabilities[::-1]) / 2
        return mixed

    @property
    def information(self) -> float:
        """I(Delta; U) in nats: the divergence of the law of D from that of Delta."""
        likely = self.probabilities > ROUNDING
        p = self.probabilities[likely]
        return float(p @ np.log(p / self._mixed[likely]))

    def by_range(self, c: float) -> float:
        """c sqrt(2 I(Delta; U)), for |D| <= c.

        Raises:
            ValueError: if c is not positive, or below the largest |D|.
        """
        widest = float(np.abs(self.values[self.probabilities > ROUNDING]).max())
        if positive("c", c) < widest * (1 - 1e-9):
            raise ValueError(f"c must be at least the largest |D|, {widest:g}, got {c}")
        return c * sqrt(2 * self.information)

    @property
    def by_spread(self) -> float:
        """min over rho of (I(Delta; U) + log E cosh(rho D)) / rho: never above ``by_range``."""
        likely = self._mixed > ROUNDING
        size, weight = np.abs(self.values[likely]), self._mixed[likely]
        information, spread = self.information, sqrt(weight @ size**2)

        def charged(log_rho: float) -> float:
            rho = exp(log_rho)
            cumulant = logsumexp(rho * size + np.log1p(np.exp(-2 * rho * size)) - log(2), b=weight)
            return float(information + cumulant) / rho

        guess = log(sqrt(2 * information) / spread) if information > 0 else 0.0
        best = minimize_scalar(charged, bracket=(guess, guess + 0.5), tol=1e-10)
        return float(best.fun)
