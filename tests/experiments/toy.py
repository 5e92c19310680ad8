"""A small experiment of the tests: each row squares a number, and can be told to take time or to fail."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.experiments.artefact import Json
from helpers.experiments.config import Config
from helpers.experiments.runner import Experiment, run


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


if __name__ == "__main__":  # a run of its own process, for the tests that kill it
    run(SQUARES, "smoke", Squares(pause=float(os.environ["PAUSE"])), out=Path(sys.argv[1]), quiet=True)
