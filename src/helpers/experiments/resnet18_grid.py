"""ResNet-18 over batch size and learning rate: every bound of the book and the gap, on the same runs.

The source is Peng et al.'s main experiment (axes: batch size 30 to 480, learning rate 5e-4 to 2e-2). The smoke and
laptop profiles run the same code on narrower networks and smaller samples. Settings are compared in two regimes: after
the same number of epochs, when large batches may still be on their way, and at the same training loss.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.measure import Measured, train_and_measure
from helpers.experiments.samples import edition
from helpers.models import resnet18


@dataclass(frozen=True, kw_only=True)
class Grid(Measured):
    """Settings of the grid, besides those of ``Measured``.

    Attributes:
        width: filters of ResNet-18's first stage (64 is the usual network).
        batch_sizes, lrs: the grid.
        seeds: each draws its own samples, initial weights and batches, and trains for ``epochs``.
        matched_seeds: those that are run once more, for as long as the training loss asks for.
        epochs: passes over the data where their number is fixed.
        matched_loss, most_epochs: training stops after the epoch whose mean loss is at most this, or at that epoch.
        momentum, weight_decay: of SGD.
    """

    width: int
    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    matched_seeds: tuple[int, ...]
    epochs: int
    matched_loss: float
    most_epochs: int
    momentum: float = 0.9
    weight_decay: float = 0.0

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"matched_seeds"}


PROFILES = {
    "smoke": Grid(
        dataset="digits", width=2, k=2, n=64, n_val=64, n_test=128, batch_sizes=(8, 32), lrs=(0.02,), seeds=(0,),
        matched_seeds=(0,), epochs=2, matched_loss=1.0, most_epochs=4, lambdas=(1.0, 1e3), certified_lambdas=(1.0,),
        trace_rtol=0.2, most_probes=4,
    ),
    "laptop": Grid(
        dataset="cifar10-jpeg", width=8, k=4, n=1000, n_val=500, n_test=2000, batch_sizes=(20, 60, 180),
        lrs=(0.005, 0.01, 0.02), seeds=(0, 1), matched_seeds=(0,), epochs=20, matched_loss=0.05, most_epochs=80,
        lambdas=(1.0, 10.0, 1e3), certified_lambdas=(10.0,), most_probes=2, iterations=12,
    ),
    "paper": Grid(
        dataset="cifar10", width=64, k=6, n=7233, n_val=3300, n_test=10_000, batch_sizes=(30, 60, 120, 240, 480),
        lrs=(5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2), seeds=(0,), matched_seeds=(0,), epochs=200, matched_loss=0.01,
        most_epochs=400, lambdas=(1.0, 1e3, 1e9), certified_lambdas=(1.0, 1e3, 1e9), trace_rtol=0.05,
    ),
}  # fmt: skip
FIXED, MATCHED = "fixed epochs", "matched loss"


def points(config: Grid) -> list[Json]:
    """Every batch size with every learning rate: seed by seed with fixed epochs, and for some at matched loss."""
    return [
        {"regime": regime, "batch_size": batch_size, "lr": lr, "seed": seed}
        for seed in dict.fromkeys((*config.seeds, *config.matched_seeds))
        for regime, seeds in ((FIXED, config.seeds), (MATCHED, config.matched_seeds))
        if seed in seeds
        for batch_size in config.batch_sizes
        for lr in config.lrs
    ]


def row(config: Grid, point: Json) -> Json:
    """Train k runs at one point and measure them; ``matched`` says whether the training loss came down to the goal."""
    matched = point["regime"] == MATCHED
    measured = train_grid_point(
        config,
        point,
        epochs=config.most_epochs if matched else config.epochs,
        until_loss=config.matched_loss if matched else None,
    )
    reached = measured.get("final_epoch_loss", float("inf")) <= config.matched_loss
    return {**measured, "matched": reached}


def train_grid_point(config: Grid, point: Json, **training: Any) -> Json:
    """ResNet-18 at one batch size, learning rate and seed."""
    roles = config.roles(point["seed"])
    return train_and_measure(
        config,
        partial(resnet18, config.width, roles.test.classes, channels=roles.test.inputs.shape[1]),
        roles,
        seed=point["seed"],
        batch_size=point["batch_size"],
        lr=point["lr"],
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        **training,
    )


EXPERIMENT = Experiment(
    name="resnet18-grid",
    summary="all bounds and the gap over batch size and learning rate (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
