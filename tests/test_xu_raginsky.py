"""Xu-Raginsky: two learners in closed form, against joint covariances, enumeration and simulation."""

import itertools
import json
import math

import numpy as np
import pytest
from golden import GOLDEN
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from helpers import xu_raginsky
from helpers.losses import ClippedCrossEntropy
from helpers.wang_mao.information import gaussian_information
from helpers.xu_raginsky import Coins, GaussianLocation, best_ghost

locations = st.builds(GaussianLocation, n=st.integers(1, 1000), s=st.floats(0.1, 10), tau=st.floats(1e-3, 1e3))


def golden(part):
    if not (GOLDEN / "linear.json").is_file():
        pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
    return json.loads((GOLDEN / "linear.json").read_text())["gaussian"][part]


# --- The bound ----------------------------------------------------------------------------------------------


def test_the_bound_is_the_formula():
    assert xu_raginsky.bound(2.0, n=25, R=3.0) == pytest.approx(math.sqrt(2 * 9 * 2 / 25), abs=1e-15)


def test_infinite_information_bounds_nothing():
    assert xu_raginsky.bound(math.inf, n=10, R=1.0) == math.inf
    assert xu_raginsky.individual_sample_bound([0.1, math.inf], R=1.0) == math.inf


@given(st.floats(0, 1e3), st.integers(1, 10**6), st.floats(0.01, 100), st.floats(0.1, 10))
def test_scaling_in_r_n_and_information(nats, n, R, factor):
    value = xu_raginsky.bound(nats, n=n, R=R)
    assert xu_raginsky.bound(nats, n=n, R=factor * R) == pytest.approx(factor * value)
    assert xu_raginsky.bound(nats, n=4 * n, R=R) == pytest.approx(value / 2)
    assert xu_raginsky.bound(9 * nats, n=n, R=R) == pytest.approx(3 * value)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=20), st.floats(0.1, 10))
def test_one_example_at_a_time_is_never_worse(informations, R):
    whole = xu_raginsky.bound(math.fsum(informations), n=len(informations), R=R)
    assert xu_raginsky.individual_sample_bound(informations, R=R) <= whole * (1 + 1e-12)


def test_the_individual_bound_is_a_mean_of_roots():
    expected = (math.sqrt(2 * 4 * 0.5) + math.sqrt(2 * 4 * 0.125)) / 2
    assert xu_raginsky.individual_sample_bound([0.5, 0.125], R=2.0) == pytest.approx(expected, abs=1e-15)


# --- Donsker and Varadhan -----------------------------------------------------------------------------------


@st.composite
def tilts(draw):
    """Two distributions and values on the same points."""
    size = draw(st.integers(1, 8))
    weights = st.lists(st.floats(0.01, 1), min_size=size, max_size=size).map(lambda w: np.array(w) / sum(w))
    return draw(weights), draw(weights), np.array(draw(st.lists(st.floats(-30, 30), min_size=size, max_size=size)))


@given(tilts())
def test_no_distribution_beats_the_log_partition(tilt):
    p, prior, values = tilt
    assert xu_raginsky.tilted_value(p, prior, values) <= xu_raginsky.log_partition(prior, values) + 1e-10


@given(tilts())
def test_the_gibbs_distribution_reaches_it_and_others_miss_it_by_their_divergence_from_gibbs(tilt):
    p, prior, values = tilt
    top, best = xu_raginsky.log_partition(prior, values), xu_raginsky.gibbs(prior, values)
    assert xu_raginsky.tilted_value(best, prior, values) == pytest.approx(top, abs=1e-10)
    miss = sum(a * (math.log(a) - math.log(b * math.exp(v - top))) for a, b, v in zip(p, prior, values, strict=True))
    assert xu_raginsky.tilted_value(p, prior, values) == pytest.approx(top - miss, abs=1e-9)


def test_the_log_partition_is_the_log_of_a_mean_and_does_not_overflow():
    prior, values = np.array([0.25, 0.75]), np.array([1.0, -2.0])
    expected = math.log(0.25 * math.e + 0.75 * math.exp(-2))
    assert xu_raginsky.log_partition(prior, values) == pytest.approx(expected, abs=1e-15)
    assert xu_raginsky.log_partition(prior, values + 1000) == pytest.approx(expected + 1000, rel=1e-15)
    assert xu_raginsky.tilted_value(np.array([1.0, 0.0]), np.array([0.0, 1.0]), values) == -math.inf


@pytest.mark.parametrize(
    ("p", "prior", "values", "sentence"),
    [
        ([0.5, 0.5], [0.5, 0.6], [0, 0], "prior must hold probabilities"),
        ([1.5, -0.5], [0.5, 0.5], [0, 0], "p must hold probabilities"),
        ([1.0], [0.5, 0.5], [0, 0], "the same points"),
        ([0.5, 0.5], [0.5, 0.5], [0, math.inf], "one finite number"),
        ([0.5, 0.5], [0.5, 0.5], [0], "one finite number"),
    ],
)
def test_donsker_varadhan_refuses_what_is_no_distribution(p, prior, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        xu_raginsky.tilted_value(p, prior, values)


# --- The sub-Gaussian constant ------------------------------------------------------------------------------


def bernoulli_log_mgf(p, rho):
    return math.log1p(p * math.expm1(rho)) - rho * p


def test_half_the_clip_is_sub_gaussian_and_no_less_would_do():
    clip = 2.7
    R = ClippedCrossEntropy(clip).R
    ratios = [
        bernoulli_log_mgf(p, rho * clip) / (rho**2 * R**2 / 2)
        for p in np.linspace(0.01, 0.99, 99)
        for rho in (-30, -3, -0.3, -0.01, 0.01, 0.3, 3, 30)
    ]
    assert max(ratios) <= 1
    assert max(ratios) > 0.9999  # attained in the limit rho -> 0 at p = 1/2


def test_constant_of_the_usual_clip():
    assert pytest.approx(13.8155106, abs=1e-7) == ClippedCrossEntropy.per_class(10, 12).R


def test_an_observed_range_is_not_sub_gaussian():
    # A loss that is 1 for one example in a hundred, seen on the 99 examples that a run happened to fit well.
    seen = xu_raginsky.invalid_constant_observed_range([0.0] * 98 + [1e-3])
    assert seen == 5e-4
    assert bernoulli_log_mgf(0.01, 1.0) > seen**2 / 2


def test_absolute_loss_of_gaussian_data_has_constant_s():
    s = 1.7
    for w in (0.0, 0.5 * s, 3 * s):
        mean = quad(lambda z, w=w: abs(w - s * z) * math.exp(-z * z / 2), -12, 12, points=[w / s])[0]
        mean /= math.sqrt(2 * math.pi)
        for rho in (-2.0, -0.5, 0.5, 2.0):
            mgf = quad(lambda z, w=w, rho=rho: math.exp(rho * abs(w - s * z) - z * z / 2), -20, 20, points=[w / s])[
                0
            ] / math.sqrt(2 * math.pi)
            assert math.log(mgf) - rho * mean <= rho**2 * s**2 / 2 + 1e-9


# --- The noisy mean -----------------------------------------------------------------------------------------

TABLE = [  # n, s, tau; gap, information, bound, individual information and bound (theory, 2, example A)
    (10, 1.0, 0.1, 0.07949018598140, 1.1989476363992, 0.4896830886194, 0.04765508990216, 0.3087234681788),
    (10, 1.0, 0.5, 0.07142221708086, 0.1682361183106, 0.1834317956684, 0.01449376843663, 0.1702572667267),
    (100, 2.0, 0.05, 0.01595290594240, 1.4166066720281, 0.3366430361113, 0.00472816762102, 0.1944873799714),
]


@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_the_noisy_mean(row):
    case = GaussianLocation(*row[:3])
    found = (
        case.gap, case.mutual_information, case.bound, case.individual_information, case.individual_bound,
    )  # fmt: skip
    assert found == pytest.approx(row[3:], abs=1e-12)
    assert case.s == case.R


def test_the_golden_noisy_means():
    for row in golden("noisy_mean_absolute_loss"):
        case = GaussianLocation(row["n"], row["s"], row["tau"])
        assert case.gap == pytest.approx(row["gen_exact"], abs=1e-10)
        assert case.mutual_information == pytest.approx(row["mutual_information_nats"], abs=1e-10)
        assert case.bound == pytest.approx(row["xu_raginsky"], abs=1e-10)
        assert case.individual_information == pytest.approx(row["individual_sample_mi"], abs=1e-10)
        assert case.individual_bound == pytest.approx(row["bu_individual_bound"], abs=1e-10)


def test_the_golden_ghosts():
    for row in golden("deterministic_mean_absolute_loss"):
        best = best_ghost(row["n"], row["s"])
        assert best.ghost_bound_separate == pytest.approx(row["auxiliary_separate_residual_min"], abs=1e-10)
        assert best.tau == pytest.approx(row["tau_at_min"], abs=1e-7)
        for ghost in row["auxiliary_difference_residual_at_tau"]:
            case = GaussianLocation(row["n"], row["s"], ghost["tau"])
            assert case.ghost_bound_difference == pytest.approx(ghost["value"], abs=1e-10)


def test_information_is_that_of_the_joint_covariance():
    n, s, tau = 5, 1.3, 0.4
    rows = np.vstack([s * np.eye(n, n + 1), np.append(np.full(n, s / n), tau)])
    covariance = rows @ rows.T
    case = GaussianLocation(n, s, tau)
    assert case.mutual_information == pytest.approx(gaussian_information(covariance, range(n), [n]), abs=1e-12)
    one = gaussian_information(covariance, [0], [n])
    assert case.individual_information == pytest.approx(one, abs=1e-12)


def test_the_gap_is_that_of_a_simulation():
    n, s, tau, rng = 10, 1.0, 0.5, np.random.default_rng(0)
    sample = s * rng.standard_normal((200_000, n))
    w = sample.mean(1) + tau * rng.standard_normal(200_000)
    fresh = s * rng.standard_normal(200_000)
    gaps = abs(w - fresh) - abs(w[:, None] - sample).mean(1)
    error = gaps.std() / math.sqrt(len(gaps))
    assert abs(gaps.mean() - GaussianLocation(n, s, tau).gap) < 4 * error


@given(locations)
def test_the_noisy_mean_obeys_its_bounds(case):
    assert 0 < case.gap <= case.bound
    assert case.gap <= case.individual_bound <= case.bound * (1 + 1e-9)
    assert case.population_risk - case.training_risk == pytest.approx(case.gap, abs=1e-9 * case.population_risk)
    assert 0 <= case.difference_residual <= case.separate_residual * (1 + 1e-9)
    assert GaussianLocation(case.n, case.s, 0.0).gap <= case.ghost_bound_difference


@given(locations, st.floats(0.1, 10))
def test_the_noisy_mean_has_the_unit_of_its_data(case, factor):
    scaled = GaussianLocation(case.n, factor * case.s, factor * case.tau)
    assert scaled.mutual_information == pytest.approx(case.mutual_information)
    assert scaled.gap == pytest.approx(factor * case.gap)
    assert scaled.bound == pytest.approx(factor * case.bound)


def test_a_deterministic_mean_has_infinite_information():
    case = GaussianLocation(100, 1.0, 0.0)
    assert case.mutual_information == math.inf
    assert case.bound == math.inf
    assert case.gap == pytest.approx(0.00797895, abs=1e-8)
    assert case.individual_bound == pytest.approx(math.sqrt(math.log(100 / 99)), abs=1e-14)
    assert case.difference_residual == case.separate_residual == 0
    assert GaussianLocation(1, 1.0, 0.0).individual_information == math.inf


def test_the_separate_residual_cannot_buy_infinite_noise():
    best = best_ghost(100, 1.0)
    assert best.ghost_bound_separate == pytest.approx(0.077395, abs=1e-6)  # theory, section 2
    assert best.tau == pytest.approx(0.1724, abs=1e-4)
    elsewhere = [GaussianLocation(100, 1.0, tau).ghost_bound_separate for tau in np.geomspace(1e-3, 1e3, 400)]
    assert best.ghost_bound_separate <= min(elsewhere)


@given(st.integers(1, 10**6), st.floats(0.1, 10))
def test_the_best_ghost_is_a_minimum(n, s):
    best = best_ghost(n, s)
    around = [GaussianLocation(n, s, best.tau * factor).ghost_bound_separate for factor in (0.97, 1.03)]
    assert best.ghost_bound_separate < min(around)


def test_the_difference_residual_buys_the_gap_itself():
    gap = GaussianLocation(100, 1.0, 0.0).gap
    bounds = [GaussianLocation(100, 1.0, tau).ghost_bound_difference for tau in (0.1, 1.0, 10.0, 1e3)]
    assert bounds == pytest.approx([0.08329506106, 0.01231216639, 0.00818499554, 0.00798096651], abs=1e-10)
    assert sorted(bounds, reverse=True) == bounds
    assert bounds[-1] - gap < 3e-6


def test_the_residuals_are_changes_of_risk():
    still, noisy = GaussianLocation(7, 2.0, 0.0), GaussianLocation(7, 2.0, 0.6)
    population = noisy.population_risk - still.population_risk
    training = noisy.training_risk - still.training_risk
    assert noisy.separate_residual == pytest.approx(population + training, abs=1e-14)
    assert noisy.difference_residual == pytest.approx(abs(training - population), abs=1e-14)


# --- The luckiest coin --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "m", "gap", "information", "bound", "class_bound"),
    [
        (20, 8, 0.15768411047061, 1.85279558219731, 0.21522056025135, 0.22800447044301),
        (50, 8, 0.10029205554681, 1.93756727360290, 0.13919652558893, 0.14420268866009),
        (20, 64, 0.25621239442823, 3.76110331635488, 0.30663917380020, 0.32244701438220),
    ],
)
def test_the_table_of_the_coins(n, m, gap, information, bound, class_bound):
    coins = Coins(n, m)
    found = (coins.gap, coins.mutual_information, coins.bound, coins.class_bound)
    assert found == pytest.approx((gap, information, bound, class_bound), abs=1e-12)


def test_the_golden_coins():
    for row in golden("coins_erm_uniform_ties"):
        coins = Coins(row["n"], row["m"])
        found = (coins.gap, coins.mutual_information, coins.bound, coins.class_bound)
        keys = ("gen_exact", "mutual_information_nats", "xu_raginsky", "log_m_bound")
        assert found == pytest.approx([row[key] for key in keys], abs=1e-10)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 2), (2, 4), (4, 3)])
def test_coins_by_enumeration(n, m):
    lowest, entropy_given_sample = [], []
    for throws in itertools.product((0, 1), repeat=n * m):
        heads = np.reshape(throws, (m, n)).sum(1)
        lowest.append(heads.min() / n)
        entropy_given_sample.append(math.log((heads == heads.min()).sum()))
    assert Coins(n, m).gap == pytest.approx(0.5 - np.mean(lowest), abs=1e-12)
    expected = math.log(m) - np.mean(entropy_given_sample)
    assert Coins(n, m).mutual_information == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 200), st.integers(2, 200))
def test_the_coins_obey_their_bounds(n, m):
    coins = Coins(n, m)
    assert 0 < coins.gap <= coins.bound <= coins.class_bound
    assert coins.gap <= Coins(n, m + 1).gap


def test_one_coin_has_nothing_to_select():
    assert Coins(20, 1).gap == pytest.approx(0, abs=1e-14)
    assert Coins(20, 1).mutual_information == pytest.approx(0, abs=1e-14)


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xu_raginsky.bound(-0.1, n=10, R=1.0), "mutual_information must be a finite number"),
        (lambda: xu_raginsky.bound(math.nan, n=10, R=1.0), "mutual_information must be a finite number"),
        (lambda: xu_raginsky.bound(1.0, n=0, R=1.0), "n must be a whole number of at least 1"),
        (lambda: xu_raginsky.bound(1.0, n=2.5, R=1.0), "n must be a whole number of at least 1"),
        (lambda: xu_raginsky.bound(1.0, n=10, R=0.0), "R must be a finite number above zero"),
        (lambda: xu_raginsky.bound(1.0, n=10, R=math.inf), "R must be a finite number above zero"),
        (lambda: xu_raginsky.individual_sample_bound([], R=1.0), "informations is empty"),
        (lambda: xu_raginsky.individual_sample_bound([-1.0], R=1.0), "every entry of informations"),
        (lambda: xu_raginsky.invalid_constant_observed_range([]), "losses must hold at least one number"),
        (lambda: xu_raginsky.invalid_constant_observed_range([1.0, math.nan]), "only finite ones"),
        (lambda: GaussianLocation(0, 1.0, 1.0), "n must be a whole number"),
        (lambda: GaussianLocation(5, -1.0, 1.0), "s must be a finite number above zero"),
        (lambda: GaussianLocation(5, 1.0, -1.0), "tau must be a finite number that is not negative"),
        (lambda: best_ghost(5, 0.0), "s must be a finite number above zero"),
        (lambda: Coins(0, 3), "n must be a whole number"),
        (lambda: Coins(3, 0), "m must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
