from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from instances import network, sample
from torch import nn

from helpers import curvature
from helpers.experiments import complexity, gap_predictors
from helpers.experiments.double_descent import UNCLIPPED
from helpers.experiments.machinery.worker import DegenerateRow
from helpers.losses import ZeroOneError
from helpers.models import at, mlp, weights

TINY = replace(complexity.PROFILES["smoke"], n=40, n_test=60, widths=(3,), noise_levels=(0.0,), epochs=(8,), draws=5)
POINT = {"width": 3, "noise": 0.0, "weight_decay": 1e-3, "epochs": 8, "seed": 0}
NAMES = {
    "size", "squared_norm", "distance", "spectral", "path_norm", "gradient_variance", "worst_ratio", "mean_ratio",
    "mean_flatness", "keskar",
}  # fmt: skip


@cache
def tiny_row():
    return complexity.row(TINY, POINT)


def test_a_row_has_every_measure_of_the_network_of_the_soft_rank_family():
    row = tiny_row()
    assert set(row) > NAMES | {"early_gradient_variance", "gap", "gap01", "train_error"}
    assert all(row[name] > 0 for name in NAMES)
    settings = {f: getattr(TINY, f) for f in ("n", "n_test", "widths", "noise_levels", "epochs")}
    twin = gap_predictors.row(replace(gap_predictors.PROFILES["smoke"], **settings, lambdas=(0.1,)), POINT)
    assert {key: row[key] for key in ("gap", "gap01", "train_loss")} == {
        key: twin[key] for key in ("gap", "gap01", "train_loss")
    }


def test_the_family_is_that_of_the_soft_rank_in_every_profile():
    for name, config in complexity.PROFILES.items():
        assert gap_predictors.points(config) == gap_predictors.points(gap_predictors.PROFILES[name])


def test_the_early_variance_is_that_after_one_epoch():
    one = complexity.row(TINY, POINT | {"epochs": 1})
    assert one["early_gradient_variance"] == one["gradient_variance"] == tiny_row()["early_gradient_variance"]
    assert tiny_row()["gradient_variance"] != one["gradient_variance"]


def test_gradient_variance_is_the_trace_of_the_covariance():
    model, split = network(), sample(17)
    g = curvature.per_example_gradients(model, UNCLIPPED, split)
    expected = torch.cov(g.T, correction=0).trace().item()
    assert complexity.gradient_variance(model, split) == pytest.approx(expected, rel=1e-10)


def test_path_norm_sums_over_paths():
    torch.manual_seed(0)
    model, split = mlp(2, 3, 2).double(), sample(4)
    split = replace(split, inputs=torch.zeros(4, 2, dtype=torch.float64))
    first, last = model[1], model[3]
    total = last.bias.square().sum()
    for unit, answer in product(range(3), range(2)):
        into = first.weight[unit].square().sum() + first.bias[unit] ** 2
        total = total + into * last.weight[answer, unit] ** 2
    assert complexity.network_path_norm(model, split) == pytest.approx(total.sqrt().item(), rel=1e-12)


def test_path_norm_is_the_same_for_rescaled_networks_without_biases():
    torch.manual_seed(0)
    model, split = mlp(2, 3, 2).double(), replace(sample(4), inputs=torch.zeros(4, 2, dtype=torch.float64))
    before = complexity.network_path_norm(model, split)
    with torch.no_grad():
        model[1].weight.mul_(7)
        model[1].bias.mul_(7)
        model[3].weight.div_(7)
    assert complexity.network_path_norm(model, split) == pytest.approx(before, rel=1e-12)


def test_spectral_product_by_hand():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor([3.0, -5.0])))
        model[2].weight.copy_(torch.tensor([[3.0, 4.0]]))
    assert complexity.spectral_product(model) == pytest.approx((5 * 5) ** 2)


def test_errors_at_many_weights_are_those_of_the_model_moved_there():
    model, split = network(), sample(17)
    w = weights(model)
    vectors = w + 0.5 * torch.randn(4, len(w), dtype=w.dtype, generator=torch.Generator().manual_seed(0))
    for vector, error in zip(vectors, complexity.errors(model, vectors, split), strict=True):
        with at(model, vector):
            assert error.item() == curvature.values(model, ZeroOneError(), split).mean().item()


def test_the_size_at_which_a_rise_passes_is_found():
    assert complexity.size_at(lambda a: a**2, 0.09) == pytest.approx(0.3, rel=1e-3)
    assert complexity.size_at(lambda a: float(a > 0.02), 0.5) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("rise", [lambda a: 0.0, lambda a: 1.0])
def test_a_rise_that_is_never_or_always_there_is_degenerate(rise):
    with pytest.raises(DegenerateRow, match=r"does not rise by 0\.1 between the sizes 6e-05 and 64"):
        complexity.size_at(rise, 0.1)


def test_the_worst_error_of_a_linear_model_is_that_of_a_corner():
    """One weight for each input, two classes: moving against the label is the worst, and a sign ascent goes there."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.5, 0.2], [-1.0, -0.5, -0.2]]))
    inputs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    split = replace(sample(3), inputs=inputs, targets=torch.zeros(3, dtype=torch.long), classes=2)
    for size, wrong in ((0.1, 0), (0.3, 1), (0.7, 2), (1.2, 3)):
        box = torch.full((6,), size, dtype=torch.float64)
        assert complexity.worst_error(model, box, split, 10) == pytest.approx(wrong / 3)
    assert F.cross_entropy(model(inputs), split.targets) > 0  # the weights are where they were
    assert model[1].weight[0, 0] == 1.0


def test_ratios_scale_with_the_allowed_rise_and_the_worst_is_above_the_mean():
    row, more = tiny_row(), complexity.row(replace(TINY, allowed=0.15), POINT)
    for name in ("worst_ratio", "mean_ratio", "mean_flatness"):
        assert more[name] < row[name]
    assert row["worst_ratio"] > row["mean_ratio"]


def test_a_diverged_row_says_so():
    assert complexity.row(replace(TINY, lr=1e8), POINT)["status"].startswith("diverged")
