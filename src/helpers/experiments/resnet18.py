"""ResNet-18 at one batch size and learning rate: what the experiments away from the grid have in common."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.measure import Measured, train_and_measure
from helpers.experiments.samples import Roles
from helpers.models import resnet18


@dataclass(frozen=True, kw_only=True)
class BasePoint(Measured):
    """Settings of one training, besides those of ``Measured``.

    Attributes:
        width: filters of ResNet-18's first stage (64 is the usual network).
        batch_size, lr, momentum, weight_decay: of SGD.
        epochs: passes over the data.
        seeds: each draws its own samples, initial weights and batches.
    """

    width: int
    batch_size: int
    lr: float
    epochs: int
    seeds: tuple[int, ...]
    momentum: float = 0.9
    weight_decay: float = 0.0

    def training(self, roles: Roles) -> dict[str, Any]:
        """Arguments of ``train_ensemble`` that do not depend on the seed; copy and change what an experiment varies."""
        return {
            "make_model": partial(resnet18, self.width, roles.test.classes, channels=roles.test.inputs.shape[1]),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
        }


SMOKE: dict[str, Any] = dict(
    dataset="digits", width=2, k=2, n=64, n_val=64, n_test=128, batch_size=16, lr=0.02, seeds=(0,), epochs=2,
    lambdas=(1.0, 1e3), certified_lambdas=(1.0,), trace_rtol=0.2, most_probes=4,
)  # fmt: skip
LAPTOP: dict[str, Any] = dict(
    dataset="cifar10-jpeg", width=8, k=4, n=1000, n_val=500, n_test=2000, batch_size=60, lr=0.01, seeds=(0,),
    epochs=20, lambdas=(10.0, 1e3), certified_lambdas=(10.0,), most_probes=2, iterations=10,
)  # fmt: skip
PAPER: dict[str, Any] = dict(
    dataset="cifar10", width=64, k=6, n=7233, n_val=3300, n_test=10_000, batch_size=60, lr=0.01, seeds=(0,),
    epochs=200, lambdas=(1.0, 1e3, 1e9), certified_lambdas=(1.0, 1e3, 1e9), trace_rtol=0.05,
)  # fmt: skip


def measured_at(config: BasePoint, *, seed: int, **changes: Any) -> Json:
    """Train at the base point, but for ``changes``, and measure every bound."""
    roles = config.roles(seed)
    return train_and_measure(config, roles=roles, seed=seed, **{**config.training(roles), **changes})
