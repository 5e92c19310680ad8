from dataclasses import replace
from functools import cache

import pytest
import torch
from instances import images
from torch import nn

from helpers import alignment, curvature
from helpers.experiments import noise_alignment, parity

SMOKE = noise_alignment.PROFILES["smoke"]
TINY = replace(SMOKE, n=12, tolerance=1e-9, most_steps=70)
MLP = {"model": "mlp", "width": 3, "lr": 0.05, "seed": 1}
RESNET = {"model": "preact-resnet18", "width": 2, "lr": 0.002, "seed": 1}
MODELS = [("mlp", 3), ("cnn", 2), ("preact-resnet18", 2)]


@cache
def made(name, width):
    train = noise_alignment.sample(TINY, 1)
    return noise_alignment.one_output_network(name, width, train, 1).cpu(), train


def dense(J, residuals):
    """Sigma and G, formed."""
    slopes = residuals[:, None] * J
    mean = slopes.mean(0)
    return slopes.T @ slopes / len(J) - torch.outer(mean, mean), J.T @ J / len(J)


def test_points_are_widths_learning_rates_and_seeds_of_each_architecture():
    points = noise_alignment.points(replace(SMOKE, mlp_lrs=(0.1, 0.2), resnet_widths=(1, 2, 3), seeds=(0, 1)))
    models = [point["model"] for point in points]
    assert [models.count(name) for name, _ in MODELS] == [8, 2, 6]
    assert points[-1] == {"model": "preact-resnet18", "width": 3, "lr": 0.002, "seed": 1}


def test_the_sample_is_that_of_the_experiment_on_stability_as_images():
    train = noise_alignment.sample(TINY, 1)
    flat, _ = parity.parity_samples("digits", 12, 1, pixels=8, seed=1)
    assert train.inputs.shape == (12, 1, 8, 8)
    assert torch.equal(train.inputs.flatten(1), flat.inputs)
    assert torch.equal(train.targets, flat.targets)
    assert noise_alignment.sample(replace(TINY, pixels=4), 1).inputs.shape == (12, 1, 4, 4)


def test_channels_stay_apart(monkeypatch):
    colours = images(6, channels=3)
    for module in (noise_alignment, parity):
        monkeypatch.setattr(module, "images", lambda *_: colours)
    train = noise_alignment.sample(replace(TINY, dataset="colours", n=6), 0)
    scale = (parity.SQUARED_LENGTH / colours.inputs.square().flatten(1).sum(1).mean()) ** 0.5
    for image in train.inputs:
        distances = (image - scale * colours.inputs).square().flatten(1).sum(1)
        assert sorted(distances < 1e-18) == [False] * 5 + [True]


@pytest.mark.parametrize(("name", "width"), MODELS)
def test_gradients_are_those_of_one_backward_pass_an_example(name, width):
    model, train = made(name, width)
    one_by_one = parity.jacobian(model, train)
    torch.testing.assert_close(noise_alignment.output_gradients(model, train), one_by_one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5)])
def test_a_compact_jacobian_has_the_same_inner_products(shape):
    J = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = noise_alignment.compact(J)
    assert rows.shape == (shape[0], min(shape))
    torch.testing.assert_close(rows @ rows.T, J @ J.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "width"), MODELS[:2])  # the smallest: the matrices are (d, d)
def test_measurements_are_those_of_the_dense_matrices(name, width):
    model, train = made(name, width)
    J = parity.jacobian(model, train)
    residuals = model(train.inputs).detach()[:, 0] - train.targets
    Sigma, G = dense(J, residuals)
    exact = alignment.alignment(Sigma, G, residuals.square().mean().item() / 2)
    strengths = torch.stack([g @ G @ g for g in J])
    found = noise_alignment.noise_statistics(model, train)
    assert found["alpha"] == pytest.approx(exact.alpha, rel=1e-8)
    assert found["beta"] == pytest.approx(exact.beta, rel=1e-8)
    assert found["mu"] == pytest.approx(exact.mu, rel=1e-8)
    assert found["mu0"] == pytest.approx(alignment.smallest_alignment(J), rel=1e-6, abs=1e-10)
    assert found["frobenius"] == pytest.approx(G.norm().item(), rel=1e-8)
    assert found["uniformity"] == pytest.approx((strengths.min() / strengths.mean()).item(), rel=1e-8)


def test_no_output_depends_on_another_example():
    model, train = made("preact-resnet18", 2)
    whole = model(train.inputs)
    alone = torch.cat([model(image[None]) for image in train.inputs])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-12)


def test_statistics_of_batchnorm_are_those_of_the_sample_at_the_first_weights():
    model, train = made("preact-resnet18", 2)
    first = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    stem = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    seen = stem(train.inputs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, seen.mean(1))
    torch.testing.assert_close(first.running_var, seen.var(1))


@pytest.mark.parametrize("point", [MLP, RESNET])
def test_the_path_is_that_of_sgd_step_by_step(point):
    """Against SGD with the gradients of the curvature module, on the batches of the same generator."""
    row = noise_alignment.row(TINY, point)
    assert [look["step"] for look in row["path"]] == [0, 1, 2, 4, 8, 16, 32, 64, 70]
    train = noise_alignment.sample(TINY, 1)
    model = noise_alignment.one_output_network(point["model"], point["width"], train, 1).cpu()
    generator = torch.Generator().manual_seed(1)
    parameters = list(model.parameters())
    for step in range(9):
        if step in (0, 1, 2, 4, 8):
            look = row["path"][[0, 1, 2, 4, 8].index(step)]
            assert look["loss"] == pytest.approx(parity.training_loss(model, train), rel=1e-9)
            assert look["mu"] == pytest.approx(alignment.model_alignment(model, train).mu, rel=1e-7)
        drawn = torch.randint(TINY.n, (TINY.batch_size,), generator=generator)
        slope = curvature.gradient(model, parity.LOSS, train.take(drawn))
        with torch.no_grad():
            for p, piece in zip(parameters, slope.split([p.numel() for p in parameters]), strict=True):
                p -= point["lr"] * piece.view_as(p)


def test_a_run_ends_at_its_tolerance_and_says_so():
    easy = noise_alignment.row(replace(TINY, tolerance=10.0), MLP)
    assert (easy["converged"], len(easy["path"])) == (True, 1)
    hard = noise_alignment.row(TINY, MLP)
    assert (hard["converged"], hard["path"][-1]["step"]) == (False, 70)
    assert hard["d"] == 64 * 3 + 3 + 3 + 1
    between = noise_alignment.row(replace(TINY, tolerance=0.05, most_steps=2000), MLP)
    assert between["converged"]
    assert between["path"][-1]["loss"] <= 0.05 < between["path"][-2]["loss"]
    assert between["path"][-1]["step"] % noise_alignment.CHECK == 0


def test_a_diverged_row_says_so():
    assert noise_alignment.row(TINY, MLP | {"lr": 1e6})["status"].startswith("diverged: the training loss is")


def test_the_paper_profile_runs_on_small_data():
    config = replace(
        noise_alignment.PROFILES["paper"], dataset="digits", n=10, mlp_widths=(2,), cnn_widths=(1,), resnet_widths=(1,),
        most_steps=4,
    )  # fmt: skip
    for point in noise_alignment.points(replace(config, seeds=(0,))):
        assert noise_alignment.row(config, point)["status"] == "ok"
