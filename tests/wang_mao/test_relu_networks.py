"""Theorems 3 and 4: gradients and Hessians by automatic differentiation, the formulas as printed (and
corrected)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

from helpers.models import TwoLayerReLU
from helpers.wang_mao import active_units, lemma_7, linear_network, two_layer_relu, uncentred_dispersion

losses = st.lists(st.floats(0, 10), min_size=1, max_size=20)


def problem(n=12, inputs=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=g, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True), torch.randn(n, generator=g, dtype=torch.float64)


def derivatives(predict, w, x, y):
    """Losses (n,), gradients (n, d) and Hessian traces (n,) of half the squared error, example by example."""
    losses, gradients, traces = [], [], []
    for one, target in zip(x, y, strict=True):

        def loss(vector, one=one, target=target):
            return 0.5 * (predict(vector, one[None])[0] - target) ** 2

        losses.append(loss(w))
        gradients.append(jacobian(loss, w))
        traces.append(hessian(loss, w).trace())
    return torch.stack(losses), torch.stack(gradients), torch.stack(traces)


def relu_network(width=6, inputs=4):
    torch.manual_seed(1)
    model = TwoLayerReLU(inputs, width).double()

    def predict(vector, x):
        return functional_call(model, {"hidden.weight": vector.view(width, inputs)}, (x,))

    return model, predict, model.hidden.weight.detach().flatten()


# --- What the theorems rest on ------------------------------------------------------------------------------


def test_gradients_and_traces_of_a_linear_network():
    x, y = problem()
    loss, gradients, traces = derivatives(lambda w, one: one @ w, problem(1)[0][0], x, y)
    assert (gradients.square().sum(1) / (2 * loss)).tolist() == pytest.approx([1.0] * 12, abs=1e-10)
    assert traces.tolist() == pytest.approx([1.0] * 12, abs=1e-12)


def test_gradients_and_traces_of_a_two_layer_relu_network():
    (x, y), (model, predict, w) = problem(), relu_network()
    loss, gradients, traces = derivatives(predict, w, x, y)
    active = active_units(model.hidden.weight, x)
    assert gradients.square().sum(1).tolist() == pytest.approx((2 * loss * active / 6).tolist(), abs=1e-12)
    assert traces.tolist() == pytest.approx([units / 6 for units in active.tolist()], abs=1e-12)


# --- Theorem 3 ----------------------------------------------------------------------------------------------


@given(losses, st.floats(0.01, 2), st.integers(1, 10**5), st.floats(0.1, 10))
def test_theorem_3(batch_losses, lr, n, R):
    T = len(batch_losses)
    expected = 3 * sum(R**2 * lr**2 * T / (4 * n) * loss for loss in batch_losses) ** (1 / 3)
    assert linear_network(batch_losses, lr, n=n, R=R).value == pytest.approx(expected, rel=1e-10)


def test_theorem_3_is_lemma_7_with_single_examples():
    x, y = problem()
    path = [torch.full((4,), 0.1 * t, dtype=torch.float64) for t in range(12)]
    rows = [derivatives(lambda w, one: one @ w, w, x, y) for w in path]
    own = [(loss[t], gradients[t]) for t, (loss, gradients, _) in enumerate(rows)]
    moment = uncentred_dispersion(torch.stack([gradient for _, gradient in own]), 0.3).sum()
    expected = lemma_7(float(moment), 1.0, n=12, steps=12, R=2.0)
    found = linear_network([loss for loss, _ in own], 0.3, n=12, R=2.0)
    assert found.value == pytest.approx(expected.value, rel=1e-12)


def test_theorem_3_takes_a_learning_rate_for_each_step():
    found = linear_network([1.0, 2.0], [0.1, 0.5], n=10, R=1.0).value
    assert found == pytest.approx(3 * (2 / 40 * (0.01 * 1.0 + 0.25 * 2.0)) ** (1 / 3), rel=1e-12)


# --- Theorem 4 ----------------------------------------------------------------------------------------------


@given(losses, st.integers(1, 100), st.floats(0, 1), st.floats(0.01, 2), st.integers(1, 10**5), st.floats(0.1, 10))
def test_theorem_4_with_the_corrected_constant(active_losses, width, share, lr, n, R):
    T, final = len(active_losses), share * width
    inner = final * sum(R**2 * lr**2 * T / (4 * n * width**2) * loss for loss in active_losses)
    found = two_layer_relu(active_losses, final, lr, width=width, n=n, R=R).value
    assert found == pytest.approx(3 * inner ** (1 / 3), rel=1e-10, abs=1e-100)


def test_theorem_4_is_lemma_7_with_single_examples():
    (x, y), (model, predict, w) = problem(), relu_network()
    active = active_units(model.hidden.weight, x)
    loss, gradients, traces = derivatives(predict, w, x, y)
    moment = uncentred_dispersion(gradients, 0.3).sum()
    expected = lemma_7(float(moment), float(traces.mean()), n=12, steps=12, R=2.0)
    found = two_layer_relu(active * loss, active.double().mean(), 0.3, width=6, n=12, R=2.0)
    assert found.value == pytest.approx(expected.value, rel=1e-12)


def test_a_network_with_every_unit_active_is_a_linear_one():
    relu = two_layer_relu([5 * 0.7, 5 * 0.2], 5, 0.3, width=5, n=20, R=2.0)
    assert relu.value == pytest.approx(linear_network([0.7, 0.2], 0.3, n=20, R=2.0).value, rel=1e-12)


def test_active_units_by_loops():
    (x, _), (model, _, _) = problem(), relu_network()
    expected = [sum(float(row @ one) >= 0 for row in model.hidden.weight.detach()) for one in x]
    assert active_units(model.hidden.weight, x).tolist() == expected
    assert active_units(torch.zeros(3, 4), x.float()).tolist() == [3] * 12  # w . x = 0 counts as active


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_network([], 0.1, n=10, R=1.0), "batch_losses is empty"),
        (lambda: linear_network([-1.0], 0.1, n=10, R=1.0), "every entry of batch_losses"),
        (lambda: linear_network([1.0, 1.0], [0.1], n=10, R=1.0), "each of the 2 steps, got 1"),
        (lambda: linear_network([1.0], 0.1, n=10, R=0.0), "R must be a finite number above zero"),
        (lambda: two_layer_relu([math.nan], 1, 0.1, width=3, n=10, R=1.0), "every entry of active_losses"),
        (lambda: two_layer_relu([1.0], 4, 0.1, width=3, n=10, R=1.0), "at most width = 3, got 4"),
        (lambda: two_layer_relu([1.0], -1, 0.1, width=3, n=10, R=1.0), "active_final must be"),
        (lambda: two_layer_relu([1.0], 1, 0.1, width=0, n=10, R=1.0), "width must be a whole number"),
        (lambda: active_units(torch.ones(2, 3), torch.ones(4, 3)), "inputs must have norm 1, got 1.732"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- The inequalities behind them ---------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [False, True])
def test_losses_bound_the_batch_gradients_along_a_run(relu):
    """Theorems 3 and 4 are never below Lemma 7 with the batch gradients of the run: Cauchy and Schwarz."""
    (x, y), (_, predict, w), lr = problem(), relu_network(), 0.3
    if not relu:
        predict, w = lambda vector, one: one @ vector, problem(1)[0][0]
    moment, losses_, T = 0.0, [], 6
    for step in range(T):
        loss, gradients, _ = derivatives(predict, w, x[step::3], y[step::3])
        units = active_units(w.view(6, 4), x[step::3]) if relu else torch.ones(len(loss))
        losses_.append((units * loss).mean().item())
        moment += lr**2 * gradients.mean(0).square().sum().item()
        w = w - lr * gradients.mean(0)
    trace = derivatives(predict, w, x, y)[2].mean().item()
    weaker = lemma_7(moment, trace, n=12, steps=T, R=1.0).value
    if relu:
        final = active_units(w.view(6, 4), x).double().mean().item()
        assert two_layer_relu(losses_, final, lr, width=6, n=12, R=1.0).value >= weaker
    else:
        assert linear_network(losses_, lr, n=12, R=1.0).value >= weaker
