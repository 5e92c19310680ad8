"""The same numbers on a CUDA device as on the processor; skipped where there is no device.

A recorded graph against the steps performed one by one, float64 against the processor's float64, what cannot be
recorded, and a row of every experiment. Two orders of summation differ by rounding, so nothing is compared to the bit.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, images, network, residual_network, sample
from torch import nn

from helpers import curvature, data, experiments, models, training
from helpers.experiments import loop
from helpers.training import progress
from helpers.training.augment import crop_and_flip

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

DEVICE = "cuda"
SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "seed": 1}
PARTS = data.disjoint(images(60), 3, 20, seed=0)


def train(make=residual_network, splits=PARTS, **changes):
    return training.train_ensemble(make, splits, device=DEVICE, **SETTINGS | changes)


def rows(run):
    return torch.stack([models.weights(model) for model in run.models]).cpu().double()


def assert_close_runs(one, other, *, rtol):
    """Weights relative to the way from the start, dispersions and losses one by one."""
    start = one.initial.cpu().double()
    assert (rows(one) - rows(other)).norm() <= rtol * (rows(one) - start).norm()
    torch.testing.assert_close(one.step_dispersion, other.step_dispersion, rtol=rtol, atol=0)
    torch.testing.assert_close(one.losses, other.losses, rtol=rtol, atol=rtol)


def step_by_step(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "stepper_for", lambda runs: runs.step)
        return train(*args, **kwargs)


def drawing_network():
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 3)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("make", [residual_network, drawing_network])
@pytest.mark.parametrize(
    ("dtype", "precision", "rtol"),
    [(torch.float64, None, 1e-7), (torch.float32, "float32", 1e-2), (torch.float32, "bf16", 0.1)],
)
def test_a_recorded_graph_does_what_the_steps_do(monkeypatch, make, dtype, precision, rtol):
    made = {"make": lambda: make().to(dtype), "precision": precision, "augment": crop_and_flip}
    with warnings.catch_warnings(action="error"):
        graph = train(**made)
    assert_close_runs(step_by_step(monkeypatch, **made), graph, rtol=rtol)


def test_training_in_float64_is_that_of_the_processor():
    """Full batches: the order of visits is drawn on the device and does not matter then."""
    settings = SETTINGS | {"batch_size": 20, "epochs": 6}
    here = training.train_ensemble(residual_network, PARTS, **settings)
    assert_close_runs(here, train(**settings), rtol=1e-7)


def syncing():
    return nn.Sequential(nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 6), nn.Dropout(0.2), nn.Linear(6, 3)).double()


def looking(outputs, targets):
    values = F.cross_entropy(outputs, targets, reduction="none")
    return values if values.mean().item() < 100 else 0 * values


@pytest.mark.parametrize(
    "changes", [{"make": syncing}, {"make": lambda: models.mlp(5, 6, 3).double(), "loss": looking}]
)
def test_a_step_that_waits_for_the_device_is_performed_as_it_is_written(monkeypatch, changes):
    splits = data.disjoint(sample(60), 3, 20, seed=0)
    with pytest.warns(UserWarning, match="could not be recorded as a CUDA graph"):
        fallen_back = train(splits=splits, **changes)
    assert_close_runs(step_by_step(monkeypatch, splits=splits, **changes), fallen_back, rtol=1e-7)
    with warnings.catch_warnings(action="error"):
        train()  # and a failed recording does not spoil the next


def test_the_callers_generators_and_settings_are_left_alone():
    before = torch.get_rng_state(), torch.cuda.get_rng_state(), torch.backends.cudnn.benchmark
    train(drawing_network, observe=lambda epoch, runs: torch.rand(3, device=DEVICE))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(), before[1])
    assert torch.backends.cudnn.benchmark == before[2]


def test_threads_may_train_at_the_same_time():
    alone = [train(drawing_network, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: train(drawing_network, seed=seed), range(4)))
    for one, other in zip(alone, together, strict=True):
        assert_close_runs(one, other, rtol=1e-7)


def test_an_interrupted_training_goes_on(tmp_path):
    def stop(epoch, runs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(drawing_network, checkpoint=tmp_path / "state", observe=stop)
    assert_close_runs(train(drawing_network), train(drawing_network, checkpoint=tmp_path / "state"), rtol=1e-7)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device here")
def test_a_second_device_records_its_own_graph(monkeypatch):
    with warnings.catch_warnings(action="error"):
        graph = training.train_ensemble(drawing_network, PARTS, device="cuda:1", **SETTINGS)
    assert graph.initial.device.index == 1
    assert_close_runs(train(drawing_network), graph, rtol=1e-7)


def recurrent():
    """The state after three steps; cuDNN's layers have no second derivative."""
    torch.manual_seed(0)
    return nn.Sequential(nn.GRU(3, 4, batch_first=True), Last(), nn.Linear(4, 3)).double().eval()


class Last(nn.Module):
    def forward(self, outputs):
        return outputs[0][:, -1]


WORDS = data.Split(
    torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(8) % 3, 3, "x"
)


@pytest.mark.parametrize(("make", "split"), [(network, sample()), (residual_network, images()), (recurrent, WORDS)])
def test_derivatives_in_float64_are_those_of_the_processor(make, split):
    here, there = make(), make().to(DEVICE)
    v = torch.randn(len(models.weights(here)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = {
        "gradient": (curvature.gradient(here, CLIPPED, split), curvature.gradient(there, CLIPPED, split)),
        "product": (curvature.hvp(here, CLIPPED, split, v), curvature.hvp(there, CLIPPED, split, v.to(DEVICE))),
    }
    for name, (one, other) in pairs.items():
        assert (one - other.cpu()).norm() <= 1e-9 * one.norm(), name
    one, other = (curvature.trace(model, CLIPPED, split, method="gauss-newton") for model in (here, there))
    assert other.value == pytest.approx(one.value, rel=1e-9)


def test_a_float32_product_is_not_rounded_to_tf32():
    split, exact, rough = images(), residual_network().to(DEVICE), residual_network().float().to(DEVICE)
    v = torch.randn(len(models.weights(exact)), device=DEVICE, dtype=torch.float64)
    one, other = curvature.hvp(exact, CLIPPED, split, v), curvature.hvp(rough, CLIPPED, split, v.float()).double()
    assert (one - other).norm() <= 1e-3 * one.norm()


def test_minibatches_lie_on_the_device_and_their_indices_on_the_processor():
    batch = next(loop.minibatches(sample().to(device=DEVICE), 8, torch.Generator().manual_seed(0)))
    assert batch.inputs.is_cuda
    assert batch.targets.is_cuda
    assert batch.indices.device.type == "cpu"


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_a_row_of_every_experiment_is_measured(name):
    experiment = experiments.find(name)
    config = experiments.settings(experiment, "smoke")
    row = experiment.row(config, experiment.points(config)[0])
    assert row.get("status", "ok") == "ok"
