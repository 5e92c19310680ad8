"""Soft rank, TIC and their rivals against the gap, over many small classifiers: Shoham et al., figures 1 to 5.

Softmax networks with one hidden layer on digits, well and badly trained, with and without label noise and weight
decay: small enough that Fisher matrix F (Gauss-Newton) and gradient second moment C are dense. A row holds, from the
training sample and again from the test sample, what the source predicts the gap from. Everything is *not* divided by
n; the gap is per example.

The labels of the test sample are as noisy as those of the training sample: the gap is that of the noisy problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from helpers import data
from helpers import soft_rank as rank
from helpers.curvature import values
from helpers.data import Split
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.predictions import UNCLIPPED, example_gradients
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ZeroOneError
from helpers.models import mlp
from helpers.training import Diverged, Run, train_ensemble

Observer = Callable[[int, list[nn.Module]], None]
BINS = 15  # of the calibration error
TOO_LARGE = 1e3  # a training loss above this counts as diverged


@dataclass(frozen=True)
class Family(Config):
    """A family of networks, one for each choice of four settings and a seed.

    Attributes:
        dataset: name for ``data.load``.
        n, n_test: training and test examples.
        widths: hidden units.
        noise_levels: shares of labels replaced by random ones, in training and test sample alike.
        weight_decays: of the penalty (decay / 2) |w|^2.
        epochs: passes over the data: few leave a model under-trained, many make it over-confident.
        batch_size, lr: of SGD.
        seeds: each draws samples, initial weights and batches.
    """

    memory = ("widths", "n", "n_test")

    dataset: str
    n: int
    n_test: int
    widths: tuple[int, ...]
    noise_levels: tuple[float, ...]
    weight_decays: tuple[float, ...]
    epochs: tuple[int, ...]
    batch_size: int
    lr: float
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.noise_levels) > 1:
            raise ConfigError(f"noise_levels are shares from 0 to 1, got {max(self.noise_levels)}")
        if self.batch_size > self.n:
            raise ConfigError(f"batch_size cannot exceed n = {self.n}, got {self.batch_size}")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"noise_levels", "weight_decays"}


@dataclass(frozen=True)
class SoftRank(Family):
    """Settings of the experiment: the family, and

    Attributes:
        lambdas: of soft rank and TIC.
    """

    lambdas: tuple[float, ...]


LAMBDAS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0)
PROFILES = {
    "smoke": SoftRank(
        dataset="digits", n=100, n_test=200, widths=(3, 6), noise_levels=(0.0, 0.4), weight_decays=(1e-3,),
        epochs=(5, 40), batch_size=20, lr=0.1, seeds=(0,), lambdas=LAMBDAS,
    ),
    "laptop": SoftRank(
        dataset="digits", n=300, n_test=500, widths=(4, 8, 12), noise_levels=(0.0, 0.2, 0.4),
        weight_decays=(0.0, 1e-3, 1e-2), epochs=(20, 300), batch_size=20, lr=0.1, seeds=(0, 1), lambdas=LAMBDAS,
    ),
    "paper": SoftRank(
        dataset="mnist", n=5000, n_test=10_000, widths=(2, 4, 6), noise_levels=(0.0, 0.2, 0.4),
        weight_decays=(0.0, 1e-4, 1e-3, 1e-2), epochs=(5, 20, 100), batch_size=64, lr=0.1, seeds=(0, 1, 2),
        lambdas=LAMBDAS,
    ),
}  # fmt: skip


def points(config: Family) -> list[Json]:
    """Every width, noise level, weight decay and number of epochs with every seed."""
    return [
        {"width": width, "noise": noise, "weight_decay": decay, "epochs": epochs, "seed": seed}
        for seed in config.seeds
        for width in config.widths
        for noise in config.noise_levels
        for decay in config.weight_decays
        for epochs in config.epochs
    ]


def row(config: SoftRank, point: Json) -> Json:
    """Train one network and measure it; one that diverges is a row that says so.

    ``from_train`` and ``from_test`` hold the measures of ``measures``.
    """
    train, test = noisy_samples(config, point["noise"], point["seed"])
    try:
        run = fitted(config, point, train)
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    model = run.models[0]
    return {
        "status": "ok",
        "d": len(run.initial),
        "n": config.n,
        **gaps(model, train, test),
        "calibration_error": calibration_error(whole_logits(model, test), test.targets),
        "train_calibration_error": calibration_error(whole_logits(model, train), train.targets),
        "confidence": whole_logits(model, test).softmax(1).max(1).values.mean().item(),
        "from_train": measures(model, train, config.lambdas),
        "from_test": measures(model, test, config.lambdas),
    }


def fitted(config: Family, point: Json, train: Split, observe: Observer | None = None) -> Run:
    """One network of the family, in evaluation mode; ``observe`` is that of ``train_ensemble``.

    Raises:
        Diverged: if training diverges, or ends at a loss above 1,000, where all answers are certain and wrong.
    """
    run = train_ensemble(
        partial(small_classifier, train, point["width"]), [train], epochs=point["epochs"], batch_size=config.batch_size,
        lr=config.lr, weight_decay=point["weight_decay"], seed=point["seed"], device=default_device(), observe=observe,
    )  # fmt: skip
    reached = values(run.models[0].eval(), UNCLIPPED, train).mean().item()
    if reached > TOO_LARGE:
        raise Diverged(f"the training loss is {reached:.3g}")
    return run


def noisy_samples(config: Family, noise: float, seed: int) -> tuple[Split, Split]:
    """A training and a test sample; the same examples whatever the noise."""
    parts = [data.with_label_noise(images(config.dataset, part), noise, seed=2 * seed + part) for part in (True, False)]
    sizes = config.n, config.n_test
    train, test = (data.disjoint(split, 1, n, seed=seed)[0] for split, n in zip(parts, sizes, strict=True))
    return train.to(dtype=torch.float64), test.to(dtype=torch.float64)


def small_classifier(like: Split, width: int) -> nn.Module:
    return mlp(like.inputs[0].numel(), width, like.classes).double()


@torch.no_grad()
def whole_logits(model: nn.Module, split: Split) -> Tensor:
    """Logits, shape (n, classes), on the CPU, from one pass over the sample."""
    logits: Tensor = model(split.inputs.to(next(model.parameters()).device))
    return logits.cpu()


# --- gap and calibration ------------------------------------------------------------------------------------


def gaps(model: nn.Module, train: Split, test: Split) -> Json:
    """Test minus training loss, in cross-entropy and in 0–1 loss; standard errors are over examples."""
    entry: Json = {}
    for name, loss in (("gap", UNCLIPPED), ("gap01", ZeroOneError())):
        seen, unseen = values(model, loss, train), values(model, loss, test)
        entry[name] = (unseen.mean() - seen.mean()).item()
        entry[f"{name}_standard_error"] = (seen.var() / len(seen) + unseen.var() / len(unseen)).sqrt().item()
        entry["train_loss" if name == "gap" else "train_error"] = seen.mean().item()
    return entry


def calibration_error(logits: Tensor, targets: Tensor, bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of (share of examples) |accuracy - mean confidence|.

    Confidence is the largest probability; the bins have equal width, ((b - 1) / bins, b / bins]. A bin's accuracy is
    the share of its examples whose most probable class is the target.

    Args:
        logits: shape (n, classes).
        targets: shape (n,).
    """
    confidence, guess = logits.softmax(1).max(1)
    slot = (confidence * bins).ceil().long().clamp(min=1, max=bins) - 1
    excess = (guess == targets).to(confidence) - confidence
    return torch.zeros(bins, dtype=excess.dtype).index_add_(0, slot, excess).abs().sum().item() / len(targets)


# --- the measures -------------------------------------------------------------------------------------------


def measures(model: nn.Module, split: Split, lambdas: tuple[float, ...]) -> Json:
    """What predicts the gap, from one sample, none of it divided by n. Lists are over ``lambdas``.

    ``soft_rank`` with its ``diagonal``, ``block`` (a layer each) and ``kfac`` estimates, ``tic``, ``trace_ratio``;
    the rivals ``trace``, ``largest_eigenvalue`` and ``frobenius`` of F; the ``loss``.
    """
    root, gradients = fisher_root(model, split), example_gradients(model, split)
    n = len(split)
    fisher = root.T @ root / n
    eigenvalues, vectors = torch.linalg.eigh(fisher)
    eigenvalues = eigenvalues.clamp(min=0)  # F is a Gram matrix: what is below zero is rounding
    # v_j^T C v_j for every eigenvector: then TIC needs no solve
    along = (gradients @ vectors).square().mean(0)
    factors = [_spectra(pair) for pair in rank.kronecker_factors(model, UNCLIPPED, split)]
    blocks = torch.cat([torch.linalg.eigvalsh(block) for block in _blocks(fisher, rank.layer_sizes(model))])
    return {
        "loss": values(model, UNCLIPPED, split).mean().item(),
        "soft_rank": [rank.soft_rank(eigenvalues, lam) for lam in lambdas],
        "tic": [(along / (eigenvalues + lam)).sum().item() for lam in lambdas],
        "diagonal": [rank.diagonal_soft_rank(fisher, lam) for lam in lambdas],
        "block": [rank.soft_rank(blocks.clamp(min=0), lam) for lam in lambdas],
        "kfac": [rank.soft_rank(torch.cat(factors), lam) for lam in lambdas],
        "trace_ratio": gradients.square().sum().item() / root.square().sum().item(),
        "trace": eigenvalues.sum().item(),
        "largest_eigenvalue": eigenvalues[-1].item(),
        "frobenius": eigenvalues.norm().item(),
    }


def _blocks(matrix: Tensor, sizes: list[int]) -> list[Tensor]:
    """The diagonal blocks of these sizes."""
    pieces = zip(matrix.split(sizes), range(len(sizes)), strict=True)
    return [rows.split(sizes, dim=1)[i] for rows, i in pieces]


def _spectra(factors: tuple[Tensor, Tensor]) -> Tensor:
    """Eigenvalues of a Kronecker product: those of its factors, multiplied."""
    first, second = (torch.linalg.eigvalsh(factor).clamp(min=0) for factor in factors)
    return torch.outer(first, second).flatten()


def fisher_root(model: nn.Module, split: Split) -> Tensor:
    """A with A^T A / n = F, shape (n classes, d): F of a small network without a loop over examples.

    The Hessian of cross-entropy in the logits is diag(p) - p p^T = S S^T with S = diag(sqrt p) - p sqrt(p)^T, so the
    rows of an example are S^T J.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def logits(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, weights, (image[None],))
        return outputs[0]

    inputs = split.inputs.to(next(model.parameters()).device)
    slopes = vmap(jacrev(logits), in_dims=(None, 0))(parameters, inputs)
    J = torch.cat([slopes[name].flatten(2) for name in parameters], dim=2)
    p = F.softmax(model(inputs).detach(), dim=1)
    S = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    root: Tensor = (S.mT @ J).flatten(0, 1)
    return root


EXPERIMENT = Experiment(
    name="soft-rank",
    summary="soft rank, TIC, calibration and their rivals against the gap of many small classifiers",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
