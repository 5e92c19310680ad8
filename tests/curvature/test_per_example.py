"""When the rules of layers speak for every weight of a network, and when one backward pass an example must."""

import pytest
import torch
from instances import network, sample
from torch import nn

from helpers.curvature.per_example import Layers, _applies


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(self.layer(x).relu())


class Skipped(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize(("model", "complete"), [(network().float(), True), (Twice(), False), (Skipped(), False)])
def test_rules_speak_for_layers_that_ran_once(model, complete):
    hooked = Layers(model.eval())
    hooked.forward(sample().inputs.float())
    assert hooked.complete is complete


@pytest.mark.parametrize(
    ("layer", "applies"),
    [
        (nn.BatchNorm1d(3).eval(), True),
        (nn.BatchNorm1d(3).train(), False),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), False),
        (nn.Conv2d(1, 2, 3, padding=1), True),
        (nn.Conv2d(1, 2, 3, padding="same"), False),
    ],
)
def test_a_rule_applies_to_a_layer_that_computes_as_the_rule_assumes(layer, applies):
    assert _applies(layer) is applies


def test_a_weight_that_two_layers_share_has_no_layer_of_its_own():
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)).eval()
    model[2].weight = model[0].weight
    hooked = Layers(model)
    hooked.forward(torch.randn(4, 5))
    assert not hooked.complete
