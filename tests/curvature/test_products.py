import warnings

import pytest
import torch
from instances import CLIPPED, images, network, residual_network, sample, total_loss
from torch import nn

from helpers import curvature, data, models
from helpers.curvature import batches, routes
from helpers.losses import ClippedCrossEntropy, HalfSquaredError, ZeroOneError

CASES = {
    "relu": (network(), sample()),
    "tanh": (network(nn.Tanh), sample()),
    "residual": (residual_network(), images()),
}


def one_by_one(model, loss, split):
    """The dense Hessian of the mean loss by torch.func, all examples at once: the slow twin."""
    return torch.func.hessian(total_loss(model, loss, split))(models.weights(model))


@pytest.fixture(params=["relu", "tanh"])
def small(request):
    return CASES[request.param]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_gradient_is_the_mean_over_examples_whatever_the_batching(case, batch, monkeypatch):
    model, split = CASES[case]
    expected = torch.func.grad(total_loss(model, CLIPPED, split))(models.weights(model))
    monkeypatch.setitem(batches.BATCH, "cpu", batch)
    torch.testing.assert_close(curvature.gradient(model, CLIPPED, split), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_hessian_products_match_the_dense_hessian(small, batch, monkeypatch):
    model, split = small
    monkeypatch.setitem(batches.BATCH, "cpu", batch)
    H = one_by_one(model, CLIPPED, split)
    block = torch.randn(len(H), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, block), H @ block, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        curvature.hvp(model, CLIPPED, split, block[:, 1]), H @ block[:, 1], rtol=1e-10, atol=1e-12
    )
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), H, rtol=1e-10, atol=1e-12)


def test_hvp_is_the_derivative_of_the_gradient_on_a_residual_network():
    model, split = CASES["residual"]
    w = models.weights(model)
    v = torch.randn(len(w), dtype=w.dtype, generator=torch.Generator().manual_seed(1))
    slopes = []
    for step in (1e-6, -1e-6):
        with models.at(model, w + step * v):
            slopes.append(curvature.gradient(model, CLIPPED, split))
    difference = (slopes[0] - slopes[1]) / 2e-6
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), difference, rtol=1e-5, atol=1e-6)


class Recurrent(nn.Module):
    """An operation without a forward derivative."""

    def __init__(self):
        super().__init__()
        self.cells, self.top = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.top(self.cells(x[..., None])[0][:, -1])


class Tied(nn.Module):
    """Two layers that share a parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.top = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.top(self.second(torch.tanh(self.first(x))))


ARCHITECTURES = {
    "relu": (network, True),
    "in-place": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)), True),
    "gelu": (lambda: network(nn.GELU), True),
    "layer used twice": (lambda: nn.Sequential(*[nn.Linear(5, 5)] * 2, nn.Tanh(), nn.Linear(5, 3)), True),
    "tied weights": (Tied, False),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)), False),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_products_are_right_whichever_way_the_network_allows(name):
    torch.manual_seed(0)
    make, forward = ARCHITECTURES[name]
    model, split = make().double().eval(), sample(7)
    before = list(model.parameters())
    chosen = routes.trusted_product(model, split)
    assert all(p is q for p, q in zip(model.parameters(), before, strict=True))
    assert chosen is (routes.reverse_over_forward if forward else routes.reverse_over_reverse)
    v = torch.randn(len(models.weights(model)), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        curvature.hvp(model, CLIPPED, split, v), curvature.hessian(model, CLIPPED, split) @ v, rtol=1e-10, atol=1e-12
    )


def test_an_operation_without_forward_derivative_is_multiplied_backwards():
    torch.manual_seed(0)
    model, split = Recurrent().eval(), sample(7)
    assert routes.trusted_product(model, split) is routes.reverse_over_reverse  # in float32: oneDNN has none
    v = models.weights(model)
    found = curvature.hvp(model, CLIPPED, split, v)
    exact = curvature.hessian(model.double(), CLIPPED, split) @ v.double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


def test_a_loss_without_derivative_or_curvature_has_zero_products():
    model, split = network(), sample()
    v = models.weights(model)
    assert not curvature.hvp(model, ZeroOneError(), split, v).any()
    linear = models.linear(5, 1).double().eval()
    for multiply in (routes.reverse_over_forward, routes.reverse_over_reverse):
        assert not multiply(linear, lambda outputs, targets: outputs[:, 0], split, models.weights(linear)).any()


class Small(nn.Module):
    """A network on a device that holds so many examples at a time."""

    def __init__(self, model, most):
        super().__init__()
        self.model, self.most = model, most

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("simulated")
        return self.model(x)


def test_running_out_of_memory_halves_the_batch_and_says_so(small):
    model, split = small
    v = models.weights(model)
    for function in (curvature.values, curvature.gradient, lambda *a: curvature.hvp(*a, v)):
        tight = Small(model, 5).eval()
        with pytest.warns(UserWarning, match="out of memory: going on with batches of 5 examples"):
            found = function(tight, CLIPPED, split)
        with warnings.catch_warnings(action="error"):  # what fitted is remembered
            function(tight, CLIPPED, split)
        torch.testing.assert_close(found, function(model, CLIPPED, split), rtol=1e-12, atol=1e-14)
    with pytest.raises(torch.OutOfMemoryError, match="simulated"):
        curvature.gradient(Small(model, 0).eval(), CLIPPED, split)


def test_order_of_examples_does_not_matter(small):
    model, split = small
    turned = split.take(torch.randperm(len(split)))
    v = models.weights(model)
    for function in (curvature.gradient, lambda *a: curvature.hvp(*a, v), curvature.gauss_newton):
        torch.testing.assert_close(
            function(model, CLIPPED, split), function(model, CLIPPED, turned), rtol=1e-10, atol=1e-12
        )


def test_per_example_gradients_average_to_the_gradient(small):
    model, split = small
    rows = curvature.per_example_gradients(model, CLIPPED, split)
    assert rows.shape == (len(split), len(models.weights(model)))
    torch.testing.assert_close(rows.mean(0), curvature.gradient(model, CLIPPED, split), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(rows[3], curvature.gradient(model, CLIPPED, split.take(torch.tensor([3]))))


def test_gauss_newton_equals_the_hessian_where_residuals_vanish_and_for_linear_models():
    torch.manual_seed(0)
    linear, split = models.linear(5, 3).double().eval(), sample()
    torch.testing.assert_close(
        curvature.gauss_newton(linear, CLIPPED, split), curvature.hessian(linear, CLIPPED, split), rtol=1e-9, atol=1e-12
    )
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).double().eval()
    fitted = data.Split(split.inputs, net(split.inputs).detach()[:, 0], 0, "interpolated")
    torch.testing.assert_close(
        curvature.gauss_newton(net, HalfSquaredError(), fitted),
        curvature.hessian(net, HalfSquaredError(), fitted),
        rtol=1e-9,
        atol=1e-12,
    )


def test_clipped_examples_have_no_curvature():
    model, split = network(scale=6.0), sample()
    loss = ClippedCrossEntropy(1.0)
    clipped = curvature.values(model, loss, split) >= 1.0
    assert 0 < clipped.sum() < len(split)
    rest = split.take((~clipped).nonzero().flatten())
    share = len(rest) / len(split)
    for function in (curvature.gradient, curvature.hessian, curvature.gauss_newton):
        torch.testing.assert_close(
            function(model, loss, split), share * function(model, loss, rest), rtol=1e-9, atol=1e-12
        )


def test_models_are_left_as_they_were_found():
    model, split = residual_network(), images()
    next(model.parameters()).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    v = torch.ones(len(models.weights(model)), dtype=torch.float64)
    curvature.gradient(model, CLIPPED, split)
    curvature.hvp(model, CLIPPED, split, v)
    for method in ("gauss-newton", "hutchinson"):
        curvature.trace(model, CLIPPED, split, method=method, rtol=10)
    curvature.extreme_eigenvalues(model, CLIPPED, split, max_iterations=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
    assert not model.training


def test_dtype_is_kept_and_inputs_follow_the_model():
    model, split = network().float(), sample()
    assert split.inputs.dtype == torch.float64
    v = models.weights(model)
    assert curvature.gradient(model, CLIPPED, split).dtype == torch.float32
    assert curvature.hvp(model, CLIPPED, split, v).dtype == torch.float32
    exact = curvature.hvp(network(), CLIPPED, split, v.double())
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v).double(), exact, rtol=1e-4, atol=1e-6)


def test_training_mode_is_refused_with_a_reason():
    model = residual_network()
    model[1].train()
    with pytest.raises(ValueError, match=r"training mode.*call model\.eval\(\) first"):
        curvature.gradient(model, CLIPPED, images())


def test_dense_work_has_a_limit():
    with pytest.raises(ValueError, match="use hvp or trace instead"):
        curvature.hessian(models.mlp(64, 100, 10).eval(), CLIPPED, sample(inputs=64))
    with pytest.raises(ValueError, match="the vector has shape"):
        curvature.hvp(network(), CLIPPED, sample(), torch.ones(3, dtype=torch.float64))


class SumOfOutputs:
    """Linear in the outputs: the gradient does not depend on the last bias."""

    R = 1.0

    def __call__(self, outputs, targets):
        return outputs.sum(1)


def test_a_parameter_without_curvature_has_zero_rows():
    model, split = network(nn.Tanh), sample()
    H = curvature.hessian(model, SumOfOutputs(), split)
    torch.testing.assert_close(H, one_by_one(model, SumOfOutputs(), split), rtol=1e-10, atol=1e-12)
    assert (H[-3:] == 0).all()
