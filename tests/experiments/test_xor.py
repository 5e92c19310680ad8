from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers import relu_minima
from helpers.experiments import xor
from helpers.experiments.machinery.config import ConfigError
from helpers.regularizers import SAM

SMOKE = xor.PROFILES["smoke"]
POINT = {"biases": True, "scale": 1.0, "radius": 0.1, "seed": 0}


def start(m=6, d=4):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((m,), (m, d), (m,)))


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_a_step_is_that_of_the_package(biases, radius):
    a, w, b = start()
    if not biases:
        b = torch.zeros_like(b)
    model = nn.Sequential(nn.Linear(4, 6, bias=biases), nn.ReLU(), nn.Linear(6, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(w)
        model[2].weight.copy_(a[None])
        if biases:
            model[0].bias.copy_(b)
    base = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = SAM(base, radius)
    x = xor.corners(5, 4)
    weights = a, w, b
    for i in range(5):

        def closure(i=i):
            loss = (model(x[i : i + 1])[0, 0] - x[i, 0] * x[i, 1]).square() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
        weights = xor.stepped(weights, x[i], x[i, 0] * x[i, 1], 0.05, radius, biases)
    assert torch.allclose(weights[0], model[2].weight[0], atol=1e-13)
    assert torch.allclose(weights[1], model[0].weight, atol=1e-13)
    assert torch.allclose(weights[2], model[0].bias if biases else torch.zeros(6, dtype=torch.float64), atol=1e-13)


def test_sam_at_a_fitted_example_stays():
    weights = tuple(torch.zeros_like(p) for p in start())
    x = xor.corners(1, 4)[0]
    assert all(
        torch.equal(p, q) for p, q in zip(xor.stepped(weights, x, 0.0 * x[0], 0.1, 0.3, True), weights, strict=True)
    )


def test_corners_are_different_and_cover_the_cube():
    x = xor.corners(16, 4)
    assert len(x.unique(dim=0)) == 16
    assert set(x.flatten().tolist()) == {-1.0, 1.0}


def test_a_row_looks_at_start_and_end_and_flat_is_flatter():
    config = replace(SMOKE, steps=4000)
    sgd, sam = (xor.row(config, POINT | {"radius": radius}) for radius in (0.0, 0.2))
    for row in (sgd, sam):
        assert row["status"] == "ok"
        assert {len(row[name]) for name in ("train_loss", "error", "accuracy", "answer", "trace")} == {3}
        assert row["fitted"]
    assert sgd["train_loss"][0] == sam["train_loss"][0]
    assert sam["trace"][-1] < 0.8 * sgd["trace"][-1]
    assert sgd["trace"][-1] > sgd["least_trace"] == pytest.approx(2 * 9**0.5)


def test_a_network_that_knows_the_two_coordinates_has_no_error():
    net = relu_minima.xor_network(5)
    x = xor.corners(32, 5)
    y = x[:, 0] * x[:, 1]
    seen = xor.look((net.a, net.w, net.b), True, (x[:8], y[:8]), (x[8:], y[8:]))
    assert seen["train_loss"] == seen["error"] == 0
    assert seen["accuracy"] == seen["answer"] == 1


def test_without_biases_they_stay_zero_and_count_nowhere():
    one, other = (xor.row(SMOKE, POINT | {"biases": biases}) for biases in (True, False))
    assert one["train_loss"][0] == other["train_loss"][0]
    assert one["train_loss"][-1] != other["train_loss"][-1]
    assert one["trace"][0] > other["trace"][0]  # a constant input more


def test_a_diverged_row_says_so():
    assert xor.row(replace(SMOKE, lr=10.0), POINT)["status"].startswith("diverged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"inputs": 6}, "fewer than n .* = 90"), ({"looks": 3}, "looks must divide steps = 400, got 3")],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)
