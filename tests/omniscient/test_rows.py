"""How the runs' own reports are put together in a row, and that the roles of the samples are checked everywhere."""

import pytest
import torch
from instances import CLIPPED, network, sample

from helpers import curvature, models, omniscient
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


def test_the_error_of_the_traces_is_that_of_their_mean_over_runs():
    ensemble, train, _, val2 = instance()
    runs = omniscient.Runs(ensemble, train, CLIPPED)
    centres = omniscient.leave_one_out(runs.weights)
    report = {"C": 1.0, "residual": 0.0, "converged": True, "negative_curvature": False}
    paths = [[Perturbation(w - c, **report)] for w, c in zip(runs.weights, centres, strict=True)]
    found = []

    class Noted(Solver):
        def trace_term(self, *arguments, factor, penalty, **others):
            found.append((factor, super().trace_term(*arguments, factor=factor, penalty=penalty, **others)))
            return found[-1][1]

    solver = Noted("krylov", trace_method="hutchinson", most_probes=4)
    (row,) = measured_rows(runs, val2, centres, paths, lambdas=[2.0], steps=3, solver=solver)
    errors = [trace.standard_error for _, trace in found]
    assert row.trace_error == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2)
    offsets = (runs.weights - centres).square().sum(1)
    for (factor, _), offset, split in zip(found, offsets, train, strict=True):
        assert factor == pytest.approx(1.5 * (CLIPPED.R**2 / len(split) * offset.item()) ** (1 / 3))
    size = runs.weights.norm(dim=1).mean().item()
    assert row.noise_to_weight == pytest.approx(row.sigma * (3 * runs.weights.shape[1]) ** 0.5 / size)


def test_one_step_unless_more_are_told():
    ensemble, train, _, _ = instance()
    runs, solver = omniscient.Runs(ensemble, train, CLIPPED), Solver("exact")
    (told,) = omniscient.self_certified_on(runs, lambdas=[2.0], steps=1, solver=solver)
    (silent,) = omniscient.self_certified_on(runs, lambdas=[2.0], solver=solver)
    (by_models,) = omniscient.self_certified(ensemble, train, loss=CLIPPED, lambdas=[2.0], solver=solver)
    assert told.sigma == silent.sigma == by_models.sigma
    _, _, val, val2 = instance()
    (told,) = omniscient.estimate_on(runs, val, val2, lambdas=[2.0], steps=1, solver=solver)
    (silent,) = omniscient.estimate_on(runs, val, val2, lambdas=[2.0], solver=solver)
    (by_models,) = omniscient.estimate(ensemble, train, val, val2, loss=CLIPPED, lambdas=[2.0], solver=solver)
    assert told.sigma == silent.sigma == by_models.sigma
    moved = torch.stack([models.weights(network(seed=seed)) for seed in (4, 5)])
    told, silent = (
        omniscient.evaluate(ensemble, train, val2, moved, loss=CLIPPED, solver=solver, **steps)
        for steps in ({"steps": 1}, {})
    )
    assert told.sigma == silent.sigma


def test_runs_have_one_degree_of_freedom_less():
    ensemble, train = [network(seed=seed) for seed in range(3)], [sample(20, seed=seed) for seed in (0, 1, 5)]
    val2 = sample(30, seed=3)
    found = omniscient.gap(ensemble, train, val2, loss=CLIPPED)
    trained, tested = (
        torch.stack([curvature.values(model, CLIPPED, split) for model, split in pairs])
        for pairs in (zip(ensemble, train, strict=True), ((model, val2) for model in ensemble))
    )
    over_runs = (tested.mean(1) - trained.mean(1)).var().item() / 3
    over_examples = tested.mean(0).var().item() / len(val2)
    assert found.freedom == pytest.approx(curvature.pooled_freedom([over_runs, over_examples], [2, len(val2) - 1]))
