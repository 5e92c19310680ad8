"""The accuracy that the random traces of the surrogate are given."""

from math import inf, isnan

import pytest
import torch
from instances import CLIPPED, network, sample

from helpers import curvature, models, omniscient
from helpers.omniscient.surrogate import Solver, allowed_error, solve_dense

MODEL, TRAIN, HELD_OUT = network(width=100), sample(60), sample(50, seed=1)
EXACT = curvature.trace_difference(MODEL, CLIPPED, TRAIN, HELD_OUT, method="exact").value


def solver(**changes):
    return Solver(**changes).settled(twice(MODEL))


def twice(model):
    return omniscient.Runs([model, model], [TRAIN, TRAIN], CLIPPED)


def test_a_trace_method_that_was_chosen_is_used():
    assert Solver(trace_method="hutchinson").settled(twice(network())).trace_method == "hutchinson"
    with pytest.raises(ValueError, match="there is no trace_method 'nonsense'; choose auto, exact, gauss-newton"):
        Solver(trace_method="nonsense")


def test_the_trace_method_is_settled_once():
    assert solver().trace_method == "gauss-newton"
    assert solver(method="exact").trace_method == "exact"
    assert Solver().settled(twice(network())).trace_method == "exact"


@pytest.mark.parametrize("t", [0.0, -3.0, 50.0])
@pytest.mark.parametrize(("factor", "penalty"), [(1.0, 0.0), (0.3, 2.0), (1e-3, 0.5)])
def test_the_allowed_error_moves_the_value_by_its_tolerance(t, factor, penalty):
    s = allowed_error(t, factor=factor, penalty=penalty, rtol=0.02)
    moved = factor * (abs(t) + s) ** (1 / 3) + penalty
    assert moved == pytest.approx(1.02 * (factor * abs(t) ** (1 / 3) + penalty), rel=1e-12)
    assert allowed_error(t, factor=0.0, penalty=penalty, rtol=0.02) == inf


@pytest.mark.parametrize(("factor", "penalty"), [(1.0, 0.0), (1.0, 2.0), (0.3, 5.0)])
def test_a_trace_is_as_accurate_as_the_value_needs(factor, penalty):
    term = solver(value_rtol=0.05).trace_term(MODEL, CLIPPED, TRAIN, HELD_OUT, factor=factor, penalty=penalty)
    value = factor * abs(term.value) ** (1 / 3) + penalty
    worse = factor * (abs(term.value) + term.standard_error) ** (1 / 3) + penalty
    assert worse <= 1.05 * value * (1 + 1e-12)
    assert abs(term.value - EXACT) <= 4 * term.standard_error + 1e-9 * abs(EXACT)


def test_where_information_is_negligible_two_samples_do():
    settled = solver(value_rtol=1e-3)
    terms = [settled.trace_term(MODEL, CLIPPED, TRAIN, HELD_OUT, factor=f, penalty=1.0) for f in (0.0, 1e-5, 1.0)]
    assert [term.probes for term in terms[:2]] == [2, 2]
    assert terms[2].probes > 2 or terms[2].standard_error == 0


def test_without_held_out_data_it_is_the_training_trace():
    term = solver().trace_term(MODEL, CLIPPED, TRAIN, None, factor=inf, penalty=0.0)
    exact = curvature.trace(MODEL, CLIPPED, TRAIN, method="exact").value
    assert abs(term.value - exact) <= 4 * term.standard_error + 1e-9 * exact


def test_sketched_values_are_within_their_tolerance_of_exact_ones():
    ensemble = [network(width=100, seed=s) for s in range(3)]
    parts = [sample(40, seed=s) for s in range(5)]
    arguments = {"loss": CLIPPED, "lambdas": [1.0, 100.0, 1e6]}
    exact, sketched = (
        omniscient.estimate(ensemble, parts[:3], *parts[3:], method=method, rtol=1e-10, **arguments)
        for method in ("exact", "krylov")
    )
    for a, b in zip(exact, sketched, strict=True):
        assert a.trace_error == 0
        assert b.penalty == pytest.approx(a.penalty, rel=0.1)  # C comes from a sketched trace
        assert b.value == pytest.approx(a.value, rel=0.08)


def test_a_tolerance_must_be_positive():
    with pytest.raises(ValueError, match="value_rtol must be a finite number above zero"):
        Solver(value_rtol=0.0)


def test_the_surrogate_may_see_a_part_of_each_sample():
    """Delta is that of the first examples, with the n of the whole sample; what it costs is measured on all."""
    model, part = network(seed=3), TRAIN.take(slice(20))
    centre, g = 0 * models.weights(model), curvature.gradient(model, CLIPPED, HELD_OUT)
    by_solver, by_hand = (
        omniscient.solve_path(model, data, centre, g, loss=CLIPPED, lambdas=[10.0], solver=chosen)[0]
        for data, chosen in ((TRAIN, Solver(examples=20, trace_method="exact")), (part, Solver(trace_method="exact")))
    )
    ratio = by_solver.C / by_hand.C
    assert ratio == pytest.approx((20 / 60) ** (1 / 3), rel=1e-12)
    shifted = omniscient.solve_path(
        model, part, centre, g, loss=CLIPPED, lambdas=[10.0 * (20 / 60) ** (1 / 3)], solver=Solver(trace_method="exact")
    )[0]
    assert torch.allclose(by_solver.offset, shifted.offset, rtol=1e-10, atol=0)
    assert torch.equal(Solver().seen(TRAIN).inputs, TRAIN.inputs)


def test_the_flatness_term_is_measured_at_its_noise():
    ensemble = [network(seed=s) for s in range(3)]
    parts = [sample(40, seed=s) for s in range(5)]
    arguments = {"loss": CLIPPED, "lambdas": [10.0], "steps": 3}
    (plain,) = omniscient.estimate(ensemble, parts[:3], *parts[3:], **arguments)
    (row,) = omniscient.estimate(ensemble, parts[:3], *parts[3:], draws=50, seed=7, **arguments)
    assert isnan(plain.gamma)
    assert isnan(plain.gamma_error)
    runs = omniscient.Runs(ensemble, parts[:3], CLIPPED)
    centres = omniscient.leave_one_out(runs.weights)
    differences = []
    for i, (model, train) in enumerate(runs):
        g = curvature.gradient(model, CLIPPED, parts[3])
        path = omniscient.solve_path(
            model, train, centres[i], g, loss=CLIPPED, lambdas=[10.0], solver=Solver(trace_method="exact")
        )
        place = centres[i] + path[0].offset
        generator = torch.Generator().manual_seed(7000 + i)

        def F(at, model=model, train=train):
            with models.at(model, at):
                on_train, held_out = (
                    curvature.values(model, CLIPPED, split).double().mean().item() for split in (train, parts[4])
                )
            return on_train - held_out

        for _ in range(50):
            noise = torch.randn(place.shape, generator=generator, dtype=place.dtype)
            differences.append(F(place + row.sigma * 3**0.5 * noise) - F(place))
    differences = torch.tensor(differences, dtype=torch.float64)
    assert row.gamma == pytest.approx(abs(differences.mean().item()), rel=1e-9)
    assert row.gamma_error == pytest.approx(differences.std().item() / 150**0.5, rel=1e-9)


def test_runs_of_unequal_samples_are_refused():
    with pytest.raises(ValueError, match=r"\[60, 50\] examples, but n is one number"):
        omniscient.Runs([MODEL, MODEL], [TRAIN, HELD_OUT], CLIPPED)


def test_a_solver_and_its_settings_at_once_are_refused():
    parts = [sample(20, seed=s) for s in range(4)]
    with pytest.raises(ValueError, match="either solver= or its settings, not both; got solver and seed"):
        omniscient.estimate([MODEL, MODEL], parts[:2], *parts[2:], loss=CLIPPED, lambdas=1.0, solver=Solver(), seed=1)
    with pytest.raises(ValueError, match="examples must be a whole number"):
        Solver(examples=0)


def test_a_system_with_one_negative_direction_is_indefinite():
    solved = solve_dense(torch.diag(torch.tensor([-1.0, 2.0, 3.0])), torch.ones(3), [0.0, 2.0])
    assert solved.negative_curvature.tolist() == [True, False]
    assert Solver().is_exact(700)
    assert not Solver().is_exact(701)


def test_zero_curvature_is_a_result_that_an_experiment_records():
    """``machinery.worker`` goes on with the grid where an error says so."""
    assert omniscient.Degenerate("zero curvature").degenerate is True


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_a_dense_solution_leaves_no_residual(shift):
    H = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    solved = solve_dense(H, torch.ones(3).double(), [shift])
    torch.testing.assert_close(solved.solutions[0], 1 / (H.diag() + shift))
    assert solved.residuals.item() < 1e-14


def test_without_held_out_data_the_trace_is_as_exact_as_the_value_needs():
    """Where the penalty is all of the value, two probes are enough; where the trace is, they are not."""
    rough, fine = (
        Solver(trace_method="hutchinson").trace_term(MODEL, CLIPPED, TRAIN, None, factor=1.0, penalty=penalty)
        for penalty in (1e6, 0.0)
    )
    assert rough.probes < fine.probes
    assert rough.method == fine.method == "hutchinson"
    assert Solver().value_rtol == 0.02
