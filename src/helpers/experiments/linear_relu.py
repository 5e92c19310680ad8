"""Theorems 3 and 4 along training, on synthetic data: Wang & Mao (2022), figures 7 and 8, appendix E.4.

Inputs are standard Gaussian vectors scaled to length one. Targets are tanh of a wide random two-layer ReLU network, so
they lie in (-1, 1). The loss of training is (y - f)^2 / 2. It has no constant R; gap and bound are those of the loss
clipped at 2, which has R = 1.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from helpers import wang_mao
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.samples import default_device
from helpers.models import TwoLayerReLU, linear
from helpers.training import seeded

CLIP = 2.0  # what the worst answer between -1 and 1 costs
LINEAR, RELU = NETWORKS = ("linear", "two-layer ReLU")
CHUNK = 2_000  # examples that the teacher labels at once


@dataclass(frozen=True)
class LinearReLU(Config):
    """Settings of the experiment.

    Attributes:
        inputs: dimension of the inputs.
        teacher: hidden units of the network that makes the targets.
        width: hidden units of the two-layer network.
        k, n, n_test: runs, training examples of each, and test examples.
        epochs, batch_size, lr: of plain SGD.
        seeds: each draws its own teacher, samples and initial weights.
    """

    memory = ("width", "inputs", "k", "n", "n_test", "batch_size")

    inputs: int
    teacher: int
    width: int
    k: int
    n: int
    n_test: int
    epochs: int
    batch_size: int
    lr: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Inputs (n, inputs) of length one and targets (n,) in (-1, 1)."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Sample":
        return Sample(self.inputs.to(device), self.targets.to(device))


PROFILES = {
    "smoke": LinearReLU(
        inputs=20, teacher=100, width=10, k=2, n=200, n_test=400, epochs=3, batch_size=20, lr=0.5, seeds=(0,)
    ),
    "laptop": LinearReLU(
        inputs=200, teacher=10_000, width=100, k=4, n=20_000, n_test=20_000, epochs=25, batch_size=100, lr=0.5,
        seeds=(0,),
    ),
    "paper": LinearReLU(
        inputs=200, teacher=10_000, width=100, k=6, n=20_000, n_test=20_000, epochs=25, batch_size=100, lr=0.5,
        seeds=(0, 1, 2),
    ),
}  # fmt: skip


def points(config: LinearReLU) -> list[Json]:
    """Both networks, for each seed."""
    return [{"network": network, "seed": seed} for seed in config.seeds for network in NETWORKS]


def row(config: LinearReLU, point: Json) -> Json:
    """Train k runs and follow bound and gap.

    Lists over epochs with ``epochs + 1`` entries, from before training on: ``train_loss`` and ``test_loss`` (clipped)
    and ``active`` (share of units) are means over runs, ``gap`` is a list for each run. ``bound`` (R = 1), and
    ``trajectory`` and ``flatness``, its two parts, begin with the first epoch.
    """
    *train, test = draw_samples(config, point["seed"])
    with seeded(point["seed"]):
        first = linear(config.inputs, bias=False) if point["network"] == LINEAR else _student(config)
    runs = [train_one(config, first, sample, test, seed=run) for run, sample in enumerate(train)]
    if not all(math.isfinite(run.train_loss[-1]) for run in runs):
        return {"status": "diverged: a loss is not finite; lower the learning rate"}
    bounds = [theorem_bound(config, point["network"], runs, epoch) for epoch in range(1, config.epochs + 1)]
    return {
        "status": "ok",
        "steps": config.epochs * (config.n // config.batch_size),
        **{name: _over_runs([getattr(run, name) for run in runs]) for name in ("train_loss", "test_loss", "active")},
        "gap": [
            [held_out - seen for held_out, seen in zip(run.test_loss, run.train_loss, strict=True)] for run in runs
        ],
        "bound": [b.value for b in bounds],
        "trajectory": [b.trajectory for b in bounds],
        "flatness": [b.flatness for b in bounds],
    }


def _student(config: LinearReLU) -> nn.Module:
    return TwoLayerReLU(config.inputs, config.width)


def _over_runs(lists: list[list[float]]) -> list[float]:
    return [fmean(values) for values in zip(*lists, strict=True)]


def draw_samples(config: LinearReLU, seed: int) -> list[Sample]:
    """k training samples and a test sample, labelled by one teacher."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(config.teacher, config.inputs, generator=generator)
    signs = torch.randint(0, 2, (config.teacher,), generator=generator) * 2.0 - 1.0
    return [
        _sample(size, rows, signs, generator).to(default_device()) for size in [config.n] * config.k + [config.n_test]
    ]


def _sample(size: int, rows: Tensor, signs: Tensor, generator: torch.Generator) -> Sample:
    inputs = nn.functional.normalize(torch.randn(size, rows.shape[1], generator=generator))
    outputs = torch.cat([torch.relu(chunk @ rows.T) @ signs for chunk in inputs.split(CHUNK)])
    return Sample(inputs, torch.tanh(outputs / len(signs) ** 0.5))


@dataclass(frozen=True)
class Followed:
    """One run. Over steps: ``losses``, the mean loss of the batch before the step, and ``active_losses``, the mean of
    loss times share of active units. Over epochs from 0 on: clipped losses and the mean share of active units."""

    losses: list[float]
    active_losses: list[float]
    train_loss: list[float]
    test_loss: list[float]
    active: list[float]


def train_one(config: LinearReLU, first: nn.Module, sample: Sample, test: Sample, *, seed: int) -> Followed:
    """Plain SGD from the weights of ``first``; a linear network counts as one unit that is always active."""
    model = deepcopy(first).to(sample.inputs.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    generator = torch.Generator().manual_seed(seed)
    record = Followed([], [], [], [], [])
    for epoch in range(config.epochs + 1):
        record.train_loss.append(half_squared_errors(model, sample).clamp(max=CLIP).mean().item())
        record.test_loss.append(half_squared_errors(model, test).clamp(max=CLIP).mean().item())
        record.active.append(active_share(model, sample.inputs).mean().item())
        if epoch == config.epochs:
            return record
        for rows in torch.randperm(config.n, generator=generator).split(config.batch_size):
            if len(rows) == config.batch_size:
                batch = Sample(sample.inputs[rows], sample.targets[rows])
                optimizer.zero_grad()
                value = half_squared_errors(model, batch)
                value.mean().backward()
                share = active_share(model, batch.inputs)
                record.losses.append(value.mean().item())
                record.active_losses.append((share * value).mean().item())
                optimizer.step()
    return record


def half_squared_errors(model: nn.Module, sample: Sample) -> Tensor:
    """(y - f)^2 / 2 of every example, shape (n,)."""
    errors: Tensor = sample.targets - model(sample.inputs).flatten()
    return errors.square() / 2


def active_share(model: nn.Module, inputs: Tensor) -> Tensor:
    """Share of hidden units that are active for every example, shape (n,); one for a linear network."""
    if not isinstance(model, TwoLayerReLU):
        return torch.ones(len(inputs), device=inputs.device)
    return wang_mao.active_units(model.hidden.weight, inputs) / len(model.signs)


def theorem_bound(config: LinearReLU, network: str, runs: list[Followed], epoch: int) -> wang_mao.Isotropic:
    """Theorem 3 or 4 after that many epochs, expectations taken as means over runs."""
    steps = epoch * (config.n // config.batch_size)
    if network == LINEAR:
        batch_losses = _over_runs([run.losses[:steps] for run in runs])
        return wang_mao.linear_network(batch_losses, config.lr, n=config.n, R=CLIP / 2)
    m = config.width
    return wang_mao.two_layer_relu(
        [m * value for value in _over_runs([run.active_losses[:steps] for run in runs])],
        m * fmean(run.active[epoch] for run in runs),
        config.lr, width=m, n=config.n, R=CLIP / 2,
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="linear-relu",
    summary="Theorems 3 and 4 against the gap along training, on synthetic data",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: "synthetic",
)
