"""The omniscient bound along its trade-off lambda, both degenerate ends included: ResNet-18 at the base point."""

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint, measured_at
from helpers.experiments.samples import edition

PATH = (0.1, 1.0, 3.0, 10.0, 30.0, 1e2, 3e2, 1e3, 1e4, 1e5)
PROFILES = {
    "smoke": BasePoint(**SMOKE | {"lambdas": (0.1, 10.0, 1e5), "certified_lambdas": (0.1, 10.0, 1e5)}),
    "laptop": BasePoint(**LAPTOP | {"lambdas": PATH, "certified_lambdas": PATH[1::2]}),
    "paper": BasePoint(**PAPER | {"lambdas": (*PATH, 1e9), "certified_lambdas": (*PATH, 1e9)}),
}


def points(config: BasePoint) -> list[Json]:
    """One point a seed: the path is a list in its row."""
    return [{"seed": seed} for seed in config.seeds]


def row(config: BasePoint, point: Json) -> Json:
    """Train one ensemble and measure it along the path."""
    return measured_at(config, seed=point["seed"])


EXPERIMENT = Experiment(
    name="resnet18-lambda",
    summary="the omniscient bound and its self-certified variant along lambda (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
