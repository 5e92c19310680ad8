import numpy as np
import pytest
from scipy.stats import linregress

from helpers.experiments.trends import Trend, trend


def rows(noise=0.0, seeds=(0,), exponent=-0.5):
    generator = np.random.default_rng(0)
    return [
        {"n": n, "seed": seed, "y": 3.0 * (1 + seed) * n**exponent * np.exp(noise * generator.normal())}
        for seed in seeds
        for n in (10, 20, 40, 80)
    ]


def test_a_power_law_is_found_exactly_whatever_the_groups_level():
    found = trend(rows(seeds=(0, 1, 5)), lambda row: row["y"], "n", within=("seed",))
    assert found.slope == pytest.approx(-0.5, abs=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert found.freedom == 12 - 3 - 1
    assert found.direction == "falls"


def test_one_group_is_ordinary_least_squares():
    noisy = rows(noise=0.3)
    other = linregress(np.log([r["n"] for r in noisy]), np.log([r["y"] for r in noisy]))
    found = trend(noisy, lambda row: row["y"], "n")
    assert found.slope == pytest.approx(other.slope, rel=1e-10)
    assert found.standard_error == pytest.approx(other.stderr, rel=1e-10)


def test_groups_are_dummy_variables():
    noisy = rows(noise=0.2, seeds=(0, 1, 2))
    design = np.array([[np.log(r["n"]), *(r["seed"] == s for s in range(3))] for r in noisy])
    y = np.log([r["y"] for r in noisy])
    beta, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * residual / (12 - 4)
    found = trend(noisy, lambda row: row["y"], "n", within=("seed",))
    assert found.slope == pytest.approx(beta[0], rel=1e-10)
    assert found.standard_error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)


def test_the_interval_covers_as_often_as_it_says():
    inside = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        drawn = [{"n": n, "y": n**0.3 * np.exp(0.2 * generator.normal())} for n in (10, 20, 40, 80)]
        low, high = trend(drawn, lambda row: row["y"], "n").interval
        inside += low <= 0.3 <= high
    assert 0.91 < inside / 400 < 0.99


@pytest.mark.parametrize(("slope", "word"), [(1.0, "rises"), (-1.0, "falls"), (0.1, "unclear")])
def test_a_direction_needs_an_interval_without_zero(slope, word):
    assert Trend(slope, 0.2, 10).direction == word


def test_what_gives_no_trend_is_refused():
    with pytest.raises(ValueError, match="positive"):
        trend(rows(), lambda row: -1.0, "n")
    with pytest.raises(ValueError, match="too few"):
        trend(rows()[:2], lambda row: row["y"], "n")
    with pytest.raises(ValueError, match="too few"):
        trend(rows(seeds=(0, 1)), lambda row: row["y"], "n", within=("n",))
