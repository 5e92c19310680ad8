from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import curvature, data, flatness
from helpers.experiments import batch_sharpness
from helpers.experiments.loop import network
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.predictions import UNCLIPPED
from helpers.experiments.samples import images
from helpers.training import seeded

SMOKE = batch_sharpness.PROFILES["smoke"]
POINT = {"model": "mlp", "batch_size": 6, "seed": 0}


@cache
def smoke_row():
    return batch_sharpness.row(SMOKE, POINT)


def trained():
    (train,) = data.partition(images("digits", True), [60], seed=0)
    train = train.to(dtype=torch.float64)
    with seeded(0):
        model = network("mlp", 8, train).double()
    return model, train, batch_sharpness.train_until(SMOKE, model, train, 6, 0)


def test_training_ends_with_the_first_epoch_below_the_level():
    row = smoke_row()
    assert row["reached"]
    assert row["train_loss"] <= SMOKE.level
    assert row["steps"] % 10 == 0
    before = batch_sharpness.row(replace(SMOKE, most_steps=row["steps"] - 10), POINT)
    assert before["steps"] == row["steps"] - 10
    assert not before["reached"]


def test_a_row_holds_the_measures_of_the_network_that_it_trained():
    row, (model, train, steps) = smoke_row(), trained()
    assert steps == row["steps"]
    on = model, UNCLIPPED, train
    g = curvature.gradient(*on)
    assert row["train_loss"] == pytest.approx(flatness.mean_loss(*on), rel=1e-12)
    assert row["gradient_norm"] == pytest.approx(g.norm().item(), rel=1e-9)
    assert row["trace"] == pytest.approx(curvature.hessian(*on).trace().item(), rel=0.1)
    assert row["largest_eigenvalue"] == pytest.approx(
        torch.linalg.eigvalsh(curvature.hessian(*on))[-1].item(), rel=0.03
    )
    assert row["whole"] == [pytest.approx(flatness.keskar(*on, epsilon=1e-3, seed=0).value, rel=1e-6)]
    generator = torch.Generator().manual_seed(0)
    bases = [torch.randn(len(g), 10, dtype=torch.float64, generator=generator) for _ in range(2)]
    by_hand = [flatness.keskar(*on, epsilon=1e-3, basis=basis, seed=0).value for basis in bases]
    assert row["subspace"] == [pytest.approx(sum(by_hand) / 2, rel=1e-6)]


def test_the_slope_part_is_the_most_that_the_gradient_gives_in_the_box():
    row, (model, train, _) = smoke_row(), trained()
    g, L = curvature.gradient(model, UNCLIPPED, train), row["train_loss"]
    box = 1e-3 * (batch_sharpness.weights(model).abs() + 1)
    assert row["slope"] == [pytest.approx((g.sign() * box * g).sum().item() / (1 + L), rel=1e-9)]


def test_every_network_and_the_whole_sample_as_a_batch():
    for point in batch_sharpness.points(SMOKE):
        row = batch_sharpness.row(replace(SMOKE, most_steps=20), point)
        assert row["status"] == "ok"
        assert row["steps"] == 20


def test_a_diverged_row_says_so():
    assert batch_sharpness.row(replace(SMOKE, lr=1e14), POINT)["status"].startswith("diverged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"models": ("oracle",)}, "models must be of mlp, cnn"), ({"batch_sizes": (61,)}, "cannot exceed n = 60, got 61")],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)
