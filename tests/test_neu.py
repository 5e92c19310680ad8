"""Neu et al.: quadratics, where sensitivity and residual are exact; the estimators and their standard
errors."""

import math

import numpy as np
import pytest
import torch
from golden import GOLDEN
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import curvature, neu, xu_raginsky
from helpers.curvature import Estimate
from helpers.data import Split
from helpers.losses import HalfSquaredError
from helpers.models import weights
from helpers.wang_mao.information import LinearChain

H = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.2]], dtype=torch.float64)
W = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
SEEDS = 200


def gradient(w):
    return H @ w


def risk(w):
    return float(w @ H @ w) / 2


def split(n=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    return Split(x, torch.randn(n, generator=g, dtype=torch.float64), 0, "linear-Gaussian")


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 1, bias=False).double().eval()


def check_estimates(estimates, truth):
    """Unbiased within 4 standard errors over the seeds, and the reported standard error right within 20 %."""
    values = np.array([estimate.value for estimate in estimates])
    spread = values.std(ddof=1)
    assert abs(values.mean() - truth) < 4 * spread / math.sqrt(len(values))
    reported = math.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert reported == pytest.approx(spread, rel=0.2)


# --- The bound ----------------------------------------------------------------------------------------------


def test_the_bound_is_the_formula():
    total = (0.1 / 0.5) ** 2 * (0.2 + 0.7) + (0.3 / 0.4) ** 2 * (0.6 + 0.1)
    for constant in (1.0, 2.0, 4.0, 8.0):
        found = neu.bound([0.2, 0.6], [0.7, 0.1], [0.1, 0.3], [0.5, 0.4], n=50, R=3.0, constant=constant)
        assert found == pytest.approx(math.sqrt(constant * 9 / 50 * total), abs=1e-14)


def test_the_default_constant_is_two():
    case = ([0.2], [0.7], [0.1], [0.5])
    assert neu.bound(*case, n=50, R=3.0) == neu.bound(*case, n=50, R=3.0, constant=2.0)


def test_the_bound_of_the_chain():
    # theory, section 4: the last column of the chain sums to 5.67 nats
    chain = LinearChain()
    psi = [t * chain.sigma**2 for t in range(6)]
    found = neu.bound(psi, [0.5] * 6, chain.lr, chain.sigma, n=6, R=1.0)
    assert found == pytest.approx(math.sqrt(2 / 6 * 5.67), abs=1e-12)
    assert found == pytest.approx(xu_raginsky.bound(sum(chain.neu), n=6, R=1.0), abs=1e-12)


pairs = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=9)


@given(pairs, st.floats(0.01, 1), st.floats(0.01, 10), st.floats(1, 10))
def test_scaling_and_monotonicity(steps, lr, sigma, factor):
    psi, spread = zip(*steps, strict=True)
    value = neu.bound(psi, spread, lr, sigma, n=50, R=2.0)
    assert neu.bound(psi, spread, lr, sigma, n=200, R=2.0) == pytest.approx(value / 2)
    assert neu.bound(psi, spread, lr, sigma, n=50, R=2.0 * factor) == pytest.approx(factor * value)
    assert neu.bound(psi, spread, factor * lr, factor * sigma, n=50, R=2.0) == pytest.approx(value)
    assert neu.bound(psi, spread, factor * lr, sigma, n=50, R=2.0) == pytest.approx(factor * value)
    assert neu.bound([factor * p for p in psi], spread, lr, sigma, n=50, R=2.0) >= value * (1 - 1e-12)
    assert neu.bound(psi[::-1], spread[::-1], lr, sigma, n=50, R=2.0) == pytest.approx(value)


# --- Sensitivity --------------------------------------------------------------------------------------------


def test_the_sensitivity_of_a_quadratic():
    truth = 0.3 * float(H.square().sum())
    estimates = [neu.sensitivity(gradient, W, 0.3, draws=40, seed=seed) for seed in range(SEEDS)]
    check_estimates(estimates, truth)
    assert {estimate.probes for estimate in estimates} == {40}


def test_the_golden_sensitivity():
    # Psi per unit of variance is ||Sigma||_F^2, here for eigenvalues 0.1, 0.25, 0.5, 1 and 2.
    Sigma = torch.diag(torch.tensor([0.1, 0.25, 0.5, 1.0, 2.0], dtype=torch.float64))
    assert float(Sigma.square().sum()) == pytest.approx(5.3225, abs=1e-12)
    if not (GOLDEN / "linear.npz").is_file():
        pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
    Sigma = torch.from_numpy(np.load(GOLDEN / "linear.npz")["Sigma"])
    assert float(Sigma.square().sum()) == pytest.approx(5.3225, abs=1e-10)
    w = torch.zeros(5, dtype=torch.float64)
    found = neu.sensitivity(lambda v: Sigma @ v, w, 1.0, draws=4000, seed=0)
    assert abs(found.value - 5.3225) < 4 * found.standard_error


def test_the_sensitivity_does_not_depend_on_where_a_quadratic_is():
    here = neu.sensitivity(gradient, W, 0.3, draws=5, seed=1)
    there = neu.sensitivity(gradient, W + 3, 0.3, draws=5, seed=1)
    assert here.value == pytest.approx(there.value, abs=1e-12)


def test_the_sensitivity_by_a_loop():
    generator = torch.Generator().manual_seed(7)
    squares = []
    for _ in range(6):
        zeta = 0.4 * torch.randn(3, generator=generator, dtype=torch.float64)
        squares.append(float((gradient(W + zeta) - gradient(W)).square().sum()))
    found = neu.sensitivity(gradient, W, 0.16, draws=6, seed=7)
    assert found.value == pytest.approx(np.mean(squares), abs=1e-12)
    assert found.standard_error == pytest.approx(np.std(squares, ddof=1) / math.sqrt(6), abs=1e-12)


def test_no_noise_no_sensitivity():
    assert neu.sensitivity(gradient, W, 0.0, draws=5, seed=0) == Estimate(0.0, 0.0, 0, "exact")


def test_sensitivities_accumulate_the_noise_before_the_step():
    path, noises = [W * t for t in range(4)], [0.1, 0.5, 0.2]
    found = [neu.sensitivities(gradient, path, noises, draws=20, seed=seed) for seed in range(SEEDS)]
    norm = float(H.square().sum())
    assert [steps[0].value for steps in found] == [0.0] * SEEDS
    check_estimates([steps[1] for steps in found], 0.01 * norm)
    check_estimates([steps[2] for steps in found], 0.26 * norm)
    assert len(found[0]) == 3


def test_sensitivities_are_taken_at_the_weights_before_the_step():
    path, seen = [10.0 * (t + 1) * W for t in range(4)], []
    neu.sensitivities(lambda w: seen.append(w) or gradient(w), path, 1.0, draws=2, seed=0)
    centres = [any(torch.equal(w, point) for w in seen) for point in path]
    assert centres == [False, True, True, False]  # no noise before the first step, no step after the last weights


def test_steps_and_seeds_draw_independently():
    path = [W, W, W, W]
    one, other = (neu.sensitivities(gradient, path, 1.0, draws=2, seed=seed) for seed in (0, 1))
    again = neu.sensitivities(gradient, path, 1.0, draws=2, seed=0)
    assert one == again
    shapes = [estimate.value / t for steps in (one, other) for t, estimate in enumerate(steps) if t]
    assert len(set(shapes)) == 4  # a shared draw would give the same number per unit of variance


# --- Dispersion ---------------------------------------------------------------------------------------------


def test_the_dispersion_by_a_loop():
    a, b = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [sum((float(x) - float(y)) ** 2 for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True)]
    assert neu.dispersion(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert neu.dispersion(a.float(), b.float()).dtype == torch.float32


def test_gradients_recorded_from_the_weights_of_sgd():
    model, loss, lr = linear(), HalfSquaredError(), [0.1, 0.3, 0.2]
    batches = [split(4, seed) for seed in range(3)]
    path = [weights(model)]
    for rate, batch in zip(lr, batches, strict=True):
        path.append(path[-1] - rate * neu.gradient_at(model, loss, batch)(path[-1]))
    direct = torch.stack([neu.gradient_at(model, loss, b)(w) for b, w in zip(batches, path[:-1], strict=True)])
    assert torch.allclose(neu.recorded_gradients(path, lr), direct, atol=1e-12)
    held_out = neu.population_gradients(neu.gradient_at(model, loss, split(20, 9)), path)
    assert held_out.shape == (3, 3)
    x, y = split(20, 9).inputs, split(20, 9).targets
    by_hand = torch.stack([x.T @ (x @ w - y) / 20 for w in path[:-1]])
    assert torch.allclose(held_out, by_hand, atol=1e-12)


def test_full_batches_around_the_training_gradient_would_have_no_dispersion():
    model, loss, train = linear(), HalfSquaredError(), split()
    full = neu.population_gradients(neu.gradient_at(model, loss, train), [weights(model)] * 3)
    held_out = neu.population_gradients(neu.gradient_at(model, loss, split(8, 1)), [weights(model)] * 3)
    assert neu.dispersion(full, full).tolist() == [0.0, 0.0]
    assert min(neu.dispersion(full, held_out).tolist()) > 0


def test_functions_of_the_weights_leave_the_model_where_it_is():
    model, loss, data = linear(), HalfSquaredError(), split()
    before = weights(model)
    at_w = neu.gradient_at(model, loss, data)(W)
    cost = neu.risk_at(model, loss, data)(W)
    assert torch.equal(weights(model), before)
    assert at_w == pytest.approx(data.inputs.T @ (data.inputs @ W - data.targets) / 8, abs=1e-12)
    assert cost == pytest.approx(float((data.inputs @ W - data.targets).square().mean()) / 2, abs=1e-12)
    here = neu.gradient_at(model, loss, data)(before)
    assert torch.equal(here, curvature.gradient(model, loss, data))


# --- Residuals ----------------------------------------------------------------------------------------------


def population_risk(w):
    return 1.5 * risk(w) + float(w[0])


def test_gamma_of_a_quadratic():
    truth = 0.2 / 2 * float(H.trace())
    check_estimates([neu.gamma(risk, W, 0.2, draws=40, seed=seed) for seed in range(SEEDS)], truth)


def test_both_residuals_of_a_quadratic():
    trace = float(H.trace())
    found = [neu.residual(risk, population_risk, W, 0.2, draws=40, seed=seed) for seed in range(SEEDS)]
    check_estimates([one.training for one in found], 0.1 * trace)
    check_estimates([one.population for one in found], 0.15 * trace)
    check_estimates([one.difference for one in found], 0.1 * trace - 0.15 * trace)


def test_the_separate_residual_adds_sizes():
    found = neu.residual(risk, lambda w: -2 * risk(w), W, 0.2, draws=2000, seed=0)
    assert found.training.value > 0 > found.population.value
    assert found.separate.value == pytest.approx(found.training.value - found.population.value, abs=1e-12)
    assert found.separate.value == pytest.approx(found.difference.value, abs=1e-12)
    same = neu.residual(risk, lambda w: 2 * risk(w), W, 0.2, draws=2000, seed=0)
    assert same.separate.value == pytest.approx(3 * same.training.value, abs=1e-12)
    assert same.difference.value == pytest.approx(-same.training.value, abs=1e-12)
    assert same.difference.standard_error == pytest.approx(same.training.standard_error, abs=1e-12)
    assert same.separate.standard_error == pytest.approx(3 * same.training.standard_error, abs=1e-12)


def test_equal_risks_have_no_difference():
    found = neu.residual(risk, risk, W, 0.2, draws=5, seed=0)
    assert (found.difference.value, found.difference.standard_error) == (0.0, 0.0)


def test_over_runs_is_a_mean_with_the_spread_of_the_runs():
    runs = [neu.residual(risk, population_risk, W + i, 0.2, draws=5, seed=i) for i in range(6)]
    found = neu.over_runs(runs)
    training = np.array([run.training.value for run in runs])
    difference = np.array([run.difference.value for run in runs])
    assert found.training.value == pytest.approx(training.mean(), abs=1e-12)
    assert found.training.standard_error == pytest.approx(training.std(ddof=1) / math.sqrt(6), abs=1e-12)
    assert found.difference.value == pytest.approx(difference.mean(), abs=1e-12)
    assert found.difference.standard_error == pytest.approx(difference.std(ddof=1) / math.sqrt(6), abs=1e-12)
    expected = abs(found.training.value) + abs(found.population.value)
    assert found.separate.value == pytest.approx(expected, abs=1e-12)
    assert found.separate.value >= abs(found.difference.value)


def test_expectations_come_before_absolute_values():
    up, down = (neu.residual(lambda w, s=s: s * risk(w), lambda w: 0.0, W, 0.2, draws=5, seed=0) for s in (1, -1))
    assert neu.over_runs([up, down]).separate.value == pytest.approx(0.0, abs=1e-12)


# --- What is refused ----------------------------------------------------------------------------------------

GOOD = {"n": 10, "R": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neu.bound([], [], 0.1, 1.0, **GOOD), "sensitivity is empty"),
        (lambda: neu.bound([0.1], [0.1, 0.2], 0.1, 1.0, **GOOD), "one entry a step, got 1 and 2"),
        (lambda: neu.bound([-0.1], [0.1], 0.1, 1.0, **GOOD), "every entry of sensitivity"),
        (lambda: neu.bound([0.1], [math.nan], 0.1, 1.0, **GOOD), "every entry of dispersion"),
        (lambda: neu.bound([0.1], [0.1], [0.1, 0.1], 1.0, **GOOD), "lr must hold one number for each of the 1"),
        (lambda: neu.bound([0.1], [0.1], 0.1, 0.0, **GOOD), "every entry of sigma"),
        (lambda: neu.bound([0.1], [0.1], 0.1, 1.0, **GOOD, constant=0.0), "constant must be a finite number above"),
        (lambda: neu.sensitivity(gradient, W, -0.1, draws=5, seed=0), "variance must be a finite number that is not"),
        (lambda: neu.sensitivity(gradient, W, 0.1, draws=1, seed=0), "draws must be a whole number of at least 2"),
        (lambda: neu.sensitivities(gradient, [W], 0.1, draws=2, seed=0), "at least one step"),
        (lambda: neu.dispersion(torch.ones(2, 3), torch.ones(3, 3)), r"must both have shape \(T, d\)"),
        (lambda: neu.dispersion(torch.full((2, 3), math.nan), torch.ones(2, 3)), "not finite: the run diverged"),
        (lambda: neu.population_gradients(gradient, [W]), "at least one step"),
        (lambda: neu.recorded_gradients([W, W], 0.0), "every entry of lr"),
        (lambda: neu.sensitivity(lambda w: w * math.nan, W, 0.1, draws=3, seed=0), "not finite for 3 of 3 gaussian"),
        (lambda: neu.gamma(lambda w: math.inf, W, 0.1, draws=2, seed=0), "not finite for 2 of 2 gaussian draws"),
        (lambda: neu.gamma(risk, W, 0.0, draws=5, seed=0), "variance must be a finite number above zero"),
        (lambda: neu.residual(risk, risk, W, 0.1, draws=0, seed=0), "draws must be a whole number of at least 2"),
        (lambda: neu.over_runs([]), "needs at least two runs, got 0"),
        (lambda: neu.gradient_at(linear().train(), HalfSquaredError(), split())(W), "training mode"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- remarks of Wang & Mao ----------------------------------------------------------------------------------


def test_sensitivity_may_fall_although_the_noise_grows():
    """Remark 1 in general: for the gradient tanh, ten times the variance far out is less sensitive than at 0."""
    near = neu.sensitivity(torch.tanh, torch.zeros(1, dtype=torch.float64), 0.1, draws=2000, seed=0)
    far = neu.sensitivity(torch.tanh, torch.full((1,), 8.0, dtype=torch.float64), 1.0, draws=2000, seed=0)
    assert far.value + 4 * far.standard_error < near.value - 4 * near.standard_error


def test_noise_lowers_no_convex_risk_and_may_lower_another():
    """Remark 2: the condition L_mu(w) <= E L_mu(w + xi) is Jensen's inequality for a convex risk, and can fail."""
    w = torch.tensor([0.3, -1.0], dtype=torch.float64)
    convex = neu.gamma(lambda v: float(torch.nn.functional.softplus(v).sum()), w, 0.5, draws=2000, seed=0)
    hill = neu.gamma(lambda v: float(torch.cos(v).sum()), torch.zeros(2, dtype=torch.float64), 0.5, draws=2000, seed=0)
    assert convex.value > 4 * convex.standard_error
    assert hill.value < -4 * hill.standard_error
