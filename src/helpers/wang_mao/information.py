"""What a noisy step of SGD can tell about the sample: Wang & Mao (2022), Lemmas 3 to 6, and an exact example.

Lemma 6 splits I(W~_T; S), the information in the final noisy weights, into one conditional term a step; Lemma
5 bounds each by the dispersion of its update, with Lemma 4 as engine and Lemma 3 as fuel. ``LinearChain`` is
SGD on a one-dimensional quadratic with Gaussian data, where every side of every inequality is a number.

Information is in nats, d is the number of weights, sigma the standard deviation of the noise of one step.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.integrate import quad

from helpers._checks import non_negative, non_negatives, positive, whole
from helpers._tensors import symmetric


def lemma_3(squared_distance: float, t: float, t_reference: float, *, d: int) -> float:
    """Wang & Mao (2022), Lemma 3: upper bound on KL(X + sqrt(t) N || Y + sqrt(t') N), N ~ N(0, I).

    E||X - Y||^2 / (2 t') + (d / 2)(log(t' / t) + t / t' - 1), for any coupling of X and Y that is independent
    of N. Equality for constants.

    Args:
        squared_distance: E||X - Y||^2.
        t: variance of the noise on X.
        t_reference: t', the variance of the noise on Y.
        d: dimension.

    Raises:
        ValueError: if the distance is negative, or a variance or d is not positive.
    """
    squared_distance, d = non_negative("squared_distance", squared_distance), whole("d", d)
    t, t_reference = positive("t", t), positive("t_reference", t_reference)
    ratio = t / t_reference
    return squared_distance / (2 * t_reference) + d / 2 * (ratio - 1 - math.log(ratio))


def lemma_4(second_moments: Iterable[float], sigma: float, *, d: int) -> float:
    """Wang & Mao (2022), Lemma 4: upper bound on I(f(Y + Delta, X) + sigma N; X | Y).

    (d / 2) E_Y log(1 + E[||f - Omega||^2 | Y] / (d sigma^2)), for any centre Omega that is a function of Y.
    The inner expectation is *conditional on Y* (the statement does not say so); pulling E_Y inside the
    logarithm is valid and weaker. Equality if, given Y, f - Omega is an isotropic Gaussian of mean zero and a
    function of X.

    Args:
        second_moments: E[||f - Omega||^2 | Y = y] for equally likely values y; one number if it does not
            depend on y.
        sigma: standard deviation of the noise.
        d: dimension of f.

    Raises:
        ValueError: if there is no second moment, one is negative, or sigma or d is not positive.
    """
    moments = non_negatives("second_moments", second_moments)
    sigma, d = positive("sigma", sigma), whole("d", d)
    return d / 2 * math.fsum(math.log1p(moment / (d * sigma**2)) for moment in moments) / len(moments)


def lemma_5(dispersion: float, sigma: float, *, d: int) -> float:
    """Wang & Mao (2022), Lemma 5: upper bound on the information of one step, I(-lr g + N; S | W~_{t-1}).

    (d / 2) log(1 + lr^2 E[V] / (d sigma^2)): Lemma 4 with a constant as centre, which removes the expectation
    over Y.

    Args:
        dispersion: lr^2 E||g(W_{t-1}, B_t) - c||^2 for a constant c, at best the mean gradient; weights,
            batch and sample are random *together*. (The source's eq. 1 defines V at a fixed w, which loses
            that after the first epoch.)
        sigma: standard deviation of the noise of the step.
        d: number of weights.

    Raises:
        ValueError: if the dispersion is negative, or sigma or d is not positive.
    """
    return lemma_4([dispersion], sigma, d=d)


def lemma_6(conditional_informations: Iterable[float]) -> float:
    """Wang & Mao (2022), Lemma 6: upper bound on I(W~_T; S).

    The sum over steps of I(update + noise; S | W~_{t-1}). Chain rule and data processing; needs initial
    weights that do not depend on S. The sum can be far larger than the left side, because it pays for what
    every step says and the final weights have mostly forgotten.

    Raises:
        ValueError: if there is no step, or an entry is negative or not finite.
    """
    return math.fsum(non_negatives("conditional_informations", conditional_informations))


def gaussian_information(
    covariance: np.ndarray, x: Sequence[int], y: Sequence[int], given: Sequence[int] = ()
) -> float:
    """I(X; Y | Z) for jointly Gaussian variables, from the entropies of the four sub-vectors.

    Args:
        covariance: (m, m), of all variables together.
        x, y, given: which variables make up X, Y and Z.

    Raises:
        ValueError: if the covariance is not symmetric, or one of its four blocks not positive definite.
    """
    covariance = symmetric("covariance", covariance).numpy()

    def entropy(*groups: Sequence[int]) -> float:
        rows = [row for group in groups for row in group]
        sign, log_determinant = np.linalg.slogdet(covariance[np.ix_(rows, rows)])
        if sign <= 0:
            raise ValueError(f"the covariance of variables {rows} is not positive definite")
        return float(log_determinant) / 2

    return entropy(x, given) + entropy(y, given) - entropy(given) - entropy(x, y, given)


@dataclass(frozen=True)
class LinearChain:
    """SGD on l(w, z) = (w - z)^2 / 2, Z ~ N(0, s^2), W_0 = 0, in fixed batches: all information exact.

    W_t = (1 - lr) W_{t-1} + lr * (mean of batch t) is linear in the sample, so sample, noise and weights are
    jointly Gaussian. The defaults are two epochs of three batches of two; from the second epoch on W_{t-1}
    and its batch depend on each other. Lists have one entry a step. Only s / sigma matters.

    Attributes:
        n: examples.
        batch: examples in a batch; divides n.
        epochs: passes over the sample, in the same order.
        lr: learning rate.
        sigma: standard deviation of the auxiliary noise of each step.
        s: standard deviation of the data.

    Raises:
        ValueError: if a number is not positive, or the batch size does not divide n.
    """

    n: int = 6
    batch: int = 2
    epochs: int = 2
    lr: float = 0.3
    sigma: float = 0.25
    s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("n", "batch", "epochs"):
            whole(name, getattr(self, name))
        for name in ("lr", "sigma", "s"):
            positive(name, getattr(self, name))
        if self.n % self.batch:
            raise ValueError(f"the batch size must divide n, got batch = {self.batch} and n = {self.n}")

    @property
    def steps(self) -> int:
        return self.epochs * self.n // self.batch

    @cached_property
    def _batch_means(self) -> np.ndarray:
        """(T, n): row t averages the examples of batch t."""
        rows = np.repeat(np.eye(self.n // self.batch), self.batch, axis=1) / self.batch
        return np.tile(rows, (self.epochs, 1))

    @cached_property
    def _weights(self) -> np.ndarray:
        """(T + 1, n): row t holds W_t as a linear function of the sample."""
        rows = [np.zeros(self.n)]
        for mean in self._batch_means:
            rows.append((1 - self.lr) * rows[-1] + self.lr * mean)
        return np.array(rows)

    @property
    def dispersions(self) -> list[float]:
        """lr^2 Var g(W_{t-1}, B_t): the variance of the update over the sample, what Lemma 5 asks for."""
        return [self.s**2 * float(update @ update) for update in np.diff(self._weights, axis=0)]

    @property
    def lemma_5(self) -> list[float]:
        return [lemma_5(dispersion, self.sigma, d=1) for dispersion in self.dispersions]

    @property
    def conditional_information(self) -> list[float]:
        """I(update_t + N_t; S | W~_{t-1}), exactly; given S the update is known and only noise is left."""
        return [self._step_information(t) for t in range(1, self.steps + 1)]

    def _step_information(self, t: int) -> float:
        sample = np.eye(self.n, self.n + 2) * self.s
        before = np.append(self.s * self._weights[t - 1], [math.sqrt(t - 1) * self.sigma, 0.0])
        after = np.append(self.s * (self._weights[t] - self._weights[t - 1]), [0.0, self.sigma])
        variables = np.vstack([sample, before, after])
        given = [self.n] if t > 1 else []  # W~_0 = 0 is a constant
        return gaussian_information(variables @ variables.T, list(range(self.n)), [self.n + 1], given)

    @property
    def mutual_information(self) -> float:
        """I(W~_T; S), exactly: a Gaussian channel with noise variance T sigma^2."""
        signal = self.s**2 * float(self._weights[-1] @ self._weights[-1])
        return math.log1p(signal / (self.steps * self.sigma**2)) / 2

    @property
    def theorem_1(self) -> list[float]:
        """Lemma 4 with the centre of Theorem 1.

        Omega = W~_{t-1}, the population gradient averaged over the noise; the expectation of the logarithm is
        computed by quadrature over W~_{t-1}.
        """
        return [self._theorem_1_step(t) for t in range(1, self.steps + 1)]

    def _theorem_1_step(self, t: int) -> float:
        # g - Omega = (W - mean of batch) - W~ = -(noise so far) - mean of batch
        mean, before = self._batch_means[t - 1], self._weights[t - 1]
        noise = (t - 1) * self.sigma**2
        variance = noise + self.s**2 * float(mean @ mean)
        ghost = noise + self.s**2 * float(before @ before)
        if ghost == 0:
            return lemma_5(self.lr**2 * variance, self.sigma, d=1)
        covariance = noise + self.s**2 * float(mean @ before)
        explained = covariance**2 / ghost

        def integrand(x: float) -> float:
            moment = self.lr**2 * (variance - explained + explained * x**2)
            return lemma_4([moment], self.sigma, d=1) * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

        return float(quad(integrand, -np.inf, np.inf, epsabs=1e-13, epsrel=1e-12)[0])

    @property
    def neu(self) -> list[float]:
        """lr^2 / sigma^2 (Psi_t + V~_t), the step's term in the bound of Neu et al. with constant 2.

        The risk has second derivative 1, so the sensitivity Psi_t is the accumulated noise variance (t - 1)
        sigma^2; the dispersion around the population gradient is s^2 / batch.
        """
        scale = (self.lr / self.sigma) ** 2
        return [scale * (t * self.sigma**2 + self.s**2 / self.batch) for t in range(self.steps)]
