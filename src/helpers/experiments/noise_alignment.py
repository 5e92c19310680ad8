"""Alignment of SGD's noise with curvature along training, over architectures and widths: Wu's slides, CIFAR-10 figure.

Networks with one output learn by squared error to tell classes of even from classes of odd index (targets 1 and -1),
with batches drawn with replacement. At 0, 1, 2, 4, 8, ... steps, and at the end, alpha, beta and mu (eq. 7-9) are
measured on the whole sample, with the two numbers that bound them: mu_0, the least mu over all displacements, and the
uniformity gamma of the gradients. Two-layer networks, a convolutional one and a ResNet, each over widths and at
two learning rates: at the large one stability limits the curvature, at the small one nothing does.

The noise of one example needs a network whose output depends on that example alone. So the statistics of BatchNorm are
taken once, from the sample at the initial weights, and then kept.
"""

from dataclasses import dataclass, replace
from math import isfinite

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from helpers import alignment
from helpers.data import Split
from helpers.experiments.loop import network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.parity import TOO_LARGE, descend, parity_samples, training_loss
from helpers.experiments.samples import default_device, edition, images
from helpers.training import seeded

CHECK = 64  # steps between two looks at the training loss
CHUNK = 25  # examples whose gradients are taken at a time


@dataclass(frozen=True)
class AlignmentPath(Config):
    """Settings of the experiment.

    Attributes:
        dataset, pixels: name for ``data.load``; larger images are averaged down to so many pixels a side.
        n: training examples; their gradients are stored, n d numbers of eight bytes.
        batch_size: of SGD.
        mlp_widths, mlp_lrs: hidden units and learning rates of the two-layer ReLU network.
        cnn_widths, cnn_lrs: filters of the first layer and learning rates of ``models.cnn``.
        resnet_widths, resnet_lrs: filters of the first stage and learning rates of ``models.preact_resnet18``.
        seeds: each draws a sample, initial weights and batches.
        tolerance: SGD stops at this training loss.
        most_steps: or after this many steps, and the row says ``converged: false``.
    """

    memory = ("n", "mlp_widths", "cnn_widths", "resnet_widths", "pixels")

    dataset: str
    pixels: int
    n: int
    batch_size: int
    mlp_widths: tuple[int, ...]
    mlp_lrs: tuple[float, ...]
    cnn_widths: tuple[int, ...]
    cnn_lrs: tuple[float, ...]
    resnet_widths: tuple[int, ...]
    resnet_lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    tolerance: float
    most_steps: int


PROFILES = {
    "smoke": AlignmentPath(
        dataset="digits", pixels=8, n=20, batch_size=4, mlp_widths=(4, 16), mlp_lrs=(0.05,), cnn_widths=(2,),
        cnn_lrs=(0.04,), resnet_widths=(2,), resnet_lrs=(0.002,), seeds=(0,), tolerance=1e-2, most_steps=128,
    ),
    "laptop": AlignmentPath(
        dataset="cifar10-jpeg", pixels=16, n=100, batch_size=4, mlp_widths=(8, 32, 128, 512), mlp_lrs=(0.02, 0.1),
        cnn_widths=(2, 4, 8, 16), cnn_lrs=(0.02, 0.08), resnet_widths=(2, 4, 8), resnet_lrs=(0.001, 0.004),
        seeds=(0, 1, 2), tolerance=1e-4, most_steps=4096,
    ),
    "paper": AlignmentPath(
        dataset="cifar10", pixels=32, n=1000, batch_size=4, mlp_widths=(16, 64, 256, 1024), mlp_lrs=(0.02, 0.1),
        cnn_widths=(4, 8, 16, 32), cnn_lrs=(0.02, 0.08), resnet_widths=(4, 8, 16, 32), resnet_lrs=(0.001, 0.004),
        seeds=(0, 1, 2, 3, 4), tolerance=1e-4, most_steps=131_072,
    ),
}  # fmt: skip


def points(config: AlignmentPath) -> list[Json]:
    """Every architecture with its widths and learning rates, and every seed."""
    grids = {
        "mlp": (config.mlp_widths, config.mlp_lrs),
        "cnn": (config.cnn_widths, config.cnn_lrs),
        "preact-resnet18": (config.resnet_widths, config.resnet_lrs),
    }
    return [
        {"model": model, "width": width, "lr": lr, "seed": seed}
        for model, (widths, lrs) in grids.items()
        for width in widths
        for lr in lrs
        for seed in config.seeds
    ]


def row(config: AlignmentPath, point: Json) -> Json:
    """SGD until the training loss is small; ``path`` has a dictionary for each look, the last one at the end.

    A run that diverges is a row that says so.
    """
    seed = point["seed"]
    train = sample(config, seed)
    model = one_output_network(point["model"], point["width"], train, seed)
    generator = torch.Generator().manual_seed(seed)

    def batch() -> Tensor:
        return torch.randint(config.n, (config.batch_size,), generator=generator)

    path: list[Json] = []
    for step, _ in enumerate(descend(model, train, point["lr"], batch)):
        # the generator is suspended before its step: the model is that of ``step`` steps
        look = step & (step - 1) == 0
        if not look and step % CHECK and step < config.most_steps:
            continue
        loss = training_loss(model, train)
        if not (isfinite(loss) and loss < TOO_LARGE):
            return {"status": f"diverged: the training loss is {loss:.3g} at step {step}"}
        ends = loss <= config.tolerance or step >= config.most_steps
        if look or ends:
            path.append({"step": step, "loss": loss, **noise_statistics(model, train)})
        if ends:
            break
    d = sum(p.numel() for p in model.parameters())
    return {"status": "ok", "d": d, "converged": path[-1]["loss"] <= config.tolerance, "path": path}


def sample(config: AlignmentPath, seed: int) -> Split:
    """That of the experiment ``stability``, as images: float64, targets 1 and -1, mean squared length 64."""
    train, _ = parity_samples(config.dataset, config.n, 1, pixels=config.pixels, seed=seed)
    channels = images(config.dataset, True).inputs.shape[1]
    side = round((train.inputs.shape[1] / channels) ** 0.5)
    return replace(train, inputs=train.inputs.view(-1, channels, side, side))


def one_output_network(model: str, width: int, like: Split, seed: int) -> nn.Module:
    """A network with one output for these images, float64, in evaluation mode, on the device.

    Statistics of BatchNorm are those of the images at these weights.
    """
    with seeded(seed):
        made = network(model, width, replace(like, classes=1)).double()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # keep a plain average, here of one pass
    with torch.no_grad():
        made.train()(like.inputs)
    return made.eval().to(default_device())


def noise_statistics(model: nn.Module, train: Split) -> Json:
    """Alignment of the noise at these weights, mu_0, the uniformity gamma and ||G||_F."""
    rows = compact(output_gradients(model, train))
    with torch.no_grad():
        residuals = model(train.inputs.to(rows))[:, 0] - train.targets.to(rows)
    measured = alignment.regression_alignment(rows, residuals)
    return {
        "alpha": measured.alpha,
        "beta": measured.beta,
        "mu": measured.mu,
        "mu0": alignment.smallest_alignment(rows),
        "uniformity": alignment.uniformity(rows),
        "frobenius": (rows @ rows.T).norm().item() / len(rows),
    }


def output_gradients(model: nn.Module, split: Split) -> Tensor:
    """Gradients of the one output, shape (n, d); ``parity.jacobian`` for convolutions, which it is slow for."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def output(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        value: Tensor = functional_call(model, weights, (image[None],))
        return value.reshape(())

    inputs = split.inputs.to(next(iter(parameters.values())))
    slopes = vmap(grad(output), in_dims=(None, 0), chunk_size=CHUNK)(parameters, inputs)
    return torch.cat([slopes[name].flatten(1) for name in parameters], dim=1)


def compact(J: Tensor) -> Tensor:
    """Rows (n, at most n) with the inner products of those of J (n, d), which is all that alignment depends on."""
    rows: Tensor = torch.linalg.qr(J.T, mode="r").R.T
    return rows


EXPERIMENT = Experiment(
    name="alignment",
    summary="alignment of noise and curvature along SGD for three architectures, over widths and learning rates",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
