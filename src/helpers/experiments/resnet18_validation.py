"""What the held-out share does to the bounds: a fixed pool, cut into training samples, val and val2.

More held-out data make the evaluation of the penalty less noisy and leave fewer examples to train on.
"""

from dataclasses import dataclass, replace

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint, measured_at
from helpers.experiments.samples import edition


@dataclass(frozen=True, kw_only=True)
class Validation(BasePoint):
    """Settings of the experiment, besides those of ``BasePoint``; its ``n`` and ``n_val`` follow from the share.

    Attributes:
        pool: images that the k training samples, val and val2 share.
        shares: parts of the pool that are held out, half of it for val and half for val2.
    """

    pool: int
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.shares) >= 1:
            raise ConfigError(f"shares lie below 1, or nothing is left to train on; got {max(self.shares)}")

    def at(self, share: float) -> "Validation":
        """The settings with the sizes that belong to one share."""
        held_out = round(self.pool * share)
        return replace(self, n=(self.pool - held_out) // self.k, n_val=held_out // 2)


SHARES = (0.1, 0.2, 0.3)
PROFILES = {
    "smoke": Validation(**SMOKE, pool=300, shares=SHARES),
    "laptop": Validation(**LAPTOP, pool=5000, shares=SHARES),
    "paper": Validation(**PAPER, pool=50_000, shares=SHARES),
}


def points(config: Validation) -> list[Json]:
    """Every share with every seed."""
    return [{"share": share, "seed": seed} for seed in config.seeds for share in config.shares]


def row(config: Validation, point: Json) -> Json:
    """Cut the pool, train and measure."""
    sized = config.at(point["share"])
    return {"n_val": sized.n_val, **measured_at(sized, seed=point["seed"])}


EXPERIMENT = Experiment(
    name="resnet18-validation",
    summary="all bounds over the share of held-out data (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
