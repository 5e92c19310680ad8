import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import CLIPPED, network, sample
from scipy.sparse.linalg import cg
from torch import nn

from helpers import curvature, data
from helpers.losses import HalfSquaredError
from helpers.omniscient import Solver

MODEL, SPLIT = network(nn.Tanh), sample()
H = curvature.hessian(MODEL, CLIPPED, SPLIT)


def symmetric(d, seed, lowest=0.1):
    """A random symmetric matrix with eigenvalues between ``lowest`` and 10."""
    generator = torch.Generator().manual_seed(seed)
    vectors, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    eigenvalues = torch.linspace(lowest, 10, d, dtype=torch.float64)
    return (vectors * eigenvalues) @ vectors.T, torch.randn(d, generator=generator, dtype=torch.float64)


@given(seed=st.integers(0, 50), d=st.integers(1, 25), shifts=st.lists(st.floats(0, 1e9), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_every_shift_is_solved_as_a_dense_solve_would(seed, d, shifts):
    A, b = symmetric(d, seed)
    solved = curvature.solve_shifted(lambda v: A @ v, b, shifts, rtol=1e-12)
    assert solved.converged.all()
    assert not solved.negative_curvature.any()
    assert solved.iterations <= d
    for x, c in zip(solved.solutions, shifts, strict=True):
        exact = torch.linalg.solve(A + c * torch.eye(d, dtype=A.dtype), b)
        assert torch.linalg.norm(x - exact) <= 1e-9 * torch.linalg.norm(exact)


def test_residuals_are_the_true_ones_when_it_stops_early():
    A, b = symmetric(60, 3, lowest=1e-3)
    solved = curvature.solve_shifted(lambda v: A @ v, b, [0.0, 1.0, 1e6], rtol=1e-12, max_iterations=12)
    true = [
        torch.linalg.norm(b - A @ x - c * x) / b.norm() for x, c in zip(solved.solutions, [0.0, 1.0, 1e6], strict=True)
    ]
    np.testing.assert_allclose(solved.residuals, true, rtol=1e-6, atol=1e-14)
    assert solved.iterations == 12
    assert solved.converged.tolist() == [False, False, True]


def test_it_is_conjugate_gradients():
    """The iterate after j products is scipy's after j iterations."""
    A, b = symmetric(40, 7, lowest=1e-2)
    for iterations in (1, 5, 17):
        ours = curvature.solve_shifted(lambda v: A @ v, b, [0.5], rtol=1e-15, max_iterations=iterations).solutions[0]
        theirs, _ = cg((A + 0.5 * torch.eye(40)).numpy(), b.numpy(), rtol=0, maxiter=iterations)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_products_do_not_grow_with_the_number_of_shifts():
    A, b = symmetric(50, 1)
    calls = []

    def product(v):
        calls.append(1)
        return A @ v

    curvature.solve_shifted(product, b, [0.1], rtol=1e-8)
    one = len(calls)
    curvature.solve_shifted(product, b, [0.1 * 2**i for i in range(25)], rtol=1e-8)
    assert len(calls) - one == one + 24  # a closing product for each further shift


def test_negative_curvature_is_found_where_it_is_and_only_there():
    A, b = symmetric(30, 2, lowest=-1.0)
    solved = curvature.solve_shifted(lambda v: A @ v, b, [0.5, 1.5], rtol=1e-10)
    assert solved.negative_curvature.tolist() == [True, False]
    assert solved.converged.tolist() == [False, True]
    x = solved.solutions[0]
    energy = 0.5 * x @ A @ x + 0.25 * x @ x - b @ x
    assert energy < 0  # still better than x = 0
    true = torch.linalg.norm(b - A @ x - 0.5 * x) / b.norm()
    assert solved.residuals[0] == pytest.approx(true.item(), rel=1e-6)


def test_negative_curvature_at_once_gives_zero():
    solved = curvature.solve_shifted(lambda v: -v, torch.ones(4), [0.5])
    assert solved.negative_curvature.all()
    assert (solved.solutions == 0).all()
    assert solved.residuals[0] == 1


def test_a_zero_right_hand_side_needs_no_product():
    solved = curvature.solve_shifted(lambda v: v, torch.zeros(3), [1.0, 2.0])
    assert solved.iterations == 0
    assert solved.converged.all()
    assert (solved.solutions == 0).all()


def test_float32_keeps_its_type_and_accuracy():
    A, b = symmetric(50, 4)
    solved = curvature.solve_shifted(lambda v: A.float() @ v, b.float(), [0.1, 1e8], rtol=1e-5)
    assert solved.solutions.dtype == torch.float32
    assert solved.converged.all()
    exact = torch.linalg.solve(A + 0.1 * torch.eye(50), b)
    assert torch.linalg.norm(solved.solutions[0] - exact) < 1e-4 * exact.norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shifts": []}, "at least one finite shift"),
        ({"shifts": [float("nan")]}, "at least one finite shift"),
        ({"shifts": "12"}, "shifts must hold numbers, got the text '12'"),
        ({"shifts": [1e300]}, r"within the range of torch\.float32, got \[1e\+300\]; lower a lambda"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        curvature.solve_shifted(lambda v: v, torch.ones(2), **arguments)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rtol": 0}, "rtol must be a finite number above zero, got 0"),
        ({"rtol": -1e-3}, "rtol must be a finite number above zero, got -0.001"),
        ({"rtol": float("nan")}, "rtol must be a finite number above zero, got nan"),
        ({"rtol": "small"}, "rtol must be a number, got 'small' of type str"),
        ({"max_iterations": 0}, "max_iterations must be a whole number of at least 1, got 0"),
        ({"max_iterations": -3}, "max_iterations must be a whole number of at least 1, got -3"),
        ({"max_iterations": 2.5}, "max_iterations must be a whole number of at least 1, got 2.5"),
        ({"max_iterations": float("nan")}, "max_iterations must be a whole number of at least 1, got nan"),
        ({"max_iterations": None}, "max_iterations must be a number, got None"),
    ],
)
def test_when_to_stop_is_checked_wherever_it_is_given(setting, message):
    for call in (
        lambda: curvature.solve_shifted(lambda v: v, torch.ones(2), [1.0], **setting),
        lambda: curvature.extreme_eigenvalues(network(), CLIPPED, sample(), **setting),
        lambda: curvature.eigenvectors(network(), CLIPPED, sample(), **setting),
        lambda: Solver(**setting),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        curvature.solve_shifted(lambda v: v * float("nan"), torch.ones(2), [1.0])


def test_edges_of_the_spectrum_against_the_dense_eigenvalues():
    exact = torch.linalg.eigvalsh(H)
    edge = curvature.extreme_eigenvalues(MODEL, CLIPPED, SPLIT, count=3, rtol=1e-10)
    torch.testing.assert_close(edge.largest, exact.flip(0)[:3], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(edge.smallest, exact[:3], rtol=1e-8, atol=1e-10)
    assert torch.linalg.norm(H @ edge.vector - exact[-1] * edge.vector) < 1e-6 * exact[-1]


def test_error_bounds_hold_when_it_stops_early():
    exact = torch.linalg.eigvalsh(H)
    for iterations in (3, 6, 10):
        edge = curvature.extreme_eigenvalues(MODEL, CLIPPED, SPLIT, max_iterations=iterations, rtol=1e-14)
        assert edge.iterations == iterations
        assert (exact - edge.largest[0]).abs().min() <= edge.largest_error[0] + 1e-12
        assert (exact - edge.smallest[0]).abs().min() <= edge.smallest_error[0] + 1e-12


def test_the_tolerance_is_relative_to_the_largest_eigenvalue():
    generator = torch.Generator().manual_seed(0)
    inputs = 1e-2 * torch.randn(200, 60, generator=generator, dtype=torch.float64)
    small = data.as_split((inputs, torch.zeros(200, 1, dtype=torch.float64)))
    model = nn.Linear(60, 1, bias=False).double().eval()
    edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), small, rtol=1e-3)
    assert edge.largest.item() < 1e-3
    assert edge.largest_error.item() <= 1e-3 * edge.largest.item()


def test_count_must_fit():
    with pytest.raises(ValueError, match="between 1 and d = 39"):
        curvature.extreme_eigenvalues(MODEL, CLIPPED, SPLIT, count=40)


def test_spectral_density_has_the_right_moments_within_its_error():
    density = curvature.spectral_density(MODEL, CLIPPED, SPLIT, probes=60, iterations=12)
    for power in (1, 2):
        value, error = density.mean(lambda e, power=power: e**power)
        exact = torch.linalg.matrix_power(H, power).trace().item() / len(H)
        assert abs(value - exact) < 4 * error
    assert torch.allclose(density.weights.sum(1), torch.ones(60, dtype=torch.float64))
    grid = torch.linspace(-3, 6, 2000, dtype=torch.float64)
    curve, error = density.on(grid, width=0.05)
    assert torch.trapezoid(curve, grid).item() == pytest.approx(1, abs=1e-3)
    assert (error >= 0).all()


def test_density_needs_two_probes():
    with pytest.raises(ValueError, match="probes must be a whole number of at least 2"):
        curvature.spectral_density(MODEL, CLIPPED, SPLIT, probes=1)


def test_reported_residuals_are_those_of_the_solutions_in_low_precision():
    """The recurrence says 9e-7 here, and converged."""
    h = torch.logspace(0, -6, 200)
    b = torch.ones(200)
    solved = curvature.solve_shifted(lambda v: h * v, b, [1e-6], rtol=1e-6)
    true = (b.double() - (h.double() + 1e-6) * solved.solutions[0].double()).norm() / b.double().norm()
    assert solved.residuals[0] == pytest.approx(true.item(), rel=0.5, abs=1e-6)
    assert solved.converged.item() == bool(solved.residuals[0] <= 1e-6)


def test_an_ill_conditioned_system_does_not_report_zero():
    h = torch.logspace(0, -12, 30, dtype=torch.float64)
    solved = curvature.solve_shifted(lambda v: h * v, torch.ones(30, dtype=torch.float64), [0.0], rtol=1e-13)
    true = (1 - h * solved.solutions[0]).norm().item() / 30**0.5
    assert solved.residuals[0] == pytest.approx(true, rel=1e-6)
    assert solved.residuals[0] > 0


class _TwoOutputs(nn.Module):
    """Inputs diag(1, 2, 3) and two outputs: the Hessian has every eigenvalue twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2, bias=False)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_repeated_eigenvalues_are_found_and_the_shape_is_kept(count):
    torch.manual_seed(0)
    split = data.Split(torch.diag(torch.tensor([1.0, 2.0, 3.0])).double(), torch.zeros(3, 2).double(), 0, "diagonal")
    model = _TwoOutputs().double().eval()
    edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), split, count=count)
    exact = torch.tensor([3, 3, 4 / 3, 4 / 3, 1 / 3, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(edge.largest, exact[:count], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(edge.smallest, exact.flip(0)[:count], rtol=1e-10, atol=1e-12)
    assert (edge.largest_error > 0).all()
    assert (edge.largest_error < 1e-12).all()


def test_as_many_copies_are_looked_for_as_eigenvalues_are_asked():
    """A start shows one copy of each; four of the largest take four starts."""
    split = data.Split(torch.diag(torch.tensor([1.0, 2.0, 3.0])).double(), torch.zeros(3, 4).double(), 0, "diagonal")
    model = nn.Linear(3, 4, bias=False).double().eval()
    edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), split, count=4)
    torch.testing.assert_close(edge.largest, torch.full((4,), 3.0, dtype=torch.float64))


def test_the_density_of_a_space_that_is_exhausted_early_has_every_moment():
    split = data.Split(torch.eye(3).double(), torch.zeros(3).double(), 0, "identity")
    model = nn.Linear(3, 1, bias=False).double().eval()
    density = curvature.spectral_density(model, HalfSquaredError(), split, probes=3, iterations=10)
    assert density.mean(lambda e: 1 / e) == pytest.approx((3, 0), abs=1e-10)
    with pytest.raises(ValueError, match="not finite at an eigenvalue"):
        density.mean(lambda e: torch.log(e - 1))
    with pytest.raises(ValueError, match="width must be"):
        density.on(torch.zeros(2), 0.0)


def test_the_error_of_a_density_has_one_degree_of_freedom_less():
    density = curvature.spectral_density(MODEL, CLIPPED, SPLIT, probes=4, iterations=5)
    samples = (density.nodes**2 * density.weights).sum(1)
    assert density.mean(lambda e: e**2)[1] == pytest.approx(samples.std(correction=1).item() / 2, rel=1e-12)


def test_the_basis_stays_orthogonal_to_machine_precision():
    """Once is not enough where a product lies almost within the space."""
    h = torch.cat([torch.linspace(1, 1 + 1e-9, 30, dtype=torch.float64), torch.tensor([1e8, 1e9]).double()])
    krylov = curvature.Lanczos(lambda v: h * v, torch.ones(32, dtype=torch.float64))
    for _ in range(12):
        if not krylov.exhausted:
            krylov.extend()
    basis = krylov.combine(np.eye(krylov.size))
    torch.testing.assert_close(basis @ basis.T, torch.eye(krylov.size).double(), rtol=0, atol=1e-13)


def test_indefiniteness_is_remembered():
    A, b = symmetric(12, 5, lowest=-2.0)
    solved = curvature.solve_shifted(lambda v: A @ v, b, [0.0, 5.0], rtol=1e-14, max_iterations=12)
    assert solved.negative_curvature.tolist() == [True, False]


def test_a_right_hand_side_that_is_no_finite_vector_is_refused():
    sentences = ["rhs must be a finite vector of shape", "rhs must be finite"]
    for rhs, sentence in zip((torch.ones(2, 2), torch.tensor([1.0, float("nan")])), sentences, strict=True):
        with pytest.raises(ValueError, match=sentence):
            curvature.solve_shifted(lambda v: v, rhs, [1.0])
