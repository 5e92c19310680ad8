"""Theorems 1 and 2 and the corollaries: formulas by loops, the logarithmic form by brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from helpers import neu, xu_raginsky
from helpers.wang_mao import (
    LinearChain,
    closed_form,
    corollary_1,
    corollary_2,
    log_form,
    theorem_1,
    trajectory,
)

steps = st.lists(st.just(0.0) | st.floats(1e-9, 10), min_size=1, max_size=12)
moving = st.lists(st.floats(1e-4, 10), min_size=1, max_size=12)
sigmas = st.floats(0.01, 10)
dimensions = st.integers(1, 10**6)
CASE = {"d": 5, "n": 100, "R": 2.0}


# --- Theorem 2, eq. 2 ---------------------------------------------------------------------------------------


@given(steps, st.data(), dimensions)
def test_the_trajectory_term_of_eq_2(dispersions, data, d):
    noises = data.draw(st.lists(sigmas, min_size=len(dispersions), max_size=len(dispersions)))
    total = sum(math.log(1 + D / (d * s**2)) for D, s in zip(dispersions, noises, strict=True))
    found = trajectory(dispersions, noises, d=d, n=100, R=2.0)
    assert found == pytest.approx(math.sqrt(4 * d / 100 * total), rel=1e-6, abs=1e-6)


def test_the_trajectory_term_to_the_last_digit():
    total = math.log1p(0.3 / (5 * 0.25)) + math.log1p(0.8 / (5 * 0.01))
    expected = math.sqrt(4 * 5 / 100 * total)
    assert trajectory([0.3, 0.8], [0.5, 0.1], **CASE) == pytest.approx(expected, abs=1e-14)


@given(steps, sigmas, dimensions, st.randoms())
def test_one_sigma_stands_for_all_steps_and_their_order_does_not_matter(dispersions, sigma, d, random):
    value = trajectory(dispersions, sigma, d=d, n=100, R=2.0)
    shuffled = random.sample(dispersions, len(dispersions))
    assert trajectory(shuffled, [sigma] * len(dispersions), d=d, n=100, R=2.0) == pytest.approx(value)


@given(steps, sigmas, dimensions, st.floats(1, 10))
def test_scaling_and_monotonicity_of_the_trajectory_term(dispersions, sigma, d, factor):
    value = trajectory(dispersions, sigma, d=d, n=100, R=2.0)
    assert trajectory(dispersions, sigma, d=d, n=400, R=2.0) == pytest.approx(value / 2)
    assert trajectory(dispersions, sigma, d=d, n=100, R=2.0 * factor) == pytest.approx(factor * value)
    more_noise = trajectory(dispersions, factor * sigma, d=d, n=100, R=2.0)
    more_signal = trajectory([factor * D for D in dispersions], sigma, d=d, n=100, R=2.0)
    assert more_noise <= value + 1e-12 * (1 + value)
    assert more_signal >= value - 1e-12 * (1 + value)
    scaled = trajectory([factor**2 * D for D in dispersions], factor * sigma, d=d, n=100, R=2.0)
    assert scaled == pytest.approx(value)


def test_tensors_and_arrays_are_sequences_too():
    value = trajectory([0.3, 0.8], 0.5, **CASE)
    assert trajectory(torch.tensor([0.3, 0.8], dtype=torch.float64), torch.tensor(0.5), **CASE) == value
    assert trajectory(np.array([0.3, 0.8]), np.float64(0.5), **CASE) == value


def test_the_trajectory_term_of_the_chain():
    chain = LinearChain()
    found = trajectory(chain.dispersions, chain.sigma, d=1, n=6, R=1.0)
    assert found == pytest.approx(math.sqrt(2 / 6 * sum(chain.lemma_5)), abs=1e-12)
    assert found >= xu_raginsky.bound(chain.mutual_information, n=6, R=1.0)


# --- The logarithmic form with Taylor flatness --------------------------------------------------------------


@settings(max_examples=60)
@given(moving, st.floats(1e-3, 1e3), st.sampled_from([1, 10, 10**5]), sigmas)
def test_the_logarithmic_form_is_below_eq_3(dispersions, trace, d, sigma):
    case = {"d": d, "n": 100, "R": 2.0}
    relaxed = closed_form(sum(dispersions), trace, n=100, steps=len(dispersions), R=2.0)
    best, given_sigma = log_form(dispersions, trace, **case), log_form(dispersions, trace, **case, sigma=sigma)
    assert best.value <= relaxed.value * (1 + 1e-12)
    assert best.value <= given_sigma.value * (1 + 1e-12)
    assert given_sigma.value <= (relaxed.A / sigma + relaxed.B * sigma**2) * (1 + 1e-12)
    assert best.sigma <= relaxed.sigma * (1 + 1e-8)
    found, expected = [best.A, best.B], [relaxed.A, relaxed.B]
    assert found == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(moving, st.floats(1e-3, 1e3), st.sampled_from([1, 10, 10**5]))
def test_the_logarithmic_form_by_brute_force(dispersions, trace, d):
    best = log_form(dispersions, trace, d=d, n=100, R=2.0)

    def form(log_sigma):
        noise = math.exp(log_sigma)
        flatness = len(dispersions) / 2 * noise**2 * trace
        return trajectory(dispersions, noise, d=d, n=100, R=2.0) + flatness

    grid = np.linspace(math.log(best.sigma) - 8, math.log(best.sigma) + 8, 65)
    lowest = grid[int(np.argmin([form(x) for x in grid]))]
    found = minimize_scalar(form, bounds=(lowest - 0.5, lowest + 0.5), method="bounded", options={"xatol": 1e-9})
    assert best.value == pytest.approx(found.fun, rel=1e-10)
    assert best.value == pytest.approx(best.trajectory + best.flatness, rel=1e-14)
    assert best.trajectory == pytest.approx(trajectory(dispersions, best.sigma, d=d, n=100, R=2.0), rel=1e-12)
    assert math.log(best.sigma) == pytest.approx(found.x, abs=1e-4)


def test_the_derivative_vanishes_at_the_best_sigma():
    best, h = log_form([0.3, 0.8, 0.0], 7.0, **CASE), 1e-5
    up, down = (log_form([0.3, 0.8, 0.0], 7.0, **CASE, sigma=best.sigma * (1 + e)).value for e in (h, -h))
    assert abs(up - down) / (2 * h) < 1e-8
    assert up + down > 2 * best.value


def test_many_dimensions_leave_nothing_of_the_logarithm():
    relaxed = closed_form(1.1, 7.0, n=100, steps=2, R=2.0)
    assert log_form([0.3, 0.8], 7.0, d=10**12, n=100, R=2.0).value == pytest.approx(relaxed.value, rel=1e-10)


def test_the_digits_network_is_vacuous_in_both_forms():
    # theory, section 4: eq. 3 gives 45.8746 and the logarithmic form 45.7785, above the clip of 27.63. With the same
    # dispersion in every step, which maximises it, the logarithmic form lies in between.
    setting, total = {"n": 200, "R": 6 * math.log(10)}, 16.1064
    trace = (45.8746 / closed_form(total, 1.0, steps=150, **setting).value) ** 3
    even = log_form([total / 150] * 150, trace, d=610, **setting)
    assert 45.7785 < even.value < 45.8746


def test_the_limits_of_the_logarithmic_form():
    assert (log_form([0.0, 0.0], 7.0, **CASE).value, log_form([0.0], 7.0, **CASE).sigma) == (0.0, 0.0)
    assert (log_form([0.3], 0.0, **CASE).value, log_form([0.3], 0.0, **CASE).sigma) == (0.0, math.inf)
    still = log_form([0.0], 7.0, **CASE, sigma=0.5)
    assert (still.trajectory, still.value) == (0.0, pytest.approx(0.5 * 0.25 * 7.0, abs=1e-15))


# --- Theorem 1 ----------------------------------------------------------------------------------------------


def test_theorem_1_averages_outside_the_logarithm():
    moments, noises = [[0.1, 0.9], [0.4]], [0.5, 0.2]
    total = 0.5 * (math.log1p(0.1 / 1.25) + math.log1p(0.9 / 1.25)) + math.log1p(0.4 / 0.2)
    assert theorem_1(moments, noises, **CASE) == pytest.approx(math.sqrt(4 * 5 / 100 * total), abs=1e-14)


def test_theorem_1_on_draws_of_the_chain():
    # The moments given W~ of step 5, by hand, for draws of W~; quadrature in LinearChain gives the expectation.
    chain, t = LinearChain(), 4
    w, mean = chain._weights[t], chain._batch_means[t]
    before = t * chain.sigma**2
    ghost, cross = before + w @ w, before + w @ mean
    draws = np.random.default_rng(0).standard_normal(20_000) * math.sqrt(ghost)
    moments = chain.lr**2 * (before + mean @ mean - cross**2 / ghost + (cross / ghost * draws) ** 2)
    nats = 0.5 * np.log1p(moments / chain.sigma**2)
    assert abs(nats.mean() - chain.theorem_1[t]) < 4 * nats.std() / math.sqrt(len(nats))
    found = theorem_1([moments], chain.sigma, d=1, n=6, R=1.0)
    assert found == pytest.approx(math.sqrt(2 / 6 * nats.mean()), abs=1e-12)


def test_theorem_1_can_be_worse_than_theorem_2():
    chain = LinearChain()
    assert sum(chain.theorem_1) > sum(chain.lemma_5)


# --- The corollaries ----------------------------------------------------------------------------------------


def test_corollary_1_is_the_formula():
    total = (0.1 / 0.5) ** 2 * (3 * 0.2 + 2 * 0.7) + (0.3 / 0.4) ** 2 * (3 * 0.6 + 2 * 0.1)
    found = corollary_1([0.2, 0.6], [0.7, 0.1], [0.1, 0.3], [0.5, 0.4], n=50, R=2.0)
    assert found == pytest.approx(math.sqrt(2 * 4 / 50 * total), abs=1e-14)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=9), sigmas, st.floats(0.01, 1))
def test_corollary_1_lies_between_the_two_readings_of_neu(pairs, sigma, lr):
    psi, spread = zip(*pairs, strict=True)
    value = corollary_1(psi, spread, lr, sigma, n=50, R=2.0)
    assert neu.bound(psi, spread, lr, sigma, n=50, R=2.0) <= value * (1 + 1e-12)
    assert value <= neu.bound(psi, spread, lr, sigma, n=50, R=2.0, constant=8.0) * (1 + 1e-12)


def test_corollary_2_adds_the_price_of_the_noise():
    found = corollary_2([0.3, 0.8], [0.5, 0.1], smoothness=3.0, **CASE)
    expected = trajectory([0.3, 0.8], [0.5, 0.1], **CASE) + 3.0 * 5 * (0.25 + 0.01)
    assert found == pytest.approx(expected, abs=1e-14)
    one_sigma = trajectory([0.3, 0.8], 0.5, **CASE) + 3.0 * 5 * 2 * 0.25
    assert corollary_2([0.3, 0.8], 0.5, smoothness=3.0, **CASE) == pytest.approx(one_sigma, abs=1e-14)


def test_corollary_2_is_met_by_a_quadratic():
    # L_mu and L_S with Hessian beta I each pay beta d sum_t sigma_t^2 / 2; both residuals together are the term.
    w = torch.zeros(5, dtype=torch.float64)
    cost = neu.gamma(lambda v: float(1.5 * v.square().sum()), w, 0.26, draws=20_000, seed=0)
    term = corollary_2([0.0, 0.0], [0.5, 0.1], smoothness=3.0, **CASE)
    assert abs(2 * cost.value - term) < 4 * 2 * cost.standard_error


def test_corollary_2_is_above_what_smooth_losses_pay():
    """beta log cosh(w) bends at most by beta, and less away from zero: both residuals stay below the term."""
    term = corollary_2([0.0, 0.0], [0.5, 0.1], smoothness=3.0, **CASE)
    for start in (0.0, 0.5, 2.0):
        w = torch.full((5,), start, dtype=torch.float64)
        cost = neu.gamma(lambda v: float(3.0 * v.cosh().log().sum()), w, 0.26, draws=20_000, seed=0)
        assert 0 < 2 * cost.value < term + 8 * cost.standard_error
    assert 2 * cost.value < 0.5 * term  # far from the bottom it bends little


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trajectory([], 1.0, **CASE), "dispersion_per_step is empty"),
        (lambda: trajectory([-0.1], 1.0, **CASE), "every entry of dispersion_per_step"),
        (lambda: trajectory([0.1], [1.0, 1.0], **CASE), "each of the 1 steps, got 2"),
        (lambda: trajectory([0.1], 0.0, **CASE), "every entry of sigma must be"),
        (lambda: trajectory([0.1], 1.0, d=0, n=10, R=1.0), "d must be a whole number of at least 1"),
        (lambda: log_form([0.1], -1.0, **CASE), "trace must be a finite number that is not negative"),
        (lambda: log_form([0.1], 1.0, **CASE, sigma=0.0), "sigma must be"),
        (lambda: log_form([math.nan], 1.0, **CASE), "every entry of dispersion_per_step"),
        (lambda: theorem_1([], 1.0, **CASE), "is empty"),
        (lambda: theorem_1([[]], 1.0, **CASE), "second_moments is empty"),
        (lambda: theorem_1([[0.1], [0.2]], [1.0], **CASE), "each of the 2 steps, got 1"),
        (lambda: corollary_1([0.1], [0.1, 0.2], 0.1, 1.0, n=5, R=1.0), "one entry a step, got 1 and 2"),
        (lambda: corollary_2([0.1], 1.0, smoothness=-1.0, **CASE), "smoothness must be"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_invalid_constant_is_offered_under_a_name_that_says_so():
    assert "Not a valid R" in xu_raginsky.invalid_constant_observed_range.__doc__
