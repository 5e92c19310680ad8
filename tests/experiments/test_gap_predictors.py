from dataclasses import replace
from functools import cache

import pytest
import torch
from instances import network, sample

from helpers import curvature, flatness
from helpers import soft_rank as rank
from helpers.experiments import gap_predictors
from helpers.experiments.double_descent import UNCLIPPED
from helpers.experiments.machinery.config import ConfigError

SMOKE = gap_predictors.PROFILES["smoke"]
TINY = replace(SMOKE, n=40, n_test=60, widths=(2,), noise_levels=(0.0,), epochs=(3,), lambdas=(1e-2, 1.0))
POINT = {"width": 2, "noise": 0.0, "weight_decay": 1e-3, "epochs": 3, "seed": 0}


@cache
def tiny_row():
    return gap_predictors.row(TINY, POINT)


@pytest.fixture(scope="module")
def dense():
    """A network with its F and C from their slow definitions."""
    model, split = network(), sample(17)
    F = curvature.gauss_newton(model, UNCLIPPED, split)
    return model, split, F, flatness.empirical_fisher(model, UNCLIPPED, split)


def kronecker_soft_rank(factors, lam):
    """Soft rank of the block-diagonal matrix with one Kronecker product A x B for each layer, by its definition."""
    return rank.soft_rank(torch.linalg.eigvalsh(torch.block_diag(*[torch.kron(A, B) for A, B in factors])), lam)


def test_measures_are_those_of_the_dense_matrices(dense):
    model, split, F, C = dense
    found = gap_predictors.measures(model, split, (1e-2, 1.0))
    for i, lam in enumerate((1e-2, 1.0)):
        assert found["soft_rank"][i] == pytest.approx(rank.soft_rank(torch.linalg.eigvalsh(F), lam), rel=1e-9)
        assert found["tic"][i] == pytest.approx(rank.tic(F, C, lam), rel=1e-9)
        assert found["diagonal"][i] == pytest.approx(rank.diagonal_soft_rank(F, lam), rel=1e-9)
        assert found["block"][i] == pytest.approx(rank.block_soft_rank(F, lam, rank.layer_sizes(model)), rel=1e-9)
        factors = rank.kronecker_factors(model, UNCLIPPED, split)
        assert found["kfac"][i] == pytest.approx(kronecker_soft_rank(factors, lam), rel=1e-9)
    assert found["trace_ratio"] == pytest.approx(rank.trace_ratio(F, C), rel=1e-9)
    assert found["trace"] == pytest.approx(F.trace().item(), rel=1e-9)
    assert found["largest_eigenvalue"] == pytest.approx(torch.linalg.eigvalsh(F)[-1].item(), rel=1e-9)
    assert found["frobenius"] == pytest.approx(F.norm().item(), rel=1e-9)
    assert found["loss"] == pytest.approx(curvature.values(model, UNCLIPPED, split).mean().item(), rel=1e-9)


def test_the_root_is_one_of_the_fisher_matrix(dense):
    model, split, F, _ = dense
    A = gap_predictors.fisher_root(model, split)
    assert A.shape == (17 * 3, len(F))
    torch.testing.assert_close(A.T @ A / 17, F, rtol=1e-9, atol=1e-12)


def test_calibration_error_by_hand():
    # confidences 0.9, 0.9 (one right: too sure) and 0.6 (right: not sure enough), in two bins of width 1/5
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], dtype=torch.float64)
    error = gap_predictors.calibration_error(probabilities.log(), torch.tensor([0, 1, 1]), bins=5)
    assert error == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3, abs=1e-12)


def test_a_sure_and_right_model_is_calibrated():
    logits = 100 * torch.eye(4, dtype=torch.float64)
    assert gap_predictors.calibration_error(logits, torch.arange(4)) == pytest.approx(0, abs=1e-12)
    assert gap_predictors.calibration_error(logits, torch.arange(4).flip(0)) == pytest.approx(1, abs=1e-12)


def test_gaps_are_differences_of_means(dense):
    model, train, _, _ = dense
    test = sample(31, seed=5)
    found = gap_predictors.gaps(model, train, test)
    seen, unseen = (torch.nn.functional.cross_entropy(model(s.inputs), s.targets).item() for s in (train, test))
    assert found["gap"] == pytest.approx(unseen - seen, abs=1e-12)
    wrong = [(model(s.inputs).argmax(1) != s.targets).double().mean().item() for s in (train, test)]
    assert found["gap01"] == pytest.approx(wrong[1] - wrong[0], abs=1e-12)
    assert found["train_error"] == pytest.approx(wrong[0], abs=1e-12)


def test_a_row_holds_measures_from_both_samples():
    row = tiny_row()
    assert row["status"] == "ok"
    assert row["d"] == 65 * 2 + 3 * 10
    for part in ("from_train", "from_test"):
        lists = {name for name, value in row[part].items() if isinstance(value, list)}
        assert lists == {"soft_rank", "tic", "diagonal", "block", "kfac"}
        assert {len(row[part][name]) for name in lists} == {2}
    assert row["from_train"]["loss"] == pytest.approx(row["train_loss"], rel=1e-9)
    assert row["from_test"]["loss"] - row["from_train"]["loss"] == pytest.approx(row["gap"], rel=1e-9)


def test_weight_decay_reaches_the_training():
    decayed = gap_predictors.row(TINY, POINT | {"weight_decay": 0.3})
    assert decayed["from_train"]["loss"] > tiny_row()["from_train"]["loss"]


def test_noise_moves_no_example():
    clean, noisy = (gap_predictors.noisy_samples(TINY, noise, 0) for noise in (0.0, 0.5))
    for one, other in zip(clean, noisy, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert not torch.equal(one.targets, other.targets)


def test_a_diverged_row_says_so():
    assert gap_predictors.row(replace(TINY, lr=1e8), POINT)["status"].startswith("diverged")


def test_the_paper_profile_runs_on_small_data():
    config = replace(
        gap_predictors.PROFILES["paper"], dataset="digits", n=40, n_test=40, widths=(2,), epochs=(1,), batch_size=20,
        lambdas=(0.1,),
    )  # fmt: skip
    assert gap_predictors.row(config, gap_predictors.points(config)[0])["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"noise_levels": (1.5,)}, "shares from 0 to 1, got 1.5"), ({"batch_size": 101}, "cannot exceed n = 100")],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    """((b - 1) / bins, b / bins]: 0.5 shares a bin with 0.4, and not with 0.9."""
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05]], dtype=torch.float64)
    error = gap_predictors.calibration_error(probabilities.log(), torch.tensor([1, 0, 1]), bins=2)
    assert error == pytest.approx((abs(-0.5 + 0.6) + 0.9) / 3, abs=1e-12)
