"""The minima that gradient descent and SGD select: Wu's slides, table 1, figures 14 and 16 to 18, CIFAR-10 figures.

Two-layer networks with one output learn by squared error to tell classes of even from classes of odd index (targets 1
and -1; on digits: even from odd). Three parts, each a set of grid points:

- ``edge``: gradient descent; sharpness along training, against 2 / lr.
- ``selection``: SGD over batch size, learning rate, activation and seed; curvature and noise of the minimum it finds.
- ``width``: the same over widths, at one batch size and learning rate.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import isfinite

import torch
from torch import Tensor, nn

from helpers import alignment, curvature, stability
from helpers.data import Split
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.parity import (
    ACTIVATIONS,
    LOSS,
    TOO_LARGE,
    descend,
    jacobian,
    parity_samples,
    scalar_network,
    sign_error,
    training_loss,
)
from helpers.experiments.samples import edition

CHECK = 200  # steps between two looks at the training loss


@dataclass(frozen=True)
class Stability(Config):
    """Settings of the three parts.

    Attributes:
        datasets: names for ``data.load`` that the edge part runs on; the other parts run on the first.
        pixels: larger images are averaged down to so many pixels a side (8 is the size of digits).
        n, n_test: training and test examples.
        width: hidden units, in the parts edge and selection.
        seeds: each draws a sample, initial weights and batches.
        gd_lrs, gd_steps, gd_looks: learning rates and steps of gradient descent, and at how many steps its sharpness
            is measured, evenly spaced; activation tanh.
        batch_sizes, lrs, activations: the grid of SGD, batches drawn with replacement.
        widths, width_batch_size, width_lr: the width part, with the first of the activations.
        tolerance: SGD stops at this training loss.
        most_steps: or after this many steps, and the row says ``converged: false``.
    """

    memory = ("widths", "width", "n", "pixels", "n_test", "batch_sizes", "width_batch_size")

    datasets: tuple[str, ...]
    pixels: int
    n: int
    n_test: int
    width: int
    seeds: tuple[int, ...]
    gd_lrs: tuple[float, ...]
    gd_steps: int
    gd_looks: int
    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    activations: tuple[str, ...]
    widths: tuple[int, ...]
    width_batch_size: int
    width_lr: float
    tolerance: float
    most_steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := set(self.activations) - set(ACTIVATIONS):
            raise ConfigError(f"activations must be among {', '.join(ACTIVATIONS)}, got {', '.join(sorted(unknown))}")
        if self.gd_looks > self.gd_steps:
            raise ConfigError(f"gd_looks cannot exceed gd_steps = {self.gd_steps}, got {self.gd_looks}")


PROFILES = {
    "smoke": Stability(
        datasets=("digits",), pixels=8, n=40, n_test=100, width=8, seeds=(0,), gd_lrs=(0.05, 0.2), gd_steps=400,
        gd_looks=20, batch_sizes=(1, 8), lrs=(0.02, 0.05), activations=("tanh",), widths=(4, 16), width_batch_size=4,
        width_lr=0.05, tolerance=1e-2, most_steps=2000,
    ),
    "laptop": Stability(
        datasets=("digits", "cifar10-jpeg"), pixels=8, n=100, n_test=500, width=32, seeds=(0, 1, 2),
        gd_lrs=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4), gd_steps=6000, gd_looks=60,
        batch_sizes=(1, 2, 4, 16, 64), lrs=(0.01, 0.02, 0.05, 0.1), activations=("tanh", "relu"),
        widths=(8, 16, 32, 64, 128, 256), width_batch_size=4, width_lr=0.05, tolerance=1e-4, most_steps=20_000,
    ),
    "paper": Stability(
        datasets=("cifar10", "fashion-mnist"), pixels=32, n=1000, n_test=10_000, width=64, seeds=(0, 1, 2, 3, 4),
        gd_lrs=(0.01, 0.05, 0.1, 0.5, 1.0), gd_steps=100_000, gd_looks=200,
        batch_sizes=(1, 4, 16, 64, 256), lrs=(0.005, 0.01, 0.02, 0.05, 0.1), activations=("tanh", "relu"),
        widths=(16, 32, 64, 128, 256), width_batch_size=4, width_lr=0.05, tolerance=1e-4, most_steps=200_000,
    ),
}  # fmt: skip


def points(config: Stability) -> list[Json]:
    """The points of all parts; those of SGD share their keys."""
    edge = [
        {"part": "edge", "dataset": name, "lr": lr, "seed": seed}
        for name in config.datasets
        for lr in config.gd_lrs
        for seed in config.seeds
    ]
    selection = [
        {"part": "selection", "activation": activation, "width": config.width, "batch_size": batch, "lr": lr}
        for activation in config.activations
        for batch in config.batch_sizes
        for lr in config.lrs
    ]
    settings = {"part": "width", "activation": config.activations[0]}
    constant = {"batch_size": config.width_batch_size, "lr": config.width_lr}
    widths = [{**settings, "width": width, **constant} for width in config.widths]
    return edge + [{**point, "seed": seed} for point in selection + widths for seed in config.seeds]


def row(config: Stability, point: Json) -> Json:
    """Train one network and measure its minimum; one that diverges is a row that says so."""
    if point["part"] == "edge":
        return _edge(config, point)
    return _selection(config, point)


# --- the parts ----------------------------------------------------------------------------------------------


def _edge(config: Stability, point: Json) -> Json:
    """Gradient descent: lists over looks, and the share of steps that raised the loss."""
    train, test = parity_samples(point["dataset"], config.n, config.n_test, pixels=config.pixels, seed=point["seed"])
    model, lr = scalar_network(train, config.width, "tanh", point["seed"]), point["lr"]
    looks = {round(i * config.gd_steps / config.gd_looks) for i in range(config.gd_looks + 1)}
    sharpness, losses = [], []
    path = descend(model, train, lr)
    for step, loss in zip(range(config.gd_steps + 1), path, strict=False):
        losses.append(loss)
        if not (isfinite(loss) and loss < TOO_LARGE):
            return {"status": f"diverged: the training loss is {loss:.3g} at step {step}"}
        if step in looks:
            edge = curvature.extreme_eigenvalues(model, LOSS, train, rtol=0.01, max_iterations=60, seed=0)
            sharpness.append(edge.largest.item())
    rises = sum(after > before for before, after in pairwise(losses))
    return {
        "status": "ok",
        "steps": sorted(looks),
        "sharpness": sharpness,
        "losses": [losses[step] for step in sorted(looks)],
        "rises": rises / config.gd_steps,
        "edge": stability.edge_of_stability(lr),
        **minimum(model, train, test),
    }


def _selection(config: Stability, point: Json) -> Json:
    """SGD until it interpolates: the minimum, its stability, and the alignment along the way."""
    train, test = parity_samples(config.datasets[0], config.n, config.n_test, pixels=config.pixels, seed=point["seed"])
    model = scalar_network(train, point["width"], point["activation"], point["seed"])
    generator = torch.Generator().manual_seed(point["seed"])

    def batch() -> Tensor:
        return torch.randint(config.n, (point["batch_size"],), generator=generator)

    path: list[Json] = []
    steps = 0
    for steps, _ in enumerate(descend(model, train, point["lr"], batch)):
        # the generator is suspended before its step: the model is that of ``steps`` steps
        look = steps in _powers_of_four(config.most_steps)
        if not look and steps % CHECK:
            continue
        loss = training_loss(model, train)
        if not (isfinite(loss) and loss < TOO_LARGE):
            return {"status": f"diverged: the training loss is {loss:.3g} at step {steps}"}
        if steps % CHECK == 0 and (loss <= config.tolerance or steps >= config.most_steps):
            break
        if look:
            path.append({"step": steps, **_noise(model, train)})
    return {
        "status": "ok",
        "steps": steps,
        "converged": training_loss(model, train) <= config.tolerance,
        **minimum(model, train, test),
        **_noise(model, train),
        "growth": alignment.growth_factor(jacobian(model, train), lr=point["lr"], batch_size=point["batch_size"]),
        "path": path,
    }


@cache
def _powers_of_four(most: int) -> frozenset[int]:
    """0, 1, 4, 16, ...: where the alignment is looked at."""
    return frozenset([0, *(4**i for i in range(most.bit_length()))])


def minimum(model: nn.Module, train: Split, test: Split) -> Json:
    """Losses and curvature of the weights reached: ``largest_eigenvalue`` of the Hessian, the rest of G = J^T J / n."""
    J = jacobian(model, train)
    sharpness, non_uniformity = stability.interpolating_sharpness(J)
    edge = curvature.extreme_eigenvalues(model, LOSS, train, rtol=0.01, max_iterations=60, seed=0)
    return {
        "d": J.shape[1],
        "train_loss": training_loss(model, train),
        "train_error": sign_error(model, train),
        "test_error": sign_error(model, test),
        "largest_eigenvalue": edge.largest.item(),
        "gauss_newton_eigenvalue": sharpness,
        "non_uniformity": non_uniformity,
        "frobenius": (J @ J.T).norm().item() / len(train),
        "trace": J.square().sum().item() / len(train),
        "mu0": alignment.smallest_alignment(J),
        "uniformity": alignment.uniformity(J),
    }


def _noise(model: nn.Module, train: Split) -> Json:
    """Loss and alignment of the gradient noise at these weights."""
    measured = alignment.model_alignment(model, train)
    loss = training_loss(model, train)
    return {"loss": loss, "alpha": measured.alpha, "beta": measured.beta, "mu": measured.mu}


EXPERIMENT = Experiment(
    name="stability",
    summary="sharpness and non-uniformity of the minima of gradient descent and SGD; alignment of noise and curvature",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: " and ".join(edition(name) for name in config.datasets),
)
