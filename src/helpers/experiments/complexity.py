"""Measures of complexity against the gap, one setting at a time: after Jiang et al. (2020), over a smaller family.

The networks are those of ``gap_predictors``, trained again: softmax networks with one hidden layer on digits that
differ in width, label noise, weight decay and length of training. A row holds what the note on history says that the
paper endorses (variance of gradients, squared ratio of weights to perturbation, path norm, and the number of weights,
said to go the other way) and some of their rivals.

All measures are such that a *larger* one is said to mean a larger gap, the number of weights included.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import exp, log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from helpers import flatness
from helpers.data import Split
from helpers.experiments import gap_predictors
from helpers.experiments.gap_predictors import Family
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.machinery.worker import DegenerateRow
from helpers.experiments.predictions import UNCLIPPED, example_gradients
from helpers.experiments.samples import edition
from helpers.models import split_like, trainable, weights
from helpers.training import Diverged, Run

RANGE = 2.0**-14, 2.0**6  # within which the size of a perturbation is looked for
HALVINGS = 14  # of that range on a logarithmic scale: to less than a part in a thousand


@dataclass(frozen=True)
class Complexity(Family):
    """Settings of the experiment: the family, and

    Attributes:
        allowed: rise of the training error that a perturbation may cause.
        draws: of Gaussian noise over which the error is averaged.
        ascents: steps of the search for the worst perturbation.
        floor: least scale of a weight, where a perturbation is measured by the weights' own size.
        epsilon: of Keskar's box.
    """

    allowed: float = 0.1
    draws: int = 20
    ascents: int = 10
    floor: float = 1e-3
    epsilon: float = 1e-3


def _profile(name: str) -> Complexity:
    """The family of the soft-rank experiment."""
    family: Any = gap_predictors.PROFILES[name]
    return Complexity(**{field.name: getattr(family, field.name) for field in fields(Family)})


PROFILES = {
    "smoke": replace(_profile("smoke"), allowed=0.02),  # its worst networks err so often that noise hardly adds to it
    "laptop": _profile("laptop"),
    "paper": _profile("paper"),
}


def row(config: Complexity, point: Json) -> Json:
    """Train one network and measure it, from its training sample; one that diverges is a row that says so.

    ``gap`` (cross-entropy) and ``gap01`` (errors) are test less training, with the standard errors of
    ``gap_predictors.gaps``.
    """
    train, test = gap_predictors.noisy_samples(config, point["noise"], point["seed"])
    early: list[float] = []

    def observe(epoch: int, models: list[nn.Module]) -> None:
        if epoch == 1:
            early.append(gradient_variance(models[0], train))

    try:
        run = gap_predictors.fitted(config, point, train, observe)
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    return {
        "status": "ok",
        **gap_predictors.gaps(run.models[0], train, test),
        "early_gradient_variance": early[0],
        **complexities(config, run, train, point["seed"]),
    }


def complexities(config: Complexity, run: Run, split: Split, seed: int) -> Json:
    """Every measure of the trained network, from the training sample.

    ``size``: the number of weights, d. ``squared_norm``: ||w||^2. ``distance``: ||w - w_0||^2. ``spectral``: product
    over layers of the squared spectral norms of their matrices. ``path_norm``: see the function. ``gradient_variance``:
    see the function. ``worst_ratio``: 1 / a^2, a the largest number such that no perturbation |u_i| <= a (|w_i| +
    floor) that a sign ascent finds raises the training error by more than ``allowed``. ``mean_ratio``: 1 / s^2 for
    Gaussian u_i of deviation s (|w_i| + floor), and ``mean_flatness``: 1 / s^2 for u_i of deviation s; in both the mean
    error over draws rises by ``allowed``. ``keskar``: zeta.

    Raises:
        DegenerateRow: if no perturbation within the range looked at raises the error so far.
    """
    model = run.models[0]
    w = weights(model)
    size = w.abs() + config.floor
    normal = torch.randn(config.draws, len(w), dtype=w.dtype, generator=torch.Generator().manual_seed(seed)).to(w)
    before = errors(model, w[None], split).item()

    def ratio(rise: Callable[[float], float]) -> float:
        return size_at(rise, config.allowed) ** -2

    return {
        "size": len(w),
        "squared_norm": w.square().sum().item(),
        "distance": (w - run.initial.to(w)).square().sum().item(),
        "spectral": spectral_product(model),
        "path_norm": network_path_norm(model, split),
        "gradient_variance": gradient_variance(model, split),
        "worst_ratio": ratio(lambda a: worst_error(model, a * size, split, config.ascents) - before),
        "mean_ratio": ratio(lambda s: errors(model, w + s * size * normal, split).mean().item() - before),
        "mean_flatness": ratio(lambda s: errors(model, w + s * normal, split).mean().item() - before),
        "keskar": flatness.keskar(model, UNCLIPPED, split, epsilon=config.epsilon, seed=seed).value,
    }


def size_at(rise: Callable[[float], float], allowed: float) -> float:
    """The size at which a rise passes what is allowed, by halving a range of its logarithm.

    Raises:
        DegenerateRow: if that does not happen within the range.
    """
    low, high = RANGE
    if rise(low) > allowed or rise(high) <= allowed:
        raise DegenerateRow(f"the training error does not rise by {allowed} between the sizes {low:.1g} and {high:g}")
    for _ in range(HALVINGS):
        middle = exp((log(low) + log(high)) / 2)
        low, high = (low, middle) if rise(middle) > allowed else (middle, high)
    return exp((log(low) + log(high)) / 2)


def gradient_variance(model: nn.Module, split: Split) -> float:
    """(1/n) sum_i ||g_i - mean g||^2 over the examples' gradients of cross-entropy."""
    gradients = example_gradients(model, split)
    return float((gradients - gradients.mean(0)).square().sum(1).mean())


@torch.no_grad()
def network_path_norm(model: nn.Module, split: Split) -> float:
    """Root of the sum over all paths of their weights' product squared; a path may begin at an input or at a bias.

    For ReLU networks that is the network with squared weights, at an input of ones, summed over its outputs.
    """
    squared = {name: p.square() for name, p in model.named_parameters()}
    ones = torch.ones_like(split.inputs[:1]).to(next(model.parameters()))
    return float(functional_call(model, squared, (ones,)).sum().sqrt())


def spectral_product(model: nn.Module) -> float:
    """Product over layers of ||W||_2^2, the matrices W as the network applies them."""
    norms = [torch.linalg.matrix_norm(p.detach(), 2) for p in trainable(model) if p.ndim == 2]
    return torch.stack(norms).prod().square().item()


@torch.no_grad()
def errors(model: nn.Module, vectors: Tensor, split: Split) -> Tensor:
    """Share of wrong answers at each of many weight vectors, shape (m, d) to (m,), float64."""
    names = [name for name, _ in model.named_parameters()]
    columns = zip(*(split_like(model, vector) for vector in vectors), strict=True)
    stacked = {name: torch.stack(pieces) for name, pieces in zip(names, columns, strict=True)}
    inputs, targets = split.inputs.to(vectors), split.targets.to(vectors.device)
    logits = vmap(lambda pieces: functional_call(model, pieces, (inputs,)))(stacked)
    shares: Tensor = (logits.argmax(2) != targets).double().mean(1)
    return shares


def worst_error(model: nn.Module, box: Tensor, split: Split, ascents: int) -> float:
    """Largest training error met by a sign ascent of cross-entropy in the box |u_i| <= box_i around the weights.

    Its steps are 2.5 / ascents of the box, so that it can reach any corner.

    Args:
        box: shape (d,).
    """
    w, names = weights(model), [name for name, _ in model.named_parameters()]
    inputs, targets = split.inputs.to(w), split.targets.to(w.device)
    u, met = torch.zeros_like(w), []
    for _ in range(ascents):
        at = (w + u).requires_grad_()
        logits = functional_call(model, dict(zip(names, split_like(model, at), strict=True)), (inputs,))
        met.append((logits.argmax(1) != targets).double().mean().item())
        (slope,) = torch.autograd.grad(F.cross_entropy(logits, targets), at)
        u = (u + 2.5 / ascents * box * slope.sign()).clamp(-box, box)
    return float(max(*met, errors(model, (w + u)[None], split).item()))


EXPERIMENT = Experiment(
    name="complexity",
    summary="gradient variance, magnitude ratio, path norm, size and their rivals against the gap",
    profiles=PROFILES,
    points=gap_predictors.points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
