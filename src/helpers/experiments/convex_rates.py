"""The convex-Lipschitz-bounded construction over n: three bounds and the gap, the gap by simulation as well.

The numbers of ``helpers.convex`` are exact; what is random here is the check: gradient descent run on drawn samples.
"""

from dataclasses import dataclass
from math import sqrt

import torch

from helpers import convex
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment


@dataclass(frozen=True)
class Convex(Config):
    """Settings of the experiment.

    Attributes:
        sizes: n, with d = n weights besides the first.
        steps: T of gradient descent.
        samples: drawn training samples on which gradient descent is run.
    """

    memory = ("samples", "sizes")

    sizes: tuple[int, ...]
    steps: int
    samples: int


PROFILES = {
    "smoke": Convex(sizes=(16, 64), steps=10, samples=20),
    "laptop": Convex(sizes=(16, 64, 256, 1024, 4096), steps=100, samples=200),
    "paper": Convex(sizes=(16, 64, 256, 1024, 4096), steps=1000, samples=1000),
}


def points(config: Convex) -> list[Json]:
    """Every n."""
    return [{"n": n} for n in config.sizes]


def row(config: Convex, point: Json) -> Json:
    """The exact numbers, and the gap over drawn samples with its standard error."""
    task = convex.Construction(n=point["n"], d=point["n"])
    gaps = torch.tensor([_gap(task, config.steps, seed) for seed in range(config.samples)], dtype=torch.float64)
    isotropic = task.isotropic()
    return {
        "gap": task.gap,
        "simulated_gap": gaps.mean().item(),
        "simulated_gap_standard_error": gaps.std().item() / sqrt(len(gaps)),
        "xu_raginsky": task.xu_raginsky,
        "mutual_information": task.mutual_information,
        "isotropic": isotropic.value,
        "isotropic_tau": isotropic.tau,
        "omniscient": task.omniscient,
    }


def _gap(task: convex.Construction, steps: int, seed: int) -> float:
    """Population minus training risk of gradient descent on one drawn sample."""
    sample = task.sample(seed)
    w = task.gradient_descent(sample, steps=steps)
    return (convex.population_risk(w) - convex.losses(w, sample).mean()).item()


EXPERIMENT = Experiment(
    name="convex",
    summary="Xu-Raginsky, isotropic and omniscient bounds and the gap over n, on a convex problem",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: "fair signs, drawn on the spot",
)
