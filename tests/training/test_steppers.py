"""The code that a CUDA graph records is run here on the processor, recorded by a function that repeats it instead."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from instances import residual_network, sample

from helpers import data, models, training
from helpers.training import augment, ensemble
from helpers.training.lockstep import Lockstep, trace_covariance
from helpers.training.steppers import WARM_UP, EagerStepper, GraphStepper, stepper_for

IMAGES = [
    data.Split(s.inputs.repeat(1, 13)[:, :64].view(-1, 1, 8, 8), s.targets, 3, "x")
    for s in data.disjoint(sample(60), 3, 20, seed=0)
]
SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "seed": 1}


def rehearsed(work):
    """What recording does to the runs: some steps to warm up; then the step itself stands for its record."""
    for _ in range(WARM_UP):
        work()
    return work


def lockstep(make=residual_network, splits=IMAGES, **changes):
    torch.manual_seed(0)
    first = make()
    settings = {"batch_size": 8, "momentum": 0.9, "weight_decay": 0.01, "loss": ensemble._cross_entropy} | changes
    return Lockstep([deepcopy(first) for _ in splits], splits, **settings)


@pytest.mark.parametrize("batch_size", [3, 8, 20])  # 20: one step an epoch, fewer than the steps of the warm-up
def test_a_recorded_step_gives_the_same_bits(monkeypatch, batch_size):
    settings = SETTINGS | {"batch_size": batch_size, "augment": augment.crop_and_flip}
    eager = training.train_ensemble(residual_network, IMAGES, **settings)
    monkeypatch.setattr(ensemble, "stepper_for", lambda runs: GraphStepper(runs, rehearsed))
    graph = training.train_ensemble(residual_network, IMAGES, **settings)
    assert torch.equal(eager.step_dispersion, graph.step_dispersion)
    assert torch.equal(eager.losses, graph.losses)
    for one, other in zip(eager.models, graph.models, strict=True):
        for (name, value), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, again), name


def test_a_step_is_recorded_once_and_reads_and_writes_tensors_that_stay_in_place():
    runs, recorded = lockstep(), []
    step = GraphStepper(runs, lambda work: recorded.append(1) or work)
    places = [t.data_ptr() for t in [*runs.state(), *runs.inputs, runs.orders, runs.rate, runs.gradients]]
    for epoch in range(2):
        runs.begin_epoch([torch.randperm(20) for _ in range(3)], 0.1 / (epoch + 1))
        for _ in range(runs.batches):
            step()
    assert recorded == [1]
    assert [t.data_ptr() for t in [*runs.state(), *runs.inputs, runs.orders, runs.rate, runs.gradients]] == places
    for model, row in zip(runs.models, runs.weights, strict=True):
        assert torch.equal(models.weights(model), row)


def test_the_device_decides_who_performs_the_step():
    runs = lockstep()
    assert isinstance(stepper_for(runs), EagerStepper)
    runs.weights = runs.weights.to("meta").as_subclass(_LooksLikeCuda)
    assert isinstance(stepper_for(runs), GraphStepper)


class _LooksLikeCuda(torch.Tensor):
    @property
    def device(self):
        return torch.device("cuda", 0)


def test_lower_precision_is_for_the_passes_only():
    make = partial(models.cnn, 2, 3, channels=1, size=8)
    splits = [split.to(dtype=torch.float32) for split in IMAGES]
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.dtype)
        return F.cross_entropy(outputs, targets, reduction="none")

    exact, rough = lockstep(make, splits), lockstep(make, splits, autocast=torch.bfloat16, loss=loss)
    for runs in (exact, rough):
        runs.begin_epoch([torch.arange(20)] * 3, 0.05)
        runs.step()
    assert rough.weights.dtype == rough.gradients.dtype == rough.losses.dtype == torch.float32
    assert set(seen) == {torch.float32}
    assert not torch.equal(rough.gradients, exact.gradients)
    assert F.cosine_similarity(rough.gradients, exact.gradients).min() > 0.99
    assert ensemble._autocast(exact.weights) is None


def test_frozen_and_unused_parameters_stay_where_they_are():
    def make():
        model = models.mlp(5, 6, 3).double()
        model[1].weight.requires_grad_(False)
        model.register_parameter("unused", torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))
        return model

    run = training.train_ensemble(make, data.disjoint(sample(40), 2, 20, seed=0), **SETTINGS | {"weight_decay": 0.0})
    first, second = run.models
    assert torch.equal(first[1].weight, second[1].weight)
    assert torch.equal(first.unused, torch.ones(2, dtype=torch.float64))
    assert not torch.equal(first[3].weight, second[3].weight)


def test_the_trace_of_the_covariance_is_that_of_the_matrix():
    rows = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(trace_covariance(rows), torch.cov(rows.T).trace(), rtol=1e-12, atol=0)
    assert trace_covariance(rows[:1]) == 0
