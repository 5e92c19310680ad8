"""What a row is computed on: data sets read once in a process, disjoint samples drawn from them, the device."""

from functools import cache

import torch

from helpers import data
from helpers.data import Split
from helpers.measurement import Roles as Roles


@cache
def images(dataset: str, train: bool) -> Split:
    """A data set as images, read once in a process."""
    return data.as_images(data.load(dataset, train=train))


def edition(dataset: str) -> str:
    """The data set's edition, as captions say it, without reading its images."""
    return data.EDITIONS.get(dataset, dataset)


def draw_roles(dataset: str, *, k: int, n: int, n_val: int, n_test: int, seed: int) -> Roles:
    """Draw k training samples, val and val2 from the training images, and test from the test images."""
    *train, val, val2 = data.partition(images(dataset, True), [n] * k + [n_val] * 2, seed=seed)
    test = data.partition(images(dataset, False), [n_test], seed=seed)[0]
    return Roles(train, val, val2, test)


def default_device() -> torch.device:
    """CUDA if there is any, else the processor: other accelerators lack the float64 that derivatives are checked in."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
