from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from instances import sample

from helpers import curvature, models, wang_mao
from helpers.data import Split
from helpers.experiments import double_descent, predictions
from helpers.experiments.machinery.config import ConfigError

SMOKE = double_descent.PROFILES["smoke"]
TINY = replace(SMOKE, n=40, k=2, epochs=2, probes=400, batch_size=10)


@cache
def tiny_row():
    return double_descent.row(TINY, {"noise": 0.0, "seed": 0})


def test_lists_have_an_entry_for_each_epoch():
    row = double_descent.row(replace(TINY, probes=1), {"noise": 0.4, "seed": 1})
    assert row["status"] == "ok"
    lengths = {name: len(value) for name, value in row.items() if isinstance(value, list)}
    during = {"cross_run", "single_run", "expected_single_run", "uncentred"}
    assert {name for name, length in lengths.items() if length == TINY.epochs} == during
    assert {length for name, length in lengths.items() if name not in during} == {TINY.epochs + 1}
    assert row["steps"] == TINY.epochs * (TINY.n // TINY.batch_size)


def test_gradients_of_examples_are_those_of_a_loop_and_average_to_the_whole():
    model = models.mlp(5, 6, 3).double().eval()
    split = sample(7)
    rows = predictions.example_gradients(model, split)
    for i, row in enumerate(rows):
        value = F.cross_entropy(model(split.inputs[i : i + 1]), split.targets[i : i + 1])
        slopes = torch.autograd.grad(value, list(model.parameters()))
        torch.testing.assert_close(row, torch.cat([s.flatten() for s in slopes]), rtol=1e-10, atol=1e-12)
    whole = curvature.gradient(model, predictions.UNCLIPPED, split)
    torch.testing.assert_close(rows.mean(0), whole, rtol=1e-10, atol=1e-12)


def test_one_run_s_dispersion_and_its_expectation_agree_with_the_exact_one():
    row = tiny_row()
    train, test = double_descent._samples(TINY, 0.0, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = double_descent._network(TINY, test).eval()
    exact = wang_mao.expected_single_run_dispersion(
        predictions.example_gradients(model, train[0])[None], TINY.lr, batch_size=TINY.batch_size
    ).item()
    assert row["expected_single_run"][0] == pytest.approx(exact, rel=0.03)
    assert row["single_run"][0] == pytest.approx(exact, rel=0.05)
    centre = TINY.lr**2 * curvature.gradient(model, predictions.UNCLIPPED, train[0]).square().sum().item()
    assert row["uncentred"][0] == pytest.approx(exact + centre, rel=0.05)


def test_full_batches_leave_one_run_no_dispersion_but_many_runs_some():
    row = double_descent.row(replace(TINY, batch_size=40, probes=1), {"noise": 0.0, "seed": 0})
    assert max(row["single_run"]) < 1e-10
    assert max(row["expected_single_run"]) == 0
    assert min(row["cross_run"]) > 1e-4


@pytest.mark.parametrize("seed", [0, 3])
def test_noise_is_spread_evenly_and_moves_no_example(seed):
    """The noisy examples must not be chosen by the same permutation as the samples."""
    config = replace(SMOKE, k=2, n=500, n_test=250)
    noisy, noisy_test = double_descent._samples(config, 0.5, seed)
    clean, clean_test = double_descent._samples(config, 0.0, seed)
    for one, other in zip([*noisy, noisy_test], [*clean, clean_test], strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert (one.targets != other.targets).double().mean().item() == pytest.approx(0.45, abs=0.1)


def test_a_clean_sample_has_one_test_accuracy_a_noisy_one_two():
    row = tiny_row()
    assert row["test_accuracy"] == row["true_test_accuracy"]
    noisy = double_descent.row(replace(TINY, probes=1), {"noise": 0.6, "seed": 0})
    assert noisy["test_accuracy"] != noisy["true_test_accuracy"]


def test_the_convolutional_network_fits_any_image():
    config = replace(TINY, model="cnn", width=2)
    image = Split(torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64), 10, "blank")
    assert double_descent._network(config, image)(image.inputs).shape == (3, 10)
    assert double_descent.row(replace(config, epochs=1, probes=1), {"noise": 0.0, "seed": 0})["status"] == "ok"


def test_a_diverged_row_says_so():
    assert double_descent.row(replace(TINY, lr=1e12, probes=1), {"noise": 0.0, "seed": 0})["status"].startswith(
        "diverged"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "model must be one of mlp, cnn"),
        ({"noise_levels": (0.0, 1.5)}, "shares from 0 to 1, got 1.5"),
        ({"k": 1}, "the variance over runs needs two"),
        ({"batch_size": 101}, "between 2 and n = 100"),
        ({"batch_size": 1}, "between 2 and n = 100"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)
