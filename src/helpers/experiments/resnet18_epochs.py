"""Every bound along training: ResNet-18 at the base point, measured after more and more epochs.

The rows of a seed are stations of one training.
"""

from dataclasses import dataclass

from helpers.experiments.every_bound import diverged, measure_ensemble
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint, stations
from helpers.experiments.samples import edition
from helpers.training import Diverged


@dataclass(frozen=True, kw_only=True)
class Epochs(BasePoint):
    """Settings of the experiment, besides those of ``BasePoint``.

    Attributes:
        stations: numbers of epochs after which to measure, up to ``epochs``.
    """

    stations: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.stations) != self.epochs:
            raise ConfigError(f"the last station must be epochs = {self.epochs}, got {max(self.stations)}")


PROFILES = {
    "smoke": Epochs(**SMOKE, stations=(1, 2)),
    "laptop": Epochs(**LAPTOP | {"lambdas": (1.0, 1e2, 1e3)}, stations=(1, 3, 10, 30)),
    "paper": Epochs(**PAPER, stations=(1, 5, 20, 50, 100, 200)),
}


def points(config: Epochs) -> list[Json]:
    """Every station of every seed."""
    return [{"epochs": epochs, "seed": seed} for seed in config.seeds for epochs in config.stations]


def row(config: Epochs, point: Json) -> Json:
    """Measure one station of a seed's training."""
    try:
        roles, runs = stations(config, seed=point["seed"], epochs=config.stations)
    except Diverged as error:
        return diverged(error)
    return {"status": "ok", **measure_ensemble(config, runs[point["epochs"]], roles, seed=point["seed"])}


EXPERIMENT = Experiment(
    name="resnet18-epochs",
    summary="all bounds and the gap along training (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
