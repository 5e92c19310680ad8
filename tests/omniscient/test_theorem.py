"""The omniscient bound as an inequality, where every term has a closed form: a mean of Gaussian data and |w - z|."""

import math

import numpy as np
import pytest

C = math.sqrt(2 / math.pi)


def deviation(a: float, tau: float, n: int, s: float) -> float:
    """E[L_S(V) - L_mu(V)] of V = a mean(S) + N(0, tau^2): both residuals V - Z are Gaussian."""
    fresh = s**2 * (1 + a**2 / n) + tau**2
    return C * (math.sqrt(fresh - 2 * a * s**2 / n) - math.sqrt(fresh))


def terms(theta: float, tau: float, n: int, s: float) -> tuple[float, float, float]:
    """Information, penalty and flatness for W = mean(S), Delta = -theta W, centre 0; R = s for this loss."""
    a = 1 - theta
    information = s * math.sqrt(a**2 * s**2 / n / n) / tau
    penalty = abs(deviation(a, 0.0, n, s) - deviation(1.0, 0.0, n, s))
    flatness = abs(deviation(a, tau, n, s) - deviation(a, 0.0, n, s))
    return information, penalty, flatness


@pytest.mark.parametrize(("n", "s"), [(5, 1.0), (10, 2.0), (200, 0.5)])
def test_the_sum_of_the_terms_is_above_the_gap(n: int, s: float) -> None:
    """For every perturbation and every noise, and for a perturbation that overshoots."""
    gap = -deviation(1.0, 0.0, n, s)
    for theta in np.linspace(-0.5, 1.5, 21):
        for tau in np.logspace(-3, 3, 31):
            assert sum(terms(theta, tau, n, s)) >= gap * (1 - 1e-12)


@pytest.mark.parametrize("left_out", range(3))
def test_no_term_can_be_left_out(left_out: int) -> None:
    """Without any one of the three some choice of perturbation and noise is below the gap."""
    n, s = 10, 1.0
    gap = -deviation(1.0, 0.0, n, s)
    least = min(
        sum(value for i, value in enumerate(terms(theta, tau, n, s)) if i != left_out)
        for theta in np.linspace(0, 1, 21) for tau in np.logspace(-3, 3, 31)
    )  # fmt: skip
    assert least < 0.9 * gap


def test_the_gap_is_its_infimum() -> None:
    """The whole perturbation leaves the penalty alone, and the penalty is the gap: tightness says nothing."""
    gap = -deviation(1.0, 0.0, 10, 1.0)
    information, penalty, flatness = terms(1.0, 1.0, 10, 1.0)
    assert (information, penalty, flatness) == pytest.approx((0.0, gap, 0.0), abs=1e-15)
