"""Small experiments of the tests: a row squares a number, takes its time, kills its worker, or trains with dropout."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from instances import sample
from torch import nn

from helpers import data
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment
from helpers.models import weights
from helpers.training import train_ensemble


@dataclass(frozen=True)
class Squares(Config):
    count: int = 5
    power: float = 2.0
    seeds: tuple[int, ...] = (0, 1)
    name: str = "squares"
    noise: float | None = None
    loud: bool = False
    pause: float = 1e-9


def points(config: Squares) -> list[Json]:
    return [{"x": x, "seed": seed} for seed in config.seeds for x in range(config.count)]


def row(config: Squares, point: Json) -> Json:
    time.sleep(config.pause)
    return {"y": point["x"] ** config.power + point["seed"], "worker": float("inf")}


SQUARES = Experiment(
    name="squares",
    summary="squares of small numbers",
    profiles={"smoke": Squares()},
    points=points,
    row=row,
    edition=lambda config: "none",
)


def deadly_row(config: Squares, point: Json) -> Json:
    """Kills its process at x = 2, the first time; ``config.name`` is the file that remembers it."""
    if point["x"] == 2:
        try:
            Path(config.name).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return row(config, point)


DEADLY = replace(SQUARES, row=deadly_row)


def trained_row(config: Squares, point: Json) -> Json:
    """Weights after a training with dropout, whose numbers come from generators that all threads of a process share."""
    splits = data.disjoint(sample(90), 3, 30, seed=0)
    run = train_ensemble(_with_dropout, splits, epochs=3, batch_size=8, lr=0.1, seed=point["seed"])
    return {"weights": torch.stack([weights(model) for model in run.models]).tolist()}


def _with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3)).double()


DROPOUT = replace(SQUARES, row=trained_row)
