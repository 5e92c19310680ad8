"""Rescaling, norms and memorising networks: exact identities, and the cube enumerated."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import curvature, models, relu_minima
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy, HalfSquaredError
from helpers.relu_minima import TwoLayer

anytime = settings(deadline=None)  # a busy machine is not a failure


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def corners(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """n different random points of {+-1}^d."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randint(0, 2, (n, d), generator=g).double() * 2 - 1
        if len(x.unique(dim=0)) == n:
            return x


def cube(d: int) -> torch.Tensor:
    return torch.tensor(list(product([-1.0, 1.0], repeat=d)), dtype=torch.float64)


def as_module(net: TwoLayer) -> nn.Module:
    m, d = net.w.shape
    model = nn.Sequential(nn.Linear(d, m, bias=net.b is not None), nn.ReLU(), nn.Linear(m, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(net.w)
        model[2].weight.copy_(net.a[None])
        if net.b is not None:
            model[0].bias.copy_(net.b)
    return model.eval()


five = st.lists(st.floats(0.1, 10), min_size=5, max_size=5).map(lambda t: torch.tensor(t, dtype=torch.float64))


# --- the toy landscape ---------------------------------------------------------------------------------------------


@anytime
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_toy_hessian_is_autograds(a, w):
    expected = torch.func.hessian(lambda v: 0.5 * (v[0] * v[1] - 1) ** 2)(torch.tensor([a, w], dtype=torch.float64))
    assert torch.allclose(relu_minima.toy_hessian(a, w), expected, atol=1e-12)


@anytime
@given(st.floats(0.05, 20))
def test_toy_minima_have_rank_one_and_sharpness_of_at_least_two(t):
    assert relu_minima.toy_loss(t, 1 / t) == pytest.approx(0, abs=1e-20)
    assert relu_minima.toy_hessian(t, 1 / t).tolist() == [
        [pytest.approx(t**-2), pytest.approx(1)], [pytest.approx(1), pytest.approx(t**2)]
    ]  # fmt: skip
    flat, sharp = torch.linalg.eigvalsh(relu_minima.toy_hessian(t, 1 / t)).tolist()
    assert flat == pytest.approx(0, abs=1e-9)
    assert sharp == pytest.approx(t**2 + t**-2, rel=1e-9)
    assert sharp >= 2 - 1e-9


def test_a_landscape_with_global_minima_a_saddle_and_a_bad_local_minimum():
    """The toy loss at aw = 1 and at 0; a ReLU unit whose threshold no input reaches, stuck at loss 1/2."""
    for a in (0.5, 1.0, -3.0):
        assert relu_minima.toy_loss(a, 1 / a) == pytest.approx(0)
    low, high = torch.linalg.eigvalsh(relu_minima.toy_hessian(0.0, 0.0))
    assert low < 0 < high

    def loss(unit):
        a, w, b = unit
        return 0.5 * (a * torch.relu(w * torch.tensor([-1.0, 1.0]) + b) - 1).square().mean()

    stuck, moves = torch.tensor([1.0, 1.0, -4.0]), normal(1000, 3, seed=1)
    nearby = torch.stack([loss(stuck + move / move.norm()) for move in moves])
    assert (nearby == 0.5).all()
    assert loss(torch.tensor([1.0, 0.0, 1.0])) == 0


def test_toy_loss_off_the_minimum():
    assert relu_minima.toy_loss(2.0, 3.0) == pytest.approx(12.5)


# --- rescaling of deep networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("factor", [7.0, torch.tensor([0.1, 1.0, 5.0, 20.0])])
def test_rescaling_keeps_the_function_and_moves_the_curvature(layer, factor):
    torch.manual_seed(2)
    model = models.mlp(3, 4, 2, depth=2).double().eval()
    split = Split(normal(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]), 2, "noise")
    before = models.weights(model)
    twin = relu_minima.rescale(model, factor, layer=layer)
    assert torch.allclose(twin(split.inputs), model(split.inputs), atol=1e-12)
    assert torch.equal(models.weights(model), before)
    affine = [[m for m in net if isinstance(m, nn.Linear)] for net in (model, twin)]
    factor = torch.as_tensor(factor, dtype=torch.float64)
    assert torch.allclose(affine[1][layer].weight, affine[0][layer].weight * factor.reshape(-1, 1))
    assert torch.allclose(affine[1][layer].bias, affine[0][layer].bias * factor)
    assert torch.allclose(affine[1][layer + 1].weight, affine[0][layer + 1].weight / factor)
    traces = [curvature.trace(net, ClippedCrossEntropy(20.0), split).value for net in (model, twin)]
    assert abs(traces[1] / traces[0] - 1) > 0.1


def test_convolutional_networks_can_be_rescaled():
    torch.manual_seed(0)
    model = models.cnn(2, classes=3, channels=1, size=8).double().eval()
    x = normal(4, 1, 8, 8)
    for layer, factor in [(0, torch.tensor([0.3, 4.0])), (2, 5.0), (3, 0.2)]:
        assert torch.allclose(relu_minima.rescale(model, factor, layer=layer)(x), model(x), atol=1e-12)


def test_rescaling_refuses_what_would_change_the_function():
    net = models.mlp(3, 4, 2)
    with pytest.raises(ValueError, match=r"2 affine layers; layer must lie in \[0, 0\]"):
        relu_minima.rescale(net, 2.0, layer=1)
    with pytest.raises(ValueError, match="every factor must be positive"):
        relu_minima.rescale(net, -1.0)
    with pytest.raises(ValueError, match="one factor for each"):
        relu_minima.rescale(net, torch.ones(3))
    with pytest.raises(ValueError, match="pass on 2 and take 8 values"):
        relu_minima.rescale(nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten(), nn.Linear(8, 1)), torch.ones(2))
    with pytest.raises(ValueError, match="Tanh between the layers"):
        relu_minima.rescale(models.mlp(3, 4, 2, activation=nn.Tanh), 2.0)
    with pytest.raises(ValueError, match="BatchNorm1d between the layers"):
        relu_minima.rescale(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)), 2.0)
    relu = nn.ReLU()
    tanh = nn.Tanh()
    reused = nn.Sequential(nn.Linear(3, 3), tanh, nn.Linear(3, 3), relu, nn.Linear(3, 3), tanh, nn.Linear(3, 1))
    with pytest.raises(ValueError, match="Tanh between the layers"):
        relu_minima.rescale(reused, 2.0, layer=2)
    shared = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="used twice"):
        relu_minima.rescale(nn.Sequential(shared, relu, shared), 2.0)
    with pytest.raises(ValueError, match="may run its parts otherwise"):
        relu_minima.rescale(nn.Sequential(nn.Linear(3, 3), nn.TransformerEncoderLayer(3, 1), nn.Linear(3, 3)), 2.0)


# --- two-layer networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", [False, True])
def test_gradient_trace_is_that_of_the_gauss_newton_matrix(biases):
    net = TwoLayer(normal(5), normal(5, 3, seed=1), normal(5, seed=2) if biases else None)
    x = normal(7, 3, seed=3)
    model, split = as_module(net), Split(x, normal(7), 0, "noise")
    assert torch.allclose(model(x).squeeze(1), net(x), atol=1e-13)
    expected = curvature.gauss_newton(model, HalfSquaredError(), split).trace().item()
    assert relu_minima.gradient_trace(net, x) == pytest.approx(expected, rel=1e-12)


@anytime
@given(five)
def test_flattest_rescaling_beats_all_others(t):
    net, x = TwoLayer(normal(5), normal(5, 3, seed=1), normal(5, seed=2)), normal(7, 3, seed=3)
    flattest = relu_minima.flattest_rescaling(net, x)
    assert torch.allclose(flattest(x), net(x), atol=1e-12)
    lowest = relu_minima.gradient_trace(flattest, x)
    other = flattest.rescaled(t)
    assert torch.allclose(other(x), net(x), atol=1e-10)
    assert relu_minima.gradient_trace(other, x) >= lowest - 1e-10
    again = relu_minima.flattest_rescaling(other, x)
    assert torch.allclose(again.w, flattest.w)


def test_idle_units_stay_and_useless_ones_are_refused():
    net = TwoLayer(torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [1.0]]), torch.tensor([0.0, -9.0]))
    x = torch.tensor([[1.0]])
    assert relu_minima.flattest_rescaling(net, x).w[1] == 1
    with pytest.raises(ValueError, match="a_j = 0 is active"):
        relu_minima.flattest_rescaling(TwoLayer(torch.zeros(2), net.w, net.b), x)


def test_sphere_trace_is_the_mean_over_the_sphere():
    d, n = 6, 40_000
    net = TwoLayer(normal(4), normal(4, d, seed=1))
    x = normal(n, d, seed=2)
    x = math.sqrt(d) * x / x.norm(dim=1, keepdim=True)
    single = torch.tensor([relu_minima.gradient_trace(net, row[None]) for row in x[:2000]])
    assert abs(single.mean().item() - relu_minima.sphere_trace(net)) < 4 * single.std().item() / 2000**0.5
    # x and -x together activate each unit once: the mean over such pairs of a rotated basis is exact in the second part
    axes = math.sqrt(d) * torch.linalg.qr(normal(d, d, seed=3)).Q
    assert relu_minima.gradient_trace(net, torch.cat([axes, -axes])) == pytest.approx(
        relu_minima.sphere_trace(net), rel=1e-12
    )
    assert relu_minima.gradient_trace(net, x) == pytest.approx(relu_minima.sphere_trace(net), rel=0.02)


def test_norms_by_hand():
    net = TwoLayer(torch.tensor([2.0, -1.0]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert relu_minima.path_norm(net) == pytest.approx(11)
    assert relu_minima.weighted_norm(net, 3.0) == pytest.approx(math.sqrt(26 + 3 * 5))
    assert relu_minima.sphere_trace(net) == pytest.approx(0.5 * (26 + 2 * 5))


def test_norms_of_the_curvature_are_of_second_degree_in_the_weights():
    """Trace, Frobenius and spectral norm of G grow as c^2, the weighted norm with its root as c: no constant serves."""
    split = Split(normal(30, 4, seed=2), normal(30), 0, "noise")
    nets = [TwoLayer(c * normal(6), c * normal(6, 4, seed=1)) for c in (1.0, 10.0)]
    curved = [curvature.gauss_newton(as_module(net), HalfSquaredError(), split) for net in nets]
    for norm in (torch.trace, torch.linalg.matrix_norm, lambda G: torch.linalg.matrix_norm(G, 2)):
        small, large = (norm(G).item() for G in curved)
        assert large == pytest.approx(100 * small)
        for q in (4.0, 2.0, 1.0):
            one, other = (relu_minima.weighted_norm(net, q) for net in nets)
            assert other == pytest.approx(10 * one)
            assert large / other**2 == pytest.approx(small / one**2)


@anytime
@given(five, st.floats(0.1, 50))
def test_path_norm_is_the_weighted_norm_at_balance(t, q):
    net = TwoLayer(normal(5), normal(5, 3, seed=1)).rescaled(t)
    path = relu_minima.path_norm(net)
    assert path == pytest.approx(relu_minima.path_norm(TwoLayer(normal(5), normal(5, 3, seed=1))), rel=1e-9)
    assert path <= relu_minima.weighted_norm(net, q) ** 2 / (2 * math.sqrt(q)) * (1 + 1e-9)
    even = relu_minima.balanced(net, q)
    assert path == pytest.approx(relu_minima.weighted_norm(even, q) ** 2 / (2 * math.sqrt(q)), rel=1e-9)
    assert torch.allclose(even.w.norm(dim=1), q**0.5 * even.a.abs())
    x = normal(4, 3, seed=5)
    assert torch.allclose(even(x), net(x), atol=1e-9)


def test_balance_at_q_d_is_the_flattest_on_the_sphere():
    net = TwoLayer(normal(5), normal(5, 3, seed=1))
    lowest = relu_minima.sphere_trace(relu_minima.balanced(net, 3))
    assert lowest == pytest.approx(math.sqrt(3) * relu_minima.path_norm(net), rel=1e-12)
    assert lowest < relu_minima.sphere_trace(net)


# --- memorising networks ----------------------------------------------------------------------------------------------


def test_memorising_network_of_the_slides():
    n, d = 60, 200
    x, y = corners(n, d), normal(n, seed=1)
    net = relu_minima.memorising(x, y, radius=d / 4)
    # the slides' weights
    assert torch.allclose(net.w, x / x.norm(dim=1, keepdim=True))
    assert torch.allclose(net.b, torch.full((n,), -0.5 * math.sqrt(d), dtype=torch.float64))
    assert torch.allclose(net.a, y / (0.5 * math.sqrt(d)))
    # it interpolates, each point activating its own unit
    assert torch.allclose(net(x), y, atol=1e-12)
    assert torch.equal(net.activations(x) > 0, torch.eye(n, dtype=torch.bool))
    # and fires within Hamming distance < d / 4 of a training point, not only there
    flipped = x.clone()
    flipped[:, : d // 5] *= -1
    assert ((net.activations(flipped) > 0).diagonal()).all()
    flipped = x.clone()
    flipped[:, : d // 4] *= -1
    assert not ((net.activations(flipped) > 0).diagonal()).any()


def test_flattest_rescaling_of_the_slides_network():
    # d = 200, |y| = 1: ||grad f||^2 = d/4 + 4 (d+1)/d = 54.02 against 2 sqrt(d+1) = 28.35
    x, y = corners(20, 200), torch.sign(normal(20))
    net = relu_minima.memorising(x, y, radius=50)
    assert relu_minima.gradient_trace(net, x) == pytest.approx(54.02, abs=1e-9)
    flattest = relu_minima.flattest_rescaling(net, x)
    assert relu_minima.gradient_trace(flattest, x) == pytest.approx(2 * math.sqrt(201), abs=1e-9)
    assert relu_minima.smallest_trace(x, y) == pytest.approx(28.3549, abs=1e-4)
    assert torch.allclose(flattest.activations(x).diagonal(), torch.full((20,), 201**0.25, dtype=torch.float64))


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_memorising_networks_attain_the_smallest_trace(radius):
    x = torch.tensor([[1.0] * 9, [-1.0] * 9, [1.0] * 4 + [-1.0] * 5], dtype=torch.float64)
    y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    net = relu_minima.flattest_rescaling(relu_minima.memorising(x, y, radius=radius), x)
    assert torch.allclose(net(x), y, atol=1e-12)
    assert relu_minima.gradient_trace(net, x) == pytest.approx(relu_minima.smallest_trace(x, y), rel=1e-12)


@anytime
@given(st.integers(0, 10_000))
def test_no_interpolating_network_is_flatter(seed):
    # any network interpolates its own outputs
    x = normal(6, 4, seed=seed)
    net = TwoLayer(normal(5, seed=seed + 1), normal(5, 4, seed=seed + 2), normal(5, seed=seed + 3))
    net = relu_minima.flattest_rescaling(net, x) if (net.a != 0).all() else net
    assert relu_minima.gradient_trace(net, x) >= relu_minima.smallest_trace(x, net(x)) - 1e-12


def test_memorising_with_radius_one_knows_its_sample_and_nothing_else():
    d, n = 8, 20
    everything, x = cube(d), corners(20, 8)
    y = x[:, 0] * x[:, 1]
    net = relu_minima.memorising(x, y, radius=0.5)
    assert torch.allclose(net(x), y, atol=1e-12)
    error = (net(everything) - everything[:, 0] * everything[:, 1]).square().mean().item()
    assert error == pytest.approx(1 - n / 2**d, abs=1e-12)  # exact
    # the largest such radius is 1: b = -(sqrt(d) - 2 / sqrt(d))
    alone = relu_minima.memorising(x[:1], y[:1], radius=1)
    assert alone.b.item() == pytest.approx(-(math.sqrt(d) - 2 / math.sqrt(d)), abs=1e-14)
    error = (alone(everything) - everything[:, 0] * everything[:, 1]).square().mean().item()
    assert error == pytest.approx(1 - 1 / 2**d, abs=1e-12)


def test_every_example_is_at_rest_where_all_are_fitted():
    """At an interpolating minimum of the squared error the gradient of each example is zero, so SGD stays."""
    x = corners(6, 6)
    y = x[:, 0] * x[:, 1]
    fitted = as_module(relu_minima.memorising(x, y, radius=0.5))
    for i in range(6):
        right, wrong = (Split(x[i : i + 1], sign * y[i : i + 1], 0, "corner") for sign in (1, -1))
        assert curvature.gradient(fitted, HalfSquaredError(), right).abs().max() < 1e-12
        assert curvature.gradient(fitted, HalfSquaredError(), wrong).norm() > 1


def test_two_flattest_minima_one_of_which_generalizes():
    d = 8
    everything, x = cube(d), corners(20, d)
    y = x[:, 0] * x[:, 1]
    memory = relu_minima.flattest_rescaling(relu_minima.memorising(x, y, radius=0.5), x)
    rule = relu_minima.flattest_rescaling(relu_minima.xor_network(d), x)
    assert torch.allclose(rule(everything), everything[:, 0] * everything[:, 1], atol=1e-12)
    flattest = 2 * math.sqrt(d + 1)
    for net in memory, rule:
        assert torch.allclose(net(x), y, atol=1e-12)
        assert relu_minima.gradient_trace(net, x) == pytest.approx(flattest, rel=1e-12)
    assert relu_minima.smallest_trace(x, y) == pytest.approx(flattest, rel=1e-12)


def test_distance_and_coherence_by_hand():
    x = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, 1]], dtype=torch.float64)
    assert relu_minima.smallest_distance(x) == 1
    assert relu_minima.smallest_distance(x[[0, 2]]) == 3
    assert relu_minima.smallest_distance(x[:1]) == 5
    assert relu_minima.coherence(x) == pytest.approx(1)  # rows 1 and 2 are opposite
    assert relu_minima.coherence(x[:2]) == pytest.approx(0.5)


def test_coherence_stays_below_its_bound_and_not_below_the_slides():
    n, d, delta = 50, 200, 0.1
    found = [relu_minima.coherence(corners(n, d, seed)) for seed in range(40)]
    assert relu_minima.coherence_bound(n, d, delta) == pytest.approx(math.sqrt(2 * math.log(2500 / 0.1) / 200))
    assert sum(c > relu_minima.coherence_bound(n, d, delta) for c in found) <= 4
    assert all(c > math.log(n / delta) / n for c in found)


# --- bad input -----------------------------------------------------------------------------------------------------


def test_refusals():
    x, y = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]]), torch.ones(2)
    with pytest.raises(ValueError, match=r"entries \+1 and -1"):
        relu_minima.memorising(2 * x, y, radius=1)
    with pytest.raises(ValueError, match="differ in 1 coordinates and would share a unit; take radius < 1"):
        relu_minima.memorising(x, y, radius=1)
    with pytest.raises(ValueError, match="radius must be at most d = 3"):
        relu_minima.memorising(x, y, radius=4)
    with pytest.raises(ValueError, match="delta must lie strictly"):
        relu_minima.coherence_bound(10, 10, 1.0)
    with pytest.raises(ValueError, match="number of rows must be"):
        relu_minima.coherence(x[:1])
    with pytest.raises(ValueError, match="d must be a whole number of at least 2"):
        relu_minima.xor_network(1)
    with_biases = TwoLayer(torch.ones(2), torch.ones(2, 3), torch.ones(2))
    for function in relu_minima.sphere_trace, relu_minima.path_norm:
        with pytest.raises(ValueError, match="without biases"):
            function(with_biases)
    with pytest.raises(ValueError, match="computes nothing"):
        relu_minima.balanced(TwoLayer(torch.zeros(2), torch.ones(2, 3)), 1.0)
    with pytest.raises(ValueError, match="q must be"):
        relu_minima.weighted_norm(TwoLayer(torch.ones(2), torch.ones(2, 3)), 0.0)
    with pytest.raises(ValueError, match=r"a must be \(m,\) and w \(m, d\)"):
        TwoLayer(torch.ones(2), torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"b must be \(2,\) or None"):
        TwoLayer(torch.ones(2), torch.ones(2, 3), torch.ones(3))
