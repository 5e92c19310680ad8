from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import data, langevin
from helpers.experiments import noisy_descent
from helpers.experiments.machinery.config import ConfigError
from helpers.supersample import Supersample

TINY = noisy_descent.PROFILES["smoke"]


@cache
def tiny_row(kind):
    point = next(p for p in noisy_descent.points(TINY) if p["kind"] == kind)
    return point, noisy_descent.row(TINY, point)


def walk(kind, **settings):
    point = tiny_row(kind)[0]
    own, _, _ = noisy_descent.drawn_samples(TINY, point["seed"])
    make_model = noisy_descent._make_model(TINY, kind, own)
    return langevin.train(make_model, own, lr=TINY.lr, temperature=1 / point["beta"], seed=point["seed"], **settings)


@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [(noisy_descent.FULL, None), (noisy_descent.MINI, 20), (noisy_descent.CONVOLUTIONAL, None)],
)
def test_an_early_look_is_a_shorter_walk(kind, batch_size):
    row = tiny_row(kind)[1]
    for look in row["looks"]:
        run = walk(kind, steps=look["steps"], batch_size=batch_size)
        assert look["incoherence"] == pytest.approx(run.incoherence.mean().item(), rel=1e-5)
        assert look["nats_zero"] == pytest.approx(run.moments.sum().item() * (TINY.lr / run.sigma) ** 2 / 2, rel=1e-5)
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
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_the_paper_profile_runs_through_the_same_code():
    tiny = {"dataset": "digits", "n": 20, "width": 3, "filters": 2, "batch_size": 10, "n_held_out": 20}
    config = replace(noisy_descent.PROFILES["paper"], **tiny, steps=(1, 2), few_steps=(1, 2))
    for kind in (noisy_descent.FULL, noisy_descent.MINI, noisy_descent.CONVOLUTIONAL, noisy_descent.PAIRED):
        point = next(p for p in noisy_descent.points(config) if p["kind"] == kind)
        assert noisy_descent.row(config, point)["status"] == "ok"
