import numpy as np
import pytest
from scipy.stats import linregress

from helpers.experiments import trends
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


def test_many_intervals_are_wider_and_hold_together():
    one = Trend(1.0, 0.2, 10)
    assert one.interval_among(1) == one.interval
    assert one.interval_among(36)[0] < one.interval[0]
    assert (Trend(0.5, 0.2, 10).direction, Trend(0.5, 0.2, 10).direction_among(36)) == ("rises", "unclear")
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        family = []
        for _ in range(6):
            drawn = [{"n": n, "y": np.exp(0.2 * generator.normal())} for n in (10, 20, 40, 80, 160)]
            low, high = trend(drawn, lambda row: row["y"], "n").interval_among(6)
            family.append(low <= 0 <= high)
        missed += not all(family)
    assert missed / 300 < 0.09
    with pytest.raises(ValueError, match="count must be a whole number"):
        one.interval_among(0)


# --- Which points may be used ---------------------------------------------------------------------

CLEAN = {
    "clipped_share": 0.05, "converged": True, "negative_curvature": False, "noise_to_weight": 1.0,
    "trace_error": 2.0, "trace_term": 4.0, "flatness": 1.0, "value": 4.0,
}  # fmt: skip


def test_a_point_at_every_limit_may_be_used():
    assert trends.warnings(CLEAN) == []
    assert trends.usable(CLEAN)
    assert trends.usable({"noise_to_weight": 0.3})  # an isotropic bound has no solve


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clipped_share": 0.0501}, "more than 5% of examples clipped"),
        ({"converged": False}, "solve not converged"),
        ({"negative_curvature": True}, "negative curvature"),
        ({"noise_to_weight": 1.001}, "noise larger than the weights"),
        ({"noise_to_weight": None}, "noise larger than the weights"),
        ({"noise_to_weight": float("nan")}, "noise larger than the weights"),
        ({"trace_error": 2.01}, "trace error above half the trace term"),
        ({"trace_error": float("nan")}, "trace error above half the trace term"),
        ({"trace_term": None}, "trace error above half the trace term"),
        ({"clipped_share": None}, "more than 5% of examples clipped"),
    ],
)
def test_each_warning_alone_forbids_a_point(change, words):
    assert trends.warnings(CLEAN | change) == [words]
    assert not trends.usable(CLEAN | change)


@pytest.mark.parametrize(("flatness", "may"), [(0.099, True), (0.101, False), (None, False)])
def test_a_poor_trace_matters_only_where_it_moves_the_value(flatness, may):
    """Flatness is proportional to the trace: an error of twice the term moves the value by twice the flatness."""
    assert trends.usable(CLEAN | {"trace_error": 8.0, "flatness": flatness}) is may


def test_a_bound_at_credible_noise_is_the_bound_at_that_sigma():
    """From A / sigma + B sigma^2 + penalty by hand, at the best sigma and at a third of it."""
    A, B, penalty = 3.0, 0.2, 0.5
    best = (A / (2 * B)) ** (1 / 3)
    wild = {
        "A": A, "B": B, "sigma": best, "noise_to_weight": 3.0, "trajectory": A / best, "flatness": B * best**2,
        "penalty": penalty, "information": A / best + B * best**2, "value": A / best + B * best**2 + penalty,
        "holdout_share": 0.1, "train_loss": 2.0, "certificate": 9.0, "gamma": 0.1, "gamma_error": 0.01, "lam": 1.0,
    }  # fmt: skip
    tame = trends.at_credible_noise(wild)
    sigma = best / 3
    assert tame["noise_to_weight"] == 1.0
    assert trends.usable(tame)
    assert tame["information"] == pytest.approx(A / sigma + B * sigma**2, rel=1e-12)
    assert tame["value"] == pytest.approx(A / sigma + B * sigma**2 + penalty, rel=1e-12)
    assert tame["holdout_share"] == pytest.approx(penalty / tame["value"])
    assert tame["certificate"] == pytest.approx(2.0 + tame["value"])
    assert tame["sigma"] == pytest.approx(sigma)
    assert "gamma" not in tame
    assert tame["lam"] == 1.0


def test_an_isotropic_bound_has_no_penalty_and_a_tame_point_stays_as_it_is():
    wild = {"sigma": 2.0, "noise_to_weight": 2.0, "trajectory": 4.0, "flatness": 2.0, "value": 6.0}
    tame = trends.at_credible_noise(wild)
    assert (tame["trajectory"], tame["flatness"], tame["value"]) == (8.0, 0.5, 8.5)
    assert trends.at_credible_noise(tame) is tame
    assert "information" not in tame


@pytest.mark.parametrize("ratio", [None, float("inf"), float("nan")])
def test_a_bound_without_a_best_noise_cannot_be_scaled(ratio):
    with pytest.raises(ValueError, match="best noise is not finite"):
        trends.at_credible_noise({"noise_to_weight": ratio})
    with pytest.raises(ValueError, match="needs noise_to_weight"):
        trends.at_credible_noise({"value": 1.0})


def test_the_tally_counts_points_and_reasons():
    points = [CLEAN, CLEAN | {"converged": False}, CLEAN | {"converged": False, "noise_to_weight": 9.0}]
    assert trends.tally(points) == (
        "1 of 3 points carry no warning (2 solve not converged; 1 noise larger than the weights)"
    )
    assert trends.tally([CLEAN]) == "1 of 1 points carry no warning"


def test_what_is_no_bound_cannot_be_judged():
    with pytest.raises(ValueError, match="needs noise_to_weight to be judged, got value"):
        trends.warnings({"value": 1.0})


def test_levels_are_geometric_means_over_everything_else() -> None:
    rows = [{"b": b, "y": y} for b, y in [(20, 1.0), (5, 2.0), (20, 4.0)]]
    settings, means = trends.levels(rows, lambda row: row["y"], "b")
    assert settings == [5, 20]
    assert means == pytest.approx([2.0, 2.0])
    with pytest.raises(ValueError, match="positive"):
        trends.levels([{"b": 1, "y": 0.0}], lambda row: row["y"], "b")
