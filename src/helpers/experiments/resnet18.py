"""ResNet-18 at one batch size and learning rate: what its experiments have in common.

The laptop profile is the source's experiment on a narrow network and on images of half their sides: its sample size
(Peng et al. give each of 6 runs 8,333 examples), crop and flip, momentum 0.9, batches of 60.
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from helpers.experiments import resumable
from helpers.experiments.every_bound import Measured, train_and_measure
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.samples import Roles
from helpers.models import resnet18
from helpers.training import Run
from helpers.training.augment import crop_and_flip


@dataclass(frozen=True, kw_only=True)
class BasePoint(Measured):
    """Settings of one training, besides those of ``Measured``.

    Attributes:
        width: filters of ResNet-18's first stage (64 is the usual network).
        batch_size, lr, momentum, weight_decay: of SGD.
        epochs: passes over the data.
        augment: crop and flip every image anew in every epoch.
        seeds: each draws its own samples, initial weights and batches.
        precision: what training computes in, "float32" or "bf16"; in the weights' own type unless given.
    """

    width: int
    batch_size: int
    lr: float
    epochs: int
    seeds: tuple[int, ...]
    augment: bool = False
    momentum: float = 0.9
    weight_decay: float = 0.0
    precision: str | None = None

    def training(self, roles: Roles) -> dict[str, Any]:
        """Arguments of ``train_ensemble`` that do not depend on the seed; copy and change what an experiment varies."""
        return {
            "make_model": partial(resnet18, self.width, roles.test.classes, channels=roles.test.inputs.shape[1]),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "augment": crop_and_flip if self.augment else None,
            "precision": self.precision,
        }


SMOKE: dict[str, Any] = dict(
    dataset="digits", width=2, k=2, n=64, n_val=64, n_test=128, batch_size=16, lr=0.02, seeds=(0,), epochs=2,
    lambdas=(1.0, 1e3), certified_lambdas=(1.0,), trace_rtol=0.2, most_probes=4,
)  # fmt: skip
LAPTOP: dict[str, Any] = dict(
    dataset="cifar10-jpeg-16", width=8, k=4, n=8000, n_val=4000, n_test=5000, batch_size=60, lr=0.01, seeds=(0, 1),
    epochs=30, augment=True, lambdas=(1.0, 10.0, 30.0, 1e2, 3e2, 1e3, 1e4, 1e5), certified_lambdas=(1e2,),
    trace_rtol=0.01, most_probes=4, path_probes=2, iterations=12, solver_examples=2000,
)  # fmt: skip
PAPER: dict[str, Any] = dict(
    dataset="cifar10", width=64, k=6, n=7233, n_val=3300, n_test=10_000, batch_size=60, lr=0.01, seeds=(0,),
    epochs=200, augment=True, lambdas=(1.0, 1e3, 1e9), certified_lambdas=(1.0, 1e3, 1e9), trace_rtol=0.05,
)  # fmt: skip


@lru_cache(maxsize=1)
def stations(config: BasePoint, *, seed: int, epochs: tuple[int, ...]) -> tuple[Roles, dict[int, Run]]:
    """The runs of one training at the base point as they are after each number of epochs, and their data.

    Kept for the next row of the same training: rows that differ only in what is measured, or when, need not train anew.
    """
    roles = config.roles(seed)
    training = config.training(roles) | {"epochs": max(epochs)}
    run, models = resumable.train_with_stations(**training, splits=roles.train, seed=seed, stations=epochs)
    steps = {epoch: run.steps * epoch // max(epochs) for epoch in epochs}
    return roles, {
        epoch: replace(
            run,
            models=models[epoch],
            steps=steps[epoch],
            step_dispersion=run.step_dispersion[: steps[epoch]],
            losses=run.losses[:epoch],
        )
        for epoch in epochs
    }


def measured_at(config: BasePoint, *, seed: int, **changes: Any) -> Json:
    """Train at the base point, but for ``changes``, and measure every bound."""
    roles = config.roles(seed)
    return train_and_measure(config, roles=roles, seed=seed, **{**config.training(roles), **changes})
