"""Wang & Mao (2022): a bound for SGD without a sensitivity term, and its closed form.

SGD takes T steps W_t = W_{t-1} - lr_t g(W_{t-1}, B_t) on n examples. An auxiliary copy adds fresh noise N(0,
sigma_t^2 I) to every step and ends at W_T + xi, xi ~ N(0, sum_t sigma_t^2 I). The bound has two parts,

    |gen| <= trajectory + flatness,

what the noisy updates tell about the sample, and what the noise costs at the final weights. More noise makes
the first smaller and the second larger; the closed form is the best compromise.

Symbols. ``dispersion`` is sum_t lr_t^2 E[V_t], the variance of the *updates*; a dispersion *per step* is one
term of the sum; both contain the squared learning rate. ``trace`` is the expected trace of the Hessian of the
*training* risk at W_T. ``R`` is the sub-Gaussian constant of the evaluation loss, ``sigma`` the standard
deviation of the noise of one step, ``d`` the number of weights. Information is in nats, bounds are in units
of the loss.

This module holds Theorem 1, Theorem 2 with eq. 2, and the corollaries; its neighbours hold the rest (``wang_mao``).
"""

import math
from collections.abc import Iterable, Sequence

from scipy.optimize import brentq

from helpers import xu_raginsky
from helpers._checks import non_negative, non_negatives, per_step, positive, whole
from helpers.wang_mao.information import lemma_4, lemma_5, lemma_6
from helpers.wang_mao.isotropic import Isotropic, closed_form

# --- Theorem 2 ----------------------------------------------------------------------------------------------


def trajectory(
    dispersion_per_step: Iterable[float], sigma: float | Iterable[float], *, d: int, n: int, R: float
) -> float:
    """The trajectory term of Wang & Mao (2022), Theorem 2, eq. 2; a theorem, for every choice of the noise.

    sqrt((R^2 d / n) sum_t log(1 + lr_t^2 E[V_t] / (d sigma_t^2))): Xu-Raginsky with Lemmas 5 and 6.

    Args:
        dispersion_per_step: lr_t^2 E[V_t] for each of the T steps, for instance from
            ``cross_run_dispersion``.
        sigma: one standard deviation for all steps, or one for each.
        d: number of weights.
        n: examples that one run is trained on.
        R: sub-Gaussian constant of the loss.

    Raises:
        ValueError: if there is no step, a dispersion is negative, the lengths differ, or another argument is
            not positive.
    """
    dispersions = non_negatives("dispersion_per_step", dispersion_per_step)
    sigmas = per_step("sigma", sigma, len(dispersions))
    steps = zip(dispersions, sigmas, strict=True)
    return xu_raginsky.bound(lemma_6([lemma_5(dispersion, noise, d=d) for dispersion, noise in steps]), n=n, R=R)


def log_form(
    dispersion_per_step: Iterable[float],
    trace: float,
    *,
    d: int,
    n: int,
    R: float,
    sigma: float | None = None,
) -> Isotropic:
    """Wang & Mao (2022), Theorem 2, eq. 2, with the flatness term by Taylor, (T sigma^2 / 2) trace.

    Never above ``closed_form`` at the same sigma, because log(1 + x) <= x. The same sigma in every step: that
    which minimises the bound, unless one is given. With no dispersion the infimum is 0 at sigma = 0, with no
    trace it is 0 at sigma = infinity.

    Raises:
        ValueError: as ``trajectory``; also if trace is negative, or sigma is given and not positive.
    """
    dispersions = non_negatives("dispersion_per_step", dispersion_per_step)
    d, n, R = whole("d", d), whole("n", n), positive("R", R)
    relaxed = closed_form(math.fsum(dispersions), trace, n=n, steps=len(dispersions), R=R)
    A, B = relaxed.A, relaxed.B
    if sigma is None:
        if A == 0 or B == 0:
            return relaxed
        sigma = _best_sigma(dispersions, relaxed, d=d, scale=R * math.sqrt(d / n))
    path, flatness = trajectory(dispersions, sigma, d=d, n=n, R=R), B * sigma**2
    return Isotropic(path + flatness, A, B, sigma, trajectory=path, flatness=flatness)


def _best_sigma(dispersions: list[float], relaxed: Isotropic, *, d: int, scale: float) -> float:
    """The minimiser of scale * sqrt(sum_t log(1 + x_t)) + B sigma^2, x_t = D_t / (d sigma^2), for A, B > 0.

    sigma times the derivative is 2 B sigma^2 - gain(sigma), gain = scale * sum_t x_t / (1 + x_t) / sqrt(sum_t
    log(1 + x_t)). In log sigma the slope of log gain is at most 1, because x / (1 + x) <= log(1 + x), and
    that of log(2 B sigma^2) is 2: so there is one root. Let s be the relaxed minimiser. x / (1 + x) <= log(1
    + x) <= x gives gain(s) <= A / s = 2 B s^2, so the root is not above s; the slope gives gain(sigma) >=
    gain(s) sigma / s below s, so it is not below gain(s) / (2 B s).
    """

    def log_gain(log_sigma: float) -> float:
        ratios = [dispersion / (d * math.exp(2 * log_sigma)) for dispersion in dispersions]
        slopes = math.fsum(x / (1 + x) for x in ratios)
        return math.log(scale * slopes) - math.log(math.fsum(math.log1p(x) for x in ratios)) / 2

    def log_cost(log_sigma: float) -> float:
        return math.log(2 * relaxed.B) + 2 * log_sigma

    high = math.log(relaxed.sigma)
    low = high - (log_cost(high) - log_gain(high))
    hair = 1e-9  # room for rounding: for tiny dispersions both ends are the root
    root = brentq(lambda x: log_cost(x) - log_gain(x), low - hair, high + hair, xtol=1e-14)
    return math.exp(root)


# --- Theorem 1 and the corollaries --------------------------------------------------------------------------


def theorem_1(
    second_moments: Sequence[Iterable[float]], sigma: float | Iterable[float], *, d: int, n: int, R: float
) -> float:
    """The trajectory term of Wang & Mao (2022), Theorem 1.

    sqrt((R^2 d / n) sum_t E log(1 + lr_t^2 E[||g(W_{t-1}, B_t) - Omega_t||^2 | W~_{t-1}] / (d sigma_t^2))),
    Omega_t the population gradient averaged over the accumulated noise around W~_{t-1}. Tighter than the
    bound of Neu et al.; *not* always better than Theorem 2: in ``LinearChain`` it is worse. The conditional
    expectation given the noisy weights can be evaluated in examples only.

    Args:
        second_moments: for each step, lr_t^2 E[||g - Omega_t||^2 | W~_{t-1} = w] for equally likely draws w
            of W~_{t-1}.
        sigma, d, n, R: as in ``trajectory``.

    Raises:
        ValueError: if there is no step or no draw, a moment is negative, the lengths differ, or another
            argument is not positive.
    """
    sigmas = per_step("sigma", sigma, len(second_moments))
    steps = zip(second_moments, sigmas, strict=True)
    return xu_raginsky.bound(lemma_6([lemma_4(moments, noise, d=d) for moments, noise in steps]), n=n, R=R)


def corollary_1(
    sensitivity: Iterable[float],
    dispersion: Iterable[float],
    lr: float | Iterable[float],
    sigma: float | Iterable[float],
    *,
    n: int,
    R: float,
) -> float:
    """Wang & Mao (2022), Corollary 1: what Theorem 1 leaves of the bound of Neu et al.

    sqrt((2 R^2 / n) sum_t (lr_t / sigma_t)^2 (3 Psi_t + 2 V~_t)). The source offers it as the bound of Neu et
    al. with a better constant. A direct proof gives Psi_t + V~_t in place of 3 Psi_t + 2 V~_t, which is
    ``neu.bound``, so this one is never the smaller.

    Args:
        sensitivity: Psi_t for each step, as in ``neu.bound``; without the learning rate.
        dispersion: V~_t, around the population gradient at the same weights; without the learning rate.
        lr, sigma: one number for all steps, or one for each.
        n, R: as in ``trajectory``.

    Raises:
        ValueError: if there is no step, the lengths differ, an entry is negative, or another argument is not
            positive.
    """
    psi, spread = non_negatives("sensitivity", sensitivity), non_negatives("dispersion", dispersion)
    rates, noises = per_step("lr", lr, len(psi)), per_step("sigma", sigma, len(psi))
    if len(spread) != len(psi):
        lengths = f"{len(psi)} and {len(spread)}"
        raise ValueError(f"sensitivity and dispersion must have one entry a step, got {lengths}")
    steps = zip(psi, spread, rates, noises, strict=True)
    information = math.fsum((rate / noise) ** 2 * (3 * p + 2 * v) for p, v, rate, noise in steps)
    return xu_raginsky.bound(information, n=n, R=R)


def corollary_2(
    dispersion_per_step: Iterable[float],
    sigma: float | Iterable[float],
    *,
    smoothness: float,
    d: int,
    n: int,
    R: float,
) -> float:
    """Wang & Mao (2022), Corollary 2: ``trajectory`` + beta d sum_t sigma_t^2, for a beta-smooth loss.

    A theorem. Noise of variance v costs either risk at most beta d v / 2. No Taylor step, but beta must hold
    for all weights.

    Args:
        smoothness: beta, a Lipschitz constant of w -> grad l(w, z) for every z.
        dispersion_per_step, sigma, d, n, R: as in ``trajectory``.

    Raises:
        ValueError: as ``trajectory``; also if beta is negative.
    """
    dispersions, beta = list(dispersion_per_step), non_negative("smoothness", smoothness)
    noises = per_step("sigma", sigma, len(dispersions))
    return trajectory(dispersions, noises, d=d, n=n, R=R) + beta * d * math.fsum(s**2 for s in noises)
