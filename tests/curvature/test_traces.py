import numpy as np
import pytest
import torch
from instances import CLIPPED, images, network, residual_network, sample
from torch import nn

from helpers import curvature, data, models
from helpers.losses import ClippedCrossEntropy, HalfSquaredError, ZeroOneError

RELU = network(width=6), sample()
TANH = network(nn.Tanh, width=6), sample()
RESIDUAL = residual_network(), images()


def test_exact_is_the_trace_of_the_dense_hessian():
    model, split = TANH
    estimate = curvature.trace(model, CLIPPED, split)
    assert estimate.method == "exact"
    assert estimate.standard_error == 0
    assert estimate.value == pytest.approx(torch.trace(curvature.hessian(model, CLIPPED, split)).item(), rel=1e-12)


@pytest.mark.parametrize("model_and_split", [RELU, RESIDUAL], ids=["relu", "residual"])
@pytest.mark.parametrize("loss", [CLIPPED, ClippedCrossEntropy(1.2)], ids=["open", "clipping"])
def test_piecewise_affine_networks_have_the_gauss_newton_trace(model_and_split, loss):
    """Tr H = Tr GGN: the identity that spares the Hessian products."""
    model, split = model_and_split
    diagonal = 0.0
    w = models.weights(model)
    if len(w) <= 200:
        diagonal = torch.trace(curvature.hessian(model, loss, split)).item()
        expected = torch.trace(curvature.gauss_newton(model, loss, split)).item()
        assert diagonal == pytest.approx(expected, rel=1e-10)
    affine, reason = curvature.is_piecewise_affine(model, split)
    assert affine, reason


@pytest.mark.parametrize("method", ["gauss-newton", "hutchinson"])
def test_estimates_are_unbiased_and_their_standard_error_is_right(method):
    model, split = RELU
    exact = curvature.trace(model, CLIPPED, split, method="exact").value
    estimates = [curvature.trace(model, CLIPPED, split, method=method, rtol=1e-9 + 10, seed=s) for s in range(200)]
    values = np.array([estimate.value for estimate in estimates])
    spread = values.std(ddof=1)
    assert abs(values.mean() - exact) < 4 * spread / len(values) ** 0.5
    stated = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert stated == pytest.approx(spread, rel=0.2)


def test_squared_loss_has_its_own_sketch():
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1)).double().eval()
    split = sample()
    split = data.Split(split.inputs, split.inputs[:, 0], 0, "regression")
    exact = curvature.trace(net, HalfSquaredError(), split, method="exact").value
    estimate = curvature.trace(net, HalfSquaredError(), split, method="gauss-newton", rtol=0.05)
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    assert estimate.standard_error <= 0.05 * estimate.value


def test_tighter_tolerance_costs_more_and_holds():
    model, split = RELU
    loose, tight = (curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=r) for r in (0.5, 0.1))
    assert tight.probes > loose.probes
    assert tight.standard_error <= 0.1 * abs(tight.value)


def test_same_seed_same_value():
    model, split = RESIDUAL
    first, again, other = (
        curvature.trace(model, CLIPPED, split, method="gauss-newton", seed=s).value for s in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.Softplus])
def test_smooth_activations_are_found_out(activation):
    affine, reason = curvature.is_piecewise_affine(network(activation), sample())
    assert not affine
    assert "not affine in '1.weight'" in reason


def test_a_smooth_activation_late_in_the_network_is_found_out():
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)]
    assert not curvature.is_piecewise_affine(nn.Sequential(*layers).double().eval(), sample())[0]


class Tied(nn.Module):
    """One weight matrix used twice: quadratic in it, although every activation is a ReLU."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))[:, :3]


def test_shared_weights_are_found_out():
    torch.manual_seed(0)
    assert not curvature.is_piecewise_affine(Tied().double().eval(), sample())[0]


def test_auto_says_why_it_chose(monkeypatch):
    wide_relu, wide_tanh = network(width=100), network(nn.Tanh, width=100)
    split = sample()
    assert curvature.trace(wide_relu, CLIPPED, split).method == "gauss-newton"
    fallback = curvature.trace(wide_tanh, CLIPPED, split)
    assert fallback.method == "hutchinson"
    assert "not affine" in fallback.reason
    assert curvature.trace(network(), CLIPPED, split).reason == "d = 39 is small"


def test_a_fully_clipped_sample_has_zero_trace():
    model, split = network(width=100, scale=50.0), sample()
    wrong = data.Split(split.inputs, model(split.inputs).argmin(1), 3, "wrong")
    estimate = curvature.trace(model, ClippedCrossEntropy(0.5), wrong, method="gauss-newton")
    assert (estimate.value, estimate.standard_error) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lanczos"}, "no trace method 'lanczos'"),
        ({"rtol": 0}, "rtol must be positive"),
        ({"method": "gauss-newton", "loss": ZeroOneError()}, "use method='hutchinson'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    loss = arguments.pop("loss", CLIPPED)
    with pytest.raises(ValueError, match=message):
        curvature.trace(*RELU[:1], loss, RELU[1], **arguments)
