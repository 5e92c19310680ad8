"""Gradient dispersion along training, under label noise: Wang & Mao (2022), figures 1, 3 and 5, in their spirit.

Four numbers go by that name (``wang_mao.dispersion``). Here they are measured on the same runs, epoch by epoch, next
to accuracy and loss: the variance over runs, which the theory asks for, and three that one run gives.
"""

from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import nn

from helpers import data, wang_mao
from helpers.curvature import gradient
from helpers.data import Split
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import UNCLIPPED, accuracy, cross_entropy, example_gradients, logits
from helpers.experiments.samples import default_device, edition, images
from helpers.models import cnn, mlp
from helpers.training import Diverged, train_ensemble

MODELS = ("mlp", "cnn")


@dataclass(frozen=True)
class Dispersion(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        model: "mlp" (one hidden layer) or "cnn" (``models.cnn``).
        width: hidden units, or filters of the first layer.
        k, n: runs, and training examples of each.
        n_test: examples of the test sample.
        noise_levels: shares of labels replaced by random ones, in the training and the test sample alike.
        seeds: one grid row for each, and each noise level.
        epochs, batch_size, lr: of plain SGD, without momentum and weight decay.
        probes: minibatches on which the estimators of one run are averaged, before every epoch.
    """

    memory = ("width", "k", "n", "n_test", "batch_size")

    dataset: str
    model: str
    width: int
    k: int
    n: int
    n_test: int
    noise_levels: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    probes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS:
            raise ConfigError(f"model must be one of {', '.join(MODELS)}, got {self.model!r:.80}")
        if max(self.noise_levels) > 1:
            raise ConfigError(f"noise_levels are shares from 0 to 1, got {max(self.noise_levels)}")
        if self.k < 2:
            raise ConfigError("k must be at least 2: the variance over runs needs two")
        if not 2 <= self.batch_size <= self.n:
            raise ConfigError(f"batch_size must lie between 2 and n = {self.n}, got {self.batch_size}")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"noise_levels"}


NOISE = (0.0, 0.2, 0.4, 0.6)
PROFILES = {
    "smoke": Dispersion(
        dataset="digits", model="mlp", width=16, k=3, n=100, n_test=200, noise_levels=NOISE, seeds=(0,), epochs=4,
        batch_size=20, lr=0.1, probes=3,
    ),
    "laptop": Dispersion(
        dataset="cifar10-jpeg", model="cnn", width=8, k=4, n=500, n_test=500, noise_levels=NOISE, seeds=(0, 1),
        epochs=36, batch_size=10, lr=0.05, probes=4,
    ),
    "paper": Dispersion(
        dataset="cifar10", model="cnn", width=64, k=6, n=8333, n_test=10_000, noise_levels=NOISE, seeds=(0, 1, 2),
        epochs=200, batch_size=60, lr=0.01, probes=8,
    ),
}  # fmt: skip


def points(config: Dispersion) -> list[Json]:
    """Every noise level with every seed."""
    return [{"noise": noise, "seed": seed} for seed in config.seeds for noise in config.noise_levels]


def row(config: Dispersion, point: Json) -> Json:
    """Train k runs under one noise level and follow them; runs that diverge are a row that says so.

    Lists over epochs. Those of accuracies and losses have ``epochs + 1`` entries, for the weights before training and
    after every epoch. Those of dispersions have one entry an epoch, *a step* and with the squared learning rate:
    ``cross_run`` is the mean over the epoch's steps; ``single_run`` (centre: the full-batch gradient), its expectation
    ``expected_single_run`` and ``uncentred`` belong to the first run's weights before the epoch.
    """
    seed = point["seed"]
    train, test = _samples(config, point["noise"], seed)
    follow = Follower(config, train, test, untouched=_samples(config, 0.0, seed)[1], seed=seed)
    try:
        run = train_ensemble(
            partial(_network, config, test), train, epochs=config.epochs, batch_size=config.batch_size, lr=config.lr,
            seed=seed, device=default_device(), observe=follow,
        )  # fmt: skip
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    cross_run = run.step_dispersion.view(config.epochs, -1).mean(1).tolist()
    return {"status": "ok", "d": len(run.initial), "steps": run.steps, "cross_run": cross_run, **follow.record}


def _samples(config: Dispersion, noise: float, seed: int) -> tuple[list[Split], Split]:
    """k disjoint training samples and a test sample; the same examples whatever the noise."""
    train, test = (
        data.with_label_noise(images(config.dataset, part), noise, seed=2 * seed + part) for part in (True, False)
    )
    return data.disjoint(train, config.k, config.n, seed=seed), data.disjoint(test, 1, config.n_test, seed=seed)[0]


def _network(config: Dispersion, like: Split) -> nn.Module:
    channels, size = like.inputs.shape[1], like.inputs.shape[-1]
    if config.model == "mlp":
        return mlp(like.inputs[0].numel(), config.width, like.classes)
    return cnn(config.width, like.classes, channels=channels, size=size)


class Follower:
    """Called by ``train_ensemble`` between epochs; collects the lists of a row in ``record``.

    Args:
        train, test: the samples of the runs, and the common test sample, with noisy labels.
        untouched: the test sample with its own labels.
    """

    def __init__(self, config: Dispersion, train: list[Split], test: Split, *, untouched: Split, seed: int) -> None:
        self.config, self.train, self.test, self.untouched = config, train, test, untouched
        self.generator = torch.Generator().manual_seed(seed)
        self.record: dict[str, list[float]] = {}

    def __call__(self, epoch: int, models: list[nn.Module]) -> None:
        """Measure the weights after ``epoch`` epochs."""
        measured = [self._predictions(model, sample) for model, sample in zip(models, self.train, strict=True)]
        means = {name: fmean(one[name] for one in measured) for name in measured[0]}
        if epoch < self.config.epochs:
            means |= self._dispersions(models[0])
        for name, value in means.items():
            self.record.setdefault(name, []).append(value)

    def _predictions(self, model: nn.Module, sample: Split) -> dict[str, float]:
        """Losses and accuracies of one run; a test accuracy for the noisy labels and for the true ones."""
        seen, unseen = logits(model, sample), logits(model, self.test)
        return {
            "train_loss": cross_entropy(seen, sample.targets),
            "train_accuracy": accuracy(seen, sample.targets),
            "test_loss": cross_entropy(unseen, self.test.targets),
            "test_accuracy": accuracy(unseen, self.test.targets),
            "true_test_accuracy": accuracy(unseen, self.untouched.targets),
        }

    def _dispersions(self, model: nn.Module) -> dict[str, float]:
        """The estimators that need one run only, a step, averaged over fresh minibatches of its sample."""
        sample, lr, n = self.train[0], self.config.lr, self.config.n
        centre = gradient(model, UNCLIPPED, sample)[None]
        dispersions: dict[str, list[float]] = {"single_run": [], "expected_single_run": [], "uncentred": []}
        for _ in range(self.config.probes):
            examples = example_gradients(
                model, sample.take(torch.randperm(n, generator=self.generator)[: self.config.batch_size])
            )
            batch = examples.mean(0, keepdim=True)
            dispersions["single_run"].append(wang_mao.single_run_dispersion(batch, centre, lr).item())
            dispersions["expected_single_run"].append(wang_mao.within_batch_dispersion(examples[None], lr, n=n).item())
            dispersions["uncentred"].append(wang_mao.uncentred_dispersion(batch, lr).item())
        return {name: fmean(values) for name, values in dispersions.items()}


EXPERIMENT = Experiment(
    name="dispersion",
    summary="four gradient dispersions, accuracy and loss along training, for levels of label noise",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
