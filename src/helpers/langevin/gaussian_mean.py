"""The exact case: noisy gradient descent towards the mean of Gaussian data, loss (w - z)^2 / 2 in training.

From W_0 = 0, W_t = (1 - lr) W_{t-1} + lr mean(S) + sigma xi_t. The weights are Gaussian and every information of
``certificates`` is a closed form, or one integral. The loss that is *evaluated* is |w - z|, which is s-sub-Gaussian for
every w, so the inequalities hold with R = s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isfinite, log1p, pi, sqrt

import numpy as np
from scipy.integrate import quad

from helpers._checks import positive, real, whole
from helpers.supersample.family import LOG_2
from helpers.xu_raginsky import ABSOLUTE_NORMAL

FAR = 12.0  # standard deviations to which integrals run
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


@dataclass(frozen=True)
class GaussianMean:
    """Z ~ N(mean, s^2); T full-batch steps of noisy gradient descent.

    Attributes:
        n: examples, or pairs of a supersample.
        steps: T.
        lr, sigma: of a step; lr at most 1.
        s: standard deviation of the data.
        mean: of the data; the walk starts at 0.

    Raises:
        ValueError: if a number is out of range.
    """

    n: int
    steps: int
    lr: float
    sigma: float
    s: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        whole("n", self.n, least=2)
        whole("steps", self.steps)
        for name in ("lr", "sigma", "s"):
            positive(name, getattr(self, name))
        if not isfinite(real("mean", self.mean)):
            raise ValueError(f"mean must be a finite number, got {self.mean}")
        if self.lr > 1:
            raise ValueError(f"lr must be at most 1, got {self.lr}; the walk overshoots the mean beyond that")

    @property
    def pull(self) -> float:
        """A in W = A mean(S) + noise: 1 - (1 - lr)^T."""
        return 1 - (1 - self.lr) ** self.steps

    @property
    def noise_variance(self) -> float:
        """Variance of the noise in W."""
        keep = (1 - self.lr) ** 2
        return self.sigma**2 * sum(keep**t for t in range(self.steps))

    @property
    def signal(self) -> float:
        """T lr^2 / sigma^2: what the path amplifies the data by."""
        return self.steps * (self.lr / self.sigma) ** 2

    @property
    def gap(self) -> float:
        """gen of the loss |w - z|."""
        spread = self.pull**2 * self.s**2 / self.n + self.noise_variance
        difference = 2 * self.pull * self.s**2 / self.n
        ends = sqrt(spread + self.s**2), sqrt(spread + self.s**2 - difference)
        return ABSOLUTE_NORMAL * difference / sum(ends)

    @property
    def end(self) -> float:
        """I(W_T; S)."""
        return log1p(self.pull**2 * self.s**2 / (self.n * self.noise_variance)) / 2

    @property
    def path(self) -> float:
        """I(W_{0:T}; S) = log(1 + T lr^2 s^2 / (n sigma^2)) / 2."""
        return log1p(self.signal * self.s**2 / self.n) / 2

    @property
    def population_moments(self) -> list[float]:
        """E|g_t - population gradient|^2 for each step: s^2 / n."""
        return [self.s**2 / self.n] * self.steps

    @property
    def moments(self) -> list[float]:
        """E|g_t|^2 for each step: centre 0."""
        keep, squares = (1 - self.lr) ** 2, []
        square = self.mean**2 + self.s**2 / self.n
        for _ in range(self.steps):
            squares.append(square)
            square = keep * square + self.sigma**2
        return squares

    @property
    def one_given_rest(self) -> float:
        """I(W_{0:T}; Z_i | S without i)."""
        return log1p(self.signal * self.s**2 / self.n**2) / 2

    @property
    def incoherence(self) -> float:
        """Expected incoherence of an example: T lr^2 / sigma^2 times s^2 (1 + 1 / (n - 1))."""
        return self.signal * self.s**2 * self.n / (self.n - 1)

    @property
    def membership_exact(self) -> float:
        """I(W_{0:T}; U_i | supersample, other coins), over the distance of the pair."""
        return _over_distances(lambda delta: _coin_information(self.signal * (delta * self.s / self.n) ** 2))

    @property
    def membership_posterior(self) -> float:
        """What the running posterior bounds it by: sum over steps of E lr^2 Delta^2 (1 - p_t)^2 / (2 sigma^2 n^2)."""
        step = (self.lr / self.sigma) ** 2

        def summed(delta: float) -> float:
            one = step * (delta * self.s / self.n) ** 2
            return one / 2 * float(_squared_doubt(one * np.arange(self.steps)).sum())

        return _over_distances(summed)

    @property
    def membership_blind(self) -> float:
        """The same with p_t = 1/2: T lr^2 s^2 / (4 sigma^2 n^2)."""
        return self.signal * self.s**2 / (4 * self.n**2)


def _over_distances(value: Callable[[float], float]) -> float:
    """E value(delta), delta = (Z_i0 - Z_i1) / s ~ N(0, 2)."""
    weighted = quad(lambda x: exp(-x * x / 4) * value(x), 0, FAR * sqrt(2), epsabs=1e-13, epsrel=1e-12)[0]
    return float(weighted) / sqrt(pi)


def _coin_information(snr: float) -> float:
    """Of a fair coin seen through N(+-m / 2, 1), m^2 = snr: log 2 - E log(1 + exp(-x)), x ~ N(snr / 2, snr)."""
    return LOG_2 - float(_over_log_ratios(np.array([snr]), lambda x: np.logaddexp(0.0, -x))[0])


def _squared_doubt(snr: np.ndarray) -> np.ndarray:
    """E (1 - p)^2, p the posterior of the true coin, for every entry."""
    return _over_log_ratios(snr, lambda x: np.exp(-2 * np.logaddexp(0.0, x)))


def _over_log_ratios(snr: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """E value(x), x ~ N(snr / 2, snr) the log ratio of the true coin, for every entry of snr, (m,)."""
    x = snr[:, None] / 2 + np.sqrt(snr)[:, None] * NODES
    mean: np.ndarray = value(x) @ WEIGHTS / sqrt(2 * pi)
    return mean
