from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import curvature, omniscient, wang_mao
from helpers.experiments import matched_loss
from helpers.experiments.machinery.config import ConfigError
from helpers.training import train_ensemble

SMOKE = {experiment.name: experiment.profiles["smoke"] for experiment in matched_loss.EXPERIMENTS}
PLAIN = {"width": 16, "noise": 0.0, "batch_size": 20, "lr": 0.2, "seed": 0}


@cache
def plain_row():
    return matched_loss.row(SMOKE["mlp-width"], PLAIN)


def test_the_grid_varies_what_the_name_says():
    varied = {}
    for experiment in matched_loss.EXPERIMENTS:
        points = experiment.points(experiment.profiles["laptop"])
        varied[experiment.name] = {key for key in points[0] if len({point[key] for point in points}) > 1} - {"seed"}
    assert varied == {
        "mlp-width": {"width"},
        "cnn-width": {"width"},
        "label-noise": {"noise"},
        "lr-batch": {"lr", "batch_size"},
    }


def test_a_row_is_the_measurement_of_the_runs_that_it_names():
    """The same ensemble, trained and measured by hand."""
    config, row = SMOKE["mlp-width"], plain_row()
    roles = config.roles(0)
    run = train_ensemble(
        lambda: matched_loss.network("mlp", 16, roles.test), roles.train, epochs=config.most_epochs, batch_size=20,
        lr=0.2, seed=0, until_loss=config.matched_loss,
    )  # fmt: skip
    loss = config.loss(10)
    gap = omniscient.gap(run.models, roles.train, roles.test, loss=loss)
    assert row["gap"] == pytest.approx(gap.value, rel=1e-6)
    assert row["epochs"] == len(run.losses) < config.most_epochs
    eq3 = wang_mao.closed_form(run.dispersion, row["trace"], n=config.n, steps=run.steps, R=loss.R)
    assert row["wang_mao_eq3"]["value"] == pytest.approx(eq3.value, rel=1e-6)
    assert row["matched"]
    edge = curvature.extreme_eigenvalues(
        run.models[0], loss, roles.train[0], rtol=0.05, max_iterations=config.iterations, seed=0
    )
    assert row["largest_eigenvalue"] == pytest.approx(edge.largest.item(), rel=1e-4)


def test_a_row_that_does_not_get_there_says_so():
    row = matched_loss.row(replace(SMOKE["mlp-width"], most_epochs=1), PLAIN)
    assert row["status"] == "ok"
    assert not row["matched"]
    diverged = matched_loss.row(SMOKE["mlp-width"], PLAIN | {"lr": 1e12})
    assert diverged["status"].startswith("diverged")
    assert not diverged["matched"]


def test_noise_reaches_every_sample_and_moves_no_example():
    config = replace(SMOKE["label-noise"], n=300, n_val=200, n_test=300)
    clean, noisy = (matched_loss.noisy_roles(config, share, 1) for share in (0.0, 0.6))
    for one, other in [*zip(clean.train, noisy.train, strict=True)] + [
        (getattr(clean, part), getattr(noisy, part)) for part in ("val", "val2", "test")
    ]:
        assert torch.equal(one.inputs, other.inputs)
        assert (one.targets != other.targets).double().mean().item() == pytest.approx(0.54, abs=0.1)
    moved = [own.targets != other.targets for own, other in zip(clean.train, noisy.train, strict=True)]
    assert not torch.equal(*moved)


def test_noise_makes_the_gap_larger():
    noisy = matched_loss.row(SMOKE["label-noise"], PLAIN | {"noise": 0.6})
    assert noisy["gap"] > plain_row()["gap"]


@pytest.mark.parametrize("experiment", matched_loss.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_the_paper_s_code_path_runs_at_a_tiny_size(experiment):
    tiny = {
        "dataset": "digits", "k": 2, "n": 40, "n_val": 40, "n_test": 50, "most_epochs": 1, "most_probes": 2,
        "iterations": 2, "widths": (2,), "batch_sizes": (20,), "lrs": (0.01,),
    }  # fmt: skip
    config = replace(experiment.profiles["paper"], **tiny)
    row = experiment.row(config, experiment.points(config)[0])
    assert row["status"] == "ok"
    assert len(row["omniscient"]) == len(config.lambdas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "model must be one of mlp, cnn"),
        ({"noise_levels": (0.0, 1.5)}, "shares from 0 to 1, got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE["mlp-width"], **changes)


def test_every_sample_has_random_labels_of_its_own(monkeypatch):
    """One seed for two samples of one size would make the same rows noisy, with the same labels."""
    seeds = []

    def noted(split, share, *, seed):
        seeds.append(seed)
        return split

    monkeypatch.setattr(matched_loss.data, "with_label_noise", noted)
    for seed in (0, 1, 2):
        matched_loss.noisy_roles(SMOKE["label-noise"], 0.5, seed)
    assert len(seeds) == len(set(seeds)) == 3 * (SMOKE["label-noise"].k + 3)
