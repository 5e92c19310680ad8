"""Four experiments that train plain SGD to one training loss and put every bound next to the gap.

Wang & Mao (2022), figure 2, ask whether the closed form of Theorem 2 (eq. 3) follows the gap over the width of an MLP
and of a convolutional network, and over the share of random labels; figure 6 splits the same bound into its two terms
over learning rate and batch size. Here each is one axis (or two) of the same grid. The source uses one run and a
single-run dispersion; these rows have k runs on disjoint samples. Beside the closed form they hold the end-point bound
(``terminal``), and what the noise of either really costs (``gamma``).
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

from helpers import data
from helpers.experiments.every_bound import Measured, train_and_measure
from helpers.experiments.loop import network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.samples import Roles, edition

MODELS = ("mlp", "cnn")


@dataclass(frozen=True, kw_only=True)
class Matched(Measured):
    """Settings of a grid at matched training loss, besides those of ``Measured``.

    Attributes:
        model: "mlp" (one hidden layer) or "cnn" (``models.cnn``).
        widths: hidden units, or filters of the first layer.
        noise_levels: shares of labels replaced by random ones, in training, held-out and test samples alike.
        batch_sizes, lrs: of plain SGD, without momentum and weight decay.
        seeds: each draws its own samples, initial weights and batches.
        matched_loss, most_epochs: training stops after the epoch whose mean loss is at most this, or at that epoch.
    """

    model: str
    widths: tuple[int, ...]
    noise_levels: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    matched_loss: float
    most_epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS:
            raise ConfigError(f"model must be one of {', '.join(MODELS)}, got {self.model!r:.80}")
        if max(self.noise_levels) > 1:
            raise ConfigError(f"noise_levels are shares from 0 to 1, got {max(self.noise_levels)}")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"noise_levels"}


def points(config: Matched) -> list[Json]:
    """Every combination of width, noise, batch size and learning rate, for each seed."""
    grid = product(config.seeds, config.widths, config.noise_levels, config.batch_sizes, config.lrs)
    return [
        {"width": width, "noise": noise, "batch_size": batch_size, "lr": lr, "seed": seed}
        for seed, width, noise, batch_size, lr in grid
    ]


def row(config: Matched, point: Json) -> Json:
    """Train k runs at one point and measure them; ``matched`` says whether the training loss came down to the goal."""
    roles = noisy_roles(config, point["noise"], point["seed"])
    measured = train_and_measure(
        config, partial(network, config.model, point["width"], roles.test), roles, seed=point["seed"],
        batch_size=point["batch_size"], lr=point["lr"], epochs=config.most_epochs, until_loss=config.matched_loss,
    )  # fmt: skip
    return {**measured, "matched": measured.get("final_epoch_loss", float("inf")) <= config.matched_loss}


def noisy_roles(config: Matched, noise: float, seed: int) -> Roles:
    """The samples of one seed with a share of random labels in every one; the same examples whatever the noise."""
    roles = config.roles(seed)
    return Roles(
        train=[data.with_label_noise(sample, noise, seed=1000 * seed + run) for run, sample in enumerate(roles.train)],
        **{
            part: data.with_label_noise(getattr(roles, part), noise, seed=1000 * seed + 999 - i)
            for i, part in enumerate(("val", "val2", "test"))
        },
    )


_SMOKE: Json = {
    "dataset": "digits", "k": 2, "n": 64, "n_val": 64, "n_test": 128, "lambdas": (1.0, 1e3),
    "certified_lambdas": (1e3,), "trace_rtol": 0.2, "most_probes": 4, "iterations": 10, "seeds": (0,),
    "matched_loss": 1.0, "most_epochs": 20, "draws": 2,
}  # fmt: skip
_LAPTOP: Json = {
    "dataset": "cifar10-jpeg", "k": 4, "n": 1000, "n_val": 500, "n_test": 2000, "lambdas": (1.0, 10.0, 1e3),
    "certified_lambdas": (1e3,), "most_probes": 8, "iterations": 10, "seeds": (0, 1), "matched_loss": 0.02,
    "draws": 20,
}  # fmt: skip
_PAPER: Json = {
    "k": 6, "n_test": 10_000, "lambdas": (1.0, 1e3, 1e9), "certified_lambdas": (1e3, 1e9), "trace_rtol": 0.05,
    "seeds": (0, 1, 2), "matched_loss": 1e-4, "most_epochs": 2000, "draws": 20,
}  # fmt: skip
_PAPER_MLP: Json = _PAPER | {"dataset": "mnist", "model": "mlp", "n": 9000, "n_val": 3000}
_PAPER_CNN: Json = _PAPER | {"dataset": "cifar10", "model": "cnn", "n": 7233, "n_val": 3300}
_CLEAN: Json = {"noise_levels": (0.0,)}


def _experiment(name: str, summary: str, smoke: Json, laptop: Json, paper: Json) -> Experiment:
    return Experiment(
        name=name,
        summary=summary,
        profiles={
            "smoke": Matched(**_SMOKE | smoke),
            "laptop": Matched(**_LAPTOP | laptop),
            "paper": Matched(**paper),
        },
        points=points,
        row=row,
        edition=lambda config: edition(config.dataset),
    )


NOISE = (0.0, 0.2, 0.4, 0.6)
MLP_WIDTH = _experiment(
    "mlp-width",
    "all bounds and the gap over the width of an MLP, at one training loss",
    smoke=_CLEAN | {"model": "mlp", "widths": (4, 16), "batch_sizes": (20,), "lrs": (0.2,)},
    laptop=_CLEAN
    | {"model": "mlp", "widths": (16, 48, 128, 256), "batch_sizes": (60,), "lrs": (0.05,), "most_epochs": 250},
    paper=_PAPER_MLP | _CLEAN
    | {"widths": (10, 50, 100, 200, 300, 400, 500), "batch_sizes": (60,), "lrs": (0.01,)},
)  # fmt: skip
CNN_WIDTH = _experiment(
    "cnn-width",
    "all bounds and the gap over the width of a convolutional network, at one training loss",
    smoke=_CLEAN | {"model": "cnn", "widths": (2, 4), "batch_sizes": (20,), "lrs": (0.1,)},
    laptop=_CLEAN
    | {
        "model": "cnn", "widths": (4, 7, 12), "batch_sizes": (20,), "lrs": (0.03,), "most_epochs": 150,
        "most_probes": 3,
    },
    paper=_PAPER_CNN | _CLEAN
    | {"widths": (10, 20, 30, 40, 50, 60), "batch_sizes": (60,), "lrs": (0.001,)},
)  # fmt: skip
LABEL_NOISE = _experiment(
    "label-noise",
    "all bounds and the gap over the share of random labels, at one training loss",
    smoke={"model": "mlp", "widths": (16,), "noise_levels": (0.0, 0.6), "batch_sizes": (20,), "lrs": (0.2,)},
    laptop={
        "model": "cnn", "widths": (6,), "noise_levels": NOISE, "batch_sizes": (20,), "lrs": (0.03,),
        "most_epochs": 150, "most_probes": 3, "seeds": (0, 1, 2, 3, 4),
    },
    paper=_PAPER_CNN
    | {"widths": (64,), "noise_levels": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "batch_sizes": (60,), "lrs": (0.001,)},
)  # fmt: skip
LR_BATCH = _experiment(
    "lr-batch",
    "all bounds and the gap over learning rate and batch size, at one training loss",
    smoke=_CLEAN | {"model": "mlp", "widths": (16,), "batch_sizes": (10, 20), "lrs": (0.1, 0.2)},
    laptop=_CLEAN | {
        "model": "mlp", "widths": (32,), "batch_sizes": (15, 30, 60), "lrs": (0.01, 0.02, 0.05), "most_epochs": 500,
        "most_probes": 4,
    },
    paper=_PAPER_MLP | _CLEAN
    | {"widths": (512,), "batch_sizes": (20, 40, 60, 80, 100, 120), "lrs": (0.001, 0.005, 0.01)},
)  # fmt: skip
EXPERIMENTS = (MLP_WIDTH, CNN_WIDTH, LABEL_NOISE, LR_BATCH)
