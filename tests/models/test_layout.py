"""Images lie with channels last where that is fast, and never where oneDNN would write past its memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import models
from helpers.models.layout import spaced

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


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_spaced_pixels_are_those_of_a_slice_to_the_bit(stride, size, dtype):
    x = torch.randn(2, 3, size, size + 1, dtype=torch.float64).to(dtype).requires_grad_()
    chosen, sliced = spaced(x, stride), x[..., ::stride, ::stride]
    assert torch.equal(chosen, sliced)
    weight = torch.randn_like(chosen)
    (gradient,) = torch.autograd.grad(chosen, x, weight, retain_graph=True)
    assert torch.equal(gradient, torch.autograd.grad(sliced, x, weight)[0])


class Mixed(TorchDispatchMode):
    """Notes the backward operations that read two images of one shape in different orders."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        images = [a for a in arguments if isinstance(a, torch.Tensor) and a.ndim == 4 and min(a.shape[1:]) > 1]
        if "backward" in str(operation) and len({i.stride() for i in images[:2] if i.shape == images[0].shape}) > 1:
            self.found.append(str(operation))
        return operation(*arguments, **(options or {}))


@pytest.mark.parametrize("make", [models.resnet18, models.preact_resnet18, lambda width: models.deep_resnet(14, width)])
def test_a_gradient_lies_as_its_image_does_below_the_head(make):
    """Of a slice it did not: two steps of every block that halves the image then read one order and wrote the other."""
    model = make(4).to(memory_format=torch.channels_last)
    images = torch.randn(5, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    features = model[:-3](images)  # without pooling, flattening and the linear layer
    weight = torch.randn_like(features)
    with Mixed() as mixed:
        features.backward(weight)
    assert mixed.found == []


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
