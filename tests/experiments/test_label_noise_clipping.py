from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from helpers.experiments import label_noise_clipping
from helpers.experiments.loop import minibatches, network
from helpers.experiments.machinery.config import ConfigError

TINY = replace(label_noise_clipping.SMOKE, n=60, epochs=5, start=2)


@cache
def tiny_row(rule, noise=0.4):
    return label_noise_clipping.row(TINY, {"noise": noise, "rule": rule, "seed": 0})


def slow_twin(config, rule):
    """Norms and weights of the rule, written as the paper prints it."""
    train, _, _ = label_noise_clipping.split_with_noise(config, 0.4, 0)
    torch.manual_seed(0)
    model = network(config.model, config.width, train)
    order, norms, minimum = torch.Generator().manual_seed(0), [], float("inf")
    for _ in range(config.epochs):
        for batch in minibatches(train, config.batch_size, order):
            slopes = torch.autograd.grad(F.cross_entropy(model(batch.inputs), batch.targets), list(model.parameters()))
            norm = torch.cat([s.flatten() for s in slopes]).norm()
            norms.append(norm.item())
            share, t = 1.0, len(norms)
            if rule == label_noise_clipping.ALGORITHM and t > config.start * config.steps:
                if norm > minimum:
                    share = config.alpha * minimum / norm
                else:
                    minimum = norm
            lag = config.lag * config.steps
            if rule == label_noise_clipping.MAIN_TEXT and t > lag and norm > norms[t - lag - 1]:
                share = config.alpha * norms[t - lag - 1] / norm
            if rule == label_noise_clipping.LOWERED and t > config.start * config.steps:
                share = 1 / config.divisor
            with torch.no_grad():
                for p, slope in zip(model.parameters(), slopes, strict=True):
                    p -= config.lr * share * slope
    return norms, model


@pytest.mark.parametrize(
    "rule",
    [
        label_noise_clipping.PLAIN,
        label_noise_clipping.ALGORITHM,
        label_noise_clipping.MAIN_TEXT,
        label_noise_clipping.LOWERED,
    ],
)
def test_a_row_is_that_of_the_rule_as_printed(rule):
    row = tiny_row(rule)
    norms, model = slow_twin(TINY, rule)
    by_epoch = torch.tensor(norms).view(TINY.epochs, -1).mean(1)
    assert row["gradient_norm"] == pytest.approx(by_epoch.tolist(), rel=1e-4)
    train, test, untouched = label_noise_clipping.split_with_noise(TINY, 0.4, 0)
    assert row["test_loss"][-1] == pytest.approx(
        label_noise_clipping.predicted(model, train, test, untouched)["test_loss"], rel=1e-4
    )


def test_lists_have_an_entry_for_each_epoch():
    row = tiny_row(label_noise_clipping.ALGORITHM)
    during = {"gradient_norm", "step_norm", "clipped"}
    for name, values in row.items():
        if isinstance(values, list):
            assert len(values) == TINY.epochs + (name not in during), name


def test_the_share_of_clipped_steps_and_what_is_left():
    row = tiny_row(label_noise_clipping.ALGORITHM)
    assert row["start"] == TINY.start
    assert row["clipped"][: TINY.start] == [0.0] * TINY.start
    assert max(row["clipped"][TINY.start :]) > 0
    plain = tiny_row(label_noise_clipping.PLAIN)
    assert plain["clipped"] == [0.0] * TINY.epochs
    assert plain["start"] is None
    assert plain["step_norm"] == pytest.approx(plain["gradient_norm"])


def test_the_control_clips_nothing_and_leaves_the_first_epochs_alone():
    row, plain = tiny_row(label_noise_clipping.LOWERED), tiny_row(label_noise_clipping.PLAIN)
    assert row["start"] == TINY.start
    assert row["clipped"] == [0.0] * TINY.epochs
    assert row["train_loss"][: TINY.start + 1] == plain["train_loss"][: TINY.start + 1]
    assert abs(row["train_loss"][-1] - row["train_loss"][TINY.start]) < 0.2 * abs(
        plain["train_loss"][-1] - plain["train_loss"][TINY.start]
    )


def test_the_detected_start_is_the_first_epoch_whose_norm_rises():
    row, plain = tiny_row(label_noise_clipping.DETECTED), tiny_row(label_noise_clipping.PLAIN)
    norms = plain["gradient_norm"]
    rises = [epoch + 1 for epoch in range(1, TINY.epochs) if norms[epoch] > norms[epoch - 1]]
    assert row["start"] == (rises[0] if rises else None)
    assert rises, "the test needs a run whose norm rises"
    assert row["gradient_norm"][: rises[0]] == pytest.approx(norms[: rises[0]])
    assert sum(row["clipped"][: rises[0]]) == 0
    if rises[0] < TINY.epochs:
        assert max(row["clipped"][rises[0] :]) > 0


def test_noise_moves_no_example_and_spares_the_true_labels():
    config = replace(TINY, n=400, n_test=300)
    noisy, noisy_test, true = label_noise_clipping.split_with_noise(config, 0.5, 1)
    clean, clean_test, _ = label_noise_clipping.split_with_noise(config, 0.0, 1)
    for one, other in ((noisy, clean), (noisy_test, clean_test)):
        assert torch.equal(one.inputs, other.inputs)
        assert (one.targets != other.targets).double().mean().item() == pytest.approx(0.45, abs=0.1)
    assert torch.equal(true.targets, clean_test.targets)
    model = network("mlp", 16, noisy)
    now = label_noise_clipping.predicted(model, noisy, noisy_test, true)
    answers = model(true.inputs).argmax(1)
    assert now["true_test_accuracy"] == (answers == true.targets).double().mean().item()
    assert now["test_accuracy"] == (answers == noisy_test.targets).double().mean().item() != now["true_test_accuracy"]


def test_a_diverged_row_says_so():
    for rule in label_noise_clipping.RULES:
        row = label_noise_clipping.row(replace(TINY, lr=1e14), {"noise": 0.0, "rule": rule, "seed": 0})
        assert row["status"].startswith("diverged"), rule


@pytest.mark.parametrize("experiment", label_noise_clipping.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_the_paper_s_code_path_runs_at_a_tiny_size(experiment):
    tiny = {"dataset": "digits", "n": 40, "n_test": 50, "epochs": 2, "width": 2, "batch_size": 20, "start": 1}
    config = replace(experiment.profiles["paper"], **tiny)
    for point in experiment.points(config)[:5]:
        assert experiment.row(config, point)["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "model must be one of mlp, cnn"),
        ({"noise_levels": (0.0, 1.5)}, "shares from 0 to 1, got 1.5"),
        ({"alpha": 1.5}, "alpha is a share, at most 1, got 1.5"),
        ({"batch_size": 101}, "at most n = 100"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(label_noise_clipping.SMOKE, **changes)


def test_all_labels_may_be_random():
    assert replace(label_noise_clipping.SMOKE, noise_levels=(0.0, 1.0)).noise_levels == (0.0, 1.0)


def test_training_and_test_examples_come_from_the_two_parts_of_the_data_set(monkeypatch):
    asked = []

    def noted(dataset, train, noise, seed):
        asked.append((train, noise))
        return noisy_images(dataset, train, noise, seed)

    noisy_images = label_noise_clipping.noisy_images
    monkeypatch.setattr(label_noise_clipping, "noisy_images", noted)
    label_noise_clipping.split_with_noise(TINY, 0.4, 0)
    assert asked == [(True, 0.4), (False, 0.4), (False, 0.0)]


def test_a_step_that_is_shortened_a_little_counts_as_clipped():
    config = replace(TINY, alpha=1.0)
    row = label_noise_clipping.row(config, {"noise": 0.4, "rule": label_noise_clipping.ALGORITHM, "seed": 0})
    for share, step, gradient in zip(row["clipped"], row["step_norm"], row["gradient_norm"], strict=True):
        assert (share > 0) == (step < 0.999 * gradient)
    assert row["step_norm"][config.start] > 0.9 * row["gradient_norm"][config.start]
