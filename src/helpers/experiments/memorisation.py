"""Supersamples measured: the family of bounds on m retrainings, what counting says, and which examples were memorised.

A row is one supersample of n pairs on which a network is trained m times, from one initialisation, on the examples that
m rows of coins choose. Digits over n, digits over the share of random labels, and a narrow convolutional network.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from helpers import data, supersample
from helpers.curvature import values
from helpers.data import Split
from helpers.experiments.loop import network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.samples import default_device, edition, images
from helpers.losses import ZeroOneError
from helpers.models import outputs
from helpers.supersample import Supersample
from helpers.training import Diverged, Run, train_ensemble

OVER_N, OVER_NOISE, IMAGES = "over n", "over label noise", "images"


@dataclass(frozen=True)
class Memorisation(Config):
    """Settings of the experiment.

    Attributes:
        dataset, width, epochs, lr: the fully connected network, one hidden layer, by full-batch gradient descent.
        sizes: pairs n of its supersamples, without label noise.
        noise_levels: shares of random labels among the examples, with ``noise_size`` pairs.
        noise_size: n there.
        image_dataset, filters, image_size, image_epochs, image_batch_size, image_lr, image_momentum: the convolutional
            network ``models.cnn``, its n, and its SGD.
        memberships, image_memberships: m, rows of coins of a supersample.
        few: how many of them published experiments use, for the same numbers from so few.
        permutations: shuffles behind a baseline.
        n_test: test examples.
        seeds: one supersample each.
    """

    dataset: str
    width: int
    epochs: int
    lr: float
    sizes: tuple[int, ...]
    noise_levels: tuple[float, ...]
    noise_size: int
    image_dataset: str
    filters: int
    image_size: int
    image_epochs: int
    image_batch_size: int
    image_lr: float
    image_momentum: float
    memberships: int
    image_memberships: int
    few: int
    permutations: int
    n_test: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.noise_levels) > 1:
            raise ConfigError(f"noise_levels are shares from 0 to 1, got {max(self.noise_levels)}")
        if not 2 <= self.few <= min(self.memberships, self.image_memberships):
            raise ConfigError(f"few must lie between 2 and the number of memberships, got {self.few}")
        if self.image_batch_size > self.image_size:
            raise ConfigError(f"image_batch_size must be at most image_size = {self.image_size}")

    @property
    def may_be_zero(self) -> frozenset[str]:
        return super().may_be_zero | {"image_momentum"}

    @property
    def costs_memory(self) -> list[str]:
        return ["sizes", "noise_size", "image_size", "filters", "width", "memberships", "image_memberships"]


PROFILES = {
    "smoke": Memorisation(
        dataset="digits", width=8, epochs=30, lr=0.5, sizes=(20, 40), noise_levels=(0.3,), noise_size=20,
        image_dataset="digits", filters=2, image_size=20, image_epochs=3, image_batch_size=10, image_lr=0.05,
        image_momentum=0.9, memberships=8, image_memberships=4, few=3, permutations=5, n_test=100, seeds=(0,),
    ),
    "laptop": Memorisation(
        dataset="digits", width=16, epochs=300, lr=0.5, sizes=(50, 100, 150, 300, 450), noise_levels=(0.1, 0.2, 0.4),
        noise_size=150, image_dataset="cifar10-jpeg", filters=4, image_size=250, image_epochs=40, image_batch_size=25,
        image_lr=0.02, image_momentum=0.9, memberships=300, image_memberships=100, few=30, permutations=20, n_test=500,
        seeds=(0, 1, 2),
    ),
    "paper": Memorisation(
        dataset="mnist", width=128, epochs=300, lr=0.5, sizes=(75, 250, 1000, 4000), noise_levels=(0.1, 0.2, 0.4),
        noise_size=1000, image_dataset="cifar10", filters=32, image_size=10_000, image_epochs=60, image_batch_size=50,
        image_lr=0.01, image_momentum=0.9, memberships=200, image_memberships=200, few=30, permutations=20,
        n_test=10_000, seeds=(0, 1, 2, 3, 4),
    ),
}  # fmt: skip


def points(config: Memorisation) -> list[Json]:
    """Every n, every label noise, and the images, for each seed."""
    tasks = [(OVER_N, n, 0.0) for n in config.sizes]
    tasks += [(OVER_NOISE, config.noise_size, noise) for noise in config.noise_levels]
    tasks.append((IMAGES, config.image_size, 0.0))
    return [{"task": task, "n": n, "noise": noise, "seed": seed} for seed in config.seeds for task, n, noise in tasks]


def row(config: Memorisation, point: Json) -> Json:
    """Train m networks on one supersample and measure the family.

    ``members`` and ``members_few`` hold, for all memberships and for the first ``few``, each member's plug-in
    information (nats, mean over pairs), its permutation baseline, and the bounds that both give. ``counted`` is from
    training errors and errors on the test sample. ``examples`` has an entry for each of the 2n examples: its
    memorisation score, the information that its loss tells about having been trained on, its label, the label that it
    was given, and its place in the data set.
    """
    pairs, labels, test = drawn_pairs(config, point)
    few = config.few
    m = config.image_memberships if point["task"] == IMAGES else config.memberships
    coins = pairs.memberships(m, seed=1000 + point["seed"])
    try:
        run = _trained(config, point, [pairs.sample(tossed) for tossed in coins])
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    errors = torch.stack([values(model, ZeroOneError(), pairs.examples) for model in run.models]).double().cpu()
    answers = torch.stack([_answers(model, pairs.examples) for model in run.models]).cpu()
    test_errors = [values(model, ZeroOneError(), test).double().mean().item() for model in run.models]
    inside = pairs.trained_on(coins).double()
    train_errors = (errors * inside).sum(1) / len(pairs)
    ghost_errors = (errors * (1 - inside)).sum(1) / len(pairs)
    per_example = supersample.information(errors, pairs.trained_on(coins), permutations=1).per_example
    return {
        "status": "ok",
        "m": m,
        "few": few,
        "train_error": train_errors.mean().item(),
        "ghost_error": ghost_errors.mean().item(),
        "test_error": sum(test_errors) / m,
        "gap": (ghost_errors - train_errors).mean().item(),
        "gap_standard_error": ((ghost_errors - train_errors).std() / m**0.5).item(),
        "counted": _counted(train_errors, torch.tensor(test_errors)),
        "counted_once": _counted(train_errors[:1], torch.tensor(test_errors[:1])),
        "members": _members(config, pairs, errors, answers, coins),
        "members_few": _members(config, pairs, errors[:few], answers[:few], coins[:few]),
        "examples": {
            "memorisation": [_json(v) for v in supersample.memorisation(errors, pairs.trained_on(coins)).tolist()],
            "information": per_example.tolist(),
            "target": pairs.examples.targets.tolist(),
            "label": labels.tolist(),
            "index": None if pairs.examples.indices is None else pairs.examples.indices.tolist(),
        },
    }


def drawn_pairs(config: Memorisation, point: Json) -> tuple[Supersample, Tensor, Split]:
    """The supersample of a point, its labels before label noise, and the test sample with the same share of noise."""
    dataset = config.image_dataset if point["task"] == IMAGES else config.dataset
    seed, noise = point["seed"], point["noise"]
    pairs = Supersample.draw(images(dataset, True), point["n"], seed=seed)
    (test,) = data.partition(images(dataset, False), [config.n_test], seed=seed)
    noisy = data.with_label_noise(pairs.examples, noise, seed=2 * seed)
    return Supersample(noisy), pairs.examples.targets, data.with_label_noise(test, noise, seed=2 * seed + 1)


def _trained(config: Memorisation, point: Json, samples: list[Split]) -> Run:
    fit = partial(train_ensemble, splits=samples, seed=point["seed"], device=default_device())
    if point["task"] == IMAGES:
        return fit(
            partial(network, "cnn", config.filters, samples[0]), epochs=config.image_epochs,
            batch_size=config.image_batch_size, lr=config.image_lr, momentum=config.image_momentum,
        )  # fmt: skip
    make_model = partial(network, "mlp", config.width, samples[0])
    return fit(make_model, epochs=config.epochs, batch_size=point["n"], lr=config.lr)


@torch.no_grad()
def _answers(model: nn.Module, split: Split) -> Tensor:
    device = next(model.parameters()).device
    return outputs(model, split.inputs.to(device)).argmax(1)


def _counted(train: Tensor, test: Tensor) -> Json:
    certificate = supersample.counted(train, test)
    return {
        "value": certificate.value, "information": certificate.information, "gap": certificate.gap,
        "a": certificate.a, "b": certificate.b,
        "standard_error": _json(certificate.standard_error),
    }  # fmt: skip


def _members(config: Memorisation, pairs: Supersample, errors: Tensor, answers: Tensor, coins: Tensor) -> list[Json]:
    outcomes = {
        "predictions": supersample.codes(pairs.of_pairs(answers)),
        "losses": supersample.codes(pairs.of_pairs(errors)),
        "differences": pairs.differences(errors),
    }
    entries = []
    for name, table in outcomes.items():
        one = supersample.information(table, coins, permutations=config.permutations)
        entries.append({
            "member": name, "information": one.value, "standard_error": one.standard_error, "baseline": one.baseline,
            "miller_madow": one.miller_madow.mean().item(), "bound": one.bound, "baseline_bound": one.baseline_bound,
        })  # fmt: skip
    return entries


def _json(value: float) -> float | None:
    """NaN as null: a number that is not known."""
    return None if value != value else value


EXPERIMENT = Experiment(
    name="supersample",
    summary="the family of supersample bounds on retrained networks, counted, and what was memorised",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: f"{edition(config.dataset)}; {edition(config.image_dataset)}",
)
