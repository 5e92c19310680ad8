from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import alignment, curvature
from helpers.experiments import escape, parity
from helpers.experiments.machinery.config import ConfigError
from helpers.models import set_weights, weights

SMOKE = escape.PROFILES["smoke"]
TINY = replace(SMOKE, n=8, width=3, gd_steps=300, steps=10, paths=4)
POINT = {"noise": "sgd", "batch_size": 2, "seed": 0}


@cache
def instance():
    train, _ = parity.parity_samples("digits", 8, 1, pixels=8, seed=0)
    return parity.scalar_network(train, 3, "tanh", 0), train


def flat(paths, i=0):
    return torch.cat([paths.W[i].flatten(), paths.b[i], paths.a[i], paths.c[i : i + 1]])


def test_a_path_is_the_network():
    model, train = instance()
    paths = escape.Paths.of(model, 2)
    torch.testing.assert_close(flat(paths, 1), weights(model))
    assert paths.d == len(weights(model))
    hidden = paths.hidden(train.inputs)
    torch.testing.assert_close(paths.outputs(hidden)[1], model(train.inputs)[:, 0].detach())


def test_the_accelerator_is_left_alone(monkeypatch):
    """A row that the processor computes is not stamped with a device that its network visited."""

    def visited():
        raise AssertionError("the default device was asked for")

    monkeypatch.setattr(parity, "default_device", visited)
    assert escape.row(TINY, POINT)["status"] == "ok"


def test_gradient_trace_and_kernel_are_those_of_the_jacobian():
    model, train = instance()
    J = parity.jacobian(model, train)
    paths = escape.Paths.of(model, 2)
    hidden, pull = paths.hidden(train.inputs), torch.linspace(-1, 2, 16, dtype=torch.float64).view(2, 8)
    moved = paths.minus(hidden, train.inputs, pull)
    for i in range(2):
        torch.testing.assert_close(flat(moved, i), weights(model) - J.T @ pull[i], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(paths.trace(hidden, train.inputs)[1], J.square().sum() / 8)
    torch.testing.assert_close(paths.kernel(train.inputs, 1)[0], J @ J.T)
    assert escape.frobenius(paths.kernel(train.inputs, 2))[1].item() == pytest.approx((J.T @ J / 8).norm().item())


@pytest.mark.parametrize("noise", escape.NOISES)
def test_one_step_has_the_mean_and_covariance_of_its_noise(noise):
    """Against the definitions: the mean step is that of gradient descent, the covariance Sigma / B, 2 L G / B or I."""
    model, train = instance()
    config = replace(TINY, steps=1, paths=20_000, lr=0.1)
    arrived, losses = escape.follow(escape.Paths.of(model, config.paths), train, config, POINT | {"noise": noise})
    steps = torch.stack([flat(arrived, i) for i in range(0, config.paths, 2)]) - weights(model)
    J = parity.jacobian(model, train)
    e = (model(train.inputs)[:, 0] - train.targets).detach()
    loss, G, gradient = losses[0, 0], J.T @ J / 8, J.T @ e / 8
    centred = e[:, None] * J - gradient
    covariance = (
        {
            "sgd": centred.T @ centred / 8,
            "geometry": 2 * loss * G,
            "isotropic": 2 * loss * G.trace() / len(G) * torch.eye(len(G)),
        }[noise].double()
        * 0.1**2
        / 2
    )
    error = (covariance.diagonal() / len(steps)).sqrt()
    assert ((steps.mean(0) + 0.1 * gradient).abs() < 5 * error + 1e-12).all()
    sampled = steps.T.cov()
    assert sampled.trace().item() == pytest.approx(covariance.trace().item(), rel=0.05)
    direction = torch.linalg.eigh(G).eigenvectors[:, -1]
    assert (direction @ sampled @ direction).item() == pytest.approx(
        (direction @ covariance @ direction).item(), rel=0.06
    )


def test_a_row_has_a_loss_for_every_step_and_the_theory_of_its_start():
    row = escape.row(TINY, POINT)
    assert row["status"] == "ok"
    assert {len(row[name]) for name in ("mean", "standard_error", "median")} == {TINY.steps + 1}
    train, _ = parity.parity_samples("digits", 8, 1, pixels=8, seed=0)
    model = parity.scalar_network(train, 3, "tanh", 0)
    for _, _ in zip(range(TINY.gd_steps + 1), parity.descend(model, train, TINY.gd_lr), strict=False):
        pass
    J = parity.jacobian(model, train)
    assert row["mean"][0] == pytest.approx(parity.training_loss(model, train), rel=1e-4)
    assert row["linear"][0] == pytest.approx(row["mean"][0], rel=1e-4)
    assert row["frobenius"] == pytest.approx((J.T @ J / 8).norm().item(), rel=1e-9)
    assert row["mu0"] == pytest.approx(alignment.smallest_alignment(J), rel=1e-6)
    assert row["gamma0"] == pytest.approx(0.04**2 * row["mu0"] * row["frobenius"] ** 2 / 2, rel=1e-9)
    assert row["linear_growth"] == pytest.approx(alignment.growth_factor(J, lr=0.04, batch_size=2), rel=1e-9)


def test_close_to_the_minimum_the_paths_follow_the_linear_prediction():
    config = replace(TINY, gd_steps=4000, steps=6, paths=4000)
    row = escape.row(config, POINT)
    for mean, error, linear in zip(row["mean"], row["standard_error"], row["linear"], strict=True):
        assert abs(mean - linear) < 4 * error + 1e-3 * linear


def test_large_gaussian_noise_escapes_where_isotropic_noise_stays():
    rows = {noise: escape.row(SMOKE, POINT | {"noise": noise, "batch_size": 1}) for noise in escape.NOISES}
    assert rows["geometry"]["linear_growth"] > 1 > rows["isotropic"]["linear_growth"]
    assert rows["geometry"]["measured_growth"] > 1.2
    assert rows["isotropic"]["measured_growth"] < 1
    assert rows["geometry"]["frobenius_after"] < rows["geometry"]["frobenius"] - 2


def test_growth_is_read_off_a_pure_exponential():
    steps = torch.arange(50, dtype=torch.float64)
    assert escape.measured_growth(3e-5 * 1.2**steps) == pytest.approx(1.2)
    assert escape.measured_growth(3e-5 * 0.9**steps) == pytest.approx(0.9)


def test_a_diverged_row_says_so():
    assert escape.row(replace(TINY, lr=1e4, steps=200), POINT)["status"].startswith("diverged")


def test_the_paper_profile_runs_on_small_data():
    config = replace(escape.PROFILES["paper"], dataset="digits", n=6, width=2, gd_steps=3, steps=3, paths=2)
    assert escape.row(config, escape.points(config)[0])["status"] == "ok"


def test_gradient_of_the_loss_is_the_full_pull():
    model, train = instance()
    paths = escape.Paths.of(model, 1)
    hidden = paths.hidden(train.inputs)
    residuals = paths.outputs(hidden) - train.targets
    moved = paths.minus(hidden, train.inputs, escape._full_pull(residuals, 1, torch.Generator()))
    twin = parity.scalar_network(train, 3, "tanh", 0)
    set_weights(twin, weights(model))
    expected = weights(model) - curvature.gradient(twin, parity.LOSS, train)
    torch.testing.assert_close(flat(moved), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"noises": ("pink",)}, "among sgd, geometry, isotropic, got pink"), ({"paths": 1}, "standard error needs two")],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)


def test_a_loss_is_noted_before_every_step_and_after_the_last():
    model, train = instance()
    _, losses = escape.follow(escape.Paths.of(model, TINY.paths), train, TINY, POINT)
    assert losses.shape == (TINY.steps + 1, TINY.paths)
