"""Sharpness after small and after large batches, near loss zero: Keskar et al. (2017), table 4 as Wu's slides have it.

Networks are trained by Adam on batches of a hundredth, of a tenth and of all of their sample, as the source does with
the first two, until the training loss of an epoch is below a level. There the slope is smaller than early on, and not
gone. Keskar's zeta is measured in the whole space and, as in the table, in random subspaces of dimension 100.
"""

from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import curvature, data, flatness
from helpers.data import Split
from helpers.experiments.loop import MODELS, minibatches, network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import UNCLIPPED
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ClippedCrossEntropy, ZeroOneError
from helpers.models import trainable, weights
from helpers.training import seeded

TOO_LARGE = 1e3  # a training loss above this counts as diverged


@dataclass(frozen=True)
class BatchSharpness(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        models: of ``loop.MODELS``.
        width: hidden units of an MLP, filters of the first layer of the others.
        n, n_test: examples to train and to test on.
        batch_sizes: of Adam.
        lr: of Adam, the same for every batch size.
        level: training stops at the end of the first epoch with a training loss below this,
        most_steps: or at the end of the epoch in which so many steps are reached.
        epsilons: of Keskar's box.
        dimension, subspaces: columns of a random subspace, and over how many of them zeta is averaged.
        seeds: each draws samples, initial weights, batches and subspaces.
    """

    memory = ("width", "n", "n_test", "dimension", "batch_sizes")

    dataset: str
    models: tuple[str, ...]
    width: int
    n: int
    n_test: int
    batch_sizes: tuple[int, ...]
    lr: float
    level: float
    most_steps: int
    epsilons: tuple[float, ...]
    dimension: int
    subspaces: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted(set(self.models) - set(MODELS)):
            raise ConfigError(f"models must be of {', '.join(MODELS)}, got {unknown[0]!r:.80}")
        if max(self.batch_sizes) > self.n:
            raise ConfigError(f"batch_sizes cannot exceed n = {self.n}, got {max(self.batch_sizes)}")


PROFILES = {
    "smoke": BatchSharpness(
        dataset="digits", models=("mlp", "cnn"), width=8, n=60, n_test=100, batch_sizes=(6, 60), lr=0.02, level=0.3,
        most_steps=300, epsilons=(1e-3,), dimension=10, subspaces=2, seeds=(0,),
    ),
    "laptop": BatchSharpness(
        dataset="digits", models=("mlp", "cnn"), width=8, n=400, n_test=500, batch_sizes=(4, 40, 400), lr=3e-3,
        level=1e-3, most_steps=30_000, epsilons=(1e-3, 5e-4), dimension=100, subspaces=3, seeds=(0, 1, 2, 3, 4),
    ),
    "paper": BatchSharpness(
        dataset="cifar10", models=("cnn", "vgg16"), width=64, n=50_000, n_test=10_000, batch_sizes=(256, 5000),
        lr=1e-3, level=1e-3, most_steps=200_000, epsilons=(1e-3, 5e-4), dimension=100, subspaces=5,
        seeds=(0, 1, 2, 3, 4),
    ),
}  # fmt: skip


def points(config: BatchSharpness) -> list[Json]:
    """Every network and batch size, for each seed."""
    return [
        {"model": model, "batch_size": batch_size, "seed": seed}
        for seed in config.seeds
        for model in config.models
        for batch_size in config.batch_sizes
    ]


def row(config: BatchSharpness, point: Json) -> Json:
    """Train one network, and measure it where it stopped.

    ``reached`` says whether its training loss came below the level. ``whole`` and ``subspace`` are zeta, a number for
    each epsilon, not times 100; ``slope`` is what the gradient alone would add up to in the whole space, epsilon sum_i
    |g_i| (|w_i| + 1) / (1 + L). ``gap`` is in cross-entropy.
    """
    seed = point["seed"]
    (train,) = data.partition(images(config.dataset, True), [config.n], seed=seed)
    (test,) = data.partition(images(config.dataset, False), [config.n_test], seed=seed)
    train, test = (s.to(dtype=torch.float64, device=default_device()) for s in (train, test))
    with seeded(seed):
        model = network(point["model"], config.width, train).to(train.inputs)
    steps = train_until(config, model, train, point["batch_size"], seed)
    if not (L := flatness.mean_loss(model, UNCLIPPED, train)) < TOO_LARGE:
        return {"status": f"diverged: the training loss is {L:.3g}; lower the learning rate"}
    loss = ClippedCrossEntropy.per_class(train.classes)
    on, w = (model, loss, train), weights(model)
    g = curvature.gradient(*on)
    trace, edge = curvature.trace(*on, rtol=0.03, seed=seed), curvature.extreme_eigenvalues(*on, rtol=0.02, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    bases = [subspace(len(w), config.dimension, generator) for _ in range(config.subspaces)]
    return {
        "status": "ok",
        "steps": steps,
        "reached": config.level >= L,
        "train_loss": L,
        "test_error": flatness.mean_loss(model, ZeroOneError(), test),
        "gap": flatness.mean_loss(model, UNCLIPPED, test) - L,
        "gradient_norm": g.norm().item(),
        "trace": trace.value,
        "trace_standard_error": trace.standard_error,
        "largest_eigenvalue": edge.largest.item(),
        "whole": [flatness.keskar(*on, epsilon=epsilon, seed=seed).value for epsilon in config.epsilons],
        "slope": [epsilon * (g.abs() * (w.abs() + 1)).sum().item() / (1 + L) for epsilon in config.epsilons],
        "subspace": [
            fmean(flatness.keskar(*on, epsilon=epsilon, basis=basis, seed=seed).value for basis in bases)
            for epsilon in config.epsilons
        ],
    }


def subspace(d: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Columns of standard Gaussian entries, shape (d, dimension), float64."""
    return torch.randn(d, dimension, dtype=torch.float64, generator=generator)


def train_until(config: BatchSharpness, model: nn.Module, train: Split, batch_size: int, seed: int) -> int:
    """Train in place until the training loss is below the level; the number of steps. The model ends in eval mode."""
    optimizer, order = torch.optim.Adam(trainable(model), lr=config.lr), torch.Generator().manual_seed(seed)
    steps = 0
    while steps < config.most_steps:
        model.train()
        for batch in minibatches(train, batch_size, order):
            optimizer.zero_grad()
            F.cross_entropy(model(batch.inputs), batch.targets).backward()
            optimizer.step()
            steps += 1
        if not flatness.mean_loss(model.eval(), UNCLIPPED, train) > config.level:
            break
    return steps


EXPERIMENT = Experiment(
    name="batch-sharpness",
    summary="Keskar's sharpness after small and large batches, near loss zero and in random subspaces",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
