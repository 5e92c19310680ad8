"""ResNet-18 over batch size and learning rate: every bound of the book and the gap, on the same runs.

The source is Peng et al.'s main experiment (batch sizes 30 to 480, learning rates 5e-4 to 2e-2). Each axis runs through
the base point. Settings are compared in two regimes: after the same number of epochs, when large batches may still be
on their way, and at the same training loss.
"""

from dataclasses import dataclass

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint, measured_at
from helpers.experiments.samples import edition


@dataclass(frozen=True, kw_only=True)
class Grid(BasePoint):
    """Settings of the grid, besides those of ``BasePoint``, whose seeds train for ``epochs``.

    Attributes:
        batch_sizes, lrs: the two axes.
        matched_seeds: seeds that are run for as long as the training loss asks for.
        matched_loss, most_epochs: training stops after the epoch whose mean loss is at most this, or at that epoch.
    """

    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    matched_seeds: tuple[int, ...]
    matched_loss: float
    most_epochs: int

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"matched_seeds"}


PROFILES = {
    "smoke": Grid(
        **SMOKE, batch_sizes=(8, 16), lrs=(0.02,), matched_seeds=(0,), matched_loss=1.0, most_epochs=4
    ),
    "laptop": Grid(
        **LAPTOP, batch_sizes=(30, 60, 240), lrs=(0.005, 0.01, 0.02), matched_seeds=(0,), matched_loss=1.2,
        most_epochs=60,
    ),
    "paper": Grid(
        **PAPER, batch_sizes=(30, 60, 120, 240, 480), lrs=(5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2), matched_seeds=(0,),
        matched_loss=0.01, most_epochs=400,
    ),
}  # fmt: skip
FIXED, MATCHED = "fixed epochs", "matched loss"


def points(config: Grid) -> list[Json]:
    """Both axes through the base point: seed by seed with fixed epochs, then for some at matched loss."""
    axes = [(b, config.lr) for b in config.batch_sizes] + [(config.batch_size, lr) for lr in config.lrs]
    return [
        {"regime": regime, "batch_size": batch_size, "lr": lr, "seed": seed}
        for regime, seeds in ((FIXED, config.seeds), (MATCHED, config.matched_seeds))
        for seed in seeds
        for batch_size, lr in dict.fromkeys(axes)
    ]


def row(config: Grid, point: Json) -> Json:
    """Train k runs at one point and measure them; ``matched`` says whether the training loss came down to the goal."""
    until: Json = {}
    if point["regime"] == MATCHED:
        until = {"epochs": config.most_epochs, "until_loss": config.matched_loss}
    measured = measured_at(config, seed=point["seed"], batch_size=point["batch_size"], lr=point["lr"], **until)
    return {**measured, "matched": measured.get("final_epoch_loss", float("inf")) <= config.matched_loss}


EXPERIMENT = Experiment(
    name="resnet18-grid",
    summary="all bounds and the gap over batch size and learning rate (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
