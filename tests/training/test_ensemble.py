from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from instances import residual_network, sample
from torch import nn

from helpers import data, models, training


def make():
    return models.mlp(5, 6, 3).double()


SPLITS = data.disjoint(sample(120), 3, 30, seed=0)
SETTINGS = {"epochs": 4, "batch_size": 8, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "seed": 5}


def plain_run(split, run, *, epochs, batch_size, lr, momentum, weight_decay, seed):
    """The obvious loop with torch.optim.SGD; returns the model and its weights before and after every step."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(1_000_003 * seed + run)
    path = [models.weights(model)]
    for _ in range(epochs):
        order = torch.randperm(len(split), generator=generator)
        for rows in order.split(batch_size):
            if len(rows) == batch_size:
                optimizer.zero_grad()
                F.cross_entropy(model(split.inputs[rows]), split.targets[rows]).backward()
                optimizer.step()
                path.append(models.weights(model))
    return model, torch.stack(path)


def test_it_is_sgd_on_each_split_and_dispersion_is_the_variance_of_updates():
    run = training.train_ensemble(make, SPLITS, **SETTINGS)
    paths = torch.stack([plain_run(split, i, **SETTINGS)[1] for i, split in enumerate(SPLITS)])
    assert run.steps == 4 * 3
    torch.testing.assert_close(run.initial, paths[0, 0])
    for model, path in zip(run.models, paths, strict=True):
        torch.testing.assert_close(models.weights(model), path[-1], rtol=1e-10, atol=1e-12)
    updates = paths.diff(dim=1)  # (k, T, d)
    torch.testing.assert_close(run.step_dispersion, updates.var(0).sum(1), rtol=1e-9, atol=1e-14)
    assert run.dispersion == pytest.approx(updates.var(0).sum().item(), rel=1e-10)


def test_same_seed_same_bits_other_seed_other_weights():
    first, again = (training.train_ensemble(make, SPLITS, **SETTINGS) for _ in range(2))
    other = training.train_ensemble(make, SPLITS, **{**SETTINGS, "seed": 6})
    assert torch.equal(models.weights(first.models[1]), models.weights(again.models[1]))
    assert not torch.equal(first.initial, other.initial)


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    training.train_ensemble(make, SPLITS, **SETTINGS)
    assert torch.equal(torch.rand(3), expected)


def test_models_come_back_whole_in_evaluation_mode():
    run = training.train_ensemble(make, SPLITS, **SETTINGS)
    assert not any(module.training for model in run.models for module in model.modules())
    assert all(p.grad is None for model in run.models for p in model.parameters())
    models.set_weights(run.models[0], 0 * run.initial)
    assert models.weights(run.models[1]).abs().sum() > 0  # no shared storage


def test_it_stops_at_the_loss_asked_for():
    calls = []
    settings = {**SETTINGS, "epochs": 400, "until_loss": 0.8}
    run = training.train_ensemble(make, SPLITS, **settings, observe=lambda epoch, _: calls.append(epoch))
    means = run.losses.mean(1)
    assert means[-1] <= 0.8 < means[-2]
    assert calls == list(range(len(means) + 1))


def test_a_schedule_and_augmentation_are_applied():
    seen = []

    def augment(inputs, generator):
        seen.append(inputs.shape)
        return inputs * 0

    frozen = training.train_ensemble(
        make, SPLITS, **{**SETTINGS, "lr": lambda epoch: 0.0 if epoch else 0.1}, augment=augment
    )
    once = training.train_ensemble(make, SPLITS, **{**SETTINGS, "epochs": 1}, augment=augment)
    assert seen[0] == (30, 5)
    assert torch.equal(models.weights(frozen.models[0]), models.weights(once.models[0]))


def test_zero_epochs_leave_the_initial_weights():
    run = training.train_ensemble(make, SPLITS, **{**SETTINGS, "epochs": 0})
    assert run.steps == 0
    assert run.dispersion == 0
    assert torch.equal(models.weights(run.models[2]), run.initial)


def test_batchnorm_statistics_are_each_runs_own():
    images = [data.Split(s.inputs.repeat(1, 13)[:, :64].view(-1, 1, 8, 8), s.targets, 3, "x") for s in SPLITS]
    run = training.train_ensemble(residual_network, images, epochs=1, batch_size=8, lr=0.01, seed=0)
    first, second = (next(b for name, b in m.named_buffers() if "running_mean" in name) for m in run.models[:2])
    assert not torch.equal(first, second)


def test_divergence_names_the_runs_and_the_epoch():
    wild = [SPLITS[0], data.Split(SPLITS[1].inputs * 1e200, SPLITS[1].targets, 3, "wild")]
    with pytest.raises(training.Diverged, match=r"runs \[1\] diverged in epoch 1"):
        training.train_ensemble(make, wild, **SETTINGS)


def test_other_training_losses_serve():
    def squared(outputs, targets):
        return (outputs - F.one_hot(targets, 3)).square().sum(1)

    run = training.train_ensemble(make, SPLITS, **{**SETTINGS, "lr": 0.02}, loss=squared)
    assert run.losses[-1].mean() < run.losses[0].mean()
    assert isinstance(deepcopy(run.models[0]), nn.Module)


def test_losses_have_a_column_for_each_run_in_order():
    """Inputs of run 1 a hundred times as large: its first epoch costs far more."""
    loud = data.Split(100 * SPLITS[1].inputs, SPLITS[1].targets, 3, "loud")
    losses = training.train_ensemble(make, [SPLITS[0], loud], **{**SETTINGS, "lr": 1e-9, "epochs": 1}).losses
    assert losses.shape == (1, 2)
    assert losses[0, 1] > 5 * losses[0, 0]


def test_a_loss_that_is_lost_while_the_weights_are_not_is_divergence():
    """The last epoch's loss may be infinite with a gradient of zero: the weights then look well."""

    def lost(outputs, targets):
        return 0 * outputs.sum(1) + torch.where(targets == 0, torch.inf, 1.0)

    with pytest.raises(training.Diverged, match="diverged in epoch 1: a loss or weight is not finite"):
        training.train_ensemble(make, SPLITS, **SETTINGS, loss=lost)


def test_the_runs_come_back_with_storage_of_their_own():
    """Else one model keeps all k alive, and saving it saves them all."""
    run = training.train_ensemble(make, SPLITS, **SETTINGS)
    for model in run.models:
        for p in model.parameters():
            assert p.untyped_storage().nbytes() == p.numel() * p.element_size()


def test_weights_that_are_lost_in_the_last_update_are_divergence():
    """The loss is that before the update, and finite."""
    far = [data.Split(1e3 * split.inputs, split.targets, 3, "far") for split in SPLITS]
    once = {**SETTINGS, "lr": 1e307, "epochs": 1, "batch_size": len(far[0]), "momentum": 0.0, "weight_decay": 0.0}
    with pytest.raises(training.Diverged, match=r"runs \[0, 1, 2\] diverged in epoch 1"):
        training.train_ensemble(make, far, **once)


def test_a_run_and_a_split_show_themselves_in_a_line():
    run = training.train_ensemble(make, SPLITS, **SETTINGS)
    assert repr(run) == "<Run: 3 models (Sequential) of 57 weights, 12 steps>"
    assert repr(SPLITS[0]) == "<Split: 30 examples of shape (5,), 3 classes, 'random'>"
    long = data.Split((torch.ones(500, 2), torch.ones(500, 3)), torch.ones(500), 0, "of\nmany pages " * 300)
    assert repr(long).startswith(r"<Split: 500 examples of 2 tensors, regression, 'of\nmany pages ")
    deep = data.Split(torch.ones(2, *[1] * 60), torch.ones(2), 0, "x")
    for shown in (run, long, deep):
        assert len(repr(shown)) < 200
        assert "\n" not in repr(shown)
