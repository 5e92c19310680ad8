"""Escape from a sharp minimum: Wu's slides, figures 11 and 19, and the importance of noise structure.

A two-layer tanh network learns by gradient descent to tell even from odd digits. From where it arrives, many paths go
on at a learning rate at which gradient descent could stay, with one of three kinds of noise:

- ``sgd``: batches of B examples, drawn with replacement;
- ``geometry``: the full gradient plus Gaussian noise of covariance (2 L / B) G, what decoupling makes of SGD's;
- ``isotropic``: Gaussian noise of covariance (2 L / B) (Tr G / d) I, of the same total variance.

The paths are not linearised. Next to them stands what linear stability says of the starting point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers import alignment
from helpers.data import Split
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.parity import descend, jacobian, parity_samples, scalar_network
from helpers.experiments.samples import edition

NOISES = ("sgd", "geometry", "isotropic")
MEASURED = 20  # paths whose curvature is measured at the end
GROWN = 10.0  # the growth rate is read off until the mean loss has grown by this factor


@dataclass(frozen=True)
class EscapeConfig(Config):
    """Settings of the experiment.

    Attributes:
        dataset, pixels: name for ``data.load``; larger images are averaged down to so many pixels a side.
        n, width: training examples and hidden units.
        gd_lr, gd_steps: of gradient descent, which finds the minimum.
        lr: of the paths.
        batch_sizes: B.
        noises: among "sgd", "geometry" and "isotropic".
        steps, paths: of every row.
        seeds: each draws a sample, initial weights and noise.
    """

    memory = ("paths", "width", "pixels", "n", "batch_sizes")

    dataset: str
    pixels: int
    n: int
    width: int
    gd_lr: float
    gd_steps: int
    lr: float
    batch_sizes: tuple[int, ...]
    noises: tuple[str, ...]
    steps: int
    paths: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := set(self.noises) - set(NOISES):
            raise ConfigError(f"noises must be among {', '.join(NOISES)}, got {', '.join(sorted(unknown))}")
        if self.paths < 2:
            raise ConfigError("paths must be at least 2: a standard error needs two")


PROFILES = {
    "smoke": EscapeConfig(
        dataset="digits", pixels=8, n=30, width=8, gd_lr=0.02, gd_steps=2000, lr=0.04, batch_sizes=(1, 8),
        noises=NOISES, steps=60, paths=20, seeds=(0,),
    ),
    "laptop": EscapeConfig(
        dataset="digits", pixels=8, n=64, width=24, gd_lr=0.02, gd_steps=6000, lr=0.04, batch_sizes=(1, 2, 4),
        noises=NOISES, steps=200, paths=200, seeds=(0, 1, 2),
    ),
    "paper": EscapeConfig(
        dataset="cifar10", pixels=32, n=1000, width=64, gd_lr=0.005, gd_steps=200_000, lr=0.01,
        batch_sizes=(1, 4, 16, 64), noises=NOISES, steps=1000, paths=200, seeds=(0, 1, 2),
    ),
}  # fmt: skip


def points(config: EscapeConfig) -> list[Json]:
    """Every kind of noise with every batch size and seed."""
    return [
        {"noise": noise, "batch_size": batch_size, "seed": seed}
        for seed in config.seeds
        for batch_size in config.batch_sizes
        for noise in config.noises
    ]


def row(config: EscapeConfig, point: Json) -> Json:
    """Find the minimum, follow the paths; paths that overflow are a row that says so.

    Lists over steps have ``steps + 1`` entries: ``mean`` loss over paths with its ``standard_error``, and their
    ``median``. ``linear`` is the exact mean for linearised SGD from the same residuals, cut where it passes 1.
    """
    seed = point["seed"]
    train, _ = parity_samples(config.dataset, config.n, 1, pixels=config.pixels, seed=seed)
    model = scalar_network(train, config.width, "tanh", seed, device=torch.device("cpu"))
    for _, _ in zip(range(config.gd_steps + 1), descend(model, train, config.gd_lr), strict=False):
        pass
    start = Paths.of(model, config.paths)
    before = frobenius(start.kernel(train.inputs, 1))[0].item()
    arrived, losses = follow(start, train, config, point)
    if not torch.isfinite(losses).all():
        first = int((~torch.isfinite(losses)).any(1).nonzero()[0])
        return {"status": f"diverged: a path overflowed at step {first}"}
    after = frobenius(arrived.kernel(train.inputs, MEASURED))
    mean = losses.mean(1)
    return {
        "status": "ok",
        "d": start.d,
        "frobenius": before,
        "frobenius_after": after.mean().item(),
        "frobenius_after_standard_error": (after.std() / len(after) ** 0.5).item(),
        "mean": five_digits(mean),
        "standard_error": five_digits(losses.std(1) / config.paths**0.5),
        "median": five_digits(losses.median(1).values),
        "measured_growth": measured_growth(mean),
        **linear_theory(jacobian(model, train), model, train, config, point),
    }


# --- theory -------------------------------------------------------------------------------------------------


def linear_theory(J: Tensor, model: nn.Module, train: Split, config: EscapeConfig, point: Json) -> Json:
    """What linear stability says of the starting point, for the noise of this row."""
    B = point["batch_size"]
    measured = alignment.model_alignment(model, train)
    mu0 = alignment.smallest_alignment(J)
    H = torch.linalg.eigvalsh(J @ J.T / len(J)).clamp(min=0)
    spread = {"geometry": H, "isotropic": torch.full_like(H, H.sum().item() / J.shape[1])}
    if point["noise"] == "sgd":
        growth = alignment.growth_factor(J, lr=config.lr, batch_size=B)
    else:
        growth = alignment.gaussian_growth_factor(H, spread[point["noise"]], lr=config.lr, batch_size=B)
    rates = {"lr": config.lr, "batch_size": B}
    sharpness = H.norm().item()
    return {
        "largest_eigenvalue": H[-1].item(),
        "trace": H.sum().item(),
        "mu": measured.mu,
        "mu0": mu0,
        "gamma": alignment.escape_rate(sharpness, mu0=measured.mu, **rates),
        "gamma0": alignment.escape_rate(sharpness, mu0=mu0, **rates),
        "linear_growth": growth,
        "linear": _linear(J, model, train, config, B) if point["noise"] == "sgd" else [],
    }


def _linear(J: Tensor, model: nn.Module, train: Split, config: EscapeConfig, batch_size: int) -> list[float]:
    """Exact mean losses of linearised SGD from the same residuals, as long as they are at most 1."""
    with torch.no_grad():
        residuals = model(train.inputs)[:, 0] - train.targets
    displacement = torch.linalg.lstsq(J, residuals, driver="gelsd").solution
    exact = alignment.expected_losses(J, displacement, lr=config.lr, batch_size=batch_size, steps=config.steps)
    within = (exact <= 1).long().cumprod(0).bool()
    return five_digits(exact[within])


def five_digits(values: Tensor) -> list[float]:
    """Five digits are enough for a figure."""
    return [float(f"{value:.5g}") for value in values.tolist()]


def measured_growth(mean: Tensor) -> float:
    """Factor a step by which the mean loss grew until it had grown by ``GROWN``, or to the end if it never did."""
    reached = (mean >= GROWN * mean[0]).nonzero()
    last = int(reached[0]) if len(reached) else len(mean) - 1
    return float((mean[last] / mean[0]) ** (1 / last))


def frobenius(kernel: Tensor) -> Tensor:
    """||G||_F of each path from its kernel (paths, n, n)."""
    norms: Tensor = kernel.flatten(1).norm(dim=1) / kernel.shape[1]
    return norms


# --- many paths at once -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """Weights of many two-layer tanh networks f(x) = a . tanh(W x + b) + c, and their exact gradients.

    Attributes:
        W, b, a, c: shapes (paths, m, inputs), (paths, m), (paths, m), (paths,).
    """

    W: Tensor
    b: Tensor
    a: Tensor
    c: Tensor

    @classmethod
    def of(cls, model: nn.Module, paths: int) -> "Paths":
        """``paths`` copies of ``models.mlp`` with one hidden layer of tanh and one output."""
        W, b, a, c = (p.detach().double() for p in model.parameters())
        return cls(*(piece.repeat(paths, *[1] * piece.ndim) for piece in (W, b, a[0], c[0])))

    @property
    def d(self) -> int:
        """Weights of one network."""
        return self.W[0].numel() + self.b[0].numel() + self.a[0].numel() + 1

    def hidden(self, inputs: Tensor) -> Tensor:
        """(paths, n, m)."""
        return torch.tanh(torch.baddbmm(self.b[:, None], inputs.expand(len(self.W), -1, -1), self.W.mT))

    def outputs(self, hidden: Tensor) -> Tensor:
        """(paths, n)."""
        return (hidden @ self.a[..., None])[..., 0] + self.c[:, None]

    def minus(self, hidden: Tensor, inputs: Tensor, pull: Tensor) -> "Paths":
        """The weights less J^T pull, J the Jacobian of the outputs: one weight an example, shape (paths, n)."""
        back = pull[..., None] * (1 - hidden.square()) * self.a[:, None]
        return Paths(
            self.W - back.mT @ inputs,
            self.b - back.sum(1),
            self.a - (hidden.mT @ pull[..., None])[..., 0],
            self.c - pull.sum(1),
        )

    def shifted(self, scale: Tensor, generator: torch.Generator) -> "Paths":
        """The weights plus Gaussian noise of a standard deviation for each path, shape (paths,)."""

        def moved(piece: Tensor) -> Tensor:
            noise = torch.randn(piece.shape, generator=generator, dtype=piece.dtype)
            return piece + scale.view(-1, *[1] * (piece.ndim - 1)) * noise

        return Paths(*(moved(piece) for piece in (self.W, self.b, self.a, self.c)))

    def trace(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """Tr G of each path: the mean of |grad f|^2."""
        back = ((1 - hidden.square()) * self.a[:, None]).square().sum(2)
        return (back * (1 + inputs.square().sum(1)) + hidden.square().sum(2) + 1).mean(1)

    def kernel(self, inputs: Tensor, paths: int) -> Tensor:
        """J J^T of the first paths, shape (paths, n, n)."""
        some = Paths(*(piece[:paths] for piece in (self.W, self.b, self.a, self.c)))
        hidden = some.hidden(inputs)
        back = (1 - hidden.square()) * some.a[:, None]
        return back @ back.mT * (1 + inputs @ inputs.T) + hidden @ hidden.mT + 1


def follow(paths: Paths, train: Split, config: EscapeConfig, point: Json) -> tuple[Paths, Tensor]:
    """The paths' weights after ``config.steps`` steps, and their training losses, shape (steps + 1, paths)."""
    generator = torch.Generator().manual_seed(point["seed"])
    inputs, lr, B = train.inputs, config.lr, point["batch_size"]
    losses = []
    for step in range(config.steps + 1):
        hidden = paths.hidden(inputs)
        residuals = paths.outputs(hidden) - train.targets
        loss = residuals.square().mean(1) / 2
        losses.append(loss)
        if step == config.steps or not torch.isfinite(loss).all():
            break
        pull = {"sgd": _batch_pull, "geometry": _shaped_pull}.get(point["noise"], _full_pull)(residuals, B, generator)
        moved = paths.minus(hidden, inputs, lr * pull)
        if point["noise"] == "isotropic":
            variance = 2 * loss * paths.trace(hidden, inputs) / (paths.d * B)
            moved = moved.shifted(lr * variance.sqrt(), generator)
        paths = moved
    return paths, torch.stack(losses)


def _full_pull(residuals: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """The full gradient is J^T e / n."""
    return residuals / residuals.shape[1]


def _batch_pull(residuals: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """That of a batch is J^T (counts * e) / B, counts how often each example was drawn."""
    count, n = residuals.shape
    drawn = torch.randint(n, (count, batch_size), generator=generator)
    weights = torch.zeros_like(residuals).scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=residuals.dtype))
    return weights * residuals / batch_size


def _shaped_pull(residuals: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Full gradient and J^T z sqrt(2 L / (n B)), z standard normal: noise of covariance (2 L / B) G."""
    z = torch.randn(residuals.shape, generator=generator, dtype=residuals.dtype)
    scale = (residuals.square().mean(1, keepdim=True) / (residuals.shape[1] * batch_size)).sqrt()
    return residuals / residuals.shape[1] + scale * z


EXPERIMENT = Experiment(
    name="escape",
    summary="paths of SGD, of geometry-aware and of isotropic noise that leave a sharp minimum of gradient descent",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
