from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from helpers import convex, excess_risk


class PiecewiseLinear:
    """l(w, z) = max_k(<a_zk, w> + b_zk) on the box [-1, 1]^2, z uniform over four values: minimised exactly."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.a, self.b = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3))

    def losses(self, w: np.ndarray) -> np.ndarray:
        return (self.a @ w + self.b).max(1)

    def minimiser(self, weights: np.ndarray) -> np.ndarray:
        """argmin sum_z weights_z l(w, z): a linear program in w and one level for each z."""
        rows = np.concatenate([self.a.reshape(12, 2), -np.repeat(np.eye(4), 3, axis=0)], axis=1)
        found = linprog(
            np.r_[0, 0, weights], A_ub=rows, b_ub=-self.b.ravel(), bounds=[(-1, 1)] * 2 + [(None, None)] * 4
        )
        return found.x[:2]

    def lipschitz(self) -> float:
        return np.linalg.norm(self.a, axis=2).max()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.3, 1.0, "away"])
def test_no_learner_of_a_convex_problem_is_above_the_ceiling_or_an_optimiser_below_the_floor(seed, share):
    """All 4^3 samples; the learner goes a share of the way to the training minimiser, or to a corner of the box."""
    problem, n = PiecewiseLinear(seed), 3
    uniform = np.full(4, 1 / 4)
    best = problem.minimiser(uniform)
    gaps, excesses, distances, above = [], [], [], []
    for sample in product(range(4), repeat=n):
        counts = np.bincount(sample, minlength=4) / n
        target = problem.minimiser(counts)
        w = -np.sign(target) if share == "away" else best + share * (target - best)
        population, training = uniform @ problem.losses(w), counts @ problem.losses(w)
        gaps.append(population - training)
        excesses.append(population - uniform @ problem.losses(best))
        distances.append(np.sum((w - best) ** 2))
        above.append(training - counts @ problem.losses(target))
    gap, excess = np.mean(gaps), max(np.mean(excesses), 0.0)
    top = excess_risk.ceiling(excess, dispersion=problem.lipschitz() ** 2, squared_distance=np.mean(distances), n=n)
    assert gap <= top
    assert gap >= excess_risk.floor(excess, suboptimality=max(np.mean(above), 0.0)) - 1e-9


@pytest.mark.parametrize("n", [1, 5, 12])
def test_the_ceiling_is_attained_by_a_linear_loss(n):
    """l = w z, z = +-1, W = -2 mean(S): every risk by the binomial distribution."""
    heads = np.arange(n + 1)
    p = np.array([comb(n, k) for k in heads]) / 2.0**n
    mean = 2 * heads / n - 1
    W = -2 * mean
    gap = -(p @ (W * mean))
    assert gap == pytest.approx(excess_risk.ceiling(0.0, dispersion=1.0, squared_distance=p @ W**2, n=n), rel=1e-12)


@pytest.mark.parametrize("n", [16, 256])
def test_the_construction_of_chapter_12_attains_it_too(n):
    problem = convex.Construction(n, n)
    found = excess_risk.ceiling(0.0, dispersion=1 / 2, squared_distance=1 / 32, n=n)
    assert found == pytest.approx(problem.gap, rel=1e-12)


def test_squared_loss_by_hand():
    """l = (w - z)^2 / 2, W = mean(S), Var Z = 1: gap 1/n, excess 1/2n, suboptimality 0, distance 1/n."""
    n = 7
    assert excess_risk.ceiling(0.5 / n, dispersion=1.0, squared_distance=1 / n, n=n) == pytest.approx(1.5 / n)
    assert excess_risk.floor(0.5 / n, suboptimality=0.0) <= 1 / n


def test_worst_coordinate_by_simulation():
    problem = excess_risk.WorstCoordinate(n=4, d=30, delta=0.5)
    z = (torch.rand(20_000, 5, 30, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    sample, fresh = z[:, :4], z[:, 4]
    W = problem.learn(sample)
    training, population = problem.loss(W[:, None], sample).mean(1), problem.loss(W, fresh)
    for found, exact in ((training, problem.training_risk), (population, problem.excess)):
        assert abs(found.mean() - exact) < 4 * found.std() / sqrt(len(found))
    assert set(W.norm(dim=1).tolist()) == {0.0, 1.0}
    assert problem.gap == pytest.approx(problem.excess - problem.training_risk)


def test_worst_coordinate_has_a_convex_1_lipschitz_loss_in_0_1():
    generator = torch.Generator().manual_seed(0)
    problem = excess_risk.WorstCoordinate(n=1, d=6, delta=0.3)
    u, v = (torch.randn(1000, 6, generator=generator) for _ in range(2))
    u, v = (w / w.norm(dim=1, keepdim=True).clamp(min=1) for w in (u, v))
    z = (torch.rand(1000, 6, generator=generator) < 0.3).float()
    at_u, at_v, between = (problem.loss(w, z) for w in (u, v, (u + v) / 2))
    assert (between <= (at_u + at_v) / 2 + 1e-6).all()
    assert ((at_u - at_v).abs() <= (u - v).norm(dim=1) + 1e-6).all()
    assert at_u.min() >= 0
    assert at_u.max() <= 1


@pytest.mark.parametrize("n", [4, 16, 100])
def test_an_excess_of_one_over_root_n_and_a_gap_near_minus_one(n):
    problem = excess_risk.WorstCoordinate.wide_enough(n, 1 / sqrt(n))
    assert problem.found == pytest.approx(0.99, abs=0.005)
    assert problem.found >= 0.99 - 1e-9
    assert problem.excess <= 1 / sqrt(n)
    assert problem.gap <= 0.99 * (1 / sqrt(n) - 1) + 1e-9
    assert problem.gap >= excess_risk.floor(problem.excess, suboptimality=problem.training_risk) - 1e-12


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="delta must lie inside"):
        excess_risk.WorstCoordinate(3, 5, 1.0)
    with pytest.raises(ValueError, match="d must be a whole number"):
        excess_risk.WorstCoordinate(3, 0, 0.5)
    with pytest.raises(ValueError, match="take a larger delta or a smaller n"):
        excess_risk.WorstCoordinate.wide_enough(1000, 0.1)
    with pytest.raises(ValueError, match="excess must be"):
        excess_risk.ceiling(-1.0, dispersion=1.0, squared_distance=1.0, n=1)
    with pytest.raises(ValueError, match="n must be a whole number"):
        excess_risk.ceiling(1.0, dispersion=1.0, squared_distance=1.0, n=0)
    with pytest.raises(ValueError, match="suboptimality must be"):
        excess_risk.floor(1.0, suboptimality=float("inf"))


@pytest.mark.parametrize(("n", "delta", "failure"), [(10, 1.0, 0.01), (10, 0.0, 0.01), (10, 0.5, 1.0), (10, 0.5, 0.0)])
def test_probabilities_at_the_edge_of_a_wide_problem_are_refused(n, delta, failure):
    with pytest.raises(ValueError, match=r"delta and failure must lie inside \(0, 1\)"):
        excess_risk.WorstCoordinate.wide_enough(n, delta, failure=failure)


def test_a_wide_problem_needs_whole_examples():
    with pytest.raises(ValueError, match="n must be a whole number"):
        excess_risk.WorstCoordinate.wide_enough(2.5, 0.5)
