"""ResNet-18 over batch size and learning rate: every bound of the book and the gap, on the same runs.

The source is Peng et al.'s main experiment (axes: batch size 30 to 480, learning rate 5e-4 to 2e-2). The smoke and
laptop profiles run the same code on narrower networks and smaller samples.
"""

from dataclasses import dataclass
from functools import partial

from helpers.experiments.artefact import Json
from helpers.experiments.config import Config
from helpers.experiments.measure import measure
from helpers.experiments.runner import Experiment
from helpers.experiments.samples import default_device, draw_roles, edition
from helpers.models import resnet18
from helpers.training import Diverged, train_ensemble


@dataclass(frozen=True)
class Grid(Config):
    """Settings of the grid.

    Attributes:
        dataset: name for ``data.load``.
        width: filters of ResNet-18's first stage (64 is the usual network).
        k, n: runs, and training examples of each.
        n_val, n_test: examples in each of val and val2, and in test.
        batch_sizes, lrs, seeds: the grid.
        epochs: passes over the data; the most passes where ``until_loss`` is set.
        until_loss: stop at this mean training loss (an epoch's average), to compare at matched loss; None never stops.
        momentum, weight_decay: of SGD.
        clip_factor: the evaluation loss is clipped at this times log(classes).
        lambdas: trade-offs of the omniscient bound.
        trace_rtol: relative standard error of every trace.
        solve_rtol: relative residual of the surrogate's systems.
    """

    dataset: str
    width: int
    k: int
    n: int
    n_val: int
    n_test: int
    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    lambdas: tuple[float, ...]
    trace_rtol: float
    solve_rtol: float = 1e-2
    until_loss: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_factor: float = 12.0


PROFILES = {
    "smoke": Grid(
        dataset="digits", width=2, k=2, n=64, n_val=64, n_test=128, batch_sizes=(8, 32), lrs=(0.02,), seeds=(0,),
        epochs=2, lambdas=(1.0, 1e3), trace_rtol=0.2,
    ),
    "laptop": Grid(
        dataset="cifar10-jpeg", width=8, k=4, n=400, n_val=400, n_test=2000, batch_sizes=(20, 50, 200),
        lrs=(0.005, 0.01, 0.02), seeds=(0,), epochs=40, lambdas=(0.3, 1.0, 3.0, 10.0, 1e2, 1e4), trace_rtol=0.1,
    ),
    "paper": Grid(
        dataset="cifar10", width=64, k=6, n=7233, n_val=3300, n_test=10_000, batch_sizes=(30, 60, 120, 240, 480),
        lrs=(5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2), seeds=(0,), epochs=200, lambdas=(1.0, 1e3, 1e9), trace_rtol=0.05,
    ),
}  # fmt: skip


def points(config: Grid) -> list[Json]:
    """Every batch size with every learning rate and seed."""
    return [
        {"batch_size": batch_size, "lr": lr, "seed": seed}
        for seed in config.seeds
        for batch_size in config.batch_sizes
        for lr in config.lrs
    ]


def row(config: Grid, point: Json) -> Json:
    """Train k runs at one point and measure them; a diverged run is a row that says so."""
    seed = point["seed"]
    roles = draw_roles(config.dataset, k=config.k, n=config.n, n_val=config.n_val, n_test=config.n_test, seed=seed)
    channels, classes = roles.test.inputs.shape[1], roles.test.classes
    try:
        run = train_ensemble(
            partial(resnet18, config.width, classes, channels=channels), roles.train,
            epochs=config.epochs, batch_size=point["batch_size"], lr=point["lr"], momentum=config.momentum,
            weight_decay=config.weight_decay, seed=seed, device=default_device(), until_loss=config.until_loss,
        )  # fmt: skip
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    measured = measure(
        run,
        roles,
        clip_factor=config.clip_factor,
        lambdas=config.lambdas,
        trace_rtol=config.trace_rtol,
        solve_rtol=config.solve_rtol,
        seed=seed,
    )
    return {"status": "ok", **measured}


EXPERIMENT = Experiment(
    name="resnet18-grid",
    summary="all bounds and the gap over batch size and learning rate (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
