from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from helpers import data, langevin, models
from helpers.experiments import noisy_descent
from helpers.experiments.machinery.config import ConfigError
from helpers.regularizers import EntropySGD
from helpers.supersample import Supersample
from helpers.training import seeded, train_ensemble

TINY = noisy_descent.PROFILES["smoke"]


@cache
def tiny_row(kind):
    point = next(p for p in noisy_descent.points(TINY) if p["kind"] == kind)
    return point, noisy_descent.row(TINY, point)


def walk(kind, **settings):
    point = tiny_row(kind)[0]
    own, _, _ = noisy_descent.drawn_samples(TINY, point["seed"])
    make_model = noisy_descent._make_model(TINY, kind, own)
    lr = TINY.conv_lr if kind.startswith(noisy_descent.CONVOLUTIONAL) else TINY.lr
    return langevin.train(make_model, own, lr=lr, temperature=1 / point["beta"], seed=point["seed"], **settings)


@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        (noisy_descent.FULL, None),
        (noisy_descent.MINI, 20),
        (noisy_descent.CONVOLUTIONAL, None),
        (noisy_descent.CONVOLUTIONAL_MINI, 20),
    ],
)
def test_an_early_look_is_a_shorter_walk(kind, batch_size):
    row = tiny_row(kind)[1]
    for look in row["looks"]:
        run = walk(kind, steps=look["steps"], batch_size=batch_size)
        assert look["incoherence"] == pytest.approx(run.incoherence.mean().item(), rel=1e-5)
        assert look["nats_zero"] == pytest.approx(run.moments.sum().item() * (run.lr / run.sigma) ** 2 / 2, rel=1e-5)
        own, _, _ = noisy_descent.drawn_samples(TINY, 0)
        error = (run.model(own.inputs).argmax(1) != own.targets).double().mean().item()
        assert look["train_error"] == pytest.approx(error)
    assert sum(row["per_example"]) / len(row["per_example"]) == pytest.approx(row["looks"][-1]["incoherence"], rel=1e-5)
    assert ("ghost" in row) == (kind == noisy_descent.FULL)


def test_the_ghost_is_the_descent_without_noise_and_noise_on_top():
    row = tiny_row(noisy_descent.FULL)[1]
    assert [ghost["steps"] for ghost in row["ghost"]] == list(TINY.steps)
    quiet = walk(noisy_descent.FULL, steps=TINY.steps[-1])
    cold = langevin.train(
        noisy_descent._make_model(TINY, noisy_descent.FULL, noisy_descent.drawn_samples(TINY, 0)[0]),
        noisy_descent.drawn_samples(TINY, 0)[0], steps=TINY.steps[-1], lr=TINY.lr, temperature=1e-14, seed=0,
    )  # fmt: skip
    nats = cold.moments.sum().item() * (TINY.lr / quiet.sigma) ** 2 / 2
    assert row["ghost"][-1]["nats"] == pytest.approx(nats, rel=1e-3)
    assert row["ghost"][-1]["noisy_train_error"] != row["ghost"][-1]["train_error"]


def wrong(make_model, vector, split):
    model = make_model()
    models.set_weights(model, vector)
    return (model(split.inputs).argmax(1) != split.targets).double().mean().item()


def test_the_running_mean_is_a_function_of_the_path():
    row, path = tiny_row(noisy_descent.ENTROPY)[1], []
    walk(noisy_descent.ENTROPY, steps=TINY.few_steps[-1], observe=lambda t, model: path.append(models.weights(model)))
    own, _, test = noisy_descent.drawn_samples(TINY, 0)
    shares = [TINY.alpha * (1 - TINY.alpha) ** (TINY.few_steps[-1] - t) for t in range(len(path))]
    shares[0] /= TINY.alpha
    mean = sum(share * w for share, w in zip(shares, path, strict=True))
    for name, split in (("train", own), ("test", test)):
        expected = wrong(noisy_descent._make_model(TINY, noisy_descent.FULL, own), mean, split)
        assert row["averaged"][-1][f"{name}_error"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "batch_size"), [(noisy_descent.CONVOLUTIONAL, 60), (noisy_descent.CONVOLUTIONAL_MINI, 20)]
)
def test_a_convolutional_row_has_the_descent_without_noise(kind, batch_size):
    passes = (42, 84)  # until the errors have moved, so that another rate or batch would show
    tiny = replace(TINY, filters=4, conv_lr=0.2, conv_steps=tuple(60 // batch_size * p for p in passes))
    point, (own, _, test) = {"kind": kind, "beta": 1e3, "seed": 0}, noisy_descent.drawn_samples(tiny, 0)
    quiet = noisy_descent._quiet(tiny, point, own, test, batch_size)
    assert [look["steps"] for look in quiet] == list(tiny.conv_steps)
    for look, count in zip(quiet, passes, strict=True):
        (model,) = train_ensemble(
            noisy_descent._make_model(tiny, kind, own), [own], epochs=count, batch_size=batch_size, lr=0.2,
            seed=langevin.stream_seed("initial weights", 0),
        ).models  # fmt: skip
        for name, split in (("train", own), ("test", test)):
            expected = wrong(lambda net=model: net, models.weights(model), split)
            assert look[f"{name}_error"] == pytest.approx(expected)
    assert quiet[-1]["train_error"] < quiet[0]["train_error"] - 0.05
    assert tiny_row(kind)[1]["quiet"][-1]["steps"] == TINY.conv_steps[-1]


def test_entropy_sgd_without_tie_and_mean_is_the_plain_walk():
    tiny = replace(TINY, inner_steps=1, alpha=1.0, few_betas=(1e14,))
    point = {"kind": noisy_descent.ENTROPY, "beta": 1e14, "seed": 0}
    own, _, _ = noisy_descent.drawn_samples(tiny, 0)
    for look in noisy_descent.row(tiny, point)["looks"]:
        run = langevin.train(
            noisy_descent._make_model(tiny, noisy_descent.ENTROPY, own), own, steps=look["steps"], lr=tiny.lr,
            temperature=1e-14, seed=0,
        )  # fmt: skip
        assert look["incoherence"] == pytest.approx(run.incoherence.mean().item(), rel=1e-4)
        assert look["train_error"] == pytest.approx(wrong(lambda run=run: run.model, models.weights(run.model), own))


def test_a_row_of_entropy_sgd_charges_every_gradient_of_its_inner_walks():
    (_, row), taken = tiny_row(noisy_descent.ENTROPY), []
    assert [look["steps"] for look in row["looks"]] == list(TINY.few_steps)
    own, _, _ = noisy_descent.drawn_samples(TINY, 0)
    with seeded(langevin.stream_seed("initial weights", 0)):
        model = noisy_descent._make_model(TINY, noisy_descent.ENTROPY, own)()

    def closure():
        taken.append(models.weights(model))
        loss = F.cross_entropy(model(own.inputs), own.targets)
        loss.backward()
        return loss

    optimizer = EntropySGD(
        torch.optim.SGD(model.parameters(), lr=1 / TINY.gamma), TINY.gamma, steps=TINY.inner_steps, rate=TINY.lr,
        noise=(2 / 100.0) ** 0.5, alpha=TINY.alpha, seed=langevin.stream_seed("noise", 0),
    )  # fmt: skip
    while len(taken) < TINY.few_steps[-1]:
        optimizer.step(closure)
    error = wrong(lambda: model, models.weights(model), own)
    assert row["looks"][-1]["train_error"] == pytest.approx(error)
    summed = 0.0
    for w in taken:
        models.set_weights(model, w)
        each = torch.stack([models.flat(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))
                            for loss in F.cross_entropy(model(own.inputs), own.targets, reduction="none")])  # fmt: skip
        others = (each.sum(0) - each) / (len(own) - 1)
        summed += TINY.lr * 100.0 / 2 * (each - others).square().sum(1).mean().item()
    assert row["looks"][-1]["incoherence"] == pytest.approx(summed, rel=1e-3)


def test_a_paired_row_compares_two_bounds_of_one_walk():
    row = tiny_row(noisy_descent.PAIRED)[1]
    assert row["n"] == TINY.n // 2
    assert 0 < row["information"] <= row["blind"] * 1.5
    own, _, _ = noisy_descent.drawn_samples(TINY, 0)
    pairs = Supersample(own)
    (coins,) = pairs.memberships(1, seed=1000)
    run = langevin.train(
        noisy_descent._make_model(TINY, noisy_descent.PAIRED, own), pairs.sample(coins), steps=TINY.few_steps[-1],
        lr=TINY.lr, temperature=1e-2, seed=0,
    )  # fmt: skip
    assert row["incoherence"] == pytest.approx(run.incoherence.mean().item())


def test_samples_of_a_seed_are_disjoint_and_use_everything():
    parts = noisy_descent.drawn_samples(TINY, 0)
    data.check_disjoint(*parts)
    total = sum(len(data.load("digits", train=train)) for train in (True, False))
    assert sum(map(len, parts)) == total
    assert not torch.equal(parts[0].inputs, noisy_descent.drawn_samples(TINY, 1)[0].inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 61}, "batch_size must lie between 2 and n = 60, got 61"),
        ({"steps": (8, 4)}, "steps must increase"),
        ({"conv_steps": (3, 5)}, "conv_steps must be multiples of n // batch_size = 3, got"),
        ({"few_steps": (2, 5)}, "few_steps must be multiples of inner_steps = 2, got"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_the_paper_profile_runs_through_the_same_code():
    tiny = {"dataset": "digits", "n": 20, "width": 3, "filters": 2, "batch_size": 10, "n_held_out": 20}
    steps = {"steps": (1, 2), "conv_steps": (2, 4), "few_steps": (1, 2), "inner_steps": 1}
    config = replace(noisy_descent.PROFILES["paper"], **tiny, **steps)
    for kind in dict.fromkeys(p["kind"] for p in noisy_descent.points(config)):
        point = next(p for p in noisy_descent.points(config) if p["kind"] == kind)
        assert noisy_descent.row(config, point)["status"] == "ok"
