"""The bounds of a row that know only the dispersion and the traces."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from instances import CLIPPED, network, sample, traces

from helpers import omniscient, wang_mao
from helpers.experiments import every_bound, resnet18_lambda
from helpers.experiments.samples import Roles
from helpers.losses import ClippedCrossEntropy

CONFIG = replace(resnet18_lambda.PROFILES["smoke"], draws=3)


def bounds(training_trace, held_out_trace):
    ensemble, train = [network(seed=0), network(seed=1)], [sample(20, seed=0), sample(20, seed=1)]
    run = SimpleNamespace(
        models=ensemble, steps=7, dispersion=0.3, step_dispersion=torch.full((7,), 0.3 / 7), initial=torch.zeros(39)
    )
    roles = Roles(train=train, val=sample(30, seed=2), val2=sample(30, seed=3), test=sample(40, seed=4))
    runs = omniscient.Runs(ensemble, train, CLIPPED)
    return every_bound.isotropic_bounds(CONFIG, run, runs, roles, traces(training_trace, held_out_trace), seed=0), run


def test_a_negative_training_trace_gives_no_bound_and_not_that_of_its_size():
    negative, run = bounds(-2.0, 1.0)
    assert [negative[name] for name in ("wang_mao_eq3", "wang_mao_eq2", "neu_without_sensitivity")] == [None] * 3
    expected = wang_mao.closed_form(run.dispersion, 3.0, n=20, steps=7, R=CLIPPED.R)
    assert negative["wang_mao_eq3_difference"]["value"] == pytest.approx(expected.value)
    assert negative["terminal"]["value"] == pytest.approx(bounds(3.0, 0.0)[0]["terminal"]["value"])


def test_a_positive_training_trace_gives_every_form():
    found, run = bounds(2.0, 0.5)
    sizes = {"n": 20, "steps": 7, "R": CLIPPED.R}
    assert found["wang_mao_eq3"]["value"] == pytest.approx(wang_mao.closed_form(0.3, 2.0, **sizes).value)
    doubled = wang_mao.closed_form(0.6, 2.0, **sizes).value
    assert found["neu_without_sensitivity"]["value"] == pytest.approx(doubled)
    assert doubled == pytest.approx(2 ** (1 / 3) * found["wang_mao_eq3"]["value"])
    steps = run.step_dispersion.tolist()
    assert found["wang_mao_eq2"]["value"] == pytest.approx(wang_mao.log_form(steps, 2.0, n=20, R=CLIPPED.R, d=39).value)
    assert found["wang_mao_eq3_difference"]["value"] == pytest.approx(wang_mao.closed_form(0.3, 1.5, **sizes).value)


def test_the_largest_loss_is_that_of_any_example_of_any_run():
    ensemble, train, test = (
        [network(seed=0), network(seed=1)],
        [sample(20, seed=0), sample(20, seed=1)],
        sample(9, seed=2),
    )
    runs = omniscient.Runs(ensemble, train, CLIPPED)
    losses = [
        torch.nn.functional.cross_entropy(model(split.inputs), split.targets, reduction="none").max().item()
        for model, own in zip(ensemble, train, strict=True)
        for split in (own, test)
    ]
    assert every_bound.largest_loss(runs, test) == pytest.approx(max(losses))


def test_the_solver_is_that_of_the_profile():
    solver = replace(CONFIG, draws=3, trace_rtol=0.3, iterations=11, solver_examples=13, path_probes=17).solver(7)
    assert (solver.draws, solver.value_rtol, solver.seed) == (3, pytest.approx(0.1), 7)
    assert (solver.rtol, solver.max_iterations) == (CONFIG.solve_rtol, 11)
    assert (solver.examples, solver.most_probes) == (13, 17)


def test_the_noise_of_all_steps_has_the_root_of_their_number_times_that_of_one():
    found, run = bounds(2.0, 0.5)
    train = [sample(20, seed=0), sample(20, seed=1)]
    runs, test = omniscient.Runs(run.models, train, CLIPPED), sample(40, seed=4)
    sigma = found["wang_mao_eq3"]["sigma"]
    clean, noisy = (
        omniscient.under_noise(runs, test, runs.weights, deviation, draws=draws, seed=0)
        for deviation, draws in ((0.0, 1), (sigma * 7**0.5, CONFIG.draws))
    )
    assert found["wang_mao_eq3"]["gamma"] == pytest.approx(abs((noisy - clean).mean().item()))


def test_the_evaluation_loss_is_clipped_at_twelve_times_that_of_a_guess():
    assert CONFIG.loss(10) == ClippedCrossEntropy.per_class(10, 12.0)
