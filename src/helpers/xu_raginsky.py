"""Chapter 1: how far can the gap be if the output tells little of the sample? Xu and Raginsky (2017).

A learner sees S = (Z_1, ..., Z_n), n independent examples, and answers with weights W. Its gap is gen =
E[L_mu(W) - L_S(W)], population risk minus training risk. If the loss of every fixed w is R-sub-Gaussian,

    |gen| <= sqrt(2 R^2 I(W; S) / n),

with I(W; S) in nats: a learner that remembers little about its sample cannot overfit it. The module holds the
bound, its version with one example at a time, the variational principle that proves it, what R may be, and two
learners for which everything is known in closed form: the noisy mean of Gaussian data, and the luckiest of m coins.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, rel_entr
from scipy.stats import binom

from helpers._checks import non_negative, positive, whole

ABSOLUTE_NORMAL = math.sqrt(2 / math.pi)  # E|X| for X ~ N(0, 1)


def bound(mutual_information: float, *, n: int, R: float) -> float:
    """sqrt(2 R^2 I(W; S) / n): Xu & Raginsky (2017), Theorem 1; Wang & Mao (2022), Lemma 1.

    Args:
        mutual_information: I(W; S) in nats; infinite for a deterministic learner on continuous data, and then
            so is the bound.
        n: examples that one run is trained on.
        R: sub-Gaussian constant of the loss l(w, Z), for every w that the learner may answer with.

    Raises:
        ValueError: if the information is negative or not a number, or n or R is not positive.
    """
    n, R = whole("n", n), positive("R", R)
    return R * math.sqrt(2 * _nats("mutual_information", mutual_information) / n)


def individual_sample_bound(informations: Iterable[float], *, R: float) -> float:
    """(1/n) sum_i sqrt(2 R^2 I(W; Z_i)): Bu, Zou & Veeravalli (2020).

    Never above ``bound``, because sum_i I(W; Z_i) <= I(W; S) for independent examples and the root is
    concave; finite for many deterministic learners.

    Args:
        informations: I(W; Z_i) in nats for each of the n examples.
        R: sub-Gaussian constant of the loss, as in ``bound``.

    Raises:
        ValueError: if there is no example, an information is negative, or R is not positive.
    """
    R = positive("R", R)
    roots = [math.sqrt(2 * _nats("every entry of informations", nats)) for nats in informations]
    if not roots:
        raise ValueError("informations is empty; give I(W; Z_i) for each example")
    return R * math.fsum(roots) / len(roots)


def _nats(name: str, value: float) -> float:
    number = float(value)
    return number if number == math.inf else non_negative(name, number)


# --- The principle behind the proof, on a finite set --------------------------------------------------------


def log_partition(prior: np.ndarray, values: np.ndarray) -> float:
    """log E_prior exp(V): the largest value that ``tilted_value`` takes (Donsker and Varadhan 1975).

    Args:
        prior: probabilities of m points, shape (m,).
        values: V at these points, shape (m,).

    Raises:
        ValueError: if the prior is no distribution, or a value is not finite.
    """
    prior, values = _distribution("prior", prior), _values(values, prior)
    return float(logsumexp(values, b=prior))


def gibbs(prior: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The Gibbs distribution, prior * exp(V) normalised: the maximiser of ``tilted_value``. Shape (m,)."""
    prior, values = _distribution("prior", prior), _values(values, prior)
    tilted = prior * np.exp(values - values.max())
    normalised: np.ndarray = tilted / tilted.sum()
    return normalised


def tilted_value(p: np.ndarray, prior: np.ndarray, values: np.ndarray) -> float:
    """E_p V - KL(p || prior), at most ``log_partition`` for every p, and short of it by KL(p || Gibbs).

    Source: Wu's slides, Theorem 2 (Donsker and Varadhan). Minus infinity where p charges a point that the prior
    does not.

    Raises:
        ValueError: as ``log_partition``, and if p is no distribution on the same points.
    """
    prior, p = _distribution("prior", prior), _distribution("p", p)
    if p.shape != prior.shape:
        raise ValueError(f"p and prior must live on the same points, got {len(p)} and {len(prior)}")
    return float(p @ _values(values, prior) - rel_entr(p, prior).sum())


def _distribution(name: str, p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not ((p >= 0).all() and math.isclose(p.sum(), 1, abs_tol=1e-9)):
        raise ValueError(f"{name} must hold probabilities that sum to 1")
    return p


def _values(values: np.ndarray, prior: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.shape != prior.shape or not np.isfinite(values).all():
        raise ValueError(f"values must hold one finite number for each of the {len(prior)} points")
    return values


# --- The sub-Gaussian constant ------------------------------------------------------------------------------


def invalid_constant_observed_range(losses: Iterable[float]) -> float:
    """(max - min) / 2 of losses seen in training. **Not a valid R**: Wang & Mao (2022), appendix E.1.

    The bound needs the tail of l(w, Z) under fresh Z for every w that the *noisy* process may visit. Losses
    seen on one trajectory bound none of that: the range shrinks as the model fits its sample, although the
    loss of an unseen example, or of perturbed weights, may be arbitrarily larger. Kept to show how far the
    two are apart.

    Raises:
        ValueError: if there is no loss, or one is not finite.
    """
    seen = _finite(losses)
    return float(seen.max() - seen.min()) / 2


def _finite(losses: Iterable[float]) -> np.ndarray:
    seen = np.array([float(loss) for loss in losses])
    if seen.size == 0 or not np.isfinite(seen).all():
        raise ValueError("losses must hold at least one number and only finite ones")
    return seen


# --- Example A: the noisy mean of Gaussian data -------------------------------------------------------------


@dataclass(frozen=True)
class GaussianLocation:
    """Z ~ N(0, s^2), loss |w - z|, learner W = mean(S) + tau N(0, 1): every quantity in closed form.

    |w - Z| is s-sub-Gaussian for every w, so R = s. (The squared loss of Gaussian data is not sub-Gaussian:
    the familiar 2 s^2 / n example is not licensed by the theorem.) With tau = 0 the learner is deterministic
    and I(W; S) infinite, while the gap is about 0.8 s / n. That is why bounds for SGD speak of a noisy copy
    of W.

    Attributes:
        n: number of examples.
        s: standard deviation of the data.
        tau: standard deviation of the learner's noise; may be 0.

    Raises:
        ValueError: if n or s is not positive, or tau is negative or not finite.
    """

    n: int
    s: float
    tau: float

    def __post_init__(self) -> None:
        whole("n", self.n)
        positive("s", self.s)
        non_negative("tau", self.tau)

    @property
    def R(self) -> float:
        return self.s

    @property
    def population_risk(self) -> float:
        """E L_mu(W)."""
        return ABSOLUTE_NORMAL * math.sqrt(self.s**2 * (1 + 1 / self.n) + self.tau**2)

    @property
    def training_risk(self) -> float:
        """E L_S(W); smaller, because W and Z_i are correlated."""
        return ABSOLUTE_NORMAL * math.sqrt(self.s**2 * (1 - 1 / self.n) + self.tau**2)

    @property
    def gap(self) -> float:
        """gen = population_risk - training_risk, as a difference of squares: no cancellation at large tau."""
        difference_of_squares = 2 * ABSOLUTE_NORMAL**2 * self.s**2 / self.n
        return difference_of_squares / (self.population_risk + self.training_risk)

    @property
    def mutual_information(self) -> float:
        """I(W; S) = log(1 + s^2 / (n tau^2)) / 2; infinite at tau = 0."""
        return math.log1p((self.s / self.tau) ** 2 / self.n) / 2 if self.tau else math.inf

    @property
    def individual_information(self) -> float:
        """I(W; Z_1), the same for every example; finite at tau = 0 unless n = 1."""
        left = self.s**2 / self.n * (1 - 1 / self.n) + self.tau**2  # Var(W | Z_1)
        return math.log1p((self.s / self.n) ** 2 / left) / 2 if left else math.inf

    @property
    def bound(self) -> float:
        """Xu-Raginsky: s sqrt(log(1 + s^2 / (n tau^2)) / n)."""
        return bound(self.mutual_information, n=self.n, R=self.R)

    @property
    def individual_bound(self) -> float:
        """Bu et al.: sqrt(2 s^2 I(W; Z_1))."""
        return individual_sample_bound([self.individual_information], R=self.R)

    @property
    def difference_residual(self) -> float:
        """|E[F_S(W~) - F_S(W)]|, F_S = L_S - L_mu, for the ghost W~ = mean + tau N(0, 1) of the mean W."""
        return GaussianLocation(self.n, self.s, 0.0).gap - self.gap

    @property
    def separate_residual(self) -> float:
        """|E[L_mu(W~) - L_mu(W)]| + |E[L_S(W~) - L_S(W)]|: the noise is charged on each risk; weaker."""
        mean = GaussianLocation(self.n, self.s, 0.0)
        return (self.population_risk - mean.population_risk) + (self.training_risk - mean.training_risk)

    @property
    def ghost_bound_difference(self) -> float:
        """Bound on the gap of the *deterministic* mean by its noisy ghost, with the difference residual.

        As tau grows it tends to the gap itself. That is a tautology and not tightness: the residual then *is*
        the gap.
        """
        return self.bound + self.difference_residual

    @property
    def ghost_bound_separate(self) -> float:
        """Bound on the gap of the deterministic mean, with the separate residual: large noise is not free."""
        return self.bound + self.separate_residual


def best_ghost(n: int, s: float) -> GaussianLocation:
    """The noise that minimises ``ghost_bound_separate`` for the mean of n examples.

    Both terms are convex in tau, so the minimum is unique. The bracket: at the trial noise t = s n^{-1/2} the
    bound is v. The information term alone exceeds v below the lower end, and the residual, at least 2 E|X|
    (tau - s), above the upper end.

    Raises:
        ValueError: if n or s is not positive.
    """
    n, s = whole("n", n), positive("s", s)
    trial = GaussianLocation(n, s, s / math.sqrt(n)).ghost_bound_separate
    low = s / math.sqrt(n * math.expm1(n * (trial / s) ** 2))
    high = s + trial / (2 * ABSOLUTE_NORMAL)
    minimum = minimize_scalar(
        lambda tau: GaussianLocation(n, s, tau).ghost_bound_separate,
        bounds=(low, high), method="bounded", options={"xatol": 1e-10 * s},
    )  # fmt: skip
    return GaussianLocation(n, s, float(minimum.x))


# --- Example B: the luckiest of m coins ---------------------------------------------------------------------


@dataclass(frozen=True)
class Coins:
    """m fair coins thrown n times; the learner picks the coin with the fewest heads, ties at random.

    A finite class: z in {0, 1}^m, loss z_w, so R = 1/2 and I(W; S) <= log m. All coins are equally good, so
    the gap is pure selection: 1/2 minus the share of heads of the luckiest coin.

    Attributes:
        n: throws of each coin.
        m: number of coins.

    Raises:
        ValueError: if n or m is not a positive whole number.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        whole("n", self.n)
        whole("m", self.m)

    @property
    def R(self) -> float:
        return 0.5

    @property
    def gap(self) -> float:
        """1/2 - E[min of m Bin(n, 1/2)] / n, with E[min] = sum_{j >= 1} P(one coin has >= j heads)^m."""
        at_least = binom.sf(np.arange(self.n), self.n, 0.5)  # P(heads >= j), j = 1..n
        return 0.5 - float((at_least**self.m).sum()) / self.n

    @property
    def mutual_information(self) -> float:
        """I(W; S) = H(W) - H(W | S) = log m - E log(number of coins that tie for the fewest heads)."""
        heads, ties = np.arange(self.n + 1), np.arange(1, self.m + 1)
        at_least = binom.sf(heads - 1, self.n, 0.5)
        share = binom.pmf(heads, self.n, 0.5) / at_least  # P(exactly j heads | at least j heads)
        chance = at_least[:, None] ** self.m * binom.pmf(ties, self.m, share[:, None])
        return math.log(self.m) - float((chance * np.log(ties)).sum())

    @property
    def bound(self) -> float:
        """Xu-Raginsky: sqrt(I / (2 n))."""
        return bound(self.mutual_information, n=self.n, R=self.R)

    @property
    def class_bound(self) -> float:
        """The bound by I <= log m: sqrt(log m / (2 n)), the classical rate of a finite class."""
        return bound(math.log(self.m), n=self.n, R=self.R)
