"""Is there an informative middle? The exchange of information for held-out data, measured without a Taylor step.

One ensemble a point of the grid's axes. For perturbations Delta (none, and the omniscient one at some lambda), two
shapes of noise and many noise levels: the information term, and the gap that the noisy network still has, for four
losses (``helpers.exchange``).
"""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from helpers import exchange, omniscient
from helpers.curvature import gradient
from helpers.experiments import resumable
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.resnet18 import LAPTOP, PAPER, SMOKE, BasePoint
from helpers.experiments.samples import Roles, edition
from helpers.losses import ClippedCrossEntropy, Loss, ZeroOneError
from helpers.models import weights
from helpers.omniscient.surrogate import Solver, solve_path
from helpers.training import Diverged, Run

SMALL_CLIP = 4.0  # nats: the smallest that Peng et al. name
SHAPES = ("isotropic", "spread of the other runs")


@dataclass(frozen=True, kw_only=True)
class Middle(BasePoint):
    """Settings of the experiment, besides those of ``BasePoint``.

    Attributes:
        batch_sizes, lrs: the two axes; each runs through the base point.
        noise_levels: noise of a weight over the root mean square of W + Delta - c, in its group.
        draws: of the noise, for each run.
        noisy_examples: examples of each training sample and of val2 on which networks are compared with and without
            noise; all where None. The gap of W itself is of the whole samples.
    """

    batch_sizes: tuple[int, ...]
    lrs: tuple[float, ...]
    noise_levels: tuple[float, ...]
    draws: int
    noisy_examples: int | None = None

    def compared(self, roles: Roles) -> Roles:
        """The roles with samples as short as networks with noise are measured on."""
        few = slice(self.noisy_examples)
        return replace(roles, train=[sample.take(few) for sample in roles.train], val2=roles.val2.take(few))


LEVELS = (*(round(0.1 * 1.6**i, 2) for i in range(11)), 30.0, 100.0, 300.0)
PROFILES = {
    "smoke": Middle(
        **SMOKE | {"k": 3}, batch_sizes=(16,), lrs=(0.01, 0.02), noise_levels=(1.0, 10.0), draws=2
    ),
    "laptop": Middle(
        **LAPTOP | {"lambdas": (10.0, 1e3)}, batch_sizes=(60,), lrs=(0.005, 0.01, 0.02), noise_levels=LEVELS,
        draws=4, noisy_examples=1000,
    ),
    "paper": Middle(
        **PAPER, batch_sizes=(30, 60, 120, 240, 480), lrs=(5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2), noise_levels=LEVELS,
        draws=4,
    ),
}  # fmt: skip


def points(config: Middle) -> list[Json]:
    """Both axes through the base point, for every seed."""
    axes = [(b, config.lr) for b in config.batch_sizes] + [(config.batch_size, lr) for lr in config.lrs]
    return [
        {"batch_size": batch_size, "lr": lr, "seed": seed}
        for seed in config.seeds
        for batch_size, lr in dict.fromkeys(axes)
    ]


def row(config: Middle, point: Json) -> Json:
    """Train at one point, and measure every perturbation, shape, noise level and loss.

    ``losses`` lists for each loss its R, the held-out gap of W with its spread over runs, and ``exchanges``: one entry
    for each perturbation, shape and level, with information (nats), the information term of the bound, the gap of the
    noisy network and its standard error over runs and draws, and the value of the bound.
    """
    roles = config.roles(point["seed"])
    training = config.training(roles) | {"batch_size": point["batch_size"], "lr": point["lr"]}
    try:
        run = resumable.train_resumably(**training, splits=roles.train, seed=point["seed"])
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    losses: dict[str, Loss] = {
        "cross-entropy": config.loss(roles.test.classes),
        f"cross-entropy, clip {SMALL_CLIP:g}": ClippedCrossEntropy(SMALL_CLIP),
        "Brier score": exchange.BrierScore(),
        "0-1 error": ZeroOneError(),
    }
    W = torch.stack([weights(model) for model in run.models])
    still, few = torch.zeros_like(W), config.compared(roles)
    whole, clean = (_gaps(run, W, still, part, losses, draws=1, seed=0) for part in (roles, few))
    entries: dict[str, list[Json]] = {name: [] for name in losses}
    for perturbation, offsets in _offsets(config, run, roles, W, point["seed"]).items():
        for entry, gaps in _levels(config, run, few, W, offsets, losses, point["seed"]):
            for (name, loss), before, noisy in zip(losses.items(), clean, gaps, strict=True):
                entries[name].append({"perturbation": perturbation} | _exchange(loss, config.n, before, noisy, entry))
    return {
        "status": "ok",
        "d": W.shape[1],
        "n": config.n,
        "final_epoch_loss": run.losses[-1].mean().item(),
        "losses": [
            {"loss": name, "R": loss.R, "gap": gaps.mean().item(), "gap_standard_error": _error(gaps)}
            | {"exchanges": entries[name]}
            for (name, loss), gaps in zip(losses.items(), whole, strict=True)
        ],
    }


def _offsets(config: Middle, run: Run, roles: Roles, W: Tensor, seed: int) -> dict[str, Tensor]:
    """W + Delta - c, (k, d), without a perturbation and for every lambda."""
    centres = omniscient.leave_one_out(W)
    loss = config.loss(roles.test.classes)
    runs = omniscient.Runs(run.models, roles.train, loss)
    solver = Solver(
        rtol=config.solve_rtol, max_iterations=config.iterations, value_rtol=config.trace_rtol / 3, seed=seed,
        most_probes=config.most_probes,
    ).settled(runs)  # fmt: skip
    paths = [
        solve_path(
            model,
            sample,
            c,
            gradient(model, loss, roles.val),
            loss=loss,
            lambdas=config.lambdas,
            solver=solver.of_run(i),
        )
        for i, ((model, sample), c) in enumerate(zip(runs, centres, strict=True))
    ]
    perturbed = {
        f"lambda {lam:g}": torch.stack([path[i].offset for path in paths]) for i, lam in enumerate(config.lambdas)
    }
    return {"none": W - centres} | perturbed


def _levels(
    config: Middle, run: Run, roles: Roles, W: Tensor, offsets: Tensor, losses: dict[str, Loss], seed: int
) -> list[tuple[Json, Tensor]]:
    """For every shape and noise level: its entry so far, and the gaps of the noisy networks, (losses, runs x draws)."""
    sizes = exchange.group_sizes(run.models[0])
    V = omniscient.leave_one_out(W) + offsets
    root_mean_square = offsets.double().square().mean().sqrt().item()
    entries = []
    for shape in SHAPES:
        if shape == SHAPES[0]:
            moments, groups = [offsets.double().square().sum(1).mean().item()], [W.shape[1]]
            scales = [[1.0]] * len(W)
        else:
            moments, groups = exchange.group_moments(offsets, sizes), sizes
            scales = [_normalised(exchange.spread_of_others(W, i, sizes), sizes) for i in range(len(W))]
        for level in config.noise_levels:
            sigmas = [[level * root_mean_square * s for s in scale] for scale in scales]
            nats = [exchange.groupwise_information(moments, groups, sigma) for sigma in sigmas]
            deviations = torch.stack(
                [torch.repeat_interleave(torch.tensor(sigma), torch.tensor(groups)) for sigma in sigmas]
            ).to(V)
            gaps = _gaps(run, V, deviations, roles, losses, draws=config.draws, seed=seed)
            entries.append(({"shape": shape, "noise_level": level, "nats": sum(nats) / len(nats)}, gaps))
    return entries


def _normalised(scales: list[float], sizes: list[int]) -> list[float]:
    """The scales divided by their root mean square over weights, so that a noise level means the same in any shape."""
    total = sqrt(sum(d * s**2 for d, s in zip(sizes, scales, strict=True)) / sum(sizes))
    return [s / total for s in scales]


def _gaps(
    run: Run, V: Tensor, deviations: Tensor, roles: Roles, losses: dict[str, Loss], *, draws: int, seed: int
) -> Tensor:
    """Held-out minus training loss of the noisy networks, (losses, runs x draws)."""
    by_run: list[Tensor] = []
    for i, (model, sample) in enumerate(zip(run.models, roles.train, strict=True)):
        measured = exchange.noisy_losses(
            model, V[i], deviations[i], [sample, roles.val2], list(losses.values()), draws=draws, seed=1000 * seed + i
        )
        by_run.append(measured[:, 1] - measured[:, 0])
    return torch.cat(by_run).T


def _exchange(loss: Loss, n: int, clean: Tensor, noisy: Tensor, entry: Json) -> Json:
    """One entry: what the information says, what is left of the gap, and the bound they add up to."""
    term = loss.R * sqrt(2 * entry["nats"] / n)
    residual = abs(clean.mean().item() - noisy.mean().item())
    return {
        **entry,
        "information": term,
        "noisy_gap": noisy.mean().item(),
        "noisy_gap_standard_error": _error(noisy),
        "residual": residual,
        "value": term + residual,
    }


def _error(samples: Tensor) -> float:
    return samples.std().item() / sqrt(len(samples))


EXPERIMENT = Experiment(
    name="resnet18-middle",
    summary="information against the gap that a noisy network keeps, for four losses (ResNet-18)",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
