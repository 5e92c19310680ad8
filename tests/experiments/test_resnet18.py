"""The ResNet-18 experiments at their smallest: what varies from row to row, and what must not."""

from dataclasses import replace
from functools import cache
from math import log, sqrt

import pytest
import torch
from instances import network, sample, traces

from helpers import curvature, exchange, omniscient, wang_mao
from helpers.experiments import (
    every_bound,
    resnet18,
    resnet18_clip,
    resnet18_epochs,
    resnet18_grid,
    resnet18_lambda,
    resnet18_middle,
    resnet18_validation,
)
from helpers.experiments.machinery.config import ConfigError
from helpers.training import train_ensemble

ALL = [resnet18_clip, resnet18_epochs, resnet18_grid, resnet18_lambda, resnet18_middle, resnet18_validation]
TINY = {"dataset": "digits", "width": 2, "n": 40, "n_val": 40, "n_test": 60, "k": 3}


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.EXPERIMENT.name)
def test_the_paper_profile_runs_at_a_tiny_size_through_the_same_code(module):
    config = replace(module.PROFILES["paper"], **TINY, trace_rtol=1.0, most_probes=2, iterations=2)
    if hasattr(config, "pool"):
        config = replace(config, pool=200)
    if hasattr(config, "noise_levels"):
        config = replace(config, draws=1, noise_levels=(1.0,))
    point = {**module.points(config)[0]}
    point |= {"batch_size": 20} if "batch_size" in point else {}
    point |= {"epochs": 1} if "epochs" in point else {}
    if module is resnet18_epochs:
        config = replace(config, stations=(1,), epochs=1)
    config = replace(config, epochs=1, batch_size=20)
    assert module.row(config, point)["status"] == "ok"


@cache
def grid_rows():
    config = replace(
        resnet18_grid.PROFILES["smoke"], matched_loss=2.2, most_epochs=3, epochs=1, batch_sizes=(16,), lrs=(0.02,)
    )
    return config, [resnet18_grid.row(config, point) for point in resnet18_grid.points(config)]


def test_the_axes_of_the_grid_run_through_the_base_point_in_every_regime_and_seed():
    config = replace(resnet18_grid.PROFILES["smoke"], seeds=(0, 3), matched_seeds=(3,), lrs=(0.01, 0.02, 0.1))
    assert (config.batch_sizes, config.batch_size, config.lr) == ((8, 16), 16, 0.02)
    points = resnet18_grid.points(config)
    assert len(points) == 12
    settings = [(p["batch_size"], p["lr"]) for p in points if p["regime"] == resnet18_grid.MATCHED]
    assert settings == [(8, 0.02), (16, 0.02), (16, 0.01), (16, 0.1)]
    assert {point["seed"] for point in points if point["regime"] == resnet18_grid.MATCHED} == {3}


def test_matched_rows_stop_at_the_loss_and_say_so():
    config, (fixed, matched) = grid_rows()
    assert fixed["epochs"] == 1
    assert matched["matched"] == (matched["final_epoch_loss"] <= config.matched_loss)
    assert matched["epochs"] == config.most_epochs or matched["matched"]
    hopeless = replace(config, matched_loss=1e-6, most_epochs=2, lambdas=(1.0,))
    row = resnet18_grid.row(hopeless, resnet18_grid.points(hopeless)[1])
    assert (row["matched"], row["epochs"]) == (False, 2)


def test_isotropic_bounds_come_from_the_row_s_own_dispersion_and_traces():
    _, (row, _) = grid_rows()
    sizes = {"n": row["n"], "steps": row["steps"], "R": row["R"]}
    eq3 = wang_mao.closed_form(row["dispersion"], row["trace"], **sizes)
    assert row["wang_mao_eq3"]["value"] == pytest.approx(eq3.value, rel=1e-12)
    assert row["wang_mao_eq2"]["value"] <= eq3.value
    assert row["neu_without_sensitivity"]["value"] == pytest.approx(2 ** (1 / 3) * eq3.value, rel=1e-12)
    difference = abs(row["trace"] - row["trace_val2"])
    assert row["terminal"]["B"] == pytest.approx(row["steps"] / 2 * difference, rel=1e-9)
    assert row["wang_mao_eq3_difference"]["B"] == pytest.approx(row["steps"] / 2 * difference, rel=1e-9)
    assert row["wang_mao_eq3"]["gamma"] >= 0
    assert row["largest_loss"] >= row["test_loss"]
    assert sum(row["by_run"]["trace"]) / 2 == pytest.approx(row["trace"], rel=1e-12)


def test_the_alignment_is_rayleighs_quotient_of_a_runs_deviation():
    config = replace(resnet18_grid.PROFILES["smoke"], n=20)
    models = [network(width=3, seed=s) for s in (1, 2, 3)]
    parts = [sample(20, seed=s) for s in (1, 2, 3)]
    runs = omniscient.Runs(models, parts, config.loss(3))
    quotients = every_bound.spread_alignment(runs, parts)
    W = runs.weights
    for i, quotient in enumerate(quotients):
        nu = W[i] - (W.sum(0) - W[i]) / 2
        H = curvature.hessian(models[i], runs.loss, parts[i])
        assert quotient == pytest.approx((nu @ H @ nu / (nu @ nu)).item(), rel=1e-9)


def test_forms_that_take_a_root_of_a_negative_trace_are_none():
    """The clipped loss is not convex in the weights: a training trace may be negative, and is not clamped."""
    config, _ = grid_rows()
    roles = config.roles(0)
    run = train_ensemble(**config.training(roles), splits=roles.train, seed=0)
    runs = omniscient.Runs(run.models, roles.train, config.loss(10))
    bounds = every_bound.isotropic_bounds(config, run, runs, roles, traces(-1.0, 2.0), seed=0)
    assert bounds["wang_mao_eq3"] is bounds["wang_mao_eq2"] is bounds["neu_without_sensitivity"] is None
    assert bounds["terminal"]["B"] == pytest.approx(1.5 * run.steps)


def test_a_diverged_run_is_a_row_that_says_so():
    config = replace(resnet18_grid.PROFILES["smoke"], lr=1e9, lrs=(1e9,), batch_sizes=(8,))
    row = resnet18_grid.row(config, resnet18_grid.points(config)[0])
    assert row["status"].startswith("diverged")
    assert row["matched"] is False


def test_stations_of_a_seed_lie_on_one_way():
    config = resnet18_epochs.PROFILES["smoke"]
    one, two = (resnet18_epochs.row(config, point) for point in resnet18_epochs.points(config))
    assert (one["epochs"], two["epochs"]) == (1, 2)
    assert one["dispersion"] < two["dispersion"]
    assert one["final_epoch_loss"] != two["final_epoch_loss"]


def test_a_station_is_the_training_that_stops_there():
    config = resnet18_epochs.PROFILES["smoke"]
    roles, runs = resnet18.stations(config, seed=0, epochs=(1, 2))
    short = train_ensemble(**config.training(roles) | {"epochs": 1}, splits=roles.train, seed=0)
    station = runs[1]
    assert station.steps == short.steps
    assert torch.equal(station.step_dispersion, short.step_dispersion)
    assert torch.equal(station.losses, short.losses)
    for left, right in zip(station.models, short.models, strict=True):
        kept, trained = left.state_dict(), right.state_dict()
        assert all(torch.equal(kept[name], trained[name]) for name in kept)


def test_a_clip_changes_the_loss_and_not_the_networks():
    config = resnet18_clip.PROFILES["smoke"]
    low, high = (resnet18_clip.row(config, point) for point in resnet18_clip.points(config))
    assert (low["R"], high["R"]) == pytest.approx((2.0, 8.0))
    assert low["dispersion"] == high["dispersion"]
    assert low["test_error"] == high["test_error"]


def test_the_pool_is_cut_by_the_share():
    config = resnet18_validation.PROFILES["laptop"]
    sized = config.at(0.2)
    assert (sized.n, sized.n_val) == (1000, 500)
    assert all(c.k * c.n + 2 * c.n_val <= config.pool for c in map(config.at, config.shares))
    with pytest.raises(ConfigError, match="below 1"):
        replace(config, shares=(0.5, 1.0))


def test_the_path_has_a_row_for_every_lambda():
    config = resnet18_lambda.PROFILES["smoke"]
    row = resnet18_lambda.row(config, {"seed": 0})
    assert [entry["lam"] for entry in row["omniscient"]] == list(config.lambdas)
    assert [entry["lam"] for entry in row["self_certified"]] == list(config.certified_lambdas)


@cache
def middle_row():
    config = resnet18_middle.PROFILES["smoke"]
    return config, resnet18_middle.row(config, resnet18_middle.points(config)[0])


def test_the_middle_has_an_entry_for_each_perturbation_shape_and_level():
    config, row = middle_row()
    assert len(row["losses"]) == 4
    for found in row["losses"]:
        labels = {(e["perturbation"], e["shape"], e["noise_level"]) for e in found["exchanges"]}
        assert len(labels) == len(found["exchanges"]) == (1 + len(config.lambdas)) * 2 * len(config.noise_levels)


def test_the_middle_adds_information_to_what_the_noise_takes_from_the_gap():
    config, row = middle_row()
    for found in row["losses"]:
        for entry in found["exchanges"]:
            assert entry["information"] == pytest.approx(found["R"] * sqrt(2 * entry["nats"] / config.n))
            assert entry["residual"] == pytest.approx(abs(found["gap"] - entry["noisy_gap"]))
            assert entry["value"] == pytest.approx(entry["information"] + entry["residual"])
            if entry["shape"] == "isotropic":
                expected = row["d"] / 2 * log(1 + 1 / entry["noise_level"] ** 2)
                assert entry["nats"] == pytest.approx(expected, rel=1e-6)


def test_the_middle_compares_networks_on_the_same_examples_with_and_without_noise():
    config, whole = middle_row()
    short = replace(config, noisy_examples=20, noise_levels=(1e-6,))
    row = resnet18_middle.row(short, resnet18_middle.points(short)[0])
    for found, full in zip(row["losses"], whole["losses"], strict=True):
        assert (found["gap"], found["gap_standard_error"]) == (full["gap"], full["gap_standard_error"])
        still = [e for e in found["exchanges"] if e["perturbation"] == "none"]
        assert all(e["residual"] < 1e-3 for e in still)
    gaps = [(e["noisy_gap"], found["gap"]) for found in row["losses"] for e in found["exchanges"][:1]]
    assert any(abs(noisy - gap) > 1e-3 for noisy, gap in gaps)  # of twenty examples, and of all


def test_shaped_noise_is_as_large_as_isotropic_noise_over_all():
    scales = resnet18_middle._normalised([1.0, 5.0], [30, 10])
    assert 30 * scales[0] ** 2 + 10 * scales[1] ** 2 == pytest.approx(40)
    W = torch.randn(4, 12)
    offsets = W - omniscient.leave_one_out(W)
    assert sum(exchange.group_moments(offsets, [5, 7])) == pytest.approx(
        offsets.square().sum(1).mean().item(), rel=1e-5
    )
