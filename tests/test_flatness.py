"""Sharpness measures on polynomial landscapes, where their values and limits are known, and on small networks."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import curvature, data, flatness, models, training
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy, HalfSquaredError

anytime = settings(deadline=None)  # a busy machine is not a failure

POINT = Split(torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), 0, "a landscape has no data")


class Height:
    """The height of a landscape as its own loss."""

    R = 1.0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.reshape(len(targets))


class Landscape(nn.Module):
    """base + (1/2) x^T H x + cubic sum x^3 + quartic sum x^4 with x = w - centre, the same for every example."""

    def __init__(self, H, *, at=0.0, centre=0.0, base=0.0, cubic=0.0, quartic=0.0) -> None:
        super().__init__()
        self.H, self.centre, self.base, self.cubic, self.quartic = H, centre, base, cubic, quartic
        self.w = nn.Parameter(torch.zeros(len(H), dtype=H.dtype) + at)
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.w - self.centre
        height = self.base + 0.5 * x @ self.H @ x + self.cubic * (x**3).sum() + self.quartic * (x**4).sum()
        return height.expand(len(inputs))


def psd(d: int, seed: int = 0) -> torch.Tensor:
    A = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A @ A.T / d


def scalar_network(activation: type[nn.Module] = nn.Tanh) -> tuple[nn.Module, Split]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 1)).double().eval()
    return model, Split(torch.randn(6, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64), 0, "noise")


def test_mean_loss_is_summed_in_double_precision():
    model = nn.Linear(1, 1, bias=False).eval()
    nn.init.ones_(model.weight)
    inputs = torch.tensor([[1e8], [1.0], [-1e8]])
    assert flatness.mean_loss(model, Height(), Split(inputs, torch.zeros(3), 0, "three")) == 1 / 3


# --- limits -----------------------------------------------------------------------------------------------------


def test_limits_by_hand():
    found = flatness.limits(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    assert (found.worst_case, found.isotropic, found.shaped) == pytest.approx((3, 4, 10), abs=1e-12)


# --- worst case ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1e-3, 0.5])
def test_worst_case_of_a_quadratic_is_the_largest_eigenvalue(radius):
    H = psd(12)
    found = flatness.worst_case_response(Landscape(H), Height(), POINT, radius=radius)
    values, vectors = torch.linalg.eigh(H)
    assert found.value == pytest.approx(values[-1].item(), rel=1e-8)
    assert found.increase == pytest.approx(values[-1].item() * radius**2 / 2, rel=1e-8)
    assert found.perturbation.norm().item() == pytest.approx(radius)
    assert abs(found.perturbation @ vectors[:, -1]).item() == pytest.approx(radius, rel=1e-6)
    assert found.converged


def test_error_of_the_worst_case_is_of_first_order():
    # one dimension: max over +-rho of 2 (h rho^2 / 2 + c rho^3) / rho^2 = h + 2 |c| rho
    one = Landscape(torch.tensor([[2.0]], dtype=torch.float64), cubic=-0.7)
    for radius in 0.2, 0.1:
        found = flatness.worst_case_response(one, Height(), POINT, radius=radius)
        assert found.value == pytest.approx(2 + 1.4 * radius, rel=1e-10)
    many = Landscape(psd(5), cubic=0.3)
    top = flatness.limits(psd(5)).worst_case
    errors = [flatness.worst_case_response(many, Height(), POINT, radius=r).value - top for r in (0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_more_starts_never_find_less():
    bumpy = Landscape(psd(4), cubic=1.0)
    few, many = (
        flatness.worst_case_response(bumpy, Height(), POINT, radius=0.8, starts=starts).value for starts in (1, 6)
    )
    assert many >= few - 1e-9


def test_worst_case_says_when_it_was_cut_short():
    assert not flatness.worst_case_response(Landscape(psd(12)), Height(), POINT, radius=0.1, iterations=1).converged


# --- Gaussian responses ----------------------------------------------------------------------------------------------


def test_isotropic_response_of_a_quadratic_is_a_mean_of_quadratic_forms():
    H = psd(5)
    found = flatness.isotropic_response(Landscape(H, at=0.3), Height(), POINT, radius=0.7, draws=20, seed=4)
    generator = torch.Generator().manual_seed(4)
    v = torch.stack([torch.randn(5, dtype=torch.float64, generator=generator) for _ in range(20)])
    forms = ((v @ H) * v).sum(1)
    assert found.value == pytest.approx(forms.mean().item(), rel=1e-10)  # the gradient at w = 0.3 cancels in pairs
    assert found.standard_error == pytest.approx(forms.std().item() / 20**0.5, rel=1e-8)
    assert found.probes == 20


@pytest.mark.parametrize("radius", [0.4, 0.2])
def test_error_of_the_isotropic_response_is_of_second_order(radius):
    # E 2 (quartic sum e^4) / rho^2 = 6 d quartic rho^2; the cubic part cancels, so O(rho^2) and not O(rho)
    landscape = Landscape(torch.eye(3, dtype=torch.float64), cubic=2.0, quartic=0.5)
    found = flatness.isotropic_response(landscape, Height(), POINT, radius=radius, draws=2000)
    expected = 3 + 6 * 3 * 0.5 * radius**2
    assert abs(found.value - expected) < 4 * found.standard_error
    assert abs(found.value - 3) > 4 * found.standard_error


def test_shaped_response_of_a_quadratic_is_the_squared_frobenius_norm():
    H = psd(5)
    found = flatness.shaped_response(Landscape(H), Height(), POINT, H, radius=0.3, draws=3000)
    assert abs(found.value - flatness.limits(H).shaped) < 4 * found.standard_error
    assert found.standard_error < 0.05 * found.value


@pytest.mark.parametrize("radius", [0.4, 0.2])
def test_error_of_the_shaped_response_is_of_second_order(radius):
    H = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    landscape = Landscape(H, cubic=2.0, quartic=0.5)
    found = flatness.shaped_response(landscape, Height(), POINT, H, radius=radius, draws=3000)
    # E e_i^4 = 3 (rho^2 h_i)^2
    assert abs(found.value - (5 + 6 * 0.5 * radius**2 * (1 + 4))) < 4 * found.standard_error


def test_shaped_response_takes_the_covariance_as_given():
    # covariance u u^T: every direction is a multiple of u, so a sample is z^2 u^T H u
    H, u = psd(4), torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    found = flatness.shaped_response(Landscape(H), Height(), POINT, torch.outer(u, u), radius=0.3, draws=400)
    assert abs(found.value - (u @ H @ u).item()) < 4 * found.standard_error


@pytest.mark.parametrize("kind", ["isotropic", "shaped"])
def test_standard_errors_are_right(kind):
    H = psd(3)
    landscape = Landscape(H)
    response = flatness.isotropic_response if kind == "isotropic" else flatness.shaped_response
    arguments = (landscape, Height(), POINT) if kind == "isotropic" else (landscape, Height(), POINT, H)
    runs = [response(*arguments, radius=0.2, draws=15, seed=seed) for seed in range(200)]
    values = np.array([run.value for run in runs])
    limit = getattr(flatness.limits(H), kind)
    assert abs(values.mean() - limit) < 4 * values.std(ddof=1) / 200**0.5
    assert np.sqrt(np.mean([run.standard_error**2 for run in runs])) == pytest.approx(values.std(ddof=1), rel=0.2)


def test_gauss_newton_shape_gives_its_frobenius_norm_at_interpolation():
    model, split = scalar_network()
    interpolated = Split(split.inputs, model(split.inputs).detach().squeeze(1), 0, "its own outputs")
    G = curvature.gauss_newton(model, HalfSquaredError(), interpolated)
    found = flatness.shaped_response(model, HalfSquaredError(), interpolated, G, radius=1e-3, draws=400)
    assert abs(found.value - G.square().sum().item()) < 4 * found.standard_error


# --- Keskar and SAM ----------------------------------------------------------------------------------------------


@anytime
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.sampled_from([1e-3, 5e-4, 0.1]), st.floats(0, 5))
def test_keskar_of_a_diagonal_quadratic(weights, epsilon, base):
    # at its minimum w: (1/2) sum h_i (epsilon (|w_i| + 1))^2 / (1 + f), reached in a corner of the box
    h, w = torch.tensor([3.0, 0.5, 1.0, 7.0], dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
    found = flatness.keskar(Landscape(torch.diag(h), at=w, centre=w, base=base), Height(), POINT, epsilon=epsilon)
    half = epsilon * (w.abs() + 1)
    expected = (0.5 * (h * half**2).sum() / (1 + base)).item()
    assert found.value == pytest.approx(expected, rel=1e-6, abs=1e-14)
    assert torch.allclose(found.perturbation.abs(), half)


def test_keskar_stays_in_the_box_and_above_zero():
    H = psd(6)
    for seed in range(5):
        found = flatness.keskar(Landscape(H, at=0.4), Height(), POINT, epsilon=0.05, seed=seed)
        assert (found.perturbation.abs() <= 0.05 * 1.4 + 1e-15).all()
        assert found.increase > 0
        assert found.value == pytest.approx(found.increase / (1 + 0.5 * 0.16 * H.sum().item()))
    peak = flatness.keskar(Landscape(-torch.eye(3, dtype=torch.float64)), Height(), POINT)
    assert peak.value == 0
    assert not peak.perturbation.any()
    # here the ascent runs into a corner that lies below the centre of the box: -x^2 + 90 x^4 at x = 0.1
    rimmed = Landscape(-2 * torch.eye(4, dtype=torch.float64), quartic=90.0)
    assert flatness.keskar(rimmed, Height(), POINT, epsilon=0.1).value >= 0


def test_keskar_in_a_subspace():
    # A z with A = 2 I: |z| <= epsilon (|w / 2| + 1)
    h, w = torch.tensor([3.0, 0.5], dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    A = 2 * torch.eye(2, dtype=torch.float64)
    found = flatness.keskar(Landscape(torch.diag(h), at=w, centre=w), Height(), POINT, epsilon=0.1, basis=A)
    half = 2 * 0.1 * (w.abs() / 2 + 1)
    assert found.value == pytest.approx(0.5 * (h * half**2).sum().item(), rel=1e-6)
    # one column: only the first coordinate may move
    found = flatness.keskar(Landscape(torch.diag(h), at=w, centre=w), Height(), POINT, epsilon=0.1, basis=A[:, :1])
    assert found.perturbation[1] == 0
    assert found.value == pytest.approx(0.5 * 3 * 0.3**2, rel=1e-6)


def test_keskar_limits_its_iterations():
    model, split = scalar_network()
    few, more = (flatness.keskar(model, HalfSquaredError(), split, epsilon=0.3, iterations=k) for k in (1, 50))
    assert few.iterations == 1
    assert more.value > few.value > 0


def test_sam_sharpness_of_a_quadratic():
    H, w = psd(4), torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    g = H @ w
    expected = (0.2 * g.norm() + 0.5 * 0.2**2 * (g @ H @ g) / g.norm() ** 2).item()
    assert flatness.sam_sharpness(Landscape(H, at=w), Height(), POINT, rho=0.2) == pytest.approx(expected, abs=1e-12)


def test_sam_sharpness_is_at_most_the_worst_case():
    model, split = scalar_network()
    for radius in 0.05, 0.5:
        worst = flatness.worst_case_response(model, HalfSquaredError(), split, radius=radius).increase
        assert 0 < flatness.sam_sharpness(model, HalfSquaredError(), split, rho=radius) <= worst + 1e-9


# --- matrices ------------------------------------------------------------------------------------------------------


def test_hessian_of_squared_error_has_two_parts():
    model, split = scalar_network()
    parts = flatness.squared_error_hessian(model, split)
    H = curvature.hessian(model, HalfSquaredError(), split)
    assert torch.allclose(parts.total, H, atol=1e-12)
    assert parts.residual.norm() > 0.01 * H.norm()
    gradients = []
    for i in range(6):
        rows = torch.autograd.grad(model(split.inputs[i : i + 1]).squeeze(), list(model.parameters()))
        gradients.append(torch.cat([row.reshape(-1) for row in rows]))
    J = torch.stack(gradients)
    assert torch.allclose(parts.gauss_newton, J.T @ J / 6, atol=1e-12)
    # the empirical Fisher in the usual sense has the squared residuals in it
    e = model(split.inputs).squeeze(1).detach() - split.targets
    fisher = flatness.empirical_fisher(model, HalfSquaredError(), split)
    assert torch.allclose(fisher, (e[:, None] * J).T @ (e[:, None] * J) / 6, atol=1e-12)


def test_residual_part_vanishes_at_interpolation():
    model, split = scalar_network()
    interpolated = Split(split.inputs, model(split.inputs).detach().squeeze(1), 0, "its own outputs")
    parts = flatness.squared_error_hessian(model, interpolated)
    assert parts.residual.abs().max() < 4e-16
    assert not flatness.empirical_fisher(model, HalfSquaredError(), interpolated).any()


def test_residual_part_of_a_relu_network_has_no_diagonal():
    model, split = scalar_network(nn.ReLU)
    parts = flatness.squared_error_hessian(model, split)
    assert not parts.residual.diagonal().any()
    assert parts.residual.any()


# --- what must stay ------------------------------------------------------------------------------------------------


MEASURES = {
    "worst case": lambda m, s: flatness.worst_case_response(m, ClippedCrossEntropy(20.0), s, radius=0.1).value,
    "isotropic": lambda m, s: flatness.isotropic_response(m, ClippedCrossEntropy(20.0), s, radius=0.1, draws=5).value,
    "keskar": lambda m, s: flatness.keskar(m, ClippedCrossEntropy(20.0), s).value,
    "sam": lambda m, s: flatness.sam_sharpness(m, ClippedCrossEntropy(20.0), s, rho=0.1),
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures_leave_the_model_and_ignore_the_order_of_examples(name):
    torch.manual_seed(1)
    model = models.mlp(3, 4, 3).double().eval()
    split = Split(torch.randn(8, 3, dtype=torch.float64), torch.randint(3, (8,)), 3, "noise")
    before = copy.deepcopy(model.state_dict())
    value = MEASURES[name](model, split)
    assert all(torch.equal(before[key], now) for key, now in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert MEASURES[name](model, split.take(torch.randperm(8))) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_single_precision_models_work(name):
    torch.manual_seed(1)
    model = models.mlp(3, 4, 3).eval()
    split = Split(torch.randn(8, 3), torch.randint(3, (8,)), 3, "noise")
    expected = MEASURES[name](copy.deepcopy(model).double(), split)
    assert MEASURES[name](model, split) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", MEASURES)
def test_training_mode_is_refused(name):
    model = models.mlp(3, 4, 3).double().train()
    split = Split(torch.randn(8, 3, dtype=torch.float64), torch.randint(3, (8,)), 3, "noise")
    with pytest.raises(ValueError, match="training mode"):
        MEASURES[name](model, split)


def test_refusals():
    flat, arguments = Landscape(torch.eye(2, dtype=torch.float64)), (Height(), POINT)
    with pytest.raises(ValueError, match="radius must be"):
        flatness.worst_case_response(flat, *arguments, radius=0.0)
    with pytest.raises(ValueError, match="starts must be"):
        flatness.worst_case_response(flat, *arguments, radius=0.1, starts=0)
    with pytest.raises(ValueError, match="radius must be"):
        flatness.isotropic_response(flat, *arguments, radius=-1.0)
    with pytest.raises(ValueError, match="draws must be a whole number of at least 2"):
        flatness.isotropic_response(flat, *arguments, radius=0.1, draws=1)
    with pytest.raises(ValueError, match="positive semi-definite shape, this one has eigenvalue -1"):
        flatness.shaped_response(flat, *arguments, torch.diag(torch.tensor([-1.0, 2.0])), radius=0.1)
    with pytest.raises(ValueError, match=r"shape must be \(d, d\), got \(3, 3\)"):
        flatness.shaped_response(flat, *arguments, torch.eye(3), radius=0.1)
    with pytest.raises(ValueError, match="epsilon must be"):
        flatness.keskar(flat, *arguments, epsilon=0.0)
    with pytest.raises(ValueError, match="iterations must be"):
        flatness.keskar(flat, *arguments, iterations=0)
    with pytest.raises(ValueError, match="d = 2 weights, the basis has 3 rows"):
        flatness.keskar(flat, *arguments, basis=torch.eye(3))
    with pytest.raises(ValueError, match="gradient is zero"):
        flatness.sam_sharpness(flat, *arguments, rho=0.1)
    with pytest.raises(ValueError, match="rho must be"):
        flatness.sam_sharpness(Landscape(torch.eye(2, dtype=torch.float64), at=1.0), *arguments, rho=0.0)
    two, split = nn.Linear(3, 2).double().eval(), Split(torch.ones(4, 3), torch.zeros(4), 0, "ones")
    with pytest.raises(ValueError, match="one output an example"):
        flatness.squared_error_hessian(two, split)


# --- what flatness is said to have to do with ---------------------------------------------------------------


@anytime
@given(st.integers(0, 100))
def test_gradients_in_the_inputs_are_at_most_those_in_the_first_weights(seed):
    """f = h(W x): with delta = grad h, grad_x f = W^T delta and ||grad_W f|| = ||delta|| ||x||."""
    torch.manual_seed(seed)
    first = nn.Linear(5, 4, bias=False).double()
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    by_weight, by_input = torch.autograd.grad(model(x), (first.weight, x))
    assert by_input.norm() <= torch.linalg.matrix_norm(first.weight, 2) * by_weight.norm() / x.norm() + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_keskar_is_the_largest_eigenvalue_up_to_the_size_of_the_box(seed):
    """The box holds a ball of radius epsilon and lies in one of radius epsilon ||(|w| + 1)||."""
    H, epsilon = psd(4, seed), 1e-2
    w = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    model = Landscape(H, at=w, centre=w)
    found = max(
        flatness.keskar(model, Height(), POINT, epsilon=epsilon, iterations=200, seed=start).value for start in range(4)
    )
    largest = torch.linalg.eigvalsh(H)[-1].item()
    box = (w.abs() + 1).square().sum().item()
    assert 0.5 * largest * epsilon**2 * (1 - 1e-6) <= found <= 0.5 * largest * epsilon**2 * box * (1 + 1e-6)


def test_the_test_loss_bends_where_the_training_loss_is_flat():
    """The remark on figure 7: along flat directions the two losses part, along sharp ones they go together."""
    torch.manual_seed(0)
    digits, loss = data.load("digits"), ClippedCrossEntropy.per_class(10)
    sample, fresh = data.disjoint(digits, 2, 200, seed=0)
    run = training.train_ensemble(
        lambda: models.mlp(64, 8, 10), [sample], epochs=150, batch_size=20, lr=0.2, seed=0
    )  # fmt: skip
    model = run.models[0].eval()
    H, fresh_H = (curvature.hessian(model, loss, split).double() for split in (sample, fresh))
    values, vectors = torch.linalg.eigh(H)
    bend = ((vectors.T @ fresh_H) * vectors.T).sum(1) / values.clamp(min=1e-12)
    sharp, flat = bend[-5:], bend[(values > 1e-6) & (values < 1e-3 * values[-1])]
    assert flat.median() > 3 * sharp.median()
