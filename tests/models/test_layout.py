"""Images lie with channels last where that is fast, and never where oneDNN would write past its memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import models

LAST = {
    "a convolution": nn.Conv2d(3, 4, 3, stride=2),
    "a narrow ResNet-18": models.resnet18(2),
    "a narrow PreActResNet-18": models.preact_resnet18(2),
    "a narrow deep residual network": models.deep_resnet(8, 2),
    "a wide shortcut": nn.Conv2d(16, 32, 1, stride=2),
    "a narrow one without a stride": nn.Conv2d(4, 8, 1),
}
FIRST = {
    "no convolution": nn.Linear(4, 4),
    "a narrow shortcut": nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 4, 1, stride=2)),
    "eight channels, too few for AVX-512": nn.Conv2d(8, 16, 1, stride=2),
    "groups of few channels": nn.Conv2d(32, 32, 1, stride=2, groups=8),
    "a stride in one direction": nn.Conv2d(4, 4, 1, stride=(1, 2)),
}


@pytest.mark.parametrize("name", LAST)
def test_channels_lie_last_where_that_is_fast(name):
    assert models.channels_last(LAST[name])


@pytest.mark.parametrize("name", FIRST)
def test_channels_lie_first_without_convolutions_and_where_last_is_not_safe(name):
    assert not models.channels_last(FIRST[name])


def test_a_shortcut_of_chosen_pixels_is_the_strided_convolution():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    block = models.resnet18(4).double().eval()[5]  # the first block that halves the image
    projection, norm = block.shortcut
    strided = norm(F.conv2d(x, projection.weight, stride=2))
    torch.testing.assert_close(block(x), F.relu(block.residual(x) + strided))


WALK = """
import torch
from torch import nn
from helpers import curvature, data, losses, models, training
torch.set_num_threads(1)
split = data.as_images(data.load("digits")).take(slice(60))
def strange():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 4, 1, stride=2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(64, 10))
for network in (strange, lambda: models.resnet18(2, 10, channels=1)):
    run = training.train_ensemble(network, [split] * 2, epochs=4, batch_size=20, lr=0.01, seed=0)
    loss = losses.ClippedCrossEntropy.per_class(10)
    for _ in range(20):
        curvature.gradient(run.models[0], loss, split)
print("whole")
"""


def test_narrow_shortcuts_do_not_overrun_memory():
    """Where glibc's checking allocator is there, it ends the process at the first block that was overrun."""
    checking = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    run = subprocess.run(
        [sys.executable, "-c", WALK], env=os.environ | checking, capture_output=True, text=True, timeout=300
    )
    assert run.stdout.strip() == "whole", run.stderr[-400:]
