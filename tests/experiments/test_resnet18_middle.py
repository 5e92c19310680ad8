"""Where the noise of the exchange is centred, on networks small enough to train none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from instances import CLIPPED, network, sample

from helpers import curvature, models, omniscient
from helpers.experiments import resnet18_middle
from helpers.experiments.samples import Roles
from helpers.losses import ZeroOneError


@pytest.mark.parametrize("level", [1e-9, 1.0])
def test_noise_is_added_to_the_perturbed_weights(level):
    """Offsets are measured from the centre: without a perturbation tiny noise leaves every gap as it is."""
    ensemble, train = [network(seed=s) for s in (0, 1, 2)], [sample(20, seed=s) for s in (0, 1, 2)]
    roles = Roles(train=train, val=sample(30, seed=3), val2=sample(30, seed=4), test=sample(40, seed=5))
    run, W = SimpleNamespace(models=ensemble), torch.stack([models.weights(model) for model in ensemble])
    config = replace(resnet18_middle.PROFILES["smoke"], noise_levels=(level,), draws=2)
    losses = {"cross-entropy": CLIPPED, "0-1 error": ZeroOneError()}
    offsets = W - omniscient.leave_one_out(W)
    found = resnet18_middle._levels(config, run, roles, W, offsets, losses, seed=0)
    assert [entry["shape"] for entry, _ in found] == list(resnet18_middle.SHAPES)
    clean = torch.tensor(
        [
            [(curvature.values(m, loss, roles.val2).mean() - curvature.values(m, loss, own).mean()).item()] * 2
            for loss in losses.values()
            for m, own in zip(ensemble, train, strict=True)
        ]
    ).view(2, 6)
    for _, gaps in found:
        assert torch.allclose(gaps.float(), clean, atol=1e-6) == (level < 1e-3)


def test_an_error_is_that_of_the_mean():
    samples = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert resnet18_middle._error(samples) == pytest.approx(samples.std().item() / 2)
