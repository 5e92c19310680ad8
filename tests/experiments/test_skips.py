from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from helpers import flatness, models
from helpers.experiments import skips
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.predictions import UNCLIPPED

SMOKE = skips.PROFILES["smoke"]
POINT = {"depth": 8, "skips": True, "seed": 0}


@cache
def smoke_row():
    return skips.row(SMOKE, POINT)


def test_a_row_has_lines_and_a_plane_through_the_network():
    row = smoke_row()
    assert row["status"] == "ok"
    assert [len(line) for line in row["lines"]] == [7, 7]
    assert [len(line) for line in row["plane"]] == [3, 3, 3]
    middle = {line[3] for line in row["lines"]} | {row["plane"][1][1]}
    assert max(middle) - min(middle) < 1e-6
    assert row["lines"][0][3] == pytest.approx(row["train_loss"], rel=0.3)  # of a part of the sample
    assert 0 <= row["dents"] <= 1


def test_the_two_kinds_differ_and_learn_from_the_same_examples():
    chain = skips.row(SMOKE, POINT | {"skips": False})
    assert chain["status"] == "ok"
    assert chain["train_loss"] != smoke_row()["train_loss"]


def test_directions_have_the_length_of_every_filter_and_leave_vectors_alone():
    model = models.deep_resnet(8, 2, channels=1)
    way = skips.filter_normalised(model, torch.Generator().manual_seed(0))
    other = skips.filter_normalised(model, torch.Generator().manual_seed(1))
    for p, piece in zip(model.parameters(), models.split_like(model, way), strict=True):
        if p.ndim < 2:
            assert not piece.any()
        else:
            assert torch.allclose(piece.flatten(1).norm(dim=1), p.flatten(1).norm(dim=1))
    cosine = (way @ other / way.norm() / other.norm()).item()
    assert abs(cosine) < 0.2


def test_the_loss_is_that_of_the_moved_network_and_the_network_comes_back():
    model = models.deep_resnet(8, 2, channels=1).eval()
    split = skips.images("digits", True).take(torch.arange(20))
    before, ways = models.weights(model), [torch.ones(len(models.weights(model))), models.weights(model)]
    found = skips.loss_at(model, split, [0.1, -0.5], ways)
    assert torch.equal(models.weights(model), before)
    models.set_weights(model, 0.5 * before + 0.1)
    assert found == pytest.approx(flatness.mean_loss(model, UNCLIPPED, split), rel=1e-5)


def test_a_scale_in_front_of_a_normalisation_does_not_show():
    """The same surface for a network whose first filters are longer, in units of their length."""
    torch.manual_seed(0)
    model = models.deep_resnet(8, 2, channels=1)
    split = skips.images("digits", True).take(torch.arange(20))
    curves = []
    for factor in (1.0, 3.0):
        with torch.no_grad():
            model[0].weight.mul_(factor)
        skips.settle(model, split)
        model.eval()
        way = skips.filter_normalised(model, torch.Generator().manual_seed(0))
        curves.append([skips.loss_at(model, split, [step], [way]) for step in (-0.5, 0.0, 0.5)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_dents_are_where_a_line_bends_downwards():
    assert skips.dents([4.0, 1.0, 0.0, 1.0, 4.0]) == 0
    assert skips.dents([0.0, 1.0, 0.0, 1.0, 0.0]) == pytest.approx(2 / 3)
    assert skips.dents([0.0, 1.0, 1.5, 1.75]) == 1


def test_the_learning_rate_falls_twice():
    config = replace(SMOKE, epochs=8, lr=1.0)
    assert [config.rate(epoch) for epoch in range(8)] == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_a_diverged_row_says_so():
    assert skips.row(replace(SMOKE, lr=1e14), POINT)["status"].startswith("diverged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seen": 61}, "at most n = 60"),
        ({"points_on_line": 8}, "points_on_line must be odd"),
        ({"points_on_side": 4}, "points_on_side must be odd"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMOKE, **changes)


def test_networks_have_normalisation_whose_statistics_are_those_of_the_sample():
    model = models.deep_resnet(8, 2, channels=1)
    split = skips.images("digits", True).take(torch.arange(60))
    skips.settle(model, split)
    first = model[0](split.inputs)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert torch.allclose(norm.running_mean, first.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, first.var((0, 2, 3)), atol=1e-4)
    assert norm.momentum == 0.1
