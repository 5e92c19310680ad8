"""The closed form: numerical minimisation, invariances, and the numbers of one small network."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from helpers import wang_mao
from helpers.wang_mao import closed_form, lemma_7, optimal_noise, terminal, terminal_variance

positives = st.floats(1e-6, 1e6)
sizes = st.integers(1, 10**6)


def models(k=4, size=5, seed=0, scale=1.0, shift=0.0):
    torch.manual_seed(seed)
    made = [nn.Linear(size, 2).double() for _ in range(k)]
    with torch.no_grad():
        for model in made:
            for parameter in model.parameters():
                parameter.mul_(scale).add_(shift)
    return made


# --- The best noise -----------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(positives, positives)
def test_the_best_noise_is_found_numerically(A, B):
    best = optimal_noise(A, B)

    def form(log_sigma):
        return A / math.exp(log_sigma) + B * math.exp(2 * log_sigma)

    found = minimize_scalar(form, bracket=(math.log(best.sigma) - 2, math.log(best.sigma) + 3), tol=1e-12)
    assert best.value == pytest.approx(found.fun, rel=1e-10)
    assert math.log(best.sigma) == pytest.approx(found.x, abs=1e-5)


@given(positives, positives)
def test_the_parts_at_the_best_noise(A, B):
    best = optimal_noise(A, B)
    assert best.trajectory == pytest.approx(A / best.sigma, rel=1e-12)
    assert best.flatness == pytest.approx(B * best.sigma**2, rel=1e-12)
    assert best.trajectory == pytest.approx(2 * best.flatness, rel=1e-14)
    assert best.value == pytest.approx(best.trajectory + best.flatness, rel=1e-14)
    assert (best.A, best.B) == (A, B)


@given(positives, positives, st.floats(1, 100))
def test_the_best_value_grows_with_both_coefficients(A, B, factor):
    value = optimal_noise(A, B).value
    assert optimal_noise(factor * A, B).value == pytest.approx(factor ** (2 / 3) * value)
    assert optimal_noise(A, factor * B).value == pytest.approx(factor ** (1 / 3) * value)


def test_the_limits_of_the_noise():
    nothing_learned, flat, neither = optimal_noise(0, 2.0), optimal_noise(3.0, 0), optimal_noise(0, 0)
    assert (nothing_learned.value, nothing_learned.sigma) == (0.0, 0.0)
    assert (flat.value, flat.sigma, flat.trajectory) == (0.0, math.inf, 0.0)
    assert (neither.value, neither.sigma) == (0.0, 0.0)


def test_a_nearly_flat_minimum_does_not_overflow():
    best = optimal_noise(1.0, 1e-300)
    assert best.trajectory == pytest.approx(1.0 / best.sigma, rel=1e-12)


# --- Eq. 3 --------------------------------------------------------------------------------------------------


@given(positives, positives, sizes, sizes, positives)
def test_eq_3(dispersion, trace, n, steps, R):
    bound = closed_form(dispersion, trace, n=n, steps=steps, R=R)
    assert bound.value == pytest.approx(1.5 * (R**2 * steps / n * dispersion * trace) ** (1 / 3), rel=1e-12)
    expected = [math.sqrt(R**2 / n * dispersion), steps / 2 * trace]
    found = [bound.A, bound.B]
    assert found == pytest.approx(expected, rel=1e-12)


def test_two_forms_of_the_constant():
    # theory, section 4: 3/2 in eq. 3 is 3 (1/2)^{2/3} (1/2)^{1/3}, and (3/2) 2^{1/3} = 3 * 4^{-1/3} in Theorem 3
    assert closed_form(1.0, 1.0, n=1, steps=1, R=1.0).value == pytest.approx(1.5, abs=1e-15)
    assert closed_form(2.0, 1.0, n=1, steps=1, R=1.0).value == pytest.approx(3 * 4 ** (-1 / 3), abs=1e-14)


@given(positives, positives, sizes, sizes, positives, st.floats(0.1, 10))
def test_scaling_of_eq_3(dispersion, trace, n, steps, R, factor):
    value = closed_form(dispersion, trace, n=n, steps=steps, R=R).value
    assert closed_form(dispersion, trace, n=8 * n, steps=steps, R=R).value == pytest.approx(value / 2)
    assert closed_form(dispersion, trace, n=n, steps=8 * steps, R=R).value == pytest.approx(2 * value)
    scaled = closed_form(dispersion, trace, n=n, steps=steps, R=factor * R).value
    assert scaled == pytest.approx(factor ** (2 / 3) * value)


def test_lemma_7_is_eq_3_without_a_centre():
    assert lemma_7(7.0, 3.0, n=11, steps=5, R=2.0) == closed_form(7.0, 3.0, n=11, steps=5, R=2.0)


# --- Final weights ------------------------------------------------------------------------------------------


def naive_variance(made):
    vectors = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in made]
    mean = sum(vectors) / len(vectors)
    return sum(float((vector - mean).square().sum()) for vector in vectors) / (len(vectors) - 1)


def test_terminal_is_the_closed_form_of_one_step():
    made = models()
    one_step = closed_form(naive_variance(made), 3.0, n=50, steps=1, R=2.0)
    bound = terminal(made, 3.0, n=50, steps=7, R=2.0)
    assert bound.value == pytest.approx(one_step.value, rel=1e-12)
    expected = [math.sqrt(4 / 50 * naive_variance(made) / 7), 7 / 2 * 3.0]
    found = [bound.A, bound.B]
    assert found == pytest.approx(expected, rel=1e-12)
    assert math.sqrt(7) * bound.sigma == pytest.approx(one_step.sigma, rel=1e-12)


@settings(max_examples=30)
@given(sizes)
def test_terminal_does_not_depend_on_the_number_of_steps(steps):
    made = models()
    single, many = terminal(made, 3.0, n=50, steps=1, R=2.0), terminal(made, 3.0, n=50, steps=steps, R=2.0)
    assert many.value == pytest.approx(single.value, rel=1e-14)
    assert many.trajectory == pytest.approx(single.trajectory, rel=1e-14)


def test_terminal_takes_the_size_of_the_trace():
    assert terminal(models(), -3.0, n=9, steps=2, R=1.0) == terminal(models(), 3.0, n=9, steps=2, R=1.0)


@settings(max_examples=30)
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_terminal_sees_differences_of_runs_only(scale, shift):
    value = terminal(models(), 3.0, n=50, steps=1, R=2.0).value
    moved = terminal(models(scale=scale, shift=shift), 3.0, n=50, steps=1, R=2.0).value
    assert moved == pytest.approx(scale ** (2 / 3) * value, rel=1e-9)


def test_terminal_reads_trainable_weights_and_leaves_models_alone():
    made = models()
    before = [[p.clone() for p in model.parameters()] for model in made]
    whole = terminal(made, 1.0, n=5, steps=1, R=1.0).value
    for model in made:
        model.bias.requires_grad_(False)
    assert terminal(made, 1.0, n=5, steps=1, R=1.0).value < whole
    for model, parameters in zip(made, before, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), parameters, strict=True))


def test_identical_runs_have_no_terminal_information():
    made = models(k=2)
    made[1].load_state_dict(made[0].state_dict())
    assert terminal(made, 3.0, n=50, steps=7, R=2.0).value == 0


def test_terminal_variance_is_unbiased():
    draws = torch.randn(2000, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates = torch.tensor([terminal_variance(list(vectors)) for vectors in draws])
    assert abs(float(estimates.mean()) - 4) < 4 * float(estimates.std()) / 2000**0.5


def test_the_numbers_of_the_digits_network():
    # theory, sections 4 and 5: k = 4, n = 200, T = 150, R = 6 log 10; eq. 3 fixes the trace, and then the terminal
    # bound of the same runs follows from their terminal variance.
    setting = {"n": 200, "steps": 150, "R": 6 * math.log(10)}
    trace = (45.8746 / closed_form(16.1064, 1.0, **setting).value) ** 3
    assert closed_form(14.6642 / 150, trace, **setting).value == pytest.approx(8.36812, abs=2e-5)


# --- What is refused ----------------------------------------------------------------------------------------

GOOD = {"n": 10, "steps": 5, "R": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_noise(-1.0, 1.0), "A must be a finite number that is not negative"),
        (lambda: optimal_noise(1.0, -1.0), "B must be a finite number that is not negative"),
        (lambda: optimal_noise(math.inf, 1.0), "A must be a finite number that is not negative"),
        (lambda: optimal_noise(1.0, math.nan), "B must be a finite number that is not negative"),
        (lambda: closed_form(-1.0, 1.0, **GOOD), "dispersion must be"),
        (lambda: closed_form(1.0, -1.0, **GOOD), "trace must be a finite number that is not negative"),
        (lambda: closed_form(1.0, 1.0, n=0, steps=5, R=1.0), "n must be a whole number of at least 1"),
        (lambda: closed_form(1.0, 1.0, n=10, steps=0, R=1.0), "steps must be a whole number of at least 1"),
        (lambda: closed_form(1.0, 1.0, n=10, steps=5, R=-1.0), "R must be a finite number above zero"),
        (lambda: lemma_7(-1.0, 1.0, **GOOD), "second_moment must be"),
        (lambda: terminal(models(k=1), 1.0, **GOOD), "needs at least two runs, got 1"),
        (lambda: terminal(models(), math.nan, **GOOD), "trace must be a finite number, got nan"),
        (lambda: terminal([*models(), nn.Linear(3, 2)], 1.0, **GOOD), "the same number of weights"),
        (lambda: terminal(models(scale=math.nan), 1.0, **GOOD), "not finite: it diverged"),
        (lambda: terminal(models(), 1.0, n=10, steps=1.5, R=1.0), "steps must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_is_offered_by_its_chapter():
    assert all(hasattr(wang_mao, name) for name in wang_mao.__all__)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(0.01, 10))
def test_without_a_centre_the_bound_is_never_smaller(gradients, trace):
    """Remark 4, for the moments of any finite set of gradients: E||g||^2 >= E||g - E g||^2."""
    moment = sum(g**2 for g in gradients) / len(gradients)
    centred = max(moment - (sum(gradients) / len(gradients)) ** 2, 0.0)
    sizes = {"n": 50, "steps": 3, "R": 1.0}
    assert lemma_7(moment, trace, **sizes).value >= closed_form(centred, trace, **sizes).value - 1e-12
