"""Flatness itself: the training loss along random directions around trained weights. The twin of ``along.js``.

Directions are uniform on the sphere and scaled to no filter and no layer: a distance is one in the weights as they are.
"""

from collections.abc import Sequence
from copy import deepcopy
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from helpers import curvature, models
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy
from helpers.widgets.laboratory.generator import STREAMS, Generator

DISTANCES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
DIRECTIONS = 4  # of each run


def random_direction(d: int, source: Generator) -> Tensor:
    """A vector of length 1, uniform on the sphere, (d,), float64: normal numbers over their length."""
    draws = torch.tensor([source.normal() for _ in range(d)], dtype=torch.float64)
    unit: Tensor = draws / draws.norm()
    return unit


def losses_along(
    model: nn.Module,
    split: Split,
    loss: ClippedCrossEntropy,
    direction: Tensor,
    distances: Sequence[float] = DISTANCES,
) -> Tensor:
    """The mean loss on ``split`` at W + s u for each distance s, (len(distances),).

    Args:
        model: with d weights W; it is left as it is.
        direction: u, (d,).
    """
    moved, W = deepcopy(model), models.weights(model)
    found = []
    for distance in distances:
        models.set_weights(moved, W + distance * direction.to(W))
        found.append(curvature.values(moved, loss, split).mean())
    return torch.stack(found)


def rises(
    trained: Sequence[nn.Module], splits: Sequence[Split], loss: ClippedCrossEntropy, seed: int
) -> dict[str, Any]:
    """How the training loss rises around k trained networks, along ``DIRECTIONS`` directions each.

    Args:
        trained: k models; k of 2 at least, for the errors.
        splits: the training sample of each.
        seed: of the directions, 0 to 2^32 - 1: with the same seed, networks of one shape are moved alike.

    Returns:
        As JSON, for each of ``distances``: the ``mean`` rise in nats over all directions, the least and the greatest of
        them (``low``, ``high``), its ``standard_error`` over runs, and the mean of each run (``runs``).
    """
    rows = []
    for r, (model, split) in enumerate(zip(trained, splits, strict=True)):
        source, own = Generator(seed, STREAMS["directions"] + r), curvature.values(model, loss, split).mean()
        d = len(models.weights(model))
        rows.append(
            torch.stack(
                [losses_along(model, split, loss, random_direction(d, source)) - own for _ in range(DIRECTIONS)]
            )
        )
    every = torch.stack(rows).double()
    runs = every.mean(1)
    return {
        "distances": list(DISTANCES), "directions": DIRECTIONS * len(rows), "mean": runs.mean(0).tolist(),
        "low": every.amin((0, 1)).tolist(), "high": every.amax((0, 1)).tolist(),
        "standard_error": (runs.std(0) / sqrt(len(rows))).tolist(), "runs": runs.T.tolist(),
    }  # fmt: skip
