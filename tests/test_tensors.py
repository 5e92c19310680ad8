"""Numbers enter once: no digit is lost, nothing broadcasts, what is no number is named."""

import math

import numpy as np
import pytest
import torch

from helpers import (
    alignment,
    curvature,
    data,
    flatness,
    langevin,
    neu,
    omniscient,
    pac_bayes,
    soft_rank,
    wang_mao,
    widgets,
)
from helpers._tensors import floats_of, numbers_of, symmetric
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy

CE = ClippedCrossEntropy(9.0)
MODEL = torch.nn.Linear(3, 2).double().eval()
SPLIT = Split(torch.eye(3).double(), torch.tensor([0, 1, 0]), 2, "made up")
PLANE = {"x_label": "x", "y_label": "y", "title": "t"}


def test_whole_numbers_are_numbers():
    whole = torch.tensor([[3, 4]])
    assert wang_mao.uncentred_dispersion(whole, 0.1).tolist() == pytest.approx([0.25])
    assert wang_mao.single_run_dispersion(whole, 0 * whole, 0.1).tolist() == pytest.approx([0.25])
    assert neu.recorded_gradients([torch.tensor([1, 2]), torch.tensor([0, 0])], 0.5).tolist() == [[2.0, 4.0]]
    expected = pac_bayes.gaussian_kl(torch.tensor([1.0, 2.0]), 2.5, 0.5, 3.5)
    assert pac_bayes.gaussian_kl(torch.tensor([1, 2]), 2.5, 0.5, 3.5) == pytest.approx(expected)
    assert pac_bayes.gaussian_kl([1, 2], 2.5, [0.5, 0.5], 3.5) == pytest.approx(expected)
    assert wang_mao.terminal_variance([torch.tensor([1, 2]), torch.tensor([2, 4])]) == pytest.approx(2.5)


def test_lists_keep_their_digits_and_half_precision_does_not_overflow():
    assert floats_of("x", [0.1]).item() == 0.1
    assert floats_of("x", np.array([0.1], dtype=np.float32)).dtype == torch.float32
    tiny = langevin.whole_sample([1e-46], lr=1.0, sigma=1e-30, d=1, n=1, R=1.0)
    assert tiny == pytest.approx(math.sqrt(math.log1p(1e14)))
    half = torch.full((2, 2, 3), 300.0, dtype=torch.float16)
    half[0, 1] = half[1, 0] = 0
    assert torch.isfinite(wang_mao.cross_run_dispersion(half)).all()


def test_a_column_of_residuals_is_no_row():
    J, e = torch.eye(3), torch.tensor([1.0, 2.0, 3.0])
    assert alignment.regression_alignment(J, e).alpha <= 1
    with pytest.raises(ValueError, match="residuals of shape \\(3, 1\\)"):
        alignment.regression_alignment(J, e[:, None])
    with pytest.raises(ValueError, match="Sigma and G must be alike"):
        alignment.alignment(torch.eye(2), torch.ones(1, 1), 1.0)


LOPSIDED = torch.tensor([[1.0, 2.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: soft_rank.tic(LOPSIDED, torch.eye(2)), "F must be symmetric"),
        (lambda: soft_rank.predict_gap(torch.eye(2), LOPSIDED, 0.1, n=3), "C must be symmetric"),
        (lambda: soft_rank.block_soft_rank(torch.eye(3), 0.1, [5, -2]), "every entry of sizes must be a whole number"),
        (lambda: flatness.limits(LOPSIDED), "hessian must be symmetric"),
        (lambda: wang_mao.gaussian_information(LOPSIDED.numpy(), [0], [1]), "covariance must be symmetric"),
        (lambda: alignment.smallest_alignment(torch.zeros(2, 3)), "jacobian is zero"),
        (lambda: alignment.growth_factor(torch.zeros(2, 3), lr=0.1, batch_size=1), "jacobian is zero"),
        (lambda: alignment.smallest_alignment(torch.full((2, 3), torch.nan)), "jacobian must be finite"),
        (
            lambda: alignment.gaussian_growth_factor(torch.ones(2), torch.tensor([1.0, -0.1]), lr=0.1, batch_size=1),
            "variances must not be negative",
        ),
        (lambda: wang_mao.active_units(torch.eye(2) * math.nan, torch.eye(2)), "hidden must be finite"),
        (lambda: wang_mao.active_units(torch.eye(2), torch.eye(2) * math.nan), "inputs must be finite"),
        (lambda: neu.dispersion("ab", torch.ones(2, 3)), "batch gradients must hold numbers, got a str"),
        (lambda: numbers_of("x", torch.ones(2) * 1j), "real numbers"),
        (lambda: floats_of("x", [True]), "real numbers"),
        (lambda: symmetric("x", [1.0, 2.0]), "square matrix"),
    ],
)
def test_what_is_no_such_number_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_lists_and_arrays_are_as_good_as_tensors():
    J = [[1.0, 0.5], [0.2, 2.0], [0.3, 0.1]]
    tensor = alignment.regression_alignment(torch.tensor(J, dtype=torch.float64), torch.arange(1.0, 4.0).double())
    assert alignment.regression_alignment(np.array(J), np.arange(1.0, 4.0)) == tensor
    assert alignment.regression_alignment(J, [1, 2, 3]) == tensor


def test_dictionaries_in_another_order_hold_the_same_examples():
    a, b = torch.tensor([5.0, 6.0, 7.0])[:, None], torch.ones(3, 1)
    labels = torch.zeros(3, dtype=torch.int64)
    one, other = Split({"a": a, "b": b}, labels, 2, "made up"), Split({"b": b, "a": a}, labels, 2, "made up")
    with pytest.raises(ValueError, match="share 3 examples"):
        data.check_disjoint(one, other)


def test_kronecker_factors_of_half_a_layer_are_refused():
    model = torch.nn.Linear(1, 1).double().eval()
    model.bias.requires_grad_(False)
    split = Split(torch.tensor([[1.0], [2.0]]).double(), torch.zeros(2).double(), 0, "made up")
    with pytest.raises(ValueError, match="weight and bias of a layer to be trainable both"):
        soft_rank.kronecker_factors(model, flatness.HalfSquaredError(), split)


H = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))


def test_a_right_side_of_any_library_is_solved_for():
    for b in (torch.tensor([1, 1, 1]), np.ones(3), [1.0, 1.0, 1.0]):
        found = curvature.solve_shifted(lambda v: H @ v, b, [1.0])
        assert found.solutions[0].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: curvature.solve_shifted(H, torch.ones(3), [1.0]), "matvec must be a function"),
        (lambda: curvature.solve_shifted(lambda v: H @ v, torch.ones(3).double(), 1.0), "shifts must hold"),
        (lambda: curvature.solve_shifted(lambda v: H @ v, torch.ones(3).double(), [None]), "entry of shifts must be a"),
        (lambda: curvature.solve_shifted(lambda v: v[:2], torch.ones(3), [1.0]), "matvec must give a vector"),
        (lambda: curvature.solve_shifted(lambda v: None, torch.ones(3), [1.0]), "matvec must give .* got a NoneType"),
        (lambda: curvature.trace(MODEL, CE, SPLIT, tolerance=0.5), "tolerance must be a function of the value"),
        (lambda: Split.from_dataset(iter([1])), "has no length and no items by number"),
        (lambda: data.partition(SPLIT, 5, seed=0), "sizes must hold one number for each part"),
        (lambda: widgets.Plane(glow="xl", lines={"xl": np.eye(2)}, **PLANE), "glow must be a list of names"),
        (lambda: widgets.Curves([1.0, 2.0], {"a": [1j, 2]}, **PLANE), "holds complex numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_setting_that_no_solver_has_is_named():
    with pytest.raises(ValueError, match="there is no setting foo; a solver has"):
        omniscient.estimate([MODEL, MODEL], [SPLIT, SPLIT], SPLIT, SPLIT, loss=CE, lambdas=[1.0], steps=1, foo=3)
