"""VGG and PreActResNet trained for flatness, at equal epochs and at equal fit: Wang & Mao (2022), tables 1 and 2.

The tables hold the number of epochs fixed. A method that drives the training loss further down in that time has a
smaller Hessian for this reason alone, so each run is also looked at when its training loss first passes a level: there
all methods have fitted about equally well.

Both networks have BatchNorm, and a layer in front of it computes the same with weights twice as large and a quarter of
the curvature. So beside the trace of the Hessian stands the trace in units of the layers' own sizes,
sum_l ||w_l||^2 tr H_l / d_l: twice the rise of the loss that noise as long as every layer's weights would cause, if the
loss were quadratic.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import data
from helpers.curvature import trace_by_layer
from helpers.data import Split
from helpers.experiments.flat_training import closure_of
from helpers.experiments.loop import minibatches, network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import accuracy, cross_entropy, logits
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ClippedCrossEntropy
from helpers.models import layers, trainable
from helpers.regularizers import AMP, GMP, NVRM, SAM, EntropySGD, NotFinite
from helpers.training import seeded

SGD, GMP_3, GMP_10, ENTROPY = "SGD", "GMP, 3 draws", "GMP, 10 draws", "Entropy-SGD"
METHODS = (SGD, GMP_3, GMP_10, "NVRM", "SAM", "ASAM", "AMP", ENTROPY)
MODELS = ("vgg16", "preact-resnet18")
CHUNK = 1000  # examples over which the statistics of BatchNorm are taken at once
TOO_LARGE = 1e3  # a training loss above this counts as diverged


@dataclass(frozen=True)
class FlatNetworks(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        models: of ``MODELS``.
        width: filters of the first stage.
        n, n_test: examples to train and to test on.
        methods: of ``METHODS``.
        seeds: each draws its own samples, initial weights and batches.
        epochs, batch_size: passes over the sample by batches, and their size.
        lr: learning rate; a tenth of it after half, a hundredth after three quarters of the epochs.
        momentum, weight_decay: of SGD.
        levels: training losses, falling: at the end of the first epoch below each, the network is measured.
        gmp_sigma: noise of every weight, of GMP and NVRM.
        gmp_rho: weight of the penalty of GMP.
        sam_radius, asam_radius, amp_radius: of the balls.
        amp_rate: size of AMP's ascent step.
        entropy_gamma: strength of the tie of Entropy-SGD's walk.
        entropy_steps: of that walk, each on a batch of its own.
        trace_rtol, most_probes: relative standard error of the trace, and the most samples spent on it.
    """

    memory = ("width", "batch_size", "n", "n_test")

    dataset: str
    models: tuple[str, ...]
    width: int
    n: int
    n_test: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    levels: tuple[float, ...]
    gmp_sigma: float
    sam_radius: float
    asam_radius: float
    amp_radius: float
    amp_rate: float = 1.0
    entropy_gamma: float = 0.1
    entropy_steps: int = 5
    gmp_rho: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 1e-4
    trace_rtol: float = 0.03
    most_probes: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("models", MODELS), ("methods", METHODS)):
            if unknown := sorted(set(getattr(self, name)) - set(known)):
                raise ConfigError(f"{name} knows no {unknown[0]!r:.80}; choose from {'; '.join(known)}")
        if self.batch_size * self.entropy_steps > self.n:
            raise ConfigError(
                f"a step of Entropy-SGD takes entropy_steps = {self.entropy_steps} batches of {self.batch_size}; "
                f"they must fit into n = {self.n}"
            )
        if list(self.levels) != sorted(self.levels, reverse=True):
            raise ConfigError(f"levels are losses that fall, got {', '.join(map(str, self.levels))}")
        if self.momentum >= 1:
            raise ConfigError(f"momentum must be below 1, got {self.momentum}")

    def decay(self, epoch: int) -> float:
        """The learning rate of an epoch, over that of the first."""
        return float(0.1 ** ((2 * epoch >= self.epochs) + (4 * epoch >= 3 * self.epochs)))


# The paper profile has the source's networks and radii of AMP; its learning rate and schedule are not stated there.
PROFILES = {
    "smoke": FlatNetworks(
        dataset="digits", models=MODELS, width=1, n=100, n_test=100, methods=METHODS, seeds=(0,), epochs=2,
        batch_size=20, lr=0.05, levels=(2.5, 1e-3), gmp_sigma=0.01, sam_radius=0.05, asam_radius=0.5, amp_radius=0.1,
        most_probes=2,
    ),
    "laptop": FlatNetworks(
        dataset="cifar10-jpeg-16", models=MODELS, width=8, n=2000, n_test=5000,
        methods=(SGD, GMP_3, "NVRM", "SAM", "ASAM", "AMP", ENTROPY), seeds=(0, 1, 2, 3, 4), epochs=30, batch_size=50,
        lr=0.05, levels=(0.5, 0.1, 0.02), gmp_sigma=0.01, sam_radius=0.05, asam_radius=0.5, amp_radius=0.1,
    ),
    "paper": FlatNetworks(
        dataset="cifar10", models=MODELS, width=64, n=50_000, n_test=10_000, methods=METHODS, seeds=tuple(range(10)),
        epochs=200, batch_size=50, lr=0.1, levels=(0.5, 0.1, 0.02, 0.005), gmp_sigma=0.03, sam_radius=0.1,
        asam_radius=1.0, amp_radius=0.5,
    ),
}  # fmt: skip


def points(config: FlatNetworks) -> list[Json]:
    """Every network and method, for each seed."""
    return [
        {"model": model, "method": method, "seed": seed}
        for seed in config.seeds
        for model in config.models
        for method in config.methods
    ]


def row(config: FlatNetworks, point: Json) -> Json:
    """Train one network by one method; measure it at every level of the training loss, and at the end.

    The numbers of ``measure`` at the end stand in the row itself. ``at_levels`` has an entry for each level, null where
    it was not reached, else the same numbers and ``epochs``, after how many the network was measured. ``passes`` is the
    number of forward passes a batch; every one has its backward pass. ``seconds`` is the time of training alone: of the
    processor, or by the clock on a GPU.
    """
    seed, device = point["seed"], default_device()
    (train,) = data.partition(images(config.dataset, True), [config.n], seed=seed)
    (test,) = data.partition(images(config.dataset, False), [config.n_test], seed=seed)
    train, test = train.to(device=device), test.to(device=device)
    with seeded(seed):
        model = network(point["model"], config.width, train).to(device)
        try:
            trained = course(
                config, point["method"], model, train, seed, lambda: flatness_and_gap(config, model, train, test, seed)
            )
        except NotFinite as error:
            return {"status": f"diverged: {error}"}
    return {"status": "ok", **trained, **flatness_and_gap(config, model, train, test, seed)}


def course(
    config: FlatNetworks, method: str, model: nn.Module, train: Split, seed: int, look: Callable[[], Json]
) -> Json:
    """Train the model in place, and look at it after the first epoch at whose end the training loss is below a level.

    Raises:
        NotFinite: if training diverges.
    """
    optimizer, order = sgd_within(config, method, model, seed), torch.Generator().manual_seed(seed)
    together = config.entropy_steps if method == ENTROPY else 1
    # On a CPU other work would count in the time by the clock; on a GPU the processor only waits.
    clock = time.perf_counter if train.inputs.is_cuda else time.process_time
    at_levels: list[Json | None] = []
    seconds, passes, seen = 0.0, 0, 0
    for epoch in range(config.epochs):
        set_rates(config, optimizer, epoch)
        model.train()
        started, batches = clock(), list(minibatches(train, config.batch_size, order))
        for first in range(0, len(batches) - together + 1, together):
            queue = cycle(batches[first : first + together])

            def loss(queue: Iterator[Split] = queue) -> Tensor:
                nonlocal passes
                passes, batch = passes + 1, next(queue)
                return F.cross_entropy(model(batch.inputs), batch.targets)

            optimizer.step(closure_of(loss, optimizer))  # type: ignore[arg-type]  # torch says float, and takes a tensor
            seen += together
        if train.inputs.is_cuda:
            torch.cuda.synchronize()
        seconds += clock() - started
        reached = settle(model, train)
        if not reached < TOO_LARGE:
            raise NotFinite(f"the training loss is {reached:.3g}: lower the learning rate")
        passed = [level for level in config.levels[len(at_levels) :] if reached <= level]
        if passed:
            at_levels += [look() | {"epochs": epoch + 1}] * len(passed)
    missing = len(config.levels) - len(at_levels)
    return {"passes": passes / seen, "seconds": seconds, "at_levels": [*at_levels, *[None] * missing]}


def sgd_within(config: FlatNetworks, method: str, model: nn.Module, seed: int) -> torch.optim.Optimizer:
    """SGD, alone or inside the wrapper of a method."""
    base = torch.optim.SGD(trainable(model), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return {
        SGD: lambda: base,
        GMP_3: lambda: GMP(base, config.gmp_sigma, config.gmp_rho, 3, seed=seed),
        GMP_10: lambda: GMP(base, config.gmp_sigma, config.gmp_rho, 10, seed=seed),
        "NVRM": lambda: NVRM(base, config.gmp_sigma, seed=seed),
        "SAM": lambda: SAM(base, config.sam_radius),
        "ASAM": lambda: SAM(base, config.asam_radius, adaptive=True),
        "AMP": lambda: AMP(base, config.amp_radius, config.amp_rate),
        ENTROPY: lambda: EntropySGD(
            torch.optim.SGD(trainable(model), lr=1 / config.entropy_gamma), config.entropy_gamma,
            steps=config.entropy_steps, seed=seed,
        ),
    }[method]()  # fmt: skip


def set_rates(config: FlatNetworks, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """The learning rate of an epoch.

    Entropy-SGD goes all the way to the mean of its walk, at a rate of 1 / gamma. The walk has no momentum, and takes
    steps as long as SGD's are with it; the weights decay as much over a walk as under SGD over as many steps.
    """
    rate = config.lr * config.decay(epoch)
    for group in optimizer.param_groups:
        if isinstance(optimizer, EntropySGD):
            optimizer.rate = rate / (1 - config.momentum)
            group["weight_decay"] = config.entropy_gamma * config.entropy_steps * optimizer.rate * config.weight_decay
        else:
            group["lr"] = rate


@torch.no_grad()
def settle(model: nn.Module, split: Split) -> float:
    """Give BatchNorm the statistics of this sample at the weights as they are; the mean cross-entropy with them.

    Running statistics lag behind the weights, and those of NVRM belong to perturbed ones. Both are means over chunks of
    1,000 examples, each with its own statistics.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the chunks
    model.train()
    total = 0.0
    for rows in torch.arange(len(split)).split(CHUNK):
        part = split.take(rows)
        total += F.cross_entropy(model(part.inputs), part.targets, reduction="sum").item()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return total / len(split)


def flatness_and_gap(config: FlatNetworks, model: nn.Module, train: Split, test: Split, seed: int) -> Json:
    """Losses, test accuracy, gap, and the trace of the Hessian of cross-entropy on the training sample.

    ``relative_trace`` is sum_l ||w_l||^2 tr H_l / d_l over layers. ``trace_standard_error`` is the sum of those of the
    layers, which is the most that it can be.
    """
    settle(model, train)
    model.eval()
    seen, unseen = logits(model, train), logits(model, test)
    labels, other = train.targets.cpu(), test.targets.cpu()
    on = model, ClippedCrossEntropy.per_class(train.classes), train
    traces = trace_by_layer(*on, rtol=config.trace_rtol, most_probes=config.most_probes, seed=seed)
    sizes = {name: [p.detach().flatten() for p in members] for name, members in layers(model).items()}
    return {
        "train_loss": cross_entropy(seen, labels),
        "train_accuracy": accuracy(seen, labels),
        "test_loss": cross_entropy(unseen, other),
        "test_accuracy": accuracy(unseen, other),
        "gap": cross_entropy(unseen, other) - cross_entropy(seen, labels),
        "trace": sum(estimate.value for estimate in traces.values()),
        "trace_standard_error": sum(estimate.standard_error for estimate in traces.values()),
        "relative_trace": sum(
            torch.cat(sizes[name]).square().mean().item() * estimate.value for name, estimate in traces.items()
        ),
    }


EXPERIMENT = Experiment(
    name="flat-networks",
    summary="VGG-16 and PreActResNet-18 under eight optimisers, at equal epochs and at equal fit",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
