"""SGD and SAM on the product of two coordinates, with biases and without: Wu's slides, figure 8; Wen et al. (2023).

Inputs are corners of the cube {-1, 1}^d, the target is x_1 x_2, and the network has two layers, of which all weights
are trained on the squared error, one example a step. Without biases a flat network has a small norm and must find the
two coordinates. With biases some of the flattest know their sample and nothing else (``relu_minima``): does SAM end
there, and is it worse off than SGD?
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from helpers import relu_minima
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.relu_minima import TwoLayer
from helpers.training import seeded

FITTED = 0.05  # a training loss, half the mean squared error, above this is no minimum; 1/2 is that of f = 0
Weights = tuple[Tensor, Tensor, Tensor]  # a (m,), w (m, d), b (m,)


@dataclass(frozen=True)
class XOR(Config):
    """Settings of the experiment.

    Attributes:
        inputs: d.
        width: m, hidden units.
        n, n_test: corners to train and to test on.
        scales: of the initial weights: a from N(0, scale^2 / m), w from N(0, scale^2 / d), b zero.
        radii: rho of SAM; 0 is SGD.
        lr, steps: one example a step.
        looks: how often the network is looked at, at equal distances, the start not counted.
        seeds: each draws corners, initial weights and order.
    """

    memory = ("width", "n", "n_test")

    inputs: int
    width: int
    n: int
    n_test: int
    scales: tuple[float, ...]
    radii: tuple[float, ...]
    lr: float
    steps: int
    looks: int
    seeds: tuple[int, ...]

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"radii"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n + self.n_test > 2**self.inputs:
            raise ConfigError(f"the cube has 2^{self.inputs} corners, fewer than n + n_test = {self.n + self.n_test}")
        if self.steps % self.looks:
            raise ConfigError(f"looks must divide steps = {self.steps}, got {self.looks}")


PROFILES = {
    "smoke": XOR(
        inputs=8, width=20, n=30, n_test=60, scales=(1.0,), radii=(0.0, 0.1), lr=0.02, steps=400, looks=2, seeds=(0,)
    ),
    "laptop": XOR(
        inputs=30, width=300, n=100, n_test=1000, scales=(0.3, 1.0), radii=(0.0, 0.1, 0.3), lr=0.01, steps=20_000,
        looks=10, seeds=(0, 1, 2, 3, 4),
    ),
    "paper": XOR(
        inputs=30, width=1000, n=100, n_test=10_000, scales=(0.3, 1.0), radii=(0.0, 0.1, 0.3), lr=0.003,
        steps=200_000, looks=20, seeds=tuple(range(10)),
    ),
}  # fmt: skip


def points(config: XOR) -> list[Json]:
    """Networks with and without biases, for every scale, radius and seed."""
    return [
        {"biases": biases, "scale": scale, "radius": radius, "seed": seed}
        for seed in config.seeds
        for biases in (False, True)
        for scale in config.scales
        for radius in config.radii
    ]


def row(config: XOR, point: Json) -> Json:
    """Train one network and look at it on the way; each of the lists has ``looks + 1`` entries, the start included.

    ``train_loss``: half the mean squared error. ``error``: mean squared error on fresh corners, 1 for f = 0.
    ``accuracy``: share of fresh corners at which f has the sign of the target. ``answer``: mean |f| on fresh corners.
    ``trace``: Tr G on the sample. ``fitted``: whether the last training loss is below 0.05. ``least_trace``: of any
    network with biases that interpolates.
    """
    with seeded(point["seed"]):
        x = corners(config.n + config.n_test, config.inputs)
        a, w = torch.randn(config.width).double(), torch.randn(config.width, config.inputs).double()
        order = torch.randint(config.n, (config.steps,))
    y = x[:, 0] * x[:, 1]
    scale, n = point["scale"], config.n
    weights: Weights = (a * scale / config.width**0.5, w * scale / config.inputs**0.5, torch.zeros_like(a))
    record: dict[str, list[float]] = {name: [] for name in ("train_loss", "error", "accuracy", "answer", "trace")}
    for step in range(config.steps + 1):
        if step % (config.steps // config.looks) == 0:
            for name, value in look(weights, point["biases"], (x[:n], y[:n]), (x[n:], y[n:])).items():
                record[name].append(value)
        if step < config.steps:
            i = order[step]
            weights = stepped(weights, x[i], y[i], config.lr, point["radius"], point["biases"])
    if not all(isfinite(value) for values in record.values() for value in values):
        return {"status": "diverged: the training loss is not finite; lower the learning rate"}
    return {
        "status": "ok",
        **record,
        "fitted": record["train_loss"][-1] < FITTED,
        "least_trace": relu_minima.smallest_trace(x[:n], y[:n]),
    }


def corners(count: int, d: int) -> Tensor:
    """So many different corners of {-1, 1}^d, uniformly drawn: shape (count, d), float64."""
    seen: dict[tuple[float, ...], None] = {}
    while len(seen) < count:
        seen.update(dict.fromkeys(map(tuple, (2.0 * torch.randint(2, (count, d)) - 1).tolist())))
    return torch.tensor(list(seen)[:count], dtype=torch.float64)


def look(weights: Weights, biases: bool, train: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor]) -> Json:
    """What a row records of a network, from pairs of inputs and targets."""
    net = two_layer(weights, biases)
    answers, truth = net(fresh[0]), fresh[1]
    return {
        "train_loss": (net(train[0]) - train[1]).square().mean().item() / 2,
        "error": (answers - truth).square().mean().item(),
        "accuracy": (answers * truth > 0).double().mean().item(),
        "answer": answers.abs().mean().item(),
        "trace": relu_minima.gradient_trace(net, train[0]),
    }


def two_layer(weights: Weights, biases: bool) -> TwoLayer:
    a, w, b = weights
    return TwoLayer(a, w, b if biases else None)


def slopes_of(weights: Weights, x: Tensor, y: Tensor, biases: bool) -> Weights:
    """Of (f(x) - y)^2 / 2 for one example, x of shape (d,); zero for biases that the network does not have."""
    a, w, b = weights
    active = torch.relu(w @ x + b)
    error = active @ a - y
    inner = error * a * (active > 0)
    return error * active, torch.outer(inner, x), inner if biases else torch.zeros_like(b)


def stepped(weights: Weights, x: Tensor, y: Tensor, lr: float, radius: float, biases: bool) -> Weights:
    """The weights after one step of SAM, or of SGD if the radius is zero."""
    slopes = slopes_of(weights, x, y, biases)
    if radius:
        length = sum(g.square().sum() for g in slopes) ** 0.5
        if length > 0:
            a, w, b = (p + radius / length * g for p, g in zip(weights, slopes, strict=True))
            slopes = slopes_of((a, w, b), x, y, biases)
    a, w, b = (p - lr * g for p, g in zip(weights, slopes, strict=True))
    return a, w, b


EXPERIMENT = Experiment(
    name="xor",
    summary="SGD and SAM on the product of two coordinates, with biases and without",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: "synthetic",
)
