"""How the runs' own reports are put together in a row, and that the roles of the samples are checked everywhere."""

import pytest
import torch
from instances import CLIPPED, network, sample

from helpers import models, omniscient
from helpers.omniscient.rows import measured_rows
from helpers.omniscient.surrogate import Perturbation, Solver


def instance():
    """Two networks on samples of their own, and two held-out samples."""
    ensemble = [network(seed=seed) for seed in (0, 1)]
    return ensemble, [sample(20, seed=0), sample(20, seed=1)], sample(30, seed=2), sample(30, seed=3)


def row_of(*found):
    ensemble, train, _, val2 = instance()
    runs = omniscient.Runs(ensemble, train, CLIPPED)
    centres = omniscient.leave_one_out(runs.weights)
    paths = [[Perturbation(w - c, **report)] for w, c, report in zip(runs.weights, centres, found, strict=True)]
    (row,) = measured_rows(runs, val2, centres, paths, lambdas=[2.0], steps=1, solver=Solver("exact").settled(runs))
    return row


def test_a_row_reports_the_worst_solve_and_means_of_the_rest():
    good = {"C": 1.0, "residual": 0.1, "converged": True, "negative_curvature": False}
    bad = {"C": 4.0, "residual": 0.3, "converged": False, "negative_curvature": True}
    for pair in ((good, bad), (bad, good)):
        row = row_of(*pair)
        assert (row.residual, row.converged, row.negative_curvature) == (0.3, False, True)
        assert row.C == 2.5
    assert (row_of(good, good).converged, row_of(good, good).negative_curvature) == (True, False)


def test_noise_is_infinitely_larger_than_weights_of_zero():
    """Not a division by zero: W = 0 in both runs, Delta is not."""
    ensemble, train, _, val2 = instance()
    for model in ensemble:
        models.set_weights(model, torch.zeros_like(models.weights(model)))
    moved = torch.stack([models.weights(network(seed=seed)) for seed in (4, 5)])
    row = omniscient.evaluate(ensemble, train, val2, moved, loss=CLIPPED, method="exact")
    assert row.noise_to_weight == float("inf")
    assert 0 < row.value < float("inf")


def test_roles_that_overlap_are_refused_by_every_bound():
    ensemble, train, val, val2 = instance()
    zeros = torch.zeros(2, len(models.weights(ensemble[0]))).double()
    calls = [
        lambda: omniscient.estimate(ensemble, train, val, val, loss=CLIPPED, lambdas=[1.0]),
        lambda: omniscient.estimate(ensemble, train, train[0], val2, loss=CLIPPED, lambdas=[1.0]),
        lambda: omniscient.estimate(ensemble, train, val, train[1], loss=CLIPPED, lambdas=[1.0]),
        lambda: omniscient.self_certified(ensemble, [train[0], train[0]], loss=CLIPPED, lambdas=[1.0]),
        lambda: omniscient.evaluate(ensemble, train, train[1], zeros, loss=CLIPPED),
        lambda: omniscient.evaluate(ensemble, [train[0], train[0]], val2, zeros, loss=CLIPPED),
        lambda: omniscient.gap(ensemble, train, train[1], loss=CLIPPED),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"share (20|30) examples"):
            call()
