from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import curvature, data, losses
from helpers.experiments import flat_training
from helpers.experiments.loop import minibatches, network
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.samples import images

TINY = replace(flat_training.PROFILES["smoke"], n=60, batch_size=20, epochs=1, lr=0.1)
PASSES = dict(zip(flat_training.METHODS, (1, 1, 1, 1, 1, 2, 2, 4, 11, 4), strict=True))


@cache
def tiny_row(method):
    return flat_training.row(TINY, {"method": method, "seed": 0})


@pytest.mark.parametrize("method", flat_training.METHODS)
def test_the_cost_of_every_method(method):
    row = tiny_row(method)
    assert row["status"] == "ok"
    assert row["passes"] == PASSES[method]
    assert row["steps"] == TINY.epochs * 3
    assert row["seconds"] > 0


def test_methods_are_different_algorithms():
    ends = [round(tiny_row(method)["train_loss"], 7) for method in flat_training.METHODS if method != "flooding"]
    assert len(set(ends)) == len(ends)


def test_flooding_is_erm_above_its_level_and_turns_round_below():
    assert tiny_row("flooding")["train_loss"] == tiny_row("ERM")["train_loss"]
    above = flat_training.row(replace(TINY, flood=5.0), {"method": "flooding", "seed": 0})
    assert above["train_loss"] > tiny_row("ERM")["train_loss"]


def test_erm_is_sgd_with_momentum_on_the_sample_and_its_flatness_that_of_the_dense_hessian():
    (train,) = data.partition(images("digits", True), [60], seed=0)
    torch.manual_seed(0)
    model = network("cnn", 2, train).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for batch in minibatches(train, 20, torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    model.eval()
    loss, row = losses.ClippedCrossEntropy.per_class(10), tiny_row("ERM")
    assert row["train_loss"] == pytest.approx(curvature.values(model, loss, train).mean().item(), rel=1e-4)
    hessian = curvature.hessian(model, loss, train)
    assert row["trace"] == pytest.approx(hessian.trace().item(), abs=4 * row["trace_standard_error"])
    edge = torch.linalg.eigvalsh(hessian.double())[-1].item()
    assert row["largest_eigenvalue"] == pytest.approx(edge, rel=0.2)
    assert row["gap"] == pytest.approx(row["test_loss"] - row["train_loss"])


def test_the_learning_rate_falls_twice():
    config = replace(TINY, epochs=8, lr=1.0)
    assert [config.rate(epoch) for epoch in range(8)] == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_dropout_stands_behind_every_relu_and_is_off_in_evaluation():
    model = network("cnn", 2, images("digits", True))
    relus = sum(isinstance(module, nn.ReLU) for module in model.modules())
    inputs = images("digits", True).inputs[:4]
    before = model(inputs)
    flat_training.add_dropout(model, 0.1)
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == relus == 4
    assert not torch.equal(model(inputs), before)
    assert torch.equal(model.eval()(inputs), before)


def test_worst_inputs_raise_the_loss_by_one_signed_step():
    (batch,) = data.partition(images("digits", True), [20], seed=0)
    model = network("cnn", 2, batch)
    worst = flat_training.worst_inputs(model, batch, 0.05)
    moved = (worst - batch.inputs).abs()
    assert torch.all((moved < 1e-6) | ((moved - 0.05).abs() < 1e-6))
    assert F.cross_entropy(model(worst), batch.targets) > F.cross_entropy(model(batch.inputs), batch.targets)


def test_smoothing_and_mixup_change_the_targets():
    (batch,) = data.partition(images("digits", True), [20], seed=0)
    model = network("cnn", 2, batch)
    logs = torch.log_softmax(model(batch.inputs), 1)
    targets = 0.8 * F.one_hot(batch.targets, 10) + 0.02
    smoothed = flat_training.batch_loss(TINY, "label smoothing", model, batch)
    assert smoothed.item() == pytest.approx(-(targets * logs).sum(1).mean().item(), rel=1e-5)
    torch.manual_seed(3)
    mixed = flat_training.batch_loss(TINY, "mixup", model, batch)
    torch.manual_seed(3)
    share, partners = torch.rand(()).item(), torch.randperm(20)
    logs = torch.log_softmax(model(share * batch.inputs + (1 - share) * batch.inputs[partners]), 1)
    hot = F.one_hot(batch.targets, 10)
    targets = share * hot + (1 - share) * hot[partners]
    assert mixed.item() == pytest.approx(-(targets * logs).sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("method", ["ERM", "SAM", "GMP, 3 draws"])
def test_a_diverged_row_says_so(method):
    row = flat_training.row(replace(TINY, lr=1e14, epochs=2), {"method": method, "seed": 0})
    assert row["status"].startswith("diverged")


@pytest.mark.parametrize("model", ["preact-resnet18", "vgg16"])
def test_the_paper_s_code_path_runs_at_a_tiny_size(model):
    config = replace(
        flat_training.PROFILES["paper"], dataset="digits", model=model, width=1, n=40, n_test=50, epochs=1,
        batch_size=20, most_probes=2, lanczos_steps=2,
    )  # fmt: skip
    for method in ("dropout", "SAM", "absolute GMP, 3 draws"):
        assert flat_training.row(config, {"method": method, "seed": 0})["status"] == "ok", method
    assert len(flat_training.points(config)) == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "model must be one of mlp, cnn, vgg16, preact-resnet18"),
        ({"methods": ("ERM", "prayer")}, "no method 'prayer'; choose from ERM; dropout"),
        ({"batch_size": 101, "n": 100}, "at most n = 100"),
        ({"dropout": 1.0}, "shares below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)
