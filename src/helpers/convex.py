"""Chapter 12: where do these bounds fail? A convex, Lipschitz, bounded problem that gradient descent learns.

w = (u, v) in R^{1+d}, z = (epsilon, zeta), epsilon = +-1, zeta in {+-1/sqrt(d)}^d, all signs fair and
independent:

    l(w, z) = -u epsilon / 2 - <v, zeta> / 2 + max(0, ||w|| - 1)      on the ball ||w|| <= 2.

It is convex and (1 + 1/sqrt(2))-Lipschitz, and l(w, z) is R-sub-Gaussian with R = 1: the signs are
independent, so the variance proxy is (u^2 + ||v||^2 / d) / 4 <= 1, with equality at w = (2, 0). The signs are
pure noise, L_mu(w) = max(0, ||w|| - 1), and gradient descent from 0 with learning rate * steps = sqrt(n) / 4
goes to W = (sqrt(n) / 8) (mean epsilon, mean zeta), as long as that lies in the unit ball. Its gap is 1 / (8
sqrt(n)), yet W holds every mean exactly. Take d = n: the Xu-Raginsky bound grows with n, the best isotropic
noise leaves a constant, and a trajectory that is led to the population minimiser 0 gives the rate.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import binom, chi2
from torch import Tensor

from helpers import xu_raginsky
from helpers._checks import positive, whole
from helpers._generators import generator_from
from helpers.curvature import Estimate
from helpers.supersample.loss_difference import LossDifference

R = 1.0
NODES = 60


@dataclass(frozen=True)
class Ghost:
    """A bound by isotropic noise of standard deviation tau: value = information + residual.

    Attributes:
        value: of the bound.
        tau: standard deviation of the noise on the final weights.
        information: sqrt(2 R^2 I / n).
        residual: |E[L_mu(W~) - L_mu(W)]| + |E[L_S(W~) - L_S(W)]|.
    """

    value: float
    tau: float
    information: float
    residual: float


@dataclass(frozen=True)
class Supersampled:
    """A supersample bound from loss differences, charged by the largest there may be, and by those that there are.

    Attributes:
        by_range, by_spread: as ``supersample.LossDifference`` has them, averaged over pairs.
    """

    by_range: float
    by_spread: float


@dataclass(frozen=True)
class Construction:
    """Gradient descent on n examples in dimension 1 + d.

    Exact unless W leaves the unit ball, which is impossible for n < 32 and has a probability below 1e-13
    otherwise.

    Attributes:
        n: number of examples.
        d: dimension of v; the lesson is in d = n.

    Raises:
        ValueError: if n or d is not a positive whole number.
    """

    n: int
    d: int

    def __post_init__(self) -> None:
        whole("n", self.n)
        whole("d", self.d)

    # What is exact

    @property
    def gap(self) -> float:
        """gen = E<W, (mean epsilon, mean zeta)> / 2 = 1 / (8 sqrt(n)), for every d."""
        return 1 / (8 * math.sqrt(self.n))

    @property
    def mean_squared_norm(self) -> float:
        """E||W||^2 = 1/32: half from u, half from v."""
        return 1 / 32

    @property
    def mutual_information(self) -> float:
        """I(W; S) = (d + 1) * entropy of Bin(n, 1/2): W counts the positive signs of every coordinate."""
        return (self.d + 1) * float(binom(self.n, 0.5).entropy())

    @property
    def xu_raginsky(self) -> float:
        return xu_raginsky.bound(self.mutual_information, n=self.n, R=R)

    @property
    def individual_sample(self) -> float:
        """sqrt(2 R^2 I(W; Z_i)) (Bu et al., 2020), exact: with one sign known, each of the d + 1 counts is of n - 1.

        I(W; Z_i) = (d + 1) (H(Bin(n, 1/2)) - H(Bin(n - 1, 1/2))), about (d + 1) / (2 n).
        """
        known = float(binom(self.n - 1, 0.5).entropy()) if self.n > 1 else 0.0
        one = (self.d + 1) * (float(binom(self.n, 0.5).entropy()) - known)
        return xu_raginsky.bound(one, n=1, R=R)

    def loss_difference(self, *, signs_differ: bool) -> LossDifference:
        """Of a pair of examples one of which was trained on, given whether their epsilon differ.

        The wall cancels, and 8 d sqrt(n) times the difference is a whole number: each coordinate in which the pair
        differs adds the training example's sign, made positive, to n - 1 fair signs of the others. So the number has
        the characteristic function

            ((1 + e^{it} cos(t)^{n-1}) / 2)^d   times   e^{i d t} cos(d t)^{n-1} where the epsilon differ,

        and one Fourier transform gives every probability, to 1e-15 and up to ten standard deviations.
        """
        n, d = self.n, self.d
        deviation = math.sqrt(d * n / 2 + d**2 / 4 + d**2 * (n - 1) * signs_differ)
        half = 1 << math.ceil(math.log2(min(d * n * (1 + signs_differ), 10 * deviation + 2 * d) + 2))
        t = np.fft.fftfreq(2 * half) * 2 * np.pi
        phi = ((1 + np.exp(1j * t) * np.cos(t) ** (n - 1)) / 2) ** d
        if signs_differ:
            phi = phi * np.exp(1j * d * t) * np.cos(d * t) ** (n - 1)
        probabilities = np.fft.fftshift(np.fft.fft(phi).real / len(t))[1:]
        return LossDifference(np.arange(1 - half, half) / (8 * d * math.sqrt(n)), probabilities)

    @property
    def supersample(self) -> Supersampled:
        """Chapter 15's member by loss differences; whether the epsilon of a pair differ is known, one pair in two.

        On the unit ball |D| = |<W, Z_0 - Z_1>| / 2 <= sqrt(2).
        """
        pairs = [self.loss_difference(signs_differ=differ) for differ in (False, True)]
        by_range = [pair.by_range(math.sqrt(2)) for pair in pairs]
        return Supersampled(sum(by_range) / 2, sum(pair.by_spread for pair in pairs) / 2)

    @property
    def omniscient(self) -> float:
        """The omniscient-trajectory bound with centre 0 and Delta = -W: no information, penalty = gap.

        It has the rate n^{-1/2}, with the separate penalty |E[L_mu(0) - L_mu(W)]| + |E[L_S(0) - L_S(W)]| too,
        because L_mu is 0 on the unit ball. The rate comes from how well 0 does on population and sample, not
        from information. The Hessian vanishes inside the ball, so the usual surrogate for Delta is singular
        here; Delta is set by hand.
        """
        return self.gap

    # What isotropic noise does

    def gaussian_information(self, tau: float) -> float:
        """(1/2) log(1 + 1 / (64 tau^2)) + (d/2) log(1 + 1 / (64 d tau^2)), not below I(W + tau N; S).

        Coordinates are independent, and of all inputs to a Gaussian channel with one variance a Gaussian
        carries most; the binomial means carry almost as much.
        """
        tau = positive("tau", tau)
        return (math.log1p(1 / (64 * tau**2)) + self.d * math.log1p(1 / (64 * self.d * tau**2))) / 2

    def lemma_4_information(self, tau: float) -> float:
        """((d+1)/2) log(1 + 1 / (32 (d+1) tau^2)): Wang & Mao (2022), Lemma 4, which knows E||W||^2 only."""
        tau, size = positive("tau", tau), self.d + 1
        return size / 2 * math.log1p(self.mean_squared_norm / (size * tau**2))

    def hinge(self, tau: float) -> float:
        """E max(0, ||W~|| - 1) for W~ = W + tau N, projected to ||w|| <= 2: the cost on either risk.

        W~ is taken as Gaussian with the exact variances: a good approximation, as the noise smooths the
        binomials. Both risks gain the hinge and nothing else but where the projection acts, with probability
        below 1e-12 at the best tau.
        """
        tau = positive("tau", tau)
        return _mean_hinge(1 / 64 + tau**2, 1 / (64 * self.d) + tau**2, self.d)

    def isotropic(self) -> Ghost:
        """Isotropic noise with separate residuals, at the best tau: stays above 0.13 for d = n however large.

        Noise without residual needs d tau^2 < 1, and then each example leaves a constant share of
        information. With the residual of the *difference* of the risks instead, infinite noise makes every
        such bound equal to the gap, which proves nothing.
        """
        return self._best(self.gaussian_information)

    def _best(self, information: Callable[[float], float]) -> Ghost:
        """The minimum over tau: the best of a grid in log tau, refined between its neighbours."""

        def value(log_tau: float) -> float:
            tau = math.exp(log_tau)
            return xu_raginsky.bound(information(tau), n=self.n, R=R) + 2 * self.hinge(tau)

        grid = np.log(np.geomspace(1e-2, 1e1, 31) / math.sqrt(self.d + 1))
        best = int(np.argmin([value(x) for x in grid]))
        if best in (0, len(grid) - 1):
            raise ValueError(f"no best tau sqrt(d + 1) in 0.01 to 10 for n = {self.n} and d = {self.d}")
        around = (grid[best - 1], grid[best + 1])
        minimum = minimize_scalar(value, bounds=around, method="bounded", options={"xatol": 1e-9})
        tau = math.exp(float(minimum.x))
        path, residual = xu_raginsky.bound(information(tau), n=self.n, R=R), 2 * self.hinge(tau)
        return Ghost(path + residual, tau, path, residual)

    # What a run does

    def sample(self, seed: int) -> Tensor:
        """n examples, shape (n, 1 + d), float64: a column of epsilon, then zeta."""
        generator = generator_from(seed)
        signs = 2.0 * torch.randint(2, (self.n, 1 + self.d), generator=generator).double() - 1
        signs[:, 1:] /= math.sqrt(self.d)
        return signs

    def closed_form(self, sample: Tensor) -> Tensor:
        """W = (sqrt(n) / 8) * mean of the sample, shape (1 + d,).

        Raises:
            ValueError: if that leaves the unit ball, where gradient descent turns aside.
        """
        weights: Tensor = torch.mean(sample, 0) * (math.sqrt(self.n) / 8)
        if weights.norm() >= 1:
            raise ValueError("the closed form leaves the unit ball, so it is not where descent ends")
        return weights

    def gradient_descent(self, sample: Tensor, *, steps: int) -> Tensor:
        """The last of ``steps`` projected gradient steps on L_S from 0, learning rate sqrt(n) / (4 steps)."""
        lr, w = math.sqrt(self.n) / (4 * whole("steps", steps)), torch.zeros(1 + self.d, dtype=sample.dtype)
        mean: Tensor = sample.mean(0)
        for _ in range(steps):
            norm = float(w.norm())
            outward = w / norm if norm > 1 else torch.zeros_like(w)
            w = w - lr * (outward - mean / 2)
            w = w / max(1.0, float(w.norm()) / 2)
        return w


def losses(w: Tensor, sample: Tensor) -> Tensor:
    """l(w, z) for each example, shape (n,).

    Args:
        w: (1 + d,), in the ball of radius 2.
        sample: (n, 1 + d), from ``Construction.sample``.
    """
    return population_risk(w) - (sample @ w) / 2


def population_risk(w: Tensor) -> Tensor:
    """L_mu(w) = max(0, ||w|| - 1)."""
    return torch.clamp(w.norm() - 1, min=0.0)


def uniform_stability_bound(lrs: Iterable[float], *, n: int, lipschitz: float, smoothness: float) -> float:
    """(2 L^2 / n) sum_t lr_t: how much one example can change the loss of what SGD learned; Hardt et al. (2016), 3.8.

    For a convex loss, L-Lipschitz and beta-smooth in w: run SGD, one example a step, on two samples that differ in
    one example. E sup_z |l(W; z) - l(W'; z)| is at most this, the expectation over the order of examples, and the
    mean gap too. A step with lr <= 2 / beta brings no two points further apart; only the step that meets the
    example in which the samples differ adds to their distance, at most 2 L lr, and it is met with probability 1/n.

    Args:
        lrs: learning rate of each step; examples are drawn uniformly, or in a random order of every epoch.
        lipschitz: L.
        smoothness: beta.

    Raises:
        ValueError: if there is no step, a number is not positive, or a learning rate is above 2 / beta.
    """
    n, lipschitz, most = whole("n", n), positive("lipschitz", lipschitz), 2 / positive("smoothness", smoothness)
    steps = [positive("every learning rate", lr) for lr in lrs]
    if not steps or max(steps) > most:
        raise ValueError(f"give a learning rate for each step, none above 2 / smoothness = {most:g}")
    return 2 * lipschitz**2 / n * math.fsum(steps)


def log_log_slope(n: Iterable[float], values: Iterable[float]) -> Estimate:
    """The exponent p of values ~ n^p: least squares of log(values) on log(n), with the usual standard error.

    Args:
        n: at least three different numbers.
        values: one positive number for each.

    Raises:
        ValueError: if a number is not positive, the lengths differ, or there are fewer than three different
            n.
    """
    x = np.log([positive("every n", number) for number in n])
    y = np.log([positive("every value", value) for value in values])
    if len(x) != len(y):
        raise ValueError(f"there must be one value for each n, got {len(y)} and {len(x)}")
    if len(np.unique(x)) < 3:
        raise ValueError("a slope with a standard error needs at least three different n")
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    left = y - y.mean() - slope * centred
    error = math.sqrt(float(left @ left) / (len(x) - 2) / spread)
    return Estimate(slope, error, len(x), "least squares", freedom=len(x) - 2.0)


def _mean_hinge(variance_u: float, variance_v: float, d: int) -> float:
    """E[min(r, 2) - 1]_+, r^2 = variance_u X + variance_v Y, X ~ chi-squared(1), Y ~ chi-squared(d).

    Given sqrt(X) = x, integrate the survival function of Y against dr between the two kinks; then over x, in
    pieces that end where the kinks of the inner integral are. Both by Gauss-Legendre.
    """
    points, weights = np.polynomial.legendre.leggauss(NODES)
    points, weights = (points + 1) / 2, weights / 2  # on [0, 1]
    scale = math.sqrt(variance_u)
    pieces = [(0.0, 1 / scale), (1 / scale, 2 / scale), (2 / scale, 2 / scale + 12)]
    total = 0.0
    for left, right in pieces:
        right = min(right, 12.0)  # P(|x| > 12) is below 1e-32
        if right <= left:
            break
        x = left + (right - left) * points
        density = np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)
        inner = _conditional_hinge(scale * x, variance_v, d, points, weights)
        total += float((right - left) * (weights * density) @ inner)
    return total


def _conditional_hinge(
    length_u: np.ndarray, variance_v: float, d: int, points: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """E[min(r, 2) - 1]_+ for each given |u|: the integral of P(r > t) over t from max(1, |u|) to 2."""
    low = np.clip(length_u, 1.0, 2.0)
    # Where P(r > t) is 1 to rounding, and where it is 0: the integral is needed in between only.
    sure, never = chi2.ppf(1e-17, d), chi2.isf(1e-17, d)
    start = np.clip(np.sqrt(length_u**2 + variance_v * sure), low, 2.0)
    stop = np.clip(np.sqrt(length_u**2 + variance_v * never), start, 2.0)
    t = start[:, None] + (stop - start)[:, None] * points
    survival = chi2.sf((t**2 - length_u[:, None] ** 2) / variance_v, d)
    integral: np.ndarray = start - 1 + (stop - start) * (survival @ weights)
    return integral
