"""The code that a CUDA graph records is run here on the processor, recorded by a function that repeats it instead."""

import subprocess
import sys
import warnings
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from instances import residual_network, sample
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from helpers import data, models, training
from helpers.training import arguments, augment, ensemble, progress, steppers
from helpers.training import lockstep as lockstep_module
from helpers.training.lockstep import Lockstep, rows_of, trace_covariance
from helpers.training.steppers import WARM_UP, recorded, stepper_for

IMAGES = [
    data.Split(s.inputs.repeat(1, 13)[:, :64].view(-1, 1, 8, 8), s.targets, 3, "x")
    for s in data.disjoint(sample(60), 3, 20, seed=0)
]
SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "seed": 1}


@pytest.mark.parametrize("place", ["backends", "backends.cudnn", "backends.cudnn.conv"])
def test_the_callers_switches_of_tf32_do_not_stop_a_training(place):
    """In a process of its own: once a newer switch is set, PyTorch refuses to read the older ones."""
    script = f"""
import torch
from helpers.training import progress

torch.{place}.fp32_precision = "ieee"
before = torch.backends.cudnn.benchmark
with progress._settled(torch.device("cuda")):
    assert torch.backends.cudnn.benchmark
assert torch.backends.cudnn.benchmark == before
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def rehearsed(work):
    """What recording does to the runs: some steps to warm up; then the step itself stands for its record."""
    for _ in range(WARM_UP):
        work()
    return work


def performed_by(record, monkeypatch, make=residual_network, **changes):
    """A training whose steps are recorded; warnings are errors unless a test asks for them."""
    monkeypatch.setattr(progress, "stepper_for", lambda runs: recorded(runs, record))
    return training.train_ensemble(make, IMAGES, **SETTINGS | changes)


def assert_equal_runs(one, other):
    assert torch.equal(one.step_dispersion, other.step_dispersion)
    assert torch.equal(one.losses, other.losses)
    for model, twin in zip(one.models, other.models, strict=True):
        for (name, value), again in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
            assert torch.equal(value, again), name


def lockstep(make=residual_network, splits=IMAGES, **changes):
    torch.manual_seed(0)
    first = make()
    settings = {"batch_size": 8, "momentum": 0.9, "weight_decay": 0.01, "loss": ensemble.CrossEntropy(3)} | changes
    return Lockstep([deepcopy(first) for _ in splits], splits, **settings)


def drawing_network():
    network = residual_network()
    network.insert(-1, nn.Dropout(0.3))
    return network


@pytest.mark.parametrize("make", [residual_network, drawing_network])
@pytest.mark.parametrize("batch_size", [3, 8, 20])  # 20: one step an epoch, fewer than the steps of the warm-up
def test_a_recorded_step_gives_the_same_bits(monkeypatch, make, batch_size):
    monkeypatch.setattr(steppers, "_drew_on_the_processor", lambda before: False)  # where dropout draws in this test
    settings = {"batch_size": batch_size, "augment": augment.crop_and_flip}
    eager = training.train_ensemble(make, IMAGES, **SETTINGS | settings)
    with warnings.catch_warnings(action="error"):
        graph = performed_by(rehearsed, monkeypatch, make, **settings)
    assert_equal_runs(eager, graph)


def test_one_run_is_recorded_too(monkeypatch):
    monkeypatch.setattr(progress, "stepper_for", lambda runs: recorded(runs, rehearsed))
    with warnings.catch_warnings(action="error"):
        training.train_ensemble(residual_network, IMAGES[:1], **SETTINGS)


def failing(work):
    """A recording that ends as torch ends one: an error of its own follows the one that broke it."""
    work()
    try:
        raise RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture\nmore lines")
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


def forgetful(work):
    """A record that lacks the update of the weights of the first run."""
    work()

    def replay():
        work()
        lockstep_of(work).gradients[0].zero_()

    return replay


def lockstep_of(work):
    return work.__self__


def stale(work):
    """A record that does nothing at all."""
    work()
    return lambda: None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (failing, r"could not be recorded as a CUDA graph \(Cannot copy between CPU and CUDA tensors .* capture\)"),
        (forgetful, r"the recorded training step differs from the step itself \(by 2\.9e-01 of its size\)"),
        (stale, "the recorded training step differs from the step itself"),
    ],
)
def test_a_step_whose_record_cannot_be_trusted_is_performed_as_it_is_written(monkeypatch, record, message):
    eager = training.train_ensemble(residual_network, IMAGES, **SETTINGS)
    with pytest.warns(UserWarning, match=message) as caught:
        graph = performed_by(record, monkeypatch)
    assert len(caught) == 1
    assert_equal_runs(eager, graph)


def test_a_record_in_float64_that_is_wrong_by_little_is_not_trusted(monkeypatch):
    """The record repeats the step and adds to the weights what no rounding in float64 does."""

    def nearly(runs):
        def record(work):
            def replay():
                work()
                runs.weights.mul_(1 + 1e-5)

            return replay

        return recorded(runs, record)

    monkeypatch.setattr(progress, "stepper_for", nearly)
    with pytest.warns(UserWarning, match="differs from the step itself"):
        nearly_right = training.train_ensemble(lambda: residual_network().double(), IMAGES, **SETTINGS)
    monkeypatch.undo()
    assert_equal_runs(training.train_ensemble(lambda: residual_network().double(), IMAGES, **SETTINGS), nearly_right)


def test_a_step_that_draws_on_the_processor_is_not_recorded(monkeypatch):
    eager = training.train_ensemble(drawing_network, IMAGES, **SETTINGS)
    with pytest.warns(UserWarning, match="draws random numbers on the processor"):
        graph = performed_by(rehearsed, monkeypatch, drawing_network)
    assert_equal_runs(eager, graph)


def test_atomic_additions_do_not_make_a_record_untrusted():
    ones = [torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([torch.nan, 0.0])]
    assert steppers._distance(ones, [ones[0] * (1 + 1e-3), ones[1]]) < steppers.AGREEMENT
    assert steppers._distance(ones, [ones[0] * 1.1, ones[1]]) > steppers.AGREEMENT
    assert steppers._distance(ones, [ones[0], torch.zeros(2)]) == torch.inf
    assert steppers._distance([torch.zeros(2)], [torch.ones(2)]) == torch.inf


def test_an_error_of_the_callers_loss_is_raised_and_not_taken_for_a_failed_recording(monkeypatch):
    with pytest.raises(ValueError, match="one value an example"):
        performed_by(rehearsed, monkeypatch, loss=F.cross_entropy)


def test_a_step_is_recorded_once_and_reads_and_writes_tensors_that_stay_in_place():
    runs, made = lockstep(), []
    step = recorded(runs, lambda work: made.append(1) or work)
    places = [t.data_ptr() for t in [*runs.state(), *runs.inputs, runs.orders, runs.rate, runs.gradients]]
    for epoch in range(2):
        runs.begin_epoch([torch.randperm(20) for _ in range(3)], 0.1 / (epoch + 1))
        for _ in range(runs.batches):
            step()
    assert made == [1]
    assert [t.data_ptr() for t in [*runs.state(), *runs.inputs, runs.orders, runs.rate, runs.gradients]] == places
    for model, row in zip(runs.models, runs.weights, strict=True):
        assert torch.equal(models.weights(model), row)


def test_the_device_decides_who_performs_the_step(monkeypatch):
    monkeypatch.setattr(steppers, "recorded", lambda runs, record: record.args)
    runs = lockstep()
    assert stepper_for(runs) == runs.step
    runs.weights = runs.weights.to("meta").as_subclass(_LooksLikeCuda)
    assert stepper_for(runs) == (torch.device("cuda", 0),)


class _LooksLikeCuda(torch.Tensor):
    @property
    def device(self):
        return torch.device("cuda", 0)


class OneDevice(TorchDispatchMode):
    """Refuses what an accelerator refuses: an operation on tensors of two devices, but for copies and scalars."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor) and leaf.ndim]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1 and function not in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default):
            raise AssertionError(f"{function} on {sorted(devices)}")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_stays_on_the_device_of_the_weights(dtype):
    """On the meta device, which computes nothing and checks no indices."""
    runs = lockstep(lambda: residual_network().to(device="meta", dtype=dtype))
    assert {t.device.type for t in [*runs.inputs, *runs.targets, *runs.state(), runs.orders, runs.rate]} == {"meta"}
    with OneDevice():
        runs.begin_epoch([torch.randperm(20) for _ in range(3)], 0.1)  # orders may be drawn elsewhere
        for _ in range(runs.batches):
            runs.step()


def test_an_index_on_another_device_is_seen():
    with OneDevice(), pytest.raises(AssertionError, match=r"index_select\.default on \['cpu', 'meta'\]"):
        rows_of(torch.zeros(5, 2, device="meta"), torch.arange(2))


class NoFloat64(TorchDispatchMode):
    """Refuses what MPS refuses: a float64 tensor, whoever makes it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in tree_flatten(result)[0]):
            raise AssertionError(f"{function} makes float64")
        return result


def test_a_device_without_float64_sums_in_float32(monkeypatch):
    def make():
        return models.cnn(2, 3, channels=1, size=8)

    expected = lockstep(make, IMAGES)
    monkeypatch.setattr(lockstep_module, "_summing", lambda device: torch.float32)
    runs = lockstep(make, [split.to(dtype=torch.float32) for split in IMAGES])
    for each in (expected, runs):
        each.begin_epoch([torch.arange(20)] * 3, 0.05)
    expected.step()
    with NoFloat64():
        runs.step()
    torch.testing.assert_close(runs.dispersion.double(), expected.dispersion, rtol=1e-5, atol=0)
    monkeypatch.undo()
    assert lockstep_module._summing(torch.device("mps")) == torch.float32
    assert lockstep_module._summing(torch.device("cuda")) == torch.float64


def test_convolutions_read_channels_last_and_only_they():
    floats = [split.to(dtype=torch.float32) for split in IMAGES]
    convolving = lockstep(lambda: residual_network().float(), floats)
    flat = lockstep(lambda: models.mlp(64, 4, 3), floats)
    exact = lockstep(residual_network, IMAGES)
    assert all(inputs.stride() == (64, 1, 8, 1) for inputs in convolving.inputs)  # one channel, too
    assert not any(inputs.stride(1) == 1 for inputs in [*flat.inputs, *exact.inputs])
    rows = torch.tensor([3, 0, 3])
    for runs in (convolving, flat, exact):
        taken = rows_of(runs.inputs[1], rows)
        assert torch.equal(taken, runs.inputs[1][rows])
        assert taken.stride()[1:] == runs.inputs[1].stride()[1:]


def test_the_layout_of_the_images_changes_the_rounding_only(monkeypatch):
    floats = [split.to(dtype=torch.float32) for split in IMAGES]

    def gradients():
        runs = lockstep(lambda: residual_network().float(), floats)
        runs.begin_epoch([torch.arange(20)] * 3, 0.05)
        runs.step()
        return runs.gradients

    fast = gradients()
    monkeypatch.setattr(lockstep_module, "channels_last", lambda *_: False)
    torch.testing.assert_close(fast, gradients(), rtol=1e-3, atol=1e-5)


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


def test_the_precision_is_the_callers_choice_and_the_run_says_it(monkeypatch):
    monkeypatch.setattr(arguments, "_computes_bf16", lambda device: True)  # without fast kernels it is slow, not wrong
    floats = [split.to(dtype=torch.float32) for split in IMAGES]
    make = partial(models.cnn, 2, 3, channels=1, size=8)
    plain, exact, rough = (
        training.train_ensemble(make, floats, **SETTINGS, precision=p) for p in (None, "float32", "bf16")
    )
    assert (plain.precision, exact.precision, rough.precision) == ("float32", "float32", "bf16")
    assert_equal_runs(plain, exact)
    assert not torch.equal(models.weights(rough.models[0]), models.weights(exact.models[0]))
    assert rough.initial.dtype == models.weights(rough.models[0]).dtype == torch.float32
    moved = models.weights(exact.models[0]) - exact.initial
    assert F.cosine_similarity(moved, models.weights(rough.models[0]) - rough.initial, dim=0) > 0.95
    with torch.autocast("cpu", torch.bfloat16):  # that of the caller does not reach the training
        assert_equal_runs(exact, training.train_ensemble(make, floats, **SETTINGS))


def test_bfloat16_is_refused_where_the_processor_lacks_it(monkeypatch):
    monkeypatch.setattr(arguments, "_computes_bf16", lambda device: False)
    with pytest.raises(ValueError, match='precision="bf16" needs a device that computes in bfloat16, cpu does not'):
        training.train_ensemble(lambda: models.cnn(2, 3, channels=1, size=8), IMAGES, **SETTINGS, precision="bf16")


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
    assert trace_covariance(rows[:1]).isnan()
    assert trace_covariance(rows.float()).dtype == torch.float64
