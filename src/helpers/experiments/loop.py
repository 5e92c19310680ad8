"""Minibatch training of one network with any optimiser, for experiments whose optimiser is what varies."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import nn

from helpers import data
from helpers.data import Split
from helpers.experiments.samples import images
from helpers.models import cnn, mlp, preact_resnet18, vgg16

MODELS = ("mlp", "cnn", "vgg16", "preact-resnet18")


@cache
def noisy_images(dataset: str, train: bool, noise: float, seed: int) -> Split:
    """A data set as images, with a share of random labels."""
    return data.with_label_noise(images(dataset, train), noise, seed=2 * seed + train)


def minibatches(split: Split, batch_size: int, generator: torch.Generator) -> Iterator[Split]:
    """One pass in a random order; a last batch that is not full is dropped.

    Args:
        generator: on the processor, wherever the split is.
    """
    order = torch.randperm(len(split), generator=generator)  # stays there: so do the split's indices
    for rows in order.split(batch_size):
        if len(rows) == batch_size:
            yield split.take(rows)


def network(model: str, width: int, like: Split) -> nn.Module:
    """The network of that name (one of ``MODELS``) for the images of a split."""
    channels, size = like.inputs.shape[1], like.inputs.shape[-1]
    if model == "mlp":
        return mlp(like.inputs[0].numel(), width, like.classes)
    if model == "cnn":
        return cnn(width, like.classes, channels=channels, size=size)
    return {"vgg16": vgg16, "preact-resnet18": preact_resnet18}[model](width, like.classes, channels=channels)
