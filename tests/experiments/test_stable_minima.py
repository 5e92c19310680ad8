from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import alignment, curvature, flatness
from helpers import stability as theory
from helpers.experiments import parity, stable_minima
from helpers.experiments.machinery.config import ConfigError

SMOKE = stable_minima.PROFILES["smoke"]
TINY = replace(SMOKE, n=12, n_test=30, width=3, gd_steps=20, gd_looks=4, most_steps=400, tolerance=1e-9)
EDGE = {"part": "edge", "dataset": "digits", "lr": 0.05, "seed": 0}
SGD = {"part": "selection", "activation": "tanh", "width": 3, "batch_size": 4, "lr": 0.02, "seed": 0}


@cache
def trained():
    train, test = parity.parity_samples("digits", 12, 30, pixels=8, seed=0)
    model = parity.scalar_network(train, 3, "tanh", 0)
    for _, _ in zip(range(20 + 1), parity.descend(model, train, 0.05), strict=False):
        pass
    return model, train, test


def test_points_are_the_three_parts():
    parts = [point["part"] for point in stable_minima.points(SMOKE)]
    assert [parts.count(part) for part in ("edge", "selection", "width")] == [2, 4, 2]
    assert stable_minima.points(SMOKE)[-1] == SGD | {"part": "width", "width": 16, "lr": 0.05}


def test_gradient_descent_is_that_of_the_curvature_module():
    model, train, _ = trained()
    twin = parity.scalar_network(train, 3, "tanh", 0)
    w = parity.trainable(twin)
    losses = []
    for _ in range(20):
        losses.append(parity.training_loss(twin, train))
        step = curvature.gradient(twin, parity.LOSS, train)
        with torch.no_grad():
            for p, piece in zip(w, step.split([p.numel() for p in w]), strict=True):
                p -= 0.05 * piece.view_as(p)
    torch.testing.assert_close(
        torch.cat([p.flatten() for p in w]), torch.cat([p.flatten() for p in model.parameters()])
    )
    row = stable_minima.row(TINY, EDGE)
    assert row["steps"] == [0, 5, 10, 15, 20]
    assert row["losses"][:4] == pytest.approx([losses[i] for i in (0, 5, 10, 15)], rel=1e-12)
    assert row["train_loss"] == pytest.approx(row["losses"][-1], rel=1e-12)
    assert row["rises"] == 0


def test_the_minimum_is_measured_as_defined():
    model, train, test = trained()
    found = stable_minima.minimum(model, train, test)
    H = flatness.squared_error_hessian(model, train)
    G = H.gauss_newton
    J = parity.jacobian(model, train)
    per_example = torch.einsum("ia,ib->iab", J, J)
    Sigma = (per_example @ per_example).mean(0) - G @ G
    assert found["largest_eigenvalue"] == pytest.approx(torch.linalg.eigvalsh(H.total)[-1].item(), rel=0.01)
    assert found["gauss_newton_eigenvalue"] == pytest.approx(torch.linalg.eigvalsh(G)[-1].item(), rel=1e-9)
    assert found["non_uniformity"] == pytest.approx(torch.linalg.eigvalsh(Sigma)[-1].sqrt().item(), rel=1e-9)
    assert found["frobenius"] == pytest.approx(G.norm().item(), rel=1e-9)
    assert found["trace"] == pytest.approx(G.trace().item(), rel=1e-9)
    assert found["mu0"] == pytest.approx(alignment.smallest_alignment(J), rel=1e-9)
    wrong = (model(test.inputs)[:, 0] * test.targets <= 0).double().mean().item()
    assert found["test_error"] == wrong


def test_sharpness_climbs_to_the_edge_and_the_loss_rises_on_the_way():
    row = stable_minima.row(SMOKE, EDGE | {"lr": 0.2})
    assert row["sharpness"][-1] == pytest.approx(theory.edge_of_stability(0.2), rel=0.1)
    assert row["rises"] > 0.1


def test_sgd_says_whether_it_converged_and_keeps_the_way():
    row = stable_minima.row(TINY, SGD)
    assert (row["status"], row["converged"], row["steps"]) == ("ok", False, 400)
    assert [look["step"] for look in row["path"]] == [0, 1, 4, 16, 64, 256]
    assert row["mu"] == pytest.approx(row["alpha"] * row["beta"], rel=1e-9)
    easy = stable_minima.row(replace(TINY, tolerance=0.3), SGD)
    assert easy["converged"]
    assert easy["train_loss"] <= 0.3


def test_batches_are_of_the_size_asked_for():
    """With the whole sample many times over, SGD is nearly gradient descent; with one example it is not."""
    full, one = (stable_minima.row(TINY, SGD | {"batch_size": size}) for size in (4000, 1))
    exact = stable_minima.row(replace(TINY, gd_steps=400), EDGE | {"lr": 0.02})
    assert full["train_loss"] == pytest.approx(exact["train_loss"], rel=0.02)
    assert one["train_loss"] != pytest.approx(exact["train_loss"], rel=0.02)


def test_targets_are_parity_and_inputs_of_one_scale():
    train, _ = parity.parity_samples("digits", 1297, 10, pixels=8, seed=0)
    assert set(train.targets.tolist()) == {-1.0, 1.0}
    assert train.inputs.square().sum(1).mean().item() == pytest.approx(parity.SQUARED_LENGTH)
    smaller, _ = parity.parity_samples("digits", 5, 5, pixels=4, seed=0)
    assert smaller.inputs.shape == (5, 16)


@pytest.mark.parametrize(("point", "lr"), [(EDGE, 1e6), (SGD, 1e6)])
def test_a_diverged_row_says_so(point, lr):
    assert stable_minima.row(TINY, point | {"lr": lr})["status"].startswith("diverged")


def test_the_paper_profile_runs_on_small_data():
    config = replace(
        stable_minima.PROFILES["paper"], datasets=("digits",), n=10, n_test=10, width=2, gd_steps=4, gd_looks=2,
        most_steps=10, widths=(2,),
    )  # fmt: skip
    points = stable_minima.points(config)
    assert stable_minima.row(config, points[0])["status"] == "ok"
    assert stable_minima.row(config, points[-1])["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"activations": ("gelu",)}, "among tanh, relu, got gelu"), ({"gd_looks": 401}, "cannot exceed gd_steps = 400")],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)
