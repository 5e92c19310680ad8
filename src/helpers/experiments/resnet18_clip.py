"""What the evaluation loss's clip, hence R, does to the bounds: one ensemble, one row for each clip.

Peng et al. vary R from 0.5 to 2 and speak of losses capped at 4 to 16; with R = clip / 2 the two do not agree, and the
caps are what is taken here. The training loss is not clipped, so all rows of a seed measure the same networks.
"""

from dataclasses import dataclass, replace
from math import log

from helpers.experiments.every_bound import diverged, measure_ensemble
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint, stations
from helpers.experiments.samples import edition
from helpers.training import Diverged


@dataclass(frozen=True, kw_only=True)
class Clips(BasePoint):
    """Settings of the experiment, besides those of ``BasePoint``; its ``clip_factor`` follows from the clip.

    Attributes:
        clips: largest values of the evaluation loss, in nats.
    """

    clips: tuple[float, ...]


CLIPS = (4.0, 8.0, 16.0)
PROFILES = {
    "smoke": Clips(**SMOKE, clips=(4.0, 16.0)),
    "laptop": Clips(**LAPTOP | {"lambdas": (1.0, 1e2, 1e3)}, clips=CLIPS),
    "paper": Clips(**PAPER, clips=CLIPS),
}


def points(config: Clips) -> list[Json]:
    """Every clip with every seed."""
    return [{"clip": clip, "seed": seed} for seed in config.seeds for clip in config.clips]


def row(config: Clips, point: Json) -> Json:
    """Measure a seed's networks with one clip."""
    try:
        roles, runs = stations(config, seed=point["seed"], epochs=(config.epochs,))
    except Diverged as error:
        return diverged(error)
    clipped = replace(config, clip_factor=point["clip"] / log(roles.test.classes))
    return {"status": "ok", **measure_ensemble(clipped, runs[config.epochs], roles, seed=point["seed"])}


EXPERIMENT = Experiment(
    name="resnet18-clip",
    summary="all bounds over the clip of the evaluation loss (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
