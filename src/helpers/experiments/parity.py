"""One output that tells even classes from odd: data, two-layer networks and gradient descent on half the squared error.

What the experiments on stability, alignment and escape have in common.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import curvature, data
from helpers.data import Split
from helpers.experiments.samples import default_device, images
from helpers.flatness import WeightedOutput
from helpers.losses import HalfSquaredError
from helpers.models import mlp, trainable
from helpers.training import seeded

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
SQUARED_LENGTH = 64.0  # mean of |x|^2; that of digits, to which other data is scaled, so that learning rates compare
LOSS = HalfSquaredError()
TOO_LARGE = 1e6  # a training loss above this counts as diverged

# --- data and networks --------------------------------------------------------------------------------------


def parity_samples(dataset: str, n: int, n_test: int, *, pixels: int, seed: int) -> tuple[Split, Split]:
    """A training and a test sample, float64, targets 1 for classes of even index and -1 for the others."""
    train = data.disjoint(_parity(dataset, True, pixels), 1, n, seed=seed)[0]
    return train, data.disjoint(_parity(dataset, False, pixels), 1, n_test, seed=seed)[0]


@cache
def _parity(dataset: str, train: bool, pixels: int) -> Split:
    split, scale = images(dataset, train), (SQUARED_LENGTH / _squared_length(dataset, pixels)) ** 0.5
    targets = 1.0 - 2.0 * (split.targets % 2).double()
    return replace(split, inputs=scale * _vectors(split, pixels), targets=targets, classes=0)


@cache
def _squared_length(dataset: str, pixels: int) -> float:
    return _vectors(images(dataset, True), pixels).square().sum(1).mean().item()


def _vectors(split: Split, pixels: int) -> Tensor:
    """Images as float64 vectors, averaged down if they are larger."""
    smaller: Tensor = split.inputs.double()
    if smaller.shape[-1] > pixels:
        smaller = F.adaptive_avg_pool2d(smaller, pixels)
    return smaller.flatten(1)


def scalar_network(
    like: Split, width: int, activation: str, seed: int, *, device: torch.device | None = None
) -> nn.Module:
    """A two-layer network for these inputs, float64, in evaluation mode, on a device or the default one."""
    with seeded(seed):
        model = mlp(like.inputs.shape[1], width, 1, activation=ACTIVATIONS[activation])
    return model.double().eval().to(device or default_device())


def jacobian(model: nn.Module, split: Split) -> Tensor:
    """Gradients of the one output, shape (n, d)."""
    return curvature.per_example_gradients(model, WeightedOutput(), replace(split, targets=torch.ones(len(split))))


# --- training -----------------------------------------------------------------------------------------------


def descend(model: nn.Module, split: Split, lr: float, batch: Callable[[], Tensor] | None = None) -> Iterator[float]:
    """Endless (stochastic) gradient descent: yields the loss of each step's batch *before* the step is taken.

    Args:
        batch: draws the row numbers of a batch; None takes the whole sample.
    """
    parameters = trainable(model)
    whole = split.to(device=parameters[0].device)
    while True:
        split = whole if batch is None else whole.take(batch().to(whole.inputs.device))
        loss = LOSS(model(split.inputs), split.targets).mean()
        slopes = torch.autograd.grad(loss, parameters)
        yield loss.item()
        with torch.no_grad():
            torch._foreach_add_([*parameters], slopes, alpha=-lr)


def training_loss(model: nn.Module, split: Split) -> float:
    """Mean of half the squared error."""
    return curvature.values(model, LOSS, split).mean().item()


def sign_error(model: nn.Module, split: Split) -> float:
    """Share of examples whose output has not the sign of the target."""
    outputs = curvature.values(model, WeightedOutput(), split)
    return (outputs <= 0).double().mean().item()
