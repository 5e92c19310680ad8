"""PAC-Bayes: closed forms, exact coverage on coins, and the reference divergence of torch."""

from math import comb, exp, log, pi, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, chi2
from torch.distributions import Normal, kl_divergence

from helpers import pac_bayes

anytime = settings(deadline=None)  # a busy machine is not a failure

norms = st.floats(0, 1e3)
sizes = st.integers(1, 10_000)


# --- divergences --------------------------------------------------------------------------------------------


def test_gaussian_kl_is_torchs():
    g = torch.Generator().manual_seed(0)
    mean, prior_mean = torch.randn(2, 7, dtype=torch.float64, generator=g)
    variance, prior_variance = torch.rand(2, 7, dtype=torch.float64, generator=g) + 0.1
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(prior_mean, prior_variance.sqrt())).sum().item()
    assert pac_bayes.gaussian_kl(mean, variance, prior_mean, prior_variance) == pytest.approx(expected, abs=1e-12)


def test_gaussian_kl_of_numbers_is_the_isotropic_one():
    mean = torch.linspace(-1, 2, 9, dtype=torch.float64)
    expected = pac_bayes.isotropic_kl((mean - 0.5).square().sum().item(), 9, variance=0.3, prior_variance=2.0)
    assert pac_bayes.gaussian_kl(mean, 0.3, 0.5, 2.0) == pytest.approx(expected, abs=1e-12)


def test_isotropic_kl_in_one_dimension():
    # (1/2) [(1/4 + 9) / 4 - 1 + log 16]
    assert pac_bayes.isotropic_kl(9.0, 1, variance=0.25, prior_variance=4.0) == pytest.approx(
        0.5 * (9.25 / 4 - 1 + log(16)), abs=1e-14
    )


@anytime
@given(norms, sizes, st.floats(1e-3, 10), st.floats(-5, 5))
def test_no_prior_variance_beats_the_optimal_one(squared, k, variance, shift):
    best = pac_bayes.optimal_prior_variance(squared, k, variance=variance)
    smallest = pac_bayes.smallest_kl(squared, k, variance=variance)
    at_best = pac_bayes.isotropic_kl(squared, k, variance=variance, prior_variance=best)
    assert at_best == pytest.approx(smallest, rel=1e-9, abs=1e-9)
    elsewhere = pac_bayes.isotropic_kl(squared, k, variance=variance, prior_variance=best * exp(shift))
    assert elsewhere >= smallest - 1e-9 * (1 + smallest)


def test_the_optimal_prior_variance_is_found_numerically():
    found = minimize_scalar(lambda v: pac_bayes.isotropic_kl(12.0, 5, variance=0.7, prior_variance=v), (1, 3))
    assert pac_bayes.optimal_prior_variance(12.0, 5, variance=0.7) == pytest.approx(found.x, rel=1e-6)
    assert pac_bayes.smallest_kl(12.0, 5, variance=0.7) == pytest.approx(found.fun, abs=1e-11)


# --- bounds -------------------------------------------------------------------------------------------------


def test_mcallester_by_hand():
    bound = pac_bayes.mcallester(0.1, 3.0, n=400, delta=0.05)
    assert bound == pytest.approx(0.1 + sqrt((3 + log(2 * 20 / 0.05)) / 800), abs=1e-15)


@anytime
@given(st.floats(0, 1), st.floats(0, 50), sizes, st.floats(0.01, 0.99), st.floats(0.1, 30))
def test_bounds_scale_with_the_range_of_the_loss(share, kl, n, delta, clip):
    for bound in pac_bayes.mcallester, pac_bayes.maurer:
        scaled = bound(share * clip, kl, n=n, delta=delta, loss_range=clip)
        assert scaled == pytest.approx(clip * bound(share, kl, n=n, delta=delta), rel=1e-9)


@anytime
@given(st.floats(0, 1), st.floats(0, 50), sizes, st.floats(0.01, 0.99))
def test_maurer_is_never_above_mcallester_nor_the_range(share, kl, n, delta):
    bound = pac_bayes.maurer(share, kl, n=n, delta=delta)
    assert share - 1e-12 <= bound <= min(1.0, pac_bayes.mcallester(share, kl, n=n, delta=delta)) + 1e-12


def test_maurer_without_errors_on_the_sample():
    # kl_2(0 || r) = -log(1 - r)
    bound = pac_bayes.maurer(0.0, 2.0, n=100, delta=0.1)
    assert bound == pytest.approx(1 - exp(-(2 + log(2 * 10 / 0.1)) / 100), abs=1e-13)


def test_maurer_inverts_the_divergence_of_coins():
    bound = pac_bayes.maurer(0.2, 2.0, n=100, delta=0.1)
    divergence = 0.2 * log(0.2 / bound) + 0.8 * log(0.8 / (1 - bound))
    assert divergence == pytest.approx((2 + log(2 * 10 / 0.1)) / 100, abs=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 20, 100])
def test_the_constant_of_maurer_holds_for_every_n(n):
    # E exp(n kl_2(mean || p)) = sum_k C(n,k) (k/n)^k (1-k/n)^(n-k), whatever p; the proof needs it <= 2
    # sqrt(n)
    moment = sum(comb(n, k) * (k / n) ** k * (1 - k / n) ** (n - k) for k in range(n + 1))
    assert moment <= 2 * sqrt(n) + 1e-12


@pytest.mark.parametrize("bound", [pac_bayes.mcallester, pac_bayes.maurer])
@pytest.mark.parametrize("m", [1, 10])
def test_the_best_of_m_coins_is_covered(bound, m):
    # m hypotheses with Bernoulli(p) losses, uniform prior, all posterior mass on the best one: KL = log m.
    n, p, delta = 50, 0.3, 0.1
    broken = [k for k in range(n + 1) if bound(k / n, log(m), n=n, delta=delta) < p]
    assert broken  # else the test would not test anything
    smallest = 1 - (1 - binom.cdf(max(broken), n, p)) ** m
    assert smallest <= delta


# --- the bound for flat minima ------------------------------------------------------------------------------


def test_sam_term_has_the_square():
    value = pac_bayes.norm_complexity(7.0, k=100, rho=0.5, n=1000)
    assert value == pytest.approx(100 * log(1 + 28 * (1 + sqrt(log(1000) / 100)) ** 2), rel=1e-13)
    unsquared = 100 * log(1 + 28 * (1 + sqrt(log(1000) / 100)))  # as the slides print it
    assert value - unsquared > 1


def test_sam_bound_by_hand():
    bound = pac_bayes.sam(0.2, 7.0, k=100, rho=0.5, n=1000, delta=0.05)
    sigma = 0.5 / (10 + sqrt(log(1000)))
    j = -int(-pac_bayes.norm_complexity(7.0, k=100, rho=0.5, n=1000) // 1)
    prior = sigma**2 * exp(j / 100)
    kl = 0.5 * ((100 * sigma**2 + 7) / prior - 100 + 100 * log(prior / sigma**2))
    delta_j = 6 * 0.05 / (pi**2 * (j + 1) ** 2)
    root = sqrt((kl + log(2 * sqrt(1000) / delta_j)) / 2000)
    assert bound.sigma == pytest.approx(sigma, rel=1e-13)
    assert bound.prior_index == j
    assert bound.prior_variance == pytest.approx(prior, rel=1e-12)
    assert bound.kl == pytest.approx(kl, rel=1e-9)
    assert bound.complexity == pytest.approx(root, rel=1e-10)
    assert bound.value == pytest.approx(0.2 + 1 / sqrt(1000) + root, rel=1e-10)


@anytime
@given(norms, sizes, st.floats(1e-2, 1e2), sizes)
def test_the_grid_of_priors_costs_at_most_half_a_nat(squared, k, rho, n):
    bound = pac_bayes.sam(0.0, squared, k=k, rho=rho, n=n, delta=0.05)
    norm = pac_bayes.norm_complexity(squared, k=k, rho=rho, n=n)
    smallest = pac_bayes.smallest_kl(squared, k, variance=bound.sigma**2)
    assert norm == pytest.approx(2 * smallest, rel=1e-9, abs=1e-12)
    assert smallest - 1e-9 * (1 + smallest) <= bound.kl <= smallest + 0.5 + 1e-9 * (1 + smallest)
    # the first prior that is wide enough
    best = pac_bayes.optimal_prior_variance(squared, k, variance=bound.sigma**2)
    assert best * (1 - 1e-9) <= bound.prior_variance <= best * exp(1 / k) * (1 + 1e-9)


@pytest.mark.parametrize(("k", "n"), [(1, 2), (3, 50), (100, 1000), (10**6, 50_000)])
def test_noise_leaves_the_ball_as_rarely_as_the_bound_says(k, n):
    bound = pac_bayes.sam(0.0, 1.0, k=k, rho=2.0, n=n, delta=0.05)
    assert chi2.sf((2.0 / bound.sigma) ** 2, k) <= 1 / sqrt(n) == bound.tail


def test_sam_bound_scales_with_the_range():
    one = pac_bayes.sam(0.1, 5.0, k=10, rho=1.0, n=10_000, delta=0.1)
    clipped = pac_bayes.sam(2.7, 5.0, k=10, rho=1.0, n=10_000, delta=0.1, loss_range=27.0)
    assert clipped.value == pytest.approx(27 * one.value, rel=1e-12)
    assert clipped.worst == 2.7


def test_confidences_of_the_grid_sum_to_delta():
    # sam spends 6 delta / (pi (j+1))^2 on prior j
    assert sum(6 / (pi * (j + 1)) ** 2 for j in range(10**6)) == pytest.approx(1, abs=1e-6)


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(empirical=1.2), "above loss_range"),
        (dict(empirical=-0.1), "empirical loss must be"),
        (dict(empirical=float("nan")), "empirical loss must be"),
        (dict(kl=-1.0), "kl must be"),
        (dict(n=0), "n must be a whole number"),
        (dict(delta=0.0), "delta must lie strictly"),
        (dict(delta=1.0), "delta must lie strictly"),
        (dict(loss_range=0.0), "loss_range must be"),
    ],
)
@pytest.mark.parametrize("bound", [pac_bayes.mcallester, pac_bayes.maurer])
def test_bounds_refuse(bound, arguments, message):
    good = dict(empirical=0.1, kl=1.0, n=100, delta=0.05)
    with pytest.raises(ValueError, match=message):
        bound(**{**good, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(dict(rho=0.0), "rho must be"), (dict(k=0), "k must be"), (dict(squared_norm=-1.0), "squared_norm must be"),
     (dict(delta=1.3), "delta must lie"), (dict(worst=2.0), "above loss_range")],
)  # fmt: skip
def test_sam_refuses(arguments, message):
    good = dict(worst=0.1, squared_norm=1.0, k=10, rho=0.1, n=100, delta=0.05)
    with pytest.raises(ValueError, match=message):
        pac_bayes.sam(**{**good, **arguments})


def test_divergences_refuse():
    w = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="every variance of the posterior and of the prior must be positive"):
        pac_bayes.gaussian_kl(w, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="every variance of the posterior and of the prior must be positive"):
        pac_bayes.gaussian_kl(w, -w, 0.0, 1.0)
    with pytest.raises(ValueError, match="mean must be finite"):
        pac_bayes.gaussian_kl(w * float("inf"), 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="divergence must be a finite"):
        pac_bayes.gaussian_kl(w * 1e200, 1.0, 0.0, 1e-300)
    with pytest.raises(ValueError, match="prior_mean must be one number, or one for each of the 3 weights"):
        pac_bayes.gaussian_kl(w, 1.0, w[:2], 1.0)
    with pytest.raises(ValueError, match="prior_variance must be"):
        pac_bayes.isotropic_kl(1.0, 3, variance=1.0, prior_variance=0.0)
