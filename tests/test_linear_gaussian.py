import pytest
import torch
from golden import Linear

from helpers import curvature, models
from helpers.linear_gaussian import LinearGaussian, gradient_descent
from helpers.losses import HalfSquaredError

LOSS = HalfSquaredError()


def distribution(d=4):
    root = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return LinearGaussian(root @ root.T, torch.arange(1.0, d + 1, dtype=torch.float64), 0.3)


def test_the_population_split_is_the_population():
    world, w = distribution(), torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    model = gradient_descent(world.sample(5, seed=0), w, lr=0.1, steps=0)
    population, error = world.population(), w - world.weights
    risk = curvature.values(model, LOSS, population).mean()
    torch.testing.assert_close(risk, 0.5 * error @ world.covariance @ error + 0.045)
    torch.testing.assert_close(curvature.gradient(model, LOSS, population), world.covariance @ error)
    torch.testing.assert_close(curvature.hessian(model, LOSS, population), world.covariance)


def test_samples_have_the_population_moments():
    world = distribution()
    sample = world.sample(200_000, seed=1)
    torch.testing.assert_close(sample.inputs.T @ sample.inputs / 200_000, world.covariance, rtol=0.03, atol=0.03)
    assert (sample.targets - sample.inputs @ world.weights).std() == pytest.approx(0.3, rel=0.01)


def test_gradient_descent_has_its_closed_form():
    """W = w^ + (I - lr H)^T (W_0 - w^) with the least-squares solution w^."""
    split, start = distribution().sample(30, seed=2), torch.zeros(4, dtype=torch.float64)
    X, y = split.inputs, split.targets
    H = X.T @ X / 30
    best = torch.linalg.solve(H, X.T @ y / 30)
    power = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - 0.05 * H, 70)
    model = gradient_descent(split, start, lr=0.05, steps=70)
    torch.testing.assert_close(models.weights(model), best + power @ (start - best), rtol=1e-12, atol=1e-13)


def test_the_golden_weights_are_reproduced():
    golden = Linear()
    config = golden.expected["linear"]["config"]
    for split, expected in zip(golden.train, golden.arrays["W"], strict=True):
        model = gradient_descent(split, golden.arrays["w0"], lr=config["eta"], steps=config["T"])
        torch.testing.assert_close(models.weights(model), expected, rtol=1e-12, atol=1e-13)
    risks = [curvature.values(m, LOSS, golden.population).mean().item() for m in golden.models]
    assert risks == pytest.approx(golden.expected["linear"]["population_loss"], rel=1e-12)
