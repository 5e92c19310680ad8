"""Lemmas 3 to 6: exact divergences and informations of Gaussians, and SGD on a one-dimensional quadratic."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss

from helpers.wang_mao import information
from helpers.wang_mao.information import LinearChain, gaussian_information, lemma_3, lemma_4, lemma_5, lemma_6

chains = st.builds(
    LinearChain,
    n=st.just(6),
    batch=st.sampled_from([1, 2, 3, 6]),
    epochs=st.integers(1, 3),
    lr=st.floats(0.05, 1.5),
    sigma=st.floats(0.05, 3),
    s=st.floats(0.2, 3),
)


def random_covariance(rng, d):
    root = rng.standard_normal((d, d))
    return root @ root.T


def gaussian_kl(mean, covariance, reference_covariance):
    """KL(N(mean, covariance) || N(0, reference)), from its definition."""
    inverse = np.linalg.inv(reference_covariance)
    logs = np.linalg.slogdet(reference_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (np.trace(inverse @ covariance) + mean @ inverse @ mean - len(mean) + logs)


# --- Lemma 3 ------------------------------------------------------------------------------------------------


def test_lemma_3_is_equality_for_constants():
    gap, t, t_reference = np.array([0.3, -1.2, 0.5]), 0.7, 1.9
    exact = gaussian_kl(gap, t * np.eye(3), t_reference * np.eye(3))
    assert lemma_3(gap @ gap, t, t_reference, d=3) == pytest.approx(exact, abs=1e-12)


def test_lemma_3_holds_for_random_joint_gaussians():
    rng = np.random.default_rng(0)
    for _ in range(300):
        d, joint = 2, random_covariance(rng, 4) * rng.uniform(0.01, 2)
        t, t_reference = rng.uniform(0.1, 3, 2)
        mean = rng.standard_normal(d)
        difference = np.hstack([np.eye(d), -np.eye(d)])
        squared = mean @ mean + np.trace(difference @ joint @ difference.T)
        exact = gaussian_kl(mean, joint[:d, :d] + t * np.eye(d), joint[d:, d:] + t_reference * np.eye(d))
        assert exact <= lemma_3(squared, t, t_reference, d=d) + 1e-12


def test_lemma_3_with_equal_noise_is_the_squared_distance():
    assert lemma_3(5.0, 2.0, 2.0, d=7) == pytest.approx(5 / 4, abs=1e-15)


# --- Lemma 4 ------------------------------------------------------------------------------------------------


def channel(covariance, sigma):
    """I(F; F + sigma N) for F ~ N(0, covariance)."""
    return 0.5 * np.linalg.slogdet(np.eye(len(covariance)) + covariance / sigma**2)[1]


def test_lemma_4_is_equality_for_isotropic_signals():
    exact = channel(2 * np.eye(3), 0.7)
    assert exact == pytest.approx(2.4384, abs=5e-5)  # theory, section 4
    assert lemma_4([6.0], 0.7, d=3) == pytest.approx(exact, abs=1e-12)


def test_lemma_4_is_strict_for_anisotropic_signals_and_wrong_centres():
    anisotropic = np.diag([5.0, 0.5, 0.01])
    assert channel(anisotropic, 0.7) == pytest.approx(1.5699, abs=1e-4)  # theory, section 4
    assert lemma_4([np.trace(anisotropic)], 0.7, d=3) == pytest.approx(2.3367, abs=1e-4)
    assert lemma_4([6.0 + 4.0], 0.7, d=3) == pytest.approx(3.0817, abs=5e-5)  # centre off by a vector of norm 2


def test_lemma_4_holds_for_random_gaussians_and_centres():
    rng = np.random.default_rng(1)
    for _ in range(300):
        covariance, shift = random_covariance(rng, 3), rng.standard_normal(3)
        sigma = rng.uniform(0.1, 3)
        assert channel(covariance, sigma) <= lemma_4([np.trace(covariance) + shift @ shift], sigma, d=3) + 1e-12


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.1, 10), st.integers(1, 50))
def test_the_expectation_over_y_belongs_outside_the_logarithm(moments, sigma, d):
    outside = lemma_4(moments, sigma, d=d)
    assert outside == pytest.approx(np.mean([lemma_4([moment], sigma, d=d) for moment in moments]), abs=1e-10)
    assert outside <= lemma_4([np.mean(moments)], sigma, d=d) * (1 + 1e-12) + 1e-300  # subnormal numbers are coarse


# --- Lemmas 5 and 6 -----------------------------------------------------------------------------------------


def test_lemma_5_is_the_formula():
    assert lemma_5(3.0, 0.5, d=4) == pytest.approx(2 * math.log(1 + 3 / (4 * 0.25)), abs=1e-14)


@given(st.floats(1e-9, 1e3), st.floats(0.01, 100), st.integers(1, 10**6))
def test_lemma_5_grows_with_dispersion_and_dimension_and_stays_below_the_relaxed_form(dispersion, sigma, d):
    value = lemma_5(dispersion, sigma, d=d)
    assert value <= lemma_5(2 * dispersion, sigma, d=d) * (1 + 1e-12)
    assert value <= lemma_5(dispersion, sigma, d=2 * d) * (1 + 1e-12)
    assert value <= dispersion / (2 * sigma**2) * (1 + 1e-12)


def test_lemma_6_is_a_sum():
    assert lemma_6([0.1, 0.2, 0.3]) == pytest.approx(0.6, abs=1e-15)


# --- Informations of Gaussians ------------------------------------------------------------------------------


def test_gaussian_information_of_two_variables():
    r = 0.6
    exact = -0.5 * math.log(1 - r**2)
    assert gaussian_information(np.array([[1, r], [r, 1]]), [0], [1]) == pytest.approx(exact, abs=1e-14)


def test_gaussian_information_obeys_the_chain_rule():
    covariance = random_covariance(np.random.default_rng(2), 5)
    both = gaussian_information(covariance, [0, 1], [2, 3, 4])
    first = gaussian_information(covariance, [0], [2, 3, 4])
    assert first + gaussian_information(covariance, [1], [2, 3, 4], [0]) == pytest.approx(both, abs=1e-10)


# --- The chain ----------------------------------------------------------------------------------------------


def test_the_numbers_of_the_chain():
    # theory, section 4, "Chain check"
    chain = LinearChain()
    steps = [0.2712, 0.2820, 0.2891, 0.2413, 0.2552, 0.2615]
    assert chain.conditional_information == pytest.approx(steps, abs=5e-5)
    assert chain.lemma_5 == pytest.approx([0.2712, 0.2897, 0.2985, 0.2413, 0.2572, 0.2647], abs=6e-5)
    totals = (
        chain.mutual_information, sum(chain.conditional_information), sum(chain.lemma_5), sum(chain.theorem_1),
        sum(chain.neu),
    )  # fmt: skip
    assert totals == pytest.approx((0.1590, 1.6003, 1.6225, 1.9390, 5.6700), abs=5e-5)
    assert chain.neu[0] == pytest.approx(0.72, abs=1e-14)


def slow_chain(chain):
    """The same chain, one variance at a time: weights and updates as dictionaries of coefficients."""
    per_epoch = chain.n // chain.batch
    w = np.zeros(chain.n)
    rows = []
    for t in range(chain.steps):
        mean = np.zeros(chain.n)
        start = (t % per_epoch) * chain.batch
        mean[start : start + chain.batch] = 1 / chain.batch
        rows.append((w, mean, -chain.lr * (w - mean), t * chain.sigma**2))
        w = w + rows[-1][2]
    return rows, w


@settings(max_examples=25)
@given(chains)
def test_the_chain_against_conditional_variances(chain):
    rows, final = slow_chain(chain)
    s2, noise = chain.s**2, chain.sigma**2
    exact, dispersions, neu = chain.conditional_information, chain.dispersions, chain.neu
    for t, (w, mean, update, before) in enumerate(rows):
        variance, ghost = s2 * update @ update, s2 * w @ w + before
        explained = (s2 * update @ w) ** 2 / ghost if ghost else 0.0
        assert dispersions[t] == pytest.approx(variance, rel=1e-10)
        nats = 0.5 * math.log((variance - explained + noise) / noise)
        assert exact[t] == pytest.approx(nats, abs=1e-9)
        assert neu[t] == pytest.approx(chain.lr**2 / noise * (before + s2 * mean @ mean), rel=1e-10)
    channel = 0.5 * math.log(1 + s2 * final @ final / (chain.steps * noise))
    assert chain.mutual_information == pytest.approx(channel, abs=1e-12)


def test_theorem_1_of_the_chain_by_gauss_hermite():
    chain = LinearChain()
    nodes, masses = hermegauss(120)
    found = chain.theorem_1
    for t, (w, mean, _, before) in enumerate(slow_chain(chain)[0]):
        ghost, cross = w @ w + before, before + w @ mean  # E[W~^2], and -E[(g - Omega) W~]
        slope = cross / ghost if ghost else 0.0
        left = before + mean @ mean - slope * cross
        moments = chain.lr**2 * (left + slope**2 * ghost * nodes**2)
        exact = masses @ (0.5 * np.log1p(moments / chain.sigma**2)) / masses.sum()
        assert found[t] == pytest.approx(exact, abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(chains)
def test_every_inequality_of_the_chain(chain):
    exact, lemma, theorem = chain.conditional_information, chain.lemma_5, chain.theorem_1
    for nats, by_lemma_5, by_theorem_1, by_neu in zip(exact, lemma, theorem, chain.neu, strict=True):
        assert -1e-12 <= nats <= min(by_lemma_5, by_theorem_1) + 1e-9
        assert by_theorem_1 <= by_neu + 1e-9
    assert chain.mutual_information <= lemma_6([max(nats, 0.0) for nats in exact]) + 1e-9


def test_the_terms_of_the_trajectory_cost_a_factor_of_ten():
    chain = LinearChain()
    assert lemma_6(chain.conditional_information) > 10 * chain.mutual_information


@settings(max_examples=20, deadline=None)
@given(chains, st.floats(0.1, 10))
def test_the_chain_knows_only_the_ratio_of_data_and_noise(chain, factor):
    changes = {"s": factor * chain.s, "sigma": factor * chain.sigma}
    scaled = LinearChain(**{**{k: getattr(chain, k) for k in ("n", "batch", "epochs", "lr")}, **changes})
    assert scaled.lemma_5 == pytest.approx(chain.lemma_5)
    assert scaled.theorem_1 == pytest.approx(chain.theorem_1)
    assert scaled.mutual_information == pytest.approx(chain.mutual_information)


def test_in_the_first_epoch_neus_terms_can_be_halved():
    # There the batch is independent of the weights and the cross term vanishes: constant 1 in place of 2.
    chain = LinearChain(epochs=1)
    halves = [term / 2 for term in chain.neu]
    assert all(a <= b for a, b in zip(chain.theorem_1, halves, strict=True))


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lemma_3(-1.0, 1.0, 1.0, d=1), "squared_distance must be a finite number that is not negative"),
        (lambda: lemma_3(1.0, 0.0, 1.0, d=1), "t must be a finite number above zero"),
        (lambda: lemma_3(1.0, 1.0, 0.0, d=1), "t_reference must be a finite number above zero"),
        (lambda: lemma_4([], 1.0, d=1), "second_moments is empty"),
        (lambda: lemma_4([-1.0], 1.0, d=1), "every entry of second_moments"),
        (lambda: lemma_5(1.0, 0.0, d=1), "sigma must be a finite number above zero"),
        (lambda: lemma_5(1.0, 1.0, d=0), "d must be a whole number of at least 1"),
        (lambda: lemma_6([math.nan]), "every entry of conditional_informations"),
        (lambda: gaussian_information(np.zeros((2, 2)), [0], [1]), "not positive definite"),
        (lambda: LinearChain(n=5, batch=2), "the batch size must divide n"),
        (lambda: LinearChain(lr=0.0), "lr must be a finite number above zero"),
        (lambda: LinearChain(epochs=0), "epochs must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_is_offered_by_its_chapter():
    from helpers import wang_mao

    for name in ("lemma_3", "lemma_4", "lemma_5", "lemma_6", "LinearChain", "gaussian_information"):
        assert getattr(wang_mao, name) is getattr(information, name)
