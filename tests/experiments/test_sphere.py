import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers import curvature, relu_minima
from helpers.data import Split
from helpers.experiments import sphere
from helpers.experiments.machinery.worker import DegenerateRow
from helpers.losses import HalfSquaredError
from helpers.relu_minima import TwoLayer

SMOKE = sphere.PROFILES["smoke"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(m=3, d=4, seed=0):
    g = generator(seed)
    return TwoLayer(torch.randn(m, generator=g).double(), torch.randn(m, d, generator=g).double())


def test_ratios_are_those_of_the_gauss_newton_matrix():
    net, x = drawn(), sphere.on_sphere(9, 4, generator(1))
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(net.w)
        model[2].weight.copy_(net.a[None])
    G = curvature.gauss_newton(model, HalfSquaredError(), Split(x, torch.zeros(9).double(), 0, "sphere"))
    square = net.w.square().sum().item()
    found = sphere.ratios(net, x)
    for name, size, q in (
        ("trace", G.trace(), 4), ("frobenius", G.norm(), 2), ("spectral", torch.linalg.eigvalsh(G)[-1], 1)
    ):  # fmt: skip
        assert found[name] == pytest.approx(size.item() / (square + q * net.a.square().sum().item()), rel=1e-10)


def test_few_inputs_have_the_spectrum_of_many_weights():
    net = drawn()
    for n in (5, 40):  # below and above the number of weights, 15
        x = sphere.on_sphere(n, 4, generator(2))
        J = sphere.two_layer_jacobian(net, x)
        h = torch.linalg.eigvalsh(J.T @ J / n)
        assert sphere.ratios(net, x)["spectral"] == pytest.approx(
            h[-1].item() / relu_minima.weighted_norm(net, 1.0) ** 2
        )


def test_inputs_are_on_the_sphere():
    assert torch.allclose(sphere.on_sphere(50, 7, generator()).norm(dim=1), torch.full((50,), 7**0.5).double())


def test_extremes_enclose_every_direction_and_are_ratios_of_one_unit():
    x = sphere.on_sphere(30, 4, generator(3))
    energy, active = sphere.extremes(x, 20, 200, generator(4))
    for u in torch.randn(200, 4, generator=generator(5)).double():
        u = u / u.norm()
        first, last = (TwoLayer(torch.tensor([a]).double(), w * u[None]) for a, w in ((1e-9, 1.0), (1.0, 1e-9)))
        assert energy[0] - 1e-9 <= sphere.ratios(first, x)["trace"] <= energy[1] + 1e-9
        assert active[0] - 1e-9 <= sphere.ratios(last, x)["trace"] <= active[1] + 1e-9
    assert energy[0] < 0.5 < energy[1]


def test_few_inputs_lie_in_a_half_space_which_no_unit_need_see():
    x = sphere.on_sphere(4, 8, generator(0))  # fewer than dimensions: some u has u . x < 0 for all
    energy, active = sphere.extremes(x, 20, 200, generator(1))
    assert energy[0] == active[0] == 0.0
    assert active[1] == 1.0


def test_needed_inputs_by_definition():
    for d in (1, 5, 20):
        n = sphere.needed_inputs(d, 0.1)
        assert d * math.log(n / 0.1) <= n
        assert d * math.log((n - 1) / 0.1) > n - 1


def test_the_target_has_values_between_minus_one_and_one():
    truth = sphere.target(6, generator())
    values = truth(sphere.on_sphere(2000, 6, generator(1)))
    assert values.abs().max() <= 1
    assert values.min() < -0.3
    assert values.max() > 0.3


def test_descent_is_gradient_descent():
    net, x = drawn(), sphere.on_sphere(6, 4, generator(1))
    y = torch.arange(6).double() / 6
    a, w = net.a.clone().requires_grad_(), net.w.clone().requires_grad_()
    loss = ((torch.relu(x @ w.T) @ a - y) ** 2).mean() / 2
    ga, gw = torch.autograd.grad(loss, (a, w))
    moved = sphere.descended(net, x, y, 0.1, 1)
    assert torch.allclose(moved.a, net.a - 0.1 * ga)
    assert torch.allclose(moved.w, net.w - 0.1 * gw)


def test_a_network_interpolates_and_its_error_and_norms_are_measured():
    row = sphere.gap_row(SMOKE, 4, 20, 1.0, generator())
    assert row["train_loss"] < 1e-12 < row["descended"]
    assert 0 < row["error"] < 1
    assert row["trace"] == pytest.approx(row["sphere_trace"], rel=0.5)
    assert row["sphere_trace"] >= 2 * row["path_norm"]  # sqrt(d) times the path norm
    more = sphere.gap_row(replace(SMOKE, student=100), 4, 60, 1.0, generator())
    assert more["error"] < row["error"]


def test_a_network_that_cannot_interpolate_is_degenerate():
    with pytest.raises(DegenerateRow, match="did not come to interpolate"):
        sphere.gap_row(replace(SMOKE, student=1), 4, 40, 1.0, generator())


def test_both_parts_make_rows():
    for point in sphere.points(SMOKE):
        row = sphere.row(SMOKE, point)
        assert row["status"] == "ok"
        if point["part"] == "norms":
            assert row["n"] == point["multiple"] * 4
            assert {len(row[name]) for name in ("trace", "frobenius", "spectral")} == {3}
            assert all(row["energy"][0] - 1e-9 <= t for t in row["trace"][1:2])  # the first layer counts for nearly all
    assert [point["part"] for point in sphere.points(SMOKE)] == ["norms", "norms", "gap"]
