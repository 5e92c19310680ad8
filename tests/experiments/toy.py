"""A small experiment of the tests: each row squares a number, takes the time it is told to, or kills its worker."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment


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
