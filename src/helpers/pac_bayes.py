"""Chapter 6: what do randomised weights certify, and how does that become a bound for flat minima?

A prior P over weights is fixed before the sample S is seen; the posterior Q may depend on S. With probability
at least 1 - delta over S, for all Q at once, the population risk L(Q) = E_{w ~ Q} L(w) is close to the
empirical risk of Q as long as KL(Q || P) is small beside n.

The module goes the way of the chapter: the divergence of two Gaussians, the prior variance that makes it
smallest, the two bounds (Maurer's, and McAllester's form of it), and the bound that motivates sharpness-aware
minimisation, with every constant written out. Losses lie in [0, loss_range]: for a clipped loss pass the
clip. Divergences and logarithms are in nats.
"""

from dataclasses import dataclass
from math import ceil, exp, log, log1p, nextafter, pi, sqrt
from typing import Any

from scipy.optimize import brentq
from scipy.special import rel_entr
from torch import Tensor

from helpers._checks import non_negative, positive, whole
from helpers._tensors import floats_of

# --- the divergence of two Gaussians ------------------------------------------------------------------------


def gaussian_kl(mean: Any, variance: Any, prior_mean: Any, prior_variance: Any) -> float:
    """KL(N(mean, diag variance) || N(prior_mean, diag prior_variance)) in nats, for weights of shape (k,).

    Every argument but ``mean`` may be one number, which then stands for all k coordinates. Computed in float64.

    Raises:
        ValueError: if an argument has another shape, a variance is not positive, or the divergence is not finite.
    """
    mean = floats_of("mean", mean).double()

    def spread(name: str, value: Any) -> Tensor:
        numbers = floats_of(name, value).to(mean)
        if numbers.ndim and numbers.shape != mean.shape:
            raise ValueError(f"{name} must be one number, or one for each of the {mean.numel()} weights")
        return numbers.expand_as(mean)

    variance, prior_variance = spread("variance", variance), spread("prior_variance", prior_variance)
    if not ((variance > 0).all() and (prior_variance > 0).all()):
        raise ValueError("every variance of the posterior and of the prior must be positive")
    ratio = variance / prior_variance
    distance = (mean - spread("prior_mean", prior_mean)).square() / prior_variance
    return non_negative("the divergence", 0.5 * (ratio - 1 - ratio.log() + distance).sum().item())


def isotropic_kl(squared_distance: float, k: int, *, variance: float, prior_variance: float) -> float:
    """KL(N(w, variance I_k) || N(w_P, prior_variance I_k)) with squared_distance = ||w - w_P||^2, in nats.

    Wu's slides, proof of the flat-minima theorem:
    (1/2) [(k variance + ||w - w_P||^2) / prior_variance - k + k log(prior_variance / variance)].

    Raises:
        ValueError: if the distance is negative, or k or a variance is not positive.
    """
    ratio = positive("variance", variance) / positive("prior_variance", prior_variance)
    distance = non_negative("squared_distance", squared_distance) / prior_variance
    return 0.5 * (whole("k", k) * (ratio - 1 - log(ratio)) + distance)


def optimal_prior_variance(squared_distance: float, k: int, *, variance: float) -> float:
    """The prior variance that makes ``isotropic_kl`` smallest: variance + squared_distance / k.

    It depends on the trained weights, and a prior must not. It may therefore not be inserted into a bound as
    it stands; ``sam`` pays for choosing it from a grid that was fixed beforehand.
    """
    squared_distance = non_negative("squared_distance", squared_distance)
    return positive("variance", variance) + squared_distance / whole("k", k)


def smallest_kl(squared_distance: float, k: int, *, variance: float) -> float:
    """``isotropic_kl`` at the optimal prior variance: (k/2) log(1 + squared_distance / (k variance))."""
    squared_distance = non_negative("squared_distance", squared_distance)
    return 0.5 * k * log1p(squared_distance / (whole("k", k) * positive("variance", variance)))


# --- bounds on the risk of a random predictor ---------------------------------------------------------------


def mcallester(empirical: float, kl: float, *, n: int, delta: float, loss_range: float = 1.0) -> float:
    """McAllester's bound with Maurer's constant: with probability at least 1 - delta, for every posterior Q,

        L(Q) <= empirical + loss_range sqrt((KL(Q || P) + log(2 sqrt(n) / delta)) / (2 n)).

    Args:
        empirical: mean loss of Q on the sample, in [0, loss_range].
        kl: KL(Q || P) in nats; P must not depend on the sample.
        n: number of independent examples.

    Assumes losses in [0, loss_range]. Follows from ``maurer`` by Pinsker's inequality.

    Source: Wu's slides, Theorem 1 (PAC-Bayes), which leave out log(2 sqrt(n)). Their proof does not give that
    form: it takes a divergence that depends on S out of an expectation over S, turns a Chernoff inequality
    around, and picks its free parameter after S has been seen.

    Raises:
        ValueError: if the empirical loss is outside [0, loss_range], kl is negative, n is not a positive
            whole number, or delta is not strictly between 0 and 1.
    """
    share, rate = _scaled(empirical, kl, n, delta, loss_range)
    return loss_range * (share + sqrt(rate / 2))


def maurer(empirical: float, kl: float, *, n: int, delta: float, loss_range: float = 1.0) -> float:
    """The bound that ``mcallester`` relaxes: L(Q) <= the largest r for which

        kl_2(empirical || r) <= (KL(Q || P) + log(2 sqrt(n) / delta)) / n,

    kl_2 the divergence of two coins, losses divided by loss_range first. Never above ``mcallester``, far
    below it when the empirical loss is small, and never above loss_range. Arguments and errors as there.

    Source: Maurer (2004), for n >= 8; that the constant 2 sqrt(n) also serves 1 <= n < 8 is a finite check.
    """
    share, rate = _scaled(empirical, kl, n, delta, loss_range)

    def excess(r: float) -> float:
        return float(rel_entr(share, r) + rel_entr(1 - share, 1 - r)) - rate

    below_one = nextafter(1.0, 0.0)
    if excess(below_one) <= 0:
        return loss_range
    return loss_range * float(brentq(excess, share, below_one, xtol=1e-15))


def _scaled(empirical: float, kl: float, n: int, delta: float, loss_range: float) -> tuple[float, float]:
    """The empirical loss as a share of its range, and (KL + log(2 sqrt(n) / delta)) / n."""
    share = non_negative("the empirical loss", empirical) / positive("loss_range", loss_range)
    if share > 1:
        raise ValueError(f"the empirical loss {empirical} is above loss_range = {loss_range}; pass the clip as range")
    return share, (non_negative("kl", kl) + log(2 * sqrt(whole("n", n)) / _confidence(delta))) / n


def _confidence(delta: float) -> float:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return delta


# --- the bound for flat minima ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FlatnessBound:
    """A bound on the population loss of one weight vector, and what it is made of.

    Attributes:
        value: worst + loss_range (tail + complexity).
        worst: largest empirical loss within distance rho of the weights.
        tail: 1 / sqrt(n), for perturbations longer than rho.
        complexity: sqrt((kl + log(2 sqrt(n) / delta_j)) / (2 n)).
        kl: divergence from the prior that was chosen, in nats.
        sigma: standard deviation of the posterior.
        prior_variance: of the chosen prior, sigma^2 exp(j / k).
        prior_index: j, its place in the grid.
    """

    value: float
    worst: float
    tail: float
    complexity: float
    kl: float
    sigma: float
    prior_variance: float
    prior_index: int


def sam(
    worst: float, squared_norm: float, *, k: int, rho: float, n: int, delta: float, loss_range: float = 1.0
) -> FlatnessBound:
    """The bound behind sharpness-aware minimisation, every constant explicit.

    Let sigma = rho / (sqrt(k) + sqrt(log n)), so that rho = sigma sqrt(k) (1 + sqrt(log(n) / k)), and assume

        L(theta) <= E L(theta + e), e ~ N(0, sigma^2 I_k)        (noise does not help on the population).

    Then with probability at least 1 - delta, writing Lhat for the empirical loss and for loss_range = 1,

        L(theta) <= max_{||e|| <= rho} Lhat(theta + e) + 1 / sqrt(n)
                    + sqrt((kl_j + log(2 sqrt(n) / delta_j)) / (2 n)),

    delta_j = 6 delta / (pi (j + 1))^2, kl_j <= 1/2 + ``norm_complexity`` / 2. Proof: ||e|| > rho has
    probability at most 1/sqrt(n) (Laurent and Massart 2000, Lemma 1, at (log n) / 2). ``mcallester`` holds
    for all priors N(0, sigma^2 e^{j/k} I), j = 0, 1, 2, ... at once, at confidences delta_j that sum to
    delta. The first of them whose variance is at least ``optimal_prior_variance`` costs at most 1/2 nat more
    than the optimum.

    Args:
        worst: the maximum, for the loss and radius at hand. Ascent finds a lower estimate of it, which makes
            the bound an estimate too.
        squared_norm: ||theta||^2, or the squared distance from a centre that does not depend on the sample.
        k: number of weights.
        rho: radius, fixed before the sample is seen.

    Source: Foret et al. (2021), Theorem 1; Wu's slides, Theorem 1 (flat minima). The slides print the factor
    1 + sqrt(log(n) / k) without its square and mix sigma with rho. Both leave constants open and put the
    weights' term over n, not 4 n, under the root: twice the root swallows the tail 1/sqrt(n).

    Raises:
        ValueError: as ``mcallester``, and if squared_norm is negative, k not a positive whole number, or rho
            not positive.
    """
    norm = norm_complexity(squared_norm, k=k, rho=rho, n=n)
    sigma = rho / (sqrt(k) + sqrt(log(n)))
    j = ceil(norm)
    kl = isotropic_kl(squared_norm, k, variance=sigma**2, prior_variance=sigma**2 * exp(j / k))
    share, rate = _scaled(worst, kl, n, 6 * _confidence(delta) / (pi * (j + 1)) ** 2, loss_range)
    tail, complexity = 1 / sqrt(n), sqrt(rate / 2)
    value = loss_range * (share + tail + complexity)
    return FlatnessBound(value, worst, tail, complexity, kl, sigma, sigma**2 * exp(j / k), j)


def norm_complexity(squared_norm: float, *, k: int, rho: float, n: int) -> float:
    """k log(1 + (||theta||^2 / rho^2) (1 + sqrt(log(n) / k))^2): what the theorem charges for theta.

    Twice ``smallest_kl`` at sigma = rho / (sqrt(k) + sqrt(log n)). It falls as the radius grows and knows
    nothing of the loss: the theorem trades it against the sharpness within that radius.
    """
    squared_norm, rho = non_negative("squared_norm", squared_norm), positive("rho", rho)
    widening = (1 + sqrt(log(whole("n", n)) / whole("k", k))) ** 2
    return k * log1p(squared_norm / rho**2 * widening)
