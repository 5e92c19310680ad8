"""Dynamic gradient clipping under label noise: Wang & Mao (2022), figures 4 (MLP) and 9 (AlexNet), Algorithm 1.

The paper has three rules that are not the same. Algorithm 1 compares a gradient's norm with the running minimum since a
step T_c, and clips to a share alpha of it. Appendix E.5 chooses T_c by itself: after the first epoch whose mean norm is
larger than that of the epoch before. The main text compares with the norm of K steps earlier. The control, not in the
paper, clips nothing: at T_c it divides the learning rate once and for all.
"""

import math
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import nn

from helpers import data
from helpers.data import Split
from helpers.experiments.loop import minibatches, network, noisy_images
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import accuracy, cross_entropy, logits
from helpers.experiments.samples import default_device, edition
from helpers.models import trainable
from helpers.regularizers import DynamicClipping, LaggedClipping
from helpers.training import seeded

MODELS = ("mlp", "cnn")
PLAIN, ALGORITHM, DETECTED, MAIN_TEXT, LOWERED = RULES = (
    "none", "algorithm 1", "algorithm 1, start detected", "main text", "rate lowered",
)  # fmt: skip


@dataclass(frozen=True)
class Clipping(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        model: "mlp" (one hidden layer) or "cnn" (``models.cnn``).
        width: hidden units, or filters of the first layer.
        n, n_test: examples to train and to test on.
        noise_levels: shares of labels replaced by random ones, in the training and the test sample alike.
        seeds: each draws its own sample, initial weights and batches.
        epochs, batch_size, lr: of plain SGD, without momentum and weight decay.
        alpha: share of the reference norm that is left of a longer gradient.
        start: T_c in epochs.
        lag: K in epochs.
        divisor: what the control divides the learning rate by at T_c.
    """

    memory = ("width", "n", "n_test", "batch_size")

    dataset: str
    model: str
    width: int
    n: int
    n_test: int
    noise_levels: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    alpha: float
    start: int
    lag: int
    divisor: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS:
            raise ConfigError(f"model must be one of {', '.join(MODELS)}, got {self.model!r:.80}")
        if max(self.noise_levels) > 1:
            raise ConfigError(f"noise_levels are shares from 0 to 1, got {max(self.noise_levels)}")
        if self.alpha > 1:
            raise ConfigError(f"alpha is a share, at most 1, got {self.alpha}")
        if self.batch_size > self.n:
            raise ConfigError(f"batch_size must be at most n = {self.n}, got {self.batch_size}")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"noise_levels", "start"}

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.n // self.batch_size


def points(config: Clipping) -> list[Json]:
    """Every noise level with every rule, for each seed."""
    return [
        {"noise": noise, "rule": rule, "seed": seed}
        for seed in config.seeds
        for noise in config.noise_levels
        for rule in RULES
    ]


def row(config: Clipping, point: Json) -> Json:
    """Train one network under one rule and follow it; a run that diverges is a row that says so.

    Rules of one seed and noise share sample, initial weights and batches: up to T_c their runs are the same.

    Lists over epochs. Accuracies and losses have ``epochs + 1`` entries, from before training on. ``gradient_norm`` and
    ``step_norm`` (mean norm before and after clipping) and ``clipped`` (share of steps) have one entry an epoch.
    ``start`` is the number of epochs before a rule interferes, null if it never did.
    """
    seed, rule = point["seed"], point["rule"]
    train, test, untouched = (
        split.to(device=default_device()) for split in split_with_noise(config, point["noise"], seed)
    )
    with seeded(seed):
        model = network(config.model, config.width, train).to(train.inputs.device)
    order = torch.Generator().manual_seed(seed)
    optimizer, start = first_optimizer(config, rule, model)
    record: dict[str, list[float]] = {}
    norms: list[float] = []
    for epoch in range(config.epochs + 1):
        _note(record, predicted(model, train, test, untouched))
        if epoch == config.epochs:
            break
        if rule == LOWERED and epoch == start:
            for group in optimizer.param_groups:
                group["lr"] /= config.divisor
        try:
            passed = [step(model, optimizer, batch) for batch in minibatches(train, config.batch_size, order)]
        except ValueError as error:  # the wrappers refuse norms that are not finite
            return {"status": f"diverged: {error}"}
        before, after = zip(*passed, strict=True)
        if not math.isfinite(sum(before)):
            return {"status": f"diverged: the gradient norm is not finite in epoch {epoch + 1}"}
        norms.append(fmean(before))
        shortened = [b > a * (1 + 1e-6) for b, a in passed]
        _note(record, {"gradient_norm": norms[-1], "step_norm": fmean(after), "clipped": fmean(shortened)})
        if rule == DETECTED and start is None and len(norms) > 1 and norms[-1] > norms[-2]:
            optimizer, start = DynamicClipping(optimizer, config.alpha, start=0), epoch + 1
    return {"status": "ok", "steps": config.steps, "start": start, **record}


def split_with_noise(config: Clipping, noise: float, seed: int) -> tuple[Split, Split, Split]:
    """Training sample, test sample, and the test sample with its own labels; the same examples whatever the noise."""
    draw = partial(data.partition, seed=seed)
    (train,) = draw(noisy_images(config.dataset, True, noise, seed), [config.n])
    (test,) = draw(noisy_images(config.dataset, False, noise, seed), [config.n_test])
    (untouched,) = draw(noisy_images(config.dataset, False, 0.0, seed), [config.n_test])
    return train, test, untouched


def first_optimizer(config: Clipping, rule: str, model: nn.Module) -> tuple[torch.optim.Optimizer, int | None]:
    """The optimiser that a rule begins with, and the epochs before it interferes, where that is known."""
    base = torch.optim.SGD(trainable(model), lr=config.lr)
    if rule == ALGORITHM:
        return DynamicClipping(base, config.alpha, start=config.start * config.steps), config.start
    if rule == MAIN_TEXT:
        return LaggedClipping(base, config.alpha, lag=config.lag * config.steps), config.lag
    return base, config.start if rule == LOWERED else None


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Split) -> tuple[float, float]:
    """One step on a batch; norm of its gradient, and of what the rule left of it."""
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(batch.inputs), batch.targets).backward()
    before = _norm(model)
    optimizer.step()
    return before, _norm(model)


def _norm(model: nn.Module) -> float:
    return nn.utils.get_total_norm(p.grad for p in trainable(model) if p.grad is not None).item()


def predicted(model: nn.Module, train: Split, test: Split, untouched: Split) -> dict[str, float]:
    """Losses and accuracies; a test accuracy for the noisy labels and one for the true ones."""
    model.eval()
    seen, unseen = logits(model, train), logits(model, test)
    labels, noisy, true = (split.targets.cpu() for split in (train, test, untouched))
    return {
        "train_loss": cross_entropy(seen, labels),
        "train_accuracy": accuracy(seen, labels),
        "test_loss": cross_entropy(unseen, noisy),
        "test_accuracy": accuracy(unseen, noisy),
        "true_test_accuracy": accuracy(unseen, true),
    }


def _note(record: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        record.setdefault(name, []).append(value)


SMOKE = Clipping(
    dataset="digits", model="mlp", width=16, n=100, n_test=200, noise_levels=(0.0, 0.4), seeds=(0,), epochs=6,
    batch_size=20, lr=0.1, alpha=0.1, start=2, lag=1,
)  # fmt: skip
MLP_PROFILES = {
    "smoke": SMOKE,
    "laptop": Clipping(
        dataset="digits", model="mlp", width=512, n=1280, n_test=500, noise_levels=(0.0, 0.2, 0.4),
        seeds=(0, 1, 2, 3, 4, 5), epochs=100, batch_size=20, lr=0.1, alpha=0.1, start=8, lag=1,
    ),
    "paper": Clipping(
        dataset="mnist", model="mlp", width=512, n=60_000, n_test=10_000, noise_levels=(0.0, 0.2, 0.4), seeds=(0, 1, 2),
        epochs=200, batch_size=60, lr=0.01, alpha=0.1, start=10, lag=1,
    ),
}  # fmt: skip
CNN_PROFILES = {
    "smoke": SMOKE.with_settings({"model": "cnn", "width": "2"}),
    "laptop": Clipping(
        dataset="cifar10-jpeg", model="cnn", width=8, n=500, n_test=1000, noise_levels=(0.0, 0.2, 0.4),
        seeds=(0, 1, 2), epochs=30, batch_size=10, lr=0.05, alpha=0.1, start=8, lag=1,
    ),
    "paper": Clipping(
        dataset="cifar10", model="cnn", width=64, n=50_000, n_test=10_000, noise_levels=(0.0, 0.2, 0.4),
        seeds=(0, 1, 2), epochs=200, batch_size=60, lr=0.001, alpha=0.1, start=20, lag=1,
    ),
}  # fmt: skip


def _experiment(name: str, summary: str, profiles: dict[str, Clipping]) -> Experiment:
    return Experiment(
        name=name,
        summary=summary,
        profiles=profiles,
        points=points,
        row=row,
        edition=lambda config: edition(config.dataset),
    )


MLP_CLIPPING = _experiment("mlp-clipping", "dynamic gradient clipping under label noise, MLP", MLP_PROFILES)
CNN_CLIPPING = _experiment(
    "cnn-clipping", "dynamic gradient clipping under label noise, convolutional network", CNN_PROFILES
)
EXPERIMENTS = (MLP_CLIPPING, CNN_CLIPPING)
