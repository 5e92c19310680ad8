from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import curvature, data
from helpers.experiments import flat_networks
from helpers.experiments.flat_networks import ENTROPY, METHODS, SGD
from helpers.experiments.loop import minibatches, network
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.samples import images
from helpers.losses import ClippedCrossEntropy
from helpers.models import layers
from helpers.regularizers import EntropySGD
from helpers.training import seeded

SMOKE = flat_networks.PROFILES["smoke"]
TINY = replace(SMOKE, epochs=1)
PASSES = dict(zip(METHODS, (1, 4, 11, 1, 2, 2, 2, 1), strict=True))


@cache
def tiny_row(method, model="vgg16"):
    return flat_networks.row(TINY, {"model": model, "method": method, "seed": 0})


def sample(n=100):
    return data.partition(images("digits", True), [n], seed=0)[0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_at_its_price(method):
    row = tiny_row(method)
    assert row["status"] == "ok"
    assert row["passes"] == PASSES[method]
    assert row["seconds"] > 0
    assert row["gap"] == pytest.approx(row["test_loss"] - row["train_loss"])


def test_methods_are_different_algorithms():
    ends = [round(tiny_row(method)["train_loss"], 6) for method in METHODS]
    assert len(set(ends)) == len(ends)


def test_both_networks_run():
    assert tiny_row(SGD, "preact-resnet18")["status"] == "ok"
    assert tiny_row(SGD, "preact-resnet18")["train_loss"] != tiny_row(SGD)["train_loss"]


def test_sgd_is_sgd_with_momentum_and_the_trace_that_of_the_settled_network():
    train = sample()
    with seeded(0):
        model = network("vgg16", 1, train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    model.train()
    for batch in minibatches(train, 20, torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    flat_networks.settle(model, train)
    model.eval()
    row, loss = tiny_row(SGD), ClippedCrossEntropy.per_class(10)
    assert row["train_loss"] == pytest.approx(curvature.values(model, loss, train).mean().item(), rel=1e-4)
    by_layer = curvature.trace_by_layer(model, loss, train, method="hutchinson", most_probes=200, rtol=0.02, seed=1)
    trace = sum(estimate.value for estimate in by_layer.values())
    assert row["trace"] == pytest.approx(trace, rel=0.15)
    sizes = {name: torch.cat([p.flatten() for p in ps]).square().mean().item() for name, ps in layers(model).items()}
    relative = sum(sizes[name] * estimate.value for name, estimate in by_layer.items())
    assert row["relative_trace"] == pytest.approx(relative, rel=0.2)


def test_the_relative_trace_does_not_see_the_scale_in_front_of_a_normalisation():
    train = sample()
    with seeded(0):
        model = network("vgg16", 1, train)
    found = []
    for factor in (1.0, 3.0):
        with torch.no_grad():
            model[0].weight.mul_(factor)
        found.append(flat_networks.flatness_and_gap(replace(SMOKE, most_probes=40), model, train, train, 0))
    assert found[0]["train_loss"] == pytest.approx(found[1]["train_loss"], rel=1e-3)
    assert found[0]["relative_trace"] == pytest.approx(found[1]["relative_trace"], rel=0.02)
    assert found[0]["trace"] > 1.05 * found[1]["trace"]


def test_statistics_are_those_of_the_sample_at_the_weights_as_they_are():
    train = sample(60)
    with seeded(0):
        model = network("preact-resnet18", 1, train)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    loss = flat_networks.settle(model, train)
    before = model[0](train.inputs)
    assert torch.allclose(first.running_mean, before.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, before.var((0, 2, 3)), atol=1e-4)
    assert first.momentum == 0.1
    assert loss == pytest.approx(F.cross_entropy(model.train()(train.inputs), train.targets).item(), rel=1e-5)


def test_a_network_is_measured_at_the_end_of_the_first_epoch_below_each_level(monkeypatch):
    losses, looks, settle = [], [], flat_networks.settle

    def recorded(model, split):
        losses.append(settle(model, split))
        return losses[-1]

    def look():
        looks.append(len(losses))
        return {"look": len(looks)}

    def course(levels):
        losses.clear()
        looks.clear()
        with seeded(0):
            model = network("preact-resnet18", 2, sample())
        config = replace(SMOKE, width=2, epochs=5, levels=levels)
        return flat_networks.course(config, SGD, model, sample(), 0, look)["at_levels"]

    monkeypatch.setattr(flat_networks, "settle", recorded)
    assert course((1e-6,)) == [None]
    level = min(losses[:3])  # not reached before the epoch that has it
    epoch = losses.index(level) + 1
    assert epoch > 1
    assert course((9.0, level, 1e-6)) == [{"look": 1, "epochs": 1}, {"look": 2, "epochs": epoch}, None]
    assert looks == [1, epoch]


def test_looking_does_not_change_the_training():
    point = {"model": "preact-resnet18", "method": "GMP, 3 draws", "seed": 0}
    looked, blind = (
        flat_networks.row(replace(TINY, epochs=2, levels=levels), point) for levels in ((9.0, 8.0), (1e-9,))
    )
    assert [at["epochs"] for at in looked["at_levels"]] == [1, 1]
    assert blind["at_levels"] == [None]
    assert looked["trace"] == blind["trace"]


def test_entropy_sgd_walks_over_batches_of_its_own_and_goes_to_the_mean():
    config = replace(SMOKE, epochs=8, lr=0.02)
    (train,) = data.partition(images("digits", True), [100], seed=0)
    with seeded(0):
        model = network("vgg16", 1, train)
    optimizer = flat_networks.sgd_within(config, ENTROPY, model, 0)
    assert isinstance(optimizer, EntropySGD)
    flat_networks.set_rates(config, optimizer, 0)
    assert optimizer.rate == pytest.approx(0.2)  # 0.02 over 1 - momentum
    assert optimizer.param_groups[0]["lr"] * optimizer.gamma == pytest.approx(1)
    flat_networks.set_rates(config, optimizer, 4)
    assert optimizer.rate == pytest.approx(0.02)
    decay = optimizer.param_groups[0]["lr"] * optimizer.param_groups[0]["weight_decay"]
    assert decay == pytest.approx(5 * 0.02 * 1e-4)


def test_the_learning_rate_falls_twice():
    config = replace(TINY, epochs=8)
    assert [config.decay(epoch) for epoch in range(8)] == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


@pytest.mark.parametrize("method", [SGD, "SAM", ENTROPY])
def test_a_diverged_row_says_so(method):
    row = flat_networks.row(replace(TINY, lr=1e14), {"model": "vgg16", "method": method, "seed": 0})
    assert row["status"].startswith("diverged")


def test_the_paper_profile_runs_on_small_data():
    config = replace(
        flat_networks.PROFILES["paper"],
        dataset="digits",
        width=1,
        n=60,
        n_test=50,
        epochs=1,
        batch_size=10,
        most_probes=2,
    )
    assert len(flat_networks.points(config)) == 160
    assert flat_networks.row(config, flat_networks.points(config)[0])["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("transformer",)}, "models knows no 'transformer'; choose from vgg16; preact-resnet18"),
        ({"methods": (SGD, "prayer")}, "methods knows no 'prayer'"),
        ({"batch_size": 21}, "takes entropy_steps = 5 batches of 21"),
        ({"levels": (0.1, 0.5)}, "losses that fall, got 0.1, 0.5"),
        ({"momentum": 1.0}, "momentum must be below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)
