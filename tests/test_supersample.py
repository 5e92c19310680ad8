import json
from itertools import product
from math import isnan, log, sqrt

import numpy as np
import pytest
import torch
from golden import GOLDEN

from helpers import supersample
from helpers.data import Split

LOG_2 = log(2)


def golden():
    path = GOLDEN / "supersample.json"
    if not path.is_file():
        pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
    return json.loads(path.read_text())


def entropy(p):
    return -sum(q * log(q) for q in (p, 1 - p) if q > 0)


def learners(n):
    """All deterministic learners of n bits."""
    return [np.array(answers, dtype=float).reshape((2,) * n) for answers in product((0, 1), repeat=2**n)]


def randomised(n, count):
    return list(np.random.default_rng(n).uniform(size=(count, *(2,) * n)))


# --- Exact: votes of bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(4))
def test_votes_of_bits_are_the_golden_numbers(case):
    g = golden()[case]
    exact = supersample.enumerated(supersample.majority(g["n"], flip=g["eps"]), g["p"])
    bounds = list(exact.bounds.values())
    found = {
        "gap": exact.gap,
        "train_error": exact.train_error,
        "test_error": exact.test_error,
        "a": exact.a,
        "b": exact.b,
        "cmi": exact.whole,
        "cmi_bound": bounds[0],
        "samplewise_cmi_mean": np.mean(exact.weights),
        "samplewise_bound_disintegrated": bounds[1],
        "samplewise_bound": supersample.bound(exact.weights),
        "evaluated_cmi_mean": np.mean(exact.losses),
        "evaluated_bound_disintegrated": bounds[2],
        "loss_difference_cmi_mean": np.mean(exact.differences),
        "loss_difference_bound_disintegrated": bounds[3],
        "loss_difference_mi": np.mean(exact.counted),
        "counted_bound": bounds[4],
        "pair_mi": np.mean(exact.pairs),
    }
    assert found == pytest.approx({name: g[name] for name in found}, rel=1e-10, abs=1e-10)


def slow_twin(answers, p, pair):
    """I(Delta_i; U_i) and I(W; U | Z) by one sum over supersamples, coins and answers, in plain Python."""
    n = answers.ndim
    joint, whole = {}, 0.0
    for bits in product((0, 1), repeat=2 * n):
        chance = np.prod([p if bit else 1 - p for bit in bits])
        rows = {}
        for coins in product((0, 1), repeat=n):
            one = answers[tuple(bits[2 * i + u] for i, u in enumerate(coins))]
            rows[coins] = (1 - one, one)
            for w in (0, 1):
                delta = (bits[2 * pair + 1] != w) - (bits[2 * pair] != w)
                key = (delta, coins[pair])
                joint[key] = joint.get(key, 0.0) + chance * rows[coins][w] / 2**n
        for w in (0, 1):
            mean = sum(row[w] for row in rows.values()) / 2**n
            whole += chance * sum(row[w] * log(row[w] / mean) for row in rows.values() if row[w] > 0) / 2**n
    marginal = {delta: sum(v for (d, _), v in joint.items() if d == delta) for delta, _ in joint}
    return sum(v * log(v / (marginal[d] / 2)) for (d, _), v in joint.items() if v > 0), whole


@pytest.mark.parametrize("answers", [learners(2)[7], randomised(3, 1)[0]], ids=["deterministic", "randomised"])
def test_enumeration_is_the_sum_over_everything(answers):
    exact = supersample.enumerated(answers, 0.3)
    for pair in range(answers.ndim):
        nats, whole = slow_twin(answers, 0.3, pair)
        assert exact.counted[pair] == pytest.approx(nats, abs=1e-12)
        assert exact.whole == pytest.approx(whole, abs=1e-12)


# --- The counting theorem --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("p", [0.5, 0.7])
def test_counting_theorem_for_every_learner(n, p):
    """All 2^(2^n) deterministic learners, and randomised ones: the mixture's information is (a + b)[log 2 - h]."""
    for answers in [*learners(n), *randomised(n, 20)]:
        exact = supersample.enumerated(answers, p)
        a, b = exact.a, exact.b
        nats = (a + b) * (LOG_2 - entropy(a / (a + b))) if a + b > 1e-15 else 0.0
        assert exact.mixture == pytest.approx(nats, abs=1e-12)
        assert exact.gap == pytest.approx(a - b, abs=1e-12)
        assert abs(exact.gap) <= sqrt(2 * exact.mixture) + 1e-12
        assert exact.mixture <= np.mean(exact.counted) + 1e-12


def test_a_learner_that_treats_its_examples_differently_needs_the_mixture():
    """It answers its first bit: pair 0 is known, the others are not."""
    first = np.indices((2, 2, 2))[0].astype(float)
    exact = supersample.enumerated(first)
    assert exact.counted[1] == pytest.approx(0.0, abs=1e-12)
    assert exact.counted[0] > 4 * exact.mixture


@pytest.mark.parametrize("n", [2, 3])
def test_the_family_is_in_order_and_above_the_gap(n):
    for answers in [*learners(n)[:: 2 ** (n - 1)], *randomised(n, 30)]:
        exact = supersample.enumerated(answers, 0.6)
        assert all(abs(exact.gap) <= value + 1e-12 for value in exact.bounds.values())
        for larger, smaller in (("weights", "losses"), ("losses", "differences"), ("differences", "counted")):
            assert all(x >= y - 1e-12 for x, y in zip(getattr(exact, larger), getattr(exact, smaller), strict=True)), (
                larger,
                smaller,
            )
        assert np.allclose(exact.pairs, exact.counted, atol=1e-12)
        assert sum(exact.weights) <= exact.whole + 1e-12
        mean = np.mean(exact.pairs)
        assert exact.test_error <= supersample.binary_kl_bound(exact.train_error, mean) + 1e-9
        assert exact.test_error <= supersample.fast_rate_bound(exact.train_error, mean) + 1e-9


def test_counted_from_runs_is_the_formula_on_means_of_products():
    train, test = [0.1, 0.0, 0.3], [0.4, 0.2, 0.35]
    a = np.mean([0.9 * 0.4, 0.2, 0.7 * 0.35])
    b = np.mean([0.1 * 0.6, 0.0, 0.3 * 0.65])
    found = supersample.counted(train, test)
    assert (found.a, found.b) == pytest.approx((a, b))
    assert found.information == pytest.approx((a + b) * (LOG_2 - entropy(a / (a + b))), rel=1e-10)
    assert found.value == pytest.approx(sqrt(2 * found.information))
    assert found.gap == pytest.approx(np.mean(test) - np.mean(train))
    without = [supersample.counted(np.delete(train, i), np.delete(test, i)).value for i in range(3)]
    assert found.standard_error == pytest.approx(np.std(without) * sqrt(2))
    assert np.isnan(supersample.counted([0.1], [0.2]).standard_error)


def test_counted_agrees_with_enumeration_when_errors_vary_from_sample_to_sample():
    """Errors of every sample, weighted as they occur: the mean of the products, not the product of the means."""
    answers = supersample.majority(3)
    samples = list(product((0, 1), repeat=3))
    train = [np.mean([bit != answers[s] for bit in s]) for s in samples]
    test = [0.5] * len(samples)
    exact = supersample.enumerated(answers, 0.5)
    assert supersample.counted(train, test).information == pytest.approx(exact.mixture, rel=1e-12)


def test_an_interpolating_learner_tells_its_test_error():
    exact = supersample.enumerated(np.array([0.0, 1.0]), 0.3)  # one bit, repeated
    assert exact.train_error == 0
    assert supersample.interpolating_risk(exact.mixture) == pytest.approx(exact.test_error, rel=1e-12)
    assert supersample.counted([0.0], [0.13]).information == pytest.approx(0.13 * LOG_2)
    assert supersample.fast_rate_bound(0.0, 0.13 * LOG_2) == pytest.approx(0.13)


def test_no_gap_no_information():
    found = supersample.counted([0.2, 0.2], [0.2, 0.2])
    assert (found.value, found.gap) == (0, 0)


# --- Forms beyond the root -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("nats", [1e-4, 0.03, 0.3])
def test_forms_solve_their_equations(own, nats):
    test = supersample.binary_kl_bound(own, nats)
    middle = (own + test) / 2
    if test < 1:
        terms = [(own, middle), (1 - own, 1 - middle)]
        assert sum(p * log(p / q) for p, q in terms if p > 0) == pytest.approx(nats, rel=1e-8)
    rho = np.linspace(1e-4, LOG_2 - 1e-9, 200_001)
    grid = ((nats - own * np.log(2 - np.exp(rho))) / rho).min()
    assert supersample.fast_rate_bound(own, nats) == pytest.approx(min(grid, 1), rel=1e-6)


def test_fast_rate_is_an_equality_where_no_pair_is_wrong_on_both_sides():
    a, b = 0.2, 0.03
    nats = (a + b) * (LOG_2 - entropy(a / (a + b)))
    assert supersample.fast_rate_bound(b, nats) == pytest.approx(a, rel=1e-8)
    assert supersample.binary_kl_bound(b, nats) > a


def test_constants_of_the_fast_rate_hold_for_all_losses_in_the_unit_interval():
    x, y = np.meshgrid(*[np.linspace(0, 1, 101)] * 2)
    for rho in (0.01, 0.3, 0.69):
        own = np.log(2 - np.exp(rho))
        tilted = (np.exp(rho * y + own * x) + np.exp(rho * x + own * y)) / 2
        assert tilted.max() <= 1 + 1e-12


def test_bounds_by_hand_and_their_limits():
    assert supersample.bound([0.02, 0.08]) == pytest.approx((0.2 + 0.4) / 2)
    assert supersample.whole_bound(3 * LOG_2, n=3) == pytest.approx(sqrt(2 * LOG_2))


# --- Plug-in ---------------------------------------------------------------------------------------------------------


def naive_plug_in(outcomes, coins):
    m = len(outcomes)
    total = 0.0
    for q in set(outcomes):
        for u in (0, 1):
            both = sum(x == q and c == u for x, c in zip(outcomes, coins, strict=True)) / m
            if both:
                total += both * log(both / (np.mean(outcomes == q) * np.mean(coins == u)))
    return total


def draw(m, n, outcomes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(outcomes, size=(m, n)), rng.integers(2, size=(m, n))


def test_plug_in_is_its_naive_twin_and_its_error_is_the_jackknife():
    outcomes, coins = draw(14, 5, 3)
    found = supersample.information(outcomes, coins)
    naive = [naive_plug_in(outcomes[:, i], coins[:, i]) for i in range(5)]
    assert found.per_example.tolist() == pytest.approx(naive, abs=1e-12)
    assert found.value == pytest.approx(np.mean(naive))
    assert found.bound == pytest.approx(supersample.bound(naive))
    without = [
        np.mean([naive_plug_in(np.delete(outcomes[:, i], j), np.delete(coins[:, i], j)) for i in range(5)])
        for j in range(14)
    ]
    assert found.standard_error == pytest.approx(np.std(without) * sqrt(13), rel=1e-9)


def test_a_coin_that_shows_is_log_2_and_values_need_not_be_numbers_in_order():
    coins = torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]])
    found = supersample.information(coins * 7.5 - 3, coins)
    assert found.per_example.tolist() == pytest.approx([LOG_2, LOG_2])
    assert isnan(found.standard_error)  # without any one of the four, the same H(1/3): no spread to go by
    more = supersample.information(torch.tensor([[0], [1], [1], [0], [1]]), torch.tensor([[0], [1], [1], [0], [1]]))
    without = [entropy(3 / 4) if left == 0 else entropy(1 / 2) for left in (0, 1, 1, 0, 1)]
    assert more.standard_error == pytest.approx(np.std(without) * 2)


def test_two_memberships_show_no_error():
    coins = torch.tensor([[0, 1], [1, 0]])
    found = supersample.information(coins, coins)
    assert found.per_example.tolist() == pytest.approx([LOG_2, LOG_2])
    assert isnan(found.standard_error)
    assert isnan(found.uncertainty)


@pytest.mark.parametrize(
    ("K", "m", "nats", "root"), [(3, 30, 0.037, 0.24), (3, 300, None, 0.072), (10, 30, None, 0.60)]
)
def test_the_bias_of_independent_outcomes_and_its_two_cures(K, m, nats, root):
    found = supersample.information(*draw(m, 2000, K), permutations=3)
    assert found.bound == pytest.approx(root, rel=0.05)
    if nats:
        assert found.value == pytest.approx(nats, rel=0.05)
        assert found.value == pytest.approx((K - 1) / (2 * m), rel=0.15)
    assert found.baseline == pytest.approx(found.value, rel=0.04)
    assert found.baseline_bound == pytest.approx(found.bound, rel=0.04)
    left = abs(found.miller_madow.mean().item()) / found.value
    assert left < 0.15 if K == 3 else 0.4 < left < 0.7  # with many empty cells the correction takes off too little


def test_a_dependence_stands_out_of_the_baseline():
    coins = draw(200, 50, 2)[1]
    noise = np.random.default_rng(1).random(coins.shape) < 0.2
    found = supersample.information(coins ^ noise, coins)
    assert found.value == pytest.approx(LOG_2 - entropy(0.2), rel=0.1)
    assert found.baseline < found.value / 20
    assert supersample.information(coins ^ noise, coins).baseline == found.baseline


def test_codes_tell_lists_apart():
    lists = torch.tensor([[[0, 1], [0, 1]], [[1, 0], [0, 1]]])
    found = supersample.codes(lists)
    assert found.shape == (2, 2)
    assert found[0, 0] == found[0, 1] == found[1, 1] != found[1, 0]


def test_memorisation_is_the_difference_of_error_rates():
    errors = [[1, 0], [0, 0], [1, 1], [1, 0]]
    inside = [[0, 1], [1, 1], [0, 1], [1, 1]]
    found = supersample.memorisation(errors, inside)
    assert found[0].item() == pytest.approx(1 - 1 / 2)
    assert torch.isnan(found[1])


# --- Pairs -----------------------------------------------------------------------------------------------------------


def twelve():
    return Split(torch.arange(12.0)[:, None], torch.arange(12) % 3, 3, "toy", "toy", torch.arange(12))


def test_a_supersample_hands_out_one_of_each_pair():
    pairs = supersample.Supersample.draw(twelve(), 5, seed=0)
    (coins,) = pairs.memberships(1, seed=1)
    sample, ghosts = pairs.sample(coins), pairs.ghosts(coins)
    x = pairs.examples.inputs[:, 0]
    for i, coin in enumerate(coins.tolist()):
        own, ghost = (x[i], x[5 + i]) if coin == 0 else (x[5 + i], x[i])
        assert sample.inputs[i, 0] == own
        assert ghosts.inputs[i, 0] == ghost
    inside = pairs.trained_on(coins[None])[0].bool()
    assert set(x[inside].tolist()) == set(sample.inputs[:, 0].tolist())
    delta = pairs.differences(x[None])[0]
    assert torch.equal(delta, x[5:] - x[:5])
    assert torch.equal(pairs.of_pairs(x[None])[0, :, 1], x[5:])


def test_the_same_seed_makes_the_same_coins_and_leaves_other_generators_alone():
    before = torch.get_rng_state()
    pairs = supersample.Supersample.draw(twelve(), 6, seed=3)
    assert torch.equal(pairs.memberships(40, seed=1), pairs.memberships(40, seed=1))
    supersample.information(*draw(10, 2, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.3 < pairs.memberships(200, seed=1).double().mean() < 0.7


def test_coins_and_losses_come_as_lists_and_arrays():
    pairs = supersample.Supersample.draw(twelve(), 6, seed=0)
    coins = pairs.memberships(3, seed=1)
    for kind in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.bool, lambda c: c.bool().tolist()):
        assert torch.equal(pairs.sample(kind(coins[0])).inputs, pairs.sample(coins[0]).inputs)
        assert torch.equal(pairs.ghosts(kind(coins[0])).inputs, pairs.ghosts(coins[0]).inputs)
        assert torch.equal(pairs.trained_on(kind(coins)), pairs.trained_on(coins))
    values = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pairs.differences(values.tolist()), pairs.differences(values))
    assert torch.equal(supersample.codes(pairs.of_pairs(values).tolist()), supersample.codes(pairs.of_pairs(values)))


def test_rounding_of_single_precision_is_no_error():
    assert supersample.bound(torch.full((3,), LOG_2)) == pytest.approx(sqrt(2 * LOG_2))
    assert supersample.counted([0.0], [1 + 1e-12]).information == pytest.approx(LOG_2)
    assert supersample.counted([-1e-12], [0.5]).b == 0.0
    assert supersample.counted([0.0], [0.1]).a == 0.1  # a list keeps its double precision


def test_a_coin_that_never_falls_otherwise_is_warned_of():
    outcomes, coins = draw(10, 3, 2)
    coins[:, 1] = 1
    with pytest.warns(UserWarning, match="the coin of 1 pairs fell alike in all 10 memberships"):
        assert supersample.information(outcomes, coins).per_example[1] == 0


@pytest.mark.parametrize("risk", [1e-6, 0.1, 0.5, 0.9])
def test_the_fast_rate_without_information_is_no_smaller_than_the_training_risk(risk):
    assert risk <= supersample.fast_rate_bound(risk, 0.0) < risk * (1 + 1e-6)


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: supersample.bound([]), "informations is empty"),
        (lambda: supersample.bound([0.1, -0.1]), "not negative"),
        (lambda: supersample.bound([1.0]), "one fair coin holds 0.693147; check the units"),
        (lambda: supersample.bound(0.1), "one number for each pair, got a float"),
        (lambda: supersample.bound(torch.tensor(0.1)), r"got a Tensor of shape \(\)"),
        (lambda: supersample.bound(torch.zeros(2, 2)), r"got a Tensor of shape \(2, 2\)"),
        (lambda: supersample.bound(supersample.information(*draw(10, 2, 2))), "give its per_example"),
        (lambda: supersample.whole_bound(5.0, n=2), "2 fair coins hold 1.386"),
        (lambda: supersample.counted(None, [0.1]), "train_errors must hold .* got a NoneType"),
        (lambda: supersample.counted([0.1], ["a"]), "test_errors must hold .* got a list"),
        (lambda: supersample.counted((x for x in [0.1]), [0.1]), "got a generator"),
        (lambda: supersample.counted([0.1 + 1j], [0.1]), "got torch.complex"),
        (lambda: supersample.counted([float("nan")], [0.1]), "train_errors must hold"),
        (lambda: supersample.information([[1], [2]], [[0], [1]], seed=-1), "seed must be a whole number"),
        (lambda: supersample.information([[1], [2]], [[0], [1]], seed=1.5), "seed must be a whole number"),
        (
            lambda: supersample.information(np.random.default_rng(0).random((9, 2)), draw(9, 2, 2)[1]),
            "round what is continuous",
        ),
        (lambda: supersample.whole_bound(1.0, n=0), "n must be a whole number"),
        (lambda: supersample.counted([0.1], [0.1, 0.2]), "one training and one test error, got 1 and 2"),
        (lambda: supersample.counted([1.1], [0.1]), "train_errors must hold one 0–1 error"),
        (lambda: supersample.counted([[0.1]], [[0.2]]), r"shape \(k,\)"),
        (lambda: supersample.fast_rate_bound(1.5, 0.1), "divide the loss by its clip"),
        (lambda: supersample.binary_kl_bound(0.5, 0.8), "information is 0.8 nats"),
        (lambda: supersample.information([[1, 2]], [[0, 1]]), "m of at least 2"),
        (lambda: supersample.information([[1], [2]], [[0], [2]]), "memberships must be 0 or 1"),
        (lambda: supersample.information([[1.0], [float("nan")]], [[0], [1]]), "a run diverged"),
        (lambda: supersample.information([[1], [2]], [[0], [1]], permutations=0), "permutations must be"),
        (lambda: supersample.majority(3, flip=1.2), "flip must be a probability"),
        (lambda: supersample.enumerated(np.full((2, 2), 1.5)), "a probability for each sample"),
        (lambda: supersample.enumerated(np.zeros((2,) * 7)), "1 to 6 bits"),
        (lambda: supersample.enumerated(np.zeros((2,)), p=-1), "p must be a probability"),
        (lambda: supersample.Supersample(twelve().take(slice(3))), "an even number of examples, got 3"),
        (lambda: supersample.Supersample(twelve()).sample(torch.zeros(5)), "6 zeros and ones"),
        (lambda: supersample.Supersample(twelve()).ghosts("010101"), "coins must hold numbers, got a str"),
        (lambda: supersample.Supersample("twelve"), "examples must be a data.Split, a Dataset"),
        (lambda: supersample.Supersample(twelve()).differences(torch.ones(1, 6)), "a column for each of the 12 exam"),
    ],
)
def test_refusals_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def four_pairs():
    split = Split(torch.arange(8.0)[:, None], torch.zeros(8, dtype=torch.int64), 2, "made up")
    return supersample.Supersample(split)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_a_difference_of_errors_keeps_its_sign(dtype):
    errors = torch.tensor([[1, 0, 1, 0, 0, 1, 1, 0]], dtype=dtype)
    assert four_pairs().differences(errors).tolist() == [[-1, 1, 0, 0]]
    assert four_pairs().differences((errors != 0).numpy()).tolist() == [[-1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda z: z.differences("10101010"), "values must hold numbers, got a str"),
        (lambda z: z.differences(None), "values must hold numbers, got a NoneType"),
        (lambda z: z.trained_on([[0, 1, 3, 0]]), "memberships must be 0 or 1"),
        (lambda z: z.trained_on([0, 1, 1, 0]), "shape \\(m, n\\) with n = 4"),
        (lambda z: z.trained_on([[0, 1, 1]]), "shape \\(m, n\\) with n = 4"),
        (lambda z: z.sample([0, 1, 1]), "coins must hold 4 zeros and ones"),
        (lambda z: supersample.codes("ab"), "outcomes must hold numbers"),
        (lambda z: supersample.codes([1, 2]), "shape \\(m, n\\) or"),
        (lambda z: supersample.memorisation("ab", [[0], [1]]), "errors must hold numbers"),
        (lambda z: supersample.memorisation([[4.7], [0.0]], [[0], [1]]), "errors must lie in \\[0, 1\\]"),
        (lambda z: supersample.information(torch.ones(2, 1) * 1j, [[0], [1]]), "must hold real numbers"),
        (lambda z: supersample.majority(3, flip="a"), "flip must be a number"),
        (lambda z: supersample.majority(40), "n must be at most 20"),
        (lambda z: supersample.enumerated(supersample.majority(1), p="x"), "p must be a number"),
        (lambda z: supersample.LossDifference([-1, 0, 1], [0.1, 0.5]), "two rows of one length"),
        (lambda z: supersample.LossDifference([-1, 0, 1], [0.1, 0.5, 0.4]).by_range(0.5), "c must be at least"),
    ],
)
def test_what_is_no_table_of_errors_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(four_pairs())


def test_lists_make_a_law_and_its_range_is_no_bound_below_the_gap():
    law = supersample.LossDifference([-1, 0, 1], [0.1, 0.5, 0.4])
    assert law.gap == pytest.approx(0.3)
    assert law.by_range(1) >= law.by_spread >= law.gap


def test_the_fast_rate_of_no_information_is_the_training_risk_itself():
    assert supersample.fast_rate_bound(0.1, 0) == 0.1
    assert supersample.fast_rate_bound(0.1, 1e-12) == pytest.approx(0.1, abs=1e-6)
