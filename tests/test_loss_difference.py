"""The supersample bound where the law of a pair's loss difference is known, against closed forms."""

import numpy as np
import pytest

from helpers.supersample import LossDifference, bound, counted

LOG_2 = np.log(2)


def zero_one(a, b):
    """The law for the 0–1 loss: the ghost alone is wrong with probability a, the training example alone with b."""
    return LossDifference(np.array([-1.0, 0.0, 1.0]), np.array([b, 1 - a - b, a]))


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.0), (0.25, 0.1), (0.5, 0.5)])
def test_for_errors_it_is_the_count(a, b):
    law = zero_one(a, b)
    shares = np.array([a, b]) / (a + b)
    nats = (a + b) * (LOG_2 + sum(p * np.log(p) for p in shares if p > 0))
    assert law.gap == pytest.approx(a - b)
    assert law.information == pytest.approx(nats, abs=1e-14)
    assert law.by_range(1.0) == pytest.approx(bound([nats]), abs=1e-7)


def test_it_agrees_with_the_counting_theorem():
    exact = counted([0.1, 0.1], [0.4, 0.4])  # independent errors: a = .9 * .4, b = .1 * .6
    assert zero_one(0.36, 0.06).information == pytest.approx(exact.information, abs=1e-12)


def test_by_spread_of_two_values_in_closed_form():
    """D = +-c with probability (1 +- t) / 2: the minimum over rho is at tanh(rho c) = t and gives c t, the gap."""
    c, t = 0.7, 0.4
    law = LossDifference(np.array([-c, c]), np.array([1 - t, 1 + t]) / 2)
    assert law.by_spread == pytest.approx(c * t, rel=1e-7)
    assert law.by_spread == pytest.approx(law.gap, rel=1e-7)
    assert law.by_range(c) > law.by_spread


def test_by_spread_is_never_above_by_range_nor_below_the_gap():
    drawn = np.random.default_rng(0)
    values = np.linspace(-1, 1, 21)
    for _ in range(20):
        law = LossDifference(values, drawn.dirichlet(np.ones(21)))
        assert abs(law.gap) <= law.by_spread <= law.by_range(1.0)


def test_no_information_costs_nothing():
    even = LossDifference(np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    assert even.information == 0
    assert even.by_range(1.0) == 0
    assert even.by_spread == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "probabilities", "words"),
    [
        ([-1.0, 2.0], [0.5, 0.5], "symmetric about 0"),
        ([-1.0, 1.0], [0.5, 0.6], "sum to 1"),
        ([-1.0, 1.0], [-0.5, 1.5], "at least 0"),
    ],
)
def test_what_is_no_law_is_refused(values, probabilities, words):
    with pytest.raises(ValueError, match=words):
        LossDifference(np.array(values), np.array(probabilities))


def test_a_range_must_be_positive():
    with pytest.raises(ValueError, match="c must be"):
        zero_one(0.2, 0.1).by_range(0.0)
