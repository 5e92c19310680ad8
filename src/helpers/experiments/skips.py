"""Loss surfaces of deep networks with and without shortcuts: Li et al. (2018), figure 5 of Wu's slides.

Narrow residual networks of several depths, and the plain chains of the same convolutions, are trained alike. Around
where each ends the training loss is read off on lines and on one plane along random directions in which every filter is
as long as the filter of the network itself (filter normalisation): in units of that length a layer in front of a
normalisation looks the same whatever its scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import data, flatness
from helpers.data import Split
from helpers.experiments.flat_networks import settle
from helpers.experiments.loop import minibatches
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import UNCLIPPED
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ZeroOneError
from helpers.models import at, deep_resnet, flat, trainable, weights
from helpers.training import seeded

TOO_LARGE = 1e3  # a training loss above this counts as diverged


@dataclass(frozen=True)
class Skips(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        depths: layers of the networks.
        width: filters of the first stage.
        n, n_test: examples to train and to test on.
        epochs, batch_size, momentum, weight_decay: of SGD.
        lr: learning rate; a tenth of it after half, a hundredth after three quarters of the epochs.
        seen: examples of the sample on which the surface is drawn.
        lines: random directions.
        reach: how far the surface is drawn, in lengths of the filters, to both sides.
        points_on_line, points_on_side: of a line, and of one side of the plane; odd, so that the network is among them.
        seeds: each draws samples, initial weights, batches and directions.
    """

    memory = ("width", "batch_size", "n", "seen")

    dataset: str
    depths: tuple[int, ...]
    width: int
    n: int
    n_test: int
    epochs: int
    batch_size: int
    lr: float
    seen: int
    lines: int
    reach: float
    points_on_line: int
    points_on_side: int
    seeds: tuple[int, ...]
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seen > self.n or self.batch_size > self.n:
            raise ConfigError(f"seen and batch_size must be at most n = {self.n}")
        for name in ("points_on_line", "points_on_side"):
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} must be odd, so that the network itself is among them")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        return self.lr * 0.1 ** ((2 * epoch >= self.epochs) + (4 * epoch >= 3 * self.epochs))


PROFILES = {
    "smoke": Skips(
        dataset="digits", depths=(8,), width=2, n=60, n_test=60, epochs=3, batch_size=20, lr=0.1, seen=40, lines=2,
        reach=1.0, points_on_line=7, points_on_side=3, seeds=(0,),
    ),
    "laptop": Skips(
        dataset="cifar10-jpeg-16", depths=(8, 32), width=4, n=1000, n_test=2000, epochs=40, batch_size=50, lr=0.1,
        seen=500, lines=5, reach=1.0, points_on_line=31, points_on_side=15, seeds=(0, 1, 2, 3, 4),
    ),
    "paper": Skips(
        dataset="cifar10", depths=(20, 56, 110), width=16, n=50_000, n_test=10_000, epochs=300, batch_size=128, lr=0.1,
        seen=5000, lines=10, reach=1.0, points_on_line=51, points_on_side=51, seeds=(0, 1, 2),
    ),
}  # fmt: skip


def points(config: Skips) -> list[Json]:
    """Both kinds of network at every depth, for each seed."""
    return [
        {"depth": depth, "skips": skips, "seed": seed}
        for seed in config.seeds
        for depth in config.depths
        for skips in (False, True)
    ]


def row(config: Skips, point: Json) -> Json:
    """Train one network, and draw the training loss around it.

    ``lines``: losses along every line; ``plane``: losses on a square, one list for each step of the second direction.
    ``dents``: mean over lines of the share of inner points at which the line bends downwards, its second difference
    negative; a convex surface has none. ``rise``: mean rise of the loss half a length away, over lines and sides.
    """
    seed, device = point["seed"], default_device()
    (train,) = data.partition(images(config.dataset, True), [config.n], seed=seed)
    (test,) = data.partition(images(config.dataset, False), [config.n_test], seed=seed)
    train, test = train.to(device=device), test.to(device=device)
    with seeded(seed):
        model = deep_resnet(
            point["depth"], config.width, train.classes, channels=train.inputs.shape[1], skips=point["skips"]
        ).to(device)
    reached = trained_to(config, model, train, seed)
    if not reached < TOO_LARGE:
        return {"status": f"diverged: the training loss is {reached:.3g}; lower the learning rate"}
    model.eval()
    part, generator = train.take(torch.arange(config.seen)), torch.Generator().manual_seed(seed)
    ways = [filter_normalised(model, generator) for _ in range(config.lines + 2)]
    steps = torch.linspace(-config.reach, config.reach, config.points_on_line, dtype=torch.float64).tolist()
    lines = [[loss_at(model, part, [step], [way]) for step in steps] for way in ways[2:]]
    side = torch.linspace(-config.reach, config.reach, config.points_on_side, dtype=torch.float64).tolist()
    centre = loss_at(model, part, [], [])
    return {
        "status": "ok",
        "train_loss": flatness.mean_loss(model, UNCLIPPED, train),
        "train_error": flatness.mean_loss(model, ZeroOneError(), train),
        "test_loss": flatness.mean_loss(model, UNCLIPPED, test),
        "test_error": flatness.mean_loss(model, ZeroOneError(), test),
        "dents": fmean(map(dents, lines)),
        "rise": fmean(loss_at(model, part, [end], [way]) - centre for way in ways[2:] for end in (-0.5, 0.5)),
        "lines": lines,
        "plane": [[loss_at(model, part, [x, y], ways[:2]) for x in side] for y in side],
    }


def trained_to(config: Skips, model: nn.Module, train: Split, seed: int) -> float:
    """SGD in place; the mean cross-entropy at the end, with BatchNorm's statistics those of the sample."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        trainable(model), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    for epoch in range(config.epochs):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.rate(epoch)
        for batch in minibatches(train, config.batch_size, order):
            optimizer.zero_grad()
            F.cross_entropy(model(batch.inputs), batch.targets).backward()
            optimizer.step()
    return settle(model, train)


def filter_normalised(model: nn.Module, generator: torch.Generator) -> Tensor:
    """A Gaussian direction, shape (d,), with every filter as long as the model's; zero for vectors (biases, norms).

    A filter is what one output of a convolution or of a linear layer has for weights.
    """
    pieces = []
    for p in trainable(model):
        if p.ndim < 2:
            pieces.append(torch.zeros_like(p))
            continue
        w, normal = p.detach().flatten(1), torch.randn(p.shape, generator=generator).to(p).flatten(1)
        pieces.append((normal * (w.norm(dim=1) / normal.norm(dim=1))[:, None]).view(p.shape))
    return flat(pieces)


def loss_at(model: nn.Module, split: Split, steps: Sequence[float], ways: Sequence[Tensor]) -> float:
    """The training loss at the weights moved so many steps along each direction."""
    moved = weights(model) + sum(step * way for step, way in zip(steps, ways, strict=True))
    with at(model, moved):
        return flatness.mean_loss(model, UNCLIPPED, split)


def dents(line: Sequence[float]) -> float:
    """Share of inner points of a line at which its second difference is negative."""
    bends = torch.tensor(line, dtype=torch.float64).diff(n=2)
    return (bends < 0).double().mean().item()


EXPERIMENT = Experiment(
    name="skips",
    summary="filter-normalised loss surfaces of deep networks with and without shortcuts",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
