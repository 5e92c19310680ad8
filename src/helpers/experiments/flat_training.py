"""Test accuracy, flatness and cost of nine ways to regularise: Wang & Mao (2022), tables 1 to 3, and SAM.

The tables' AMP (Zheng et al. 2021) takes one ascent step and projects it onto a ball; SAM always goes to the ball's
surface. Where the ascent step is longer than the radius they are the same algorithm, which is the reason to put SAM in
AMP's place here; it is labelled as what it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import data
from helpers.curvature import extreme_eigenvalues, trace
from helpers.data import Split
from helpers.experiments.loop import MODELS, minibatches, network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import accuracy, cross_entropy, logits
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ClippedCrossEntropy
from helpers.models import trainable
from helpers.regularizers import GMP, SAM, AbsoluteGMP, flooding, mixup
from helpers.training import seeded
from helpers.training.augment import crop_and_flip

METHODS = (
    "ERM", "dropout", "label smoothing", "flooding", "mixup", "adversarial", "SAM", "GMP, 3 draws", "GMP, 10 draws",
    "absolute GMP, 3 draws",
)  # fmt: skip


@dataclass(frozen=True)
class FlatTraining(Config):
    """Settings of the experiment.

    Attributes:
        dataset: name for ``data.load``.
        model: "cnn", "vgg16" or "preact-resnet18".
        width: filters of the first layer or stage.
        n, n_test: examples to train and to test on.
        methods: of ``METHODS``.
        seeds: each draws its own samples, initial weights and batches.
        epochs, batch_size, momentum, weight_decay: of SGD.
        lr: learning rate; a tenth of it after half, a hundredth after three quarters of the epochs.
        augmented: whether images are shifted and mirrored at random.
        dropout: share of the units of every layer that are switched off.
        smoothing: share of a label that is spread over all classes.
        flood: training loss below which the gradient is turned round.
        adversarial: largest change of an input, in standardised pixels, of one signed gradient step.
        sam_radius: rho of SAM.
        gmp_sigma, gmp_rho: of GMP, the noise of every weight and the weight of the penalty.
        trace_rtol, most_probes: relative standard error of the trace, and the most samples spent on it.
        lanczos_steps: Hessian products spent on the largest eigenvalue.
    """

    memory = ("width", "lanczos_steps", "batch_size", "n", "n_test")

    dataset: str
    model: str
    width: int
    n: int
    n_test: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    augmented: bool
    sam_radius: float
    gmp_sigma: float
    adversarial: float
    momentum: float = 0.9
    weight_decay: float = 1e-4
    dropout: float = 0.1
    smoothing: float = 0.2
    flood: float = 0.02
    gmp_rho: float = 0.5
    trace_rtol: float = 0.05
    most_probes: int = 40
    lanczos_steps: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS:
            raise ConfigError(f"model must be one of {', '.join(MODELS)}, got {self.model!r:.80}")
        if unknown := sorted(set(self.methods) - set(METHODS)):
            raise ConfigError(f"there is no method {unknown[0]!r:.80}; choose from {'; '.join(METHODS)}")
        if self.batch_size > self.n:
            raise ConfigError(f"batch_size must be at most n = {self.n}, got {self.batch_size}")
        if self.dropout >= 1 or self.smoothing >= 1:
            raise ConfigError("dropout and smoothing are shares below 1")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        return self.lr * 0.1 ** ((2 * epoch >= self.epochs) + (4 * epoch >= 3 * self.epochs))


PROFILES = {
    "smoke": FlatTraining(
        dataset="digits", model="cnn", width=2, n=100, n_test=200, methods=METHODS, seeds=(0,), epochs=2, batch_size=20,
        lr=0.02, augmented=False, sam_radius=0.05, gmp_sigma=0.01, adversarial=0.016, most_probes=4,
        lanczos_steps=4,
    ),
    "laptop": FlatTraining(
        dataset="cifar10-jpeg", model="cnn", width=8, n=2000, n_test=5000, methods=METHODS, seeds=(0, 1, 2, 3),
        epochs=40, batch_size=50, lr=0.02, augmented=False, sam_radius=0.02, gmp_sigma=0.02, adversarial=0.016,
        most_probes=8, lanczos_steps=10,
    ),
    "paper": FlatTraining(
        dataset="cifar10", model="preact-resnet18", width=64, n=50_000, n_test=10_000, methods=METHODS,
        seeds=tuple(range(10)), epochs=200, batch_size=50, lr=0.1, augmented=True, sam_radius=0.5, gmp_sigma=0.03,
        adversarial=0.016,
    ),
}  # fmt: skip


def points(config: FlatTraining) -> list[Json]:
    """Every method, for each seed."""
    return [{"method": method, "seed": seed} for seed in config.seeds for method in config.methods]


def row(config: FlatTraining, point: Json) -> Json:
    """Train one network by one method, and measure accuracy, flatness and cost; one that diverges says so.

    ``trace`` and ``largest_eigenvalue`` are of the Hessian of plain cross-entropy on the training sample, whatever was
    minimised. ``passes`` is the mean number of forward passes a step; every one has its backward pass. ``seconds``
    is the time of training alone: of the processor, or by the clock on a GPU.
    """
    method, seed = point["method"], point["seed"]
    (train,) = data.partition(images(config.dataset, True), [config.n], seed=seed)
    (test,) = data.partition(images(config.dataset, False), [config.n_test], seed=seed)
    train, test = train.to(device=default_device()), test.to(device=default_device())
    with seeded(seed):
        model = network(config.model, config.width, train).to(train.inputs.device)
        if method == "dropout":
            add_dropout(model, config.dropout)
        try:
            cost = fit(config, method, model, train, seed)
        except ValueError as error:  # the wrappers refuse norms that are not finite
            return {"status": f"diverged: {error}"}
    model.eval()
    seen, unseen = logits(model, train), logits(model, test)
    if not torch.isfinite(seen).all():
        return {"status": "diverged: an output is not finite; lower the learning rate"}
    labels, other = train.targets.cpu(), test.targets.cpu()
    return {
        "status": "ok",
        **cost,
        "train_loss": cross_entropy(seen, labels),
        "test_loss": cross_entropy(unseen, other),
        "gap": cross_entropy(unseen, other) - cross_entropy(seen, labels),
        "train_accuracy": accuracy(seen, labels),
        "test_accuracy": accuracy(unseen, other),
        **flatness(config, model, train, seed),
    }


def fit(config: FlatTraining, method: str, model: nn.Module, train: Split, seed: int) -> Json:
    """Train the model in place; steps, forward passes a step, seconds."""
    optimizer = optimizer_of(config, method, model, seed)
    order, device = torch.Generator().manual_seed(seed), train.inputs.device
    shifts = torch.Generator(device).manual_seed(seed)
    # On a CPU other work would count in the time by the clock; on a GPU the processor only waits.
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started, passes, steps = clock(), 0, 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    handle = model.register_forward_pre_hook(count)
    for epoch in range(config.epochs):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.rate(epoch)
        for batch in minibatches(train, config.batch_size, order):
            if config.augmented:
                batch = Split(crop_and_flip(batch.inputs, shifts), batch.targets, batch.classes, batch.edition)
            closure = closure_of(partial(batch_loss, config, method, model, batch), optimizer)
            optimizer.step(closure)  # type: ignore[arg-type]  # torch says float, and takes a tensor
            steps += 1
    handle.remove()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {"steps": steps, "passes": passes / steps, "seconds": clock() - started}


def closure_of(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], Tensor]:
    """What ``step`` calls: the loss, with its gradients."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def optimizer_of(config: FlatTraining, method: str, model: nn.Module, seed: int) -> torch.optim.Optimizer:
    """SGD, alone or inside the wrapper of a method."""
    base = torch.optim.SGD(trainable(model), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    if method == "SAM":
        return SAM(base, config.sam_radius)
    if "GMP" in method:
        draws = 10 if "10" in method else 3
        kind = AbsoluteGMP if method.startswith("absolute") else GMP
        return kind(base, config.gmp_sigma, config.gmp_rho, draws, seed=seed)
    return base


def batch_loss(config: FlatTraining, method: str, model: nn.Module, batch: Split) -> Tensor:
    """The training loss of a batch."""
    if method == "adversarial":
        return F.cross_entropy(model(worst_inputs(model, batch, config.adversarial)), batch.targets)
    if method == "mixup":
        targets = F.one_hot(batch.targets, batch.classes).to(batch.inputs.dtype)
        share, partners = torch.rand(()).item(), torch.randperm(len(batch)).to(targets.device)  # Beta(1, 1): uniform
        inputs, targets = mixup(batch.inputs, targets, share=share, partners=partners)
        return F.cross_entropy(model(inputs), targets)
    smoothing = config.smoothing if method == "label smoothing" else 0.0
    loss = F.cross_entropy(model(batch.inputs), batch.targets, label_smoothing=smoothing)
    return flooding(loss, config.flood) if method == "flooding" else loss


def worst_inputs(model: nn.Module, batch: Split, size: float) -> Tensor:
    """Inputs after one signed gradient step that raises the loss: Goodfellow et al. (2015)."""
    inputs = batch.inputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(inputs), batch.targets), inputs)
    moved: Tensor = batch.inputs + size * slope.sign()
    return moved


def add_dropout(model: nn.Module, share: float) -> None:
    """Put dropout behind every ReLU module, in place."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU):
            setattr(model, name, nn.Sequential(child, nn.Dropout(share)))
        else:
            add_dropout(child, share)


def flatness(config: FlatTraining, model: nn.Module, train: Split, seed: int) -> Json:
    """Trace and largest eigenvalue of the Hessian of cross-entropy on the training sample, with their errors."""
    loss = ClippedCrossEntropy.per_class(train.classes)
    estimate = trace(model, loss, train, rtol=config.trace_rtol, most_probes=config.most_probes, seed=seed)
    edge = extreme_eigenvalues(model, loss, train, rtol=0.05, max_iterations=config.lanczos_steps, seed=seed)
    return {
        "trace": estimate.value,
        "trace_standard_error": estimate.standard_error,
        "trace_method": estimate.method,
        "largest_eigenvalue": edge.largest.item(),
        "largest_eigenvalue_error": edge.largest_error.item(),
    }


EXPERIMENT = Experiment(
    name="flat-training",
    summary="accuracy, flatness and cost of SAM, GMP and seven other ways to train",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
