"""Langevin measured: what noise in the algorithm certifies, over noise and time, and what it costs in training error.

A row is one walk on its own sample, of a fully connected or a convolutional network, in full batches or minibatches, at
one temperature. The full-batch rows of the fully connected network also follow the same descent without noise, with a
ghost beside it whose noise is the walk's: chapter 3's bound with nothing expanded. Those of the convolutional network
have the errors of the descent without noise. Paired rows walk on a supersample. The rows of Entropy-SGD are full-batch
walks of the fully connected network that its inner loop makes, with the noise of a step as in the other walks.
"""

from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from torch import Tensor, nn

from helpers import data, exchange, langevin
from helpers.curvature import values
from helpers.data import Split
from helpers.experiments.loop import network
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.samples import default_device, edition, images
from helpers.langevin.gradients import Gradients
from helpers.losses import ZeroOneError
from helpers.models import at, trainable, weights
from helpers.regularizers import EntropySGD, NotFinite
from helpers.supersample import Supersample
from helpers.training import Diverged, seeded, train_ensemble
from helpers.training.ensemble import CrossEntropy

FULL, MINI, PAIRED, ENTROPY = "full batch", "minibatch", "paired", "Entropy-SGD"
CONVOLUTIONAL, CONVOLUTIONAL_MINI = "convolutional", "convolutional, minibatch"
DRAWS = 5  # of the ghost's noise


@dataclass(frozen=True)
class NoisyDescent(Config):
    """Settings of the experiment.

    Attributes:
        dataset: all its examples are pooled; every seed draws its own sample, and the rest is held out.
        n: training examples of a walk; a paired walk has n / 2 pairs.
        width, lr, betas, steps: of the fully connected walks: hidden units, learning rate, inverse temperatures, and
            the steps after which a walk is looked at, the last one its length; sigma^2 = 2 lr / beta.
        filters, conv_lr, conv_betas, conv_steps: of the convolutional walks. A minibatch walk without noise can be
            looked at after whole passes only, so these steps are multiples of n // batch_size.
        few_betas, few_steps: of the paired walks, and of Entropy-SGD, whose steps are those of its inner walks.
        inner_steps, gamma: of Entropy-SGD: steps of an inner walk and strength of its tie; an outer step goes to the
            mean of an inner walk.
        alpha: share of the newest point in that mean, and in the running mean of the plain walk beside it.
        batch_size: of the minibatch walks.
        n_held_out: held-out examples whose gradient is a centre; all others test.
        seeds: of sample, initial weights and noise alike, each with a stream of its own.
    """

    dataset: str
    n: int
    width: int
    lr: float
    betas: tuple[float, ...]
    steps: tuple[int, ...]
    filters: int
    conv_lr: float
    conv_betas: tuple[float, ...]
    conv_steps: tuple[int, ...]
    few_betas: tuple[float, ...]
    few_steps: tuple[int, ...]
    inner_steps: int
    gamma: float
    alpha: float
    batch_size: int
    n_held_out: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.batch_size <= self.n:
            raise ConfigError(f"batch_size must lie between 2 and n = {self.n}, got {self.batch_size}")
        for name in ("steps", "conv_steps", "few_steps"):
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise ConfigError(f"{name} must increase, got {getattr(self, name)}")
        whole = {"few_steps": ("inner_steps", self.inner_steps), "conv_steps": ("n // batch_size", self.steps_a_pass)}
        for name, (unit, count) in whole.items():
            if any(t % count for t in getattr(self, name)):
                raise ConfigError(f"{name} must be multiples of {unit} = {count}, got {getattr(self, name)}")

    @property
    def steps_a_pass(self) -> int:
        """Minibatches of one pass over the sample; a last one that is not full is dropped."""
        return self.n // self.batch_size


PROFILES = {
    "smoke": NoisyDescent(
        dataset="digits", n=60, width=4, lr=0.3, betas=(100.0, 1e3), steps=(4, 8), filters=2, conv_lr=0.1,
        conv_betas=(1e3,), conv_steps=(3, 6), few_betas=(100.0,), few_steps=(2, 6), inner_steps=2, gamma=0.1, alpha=0.5,
        batch_size=20, n_held_out=100, seeds=(0,),
    ),
    "laptop": NoisyDescent(
        dataset="digits", n=1000, width=16, lr=0.3, betas=(30.0, 100.0, 300.0, 1e3, 1e4),
        steps=(5, 10, 25, 50, 100, 200, 400, 800), filters=4, conv_lr=0.1, conv_betas=(300.0, 1e3),
        conv_steps=(20, 50, 80, 100, 120, 160, 200), few_betas=(100.0, 300.0), few_steps=(25, 50, 100), inner_steps=25,
        gamma=0.1, alpha=0.1, batch_size=100, n_held_out=200, seeds=(0, 1, 2, 3, 4),
    ),
    "paper": NoisyDescent(
        dataset="mnist", n=50_000, width=128, lr=0.3, betas=(1e3, 3e3, 1e4, 3e4, 1e5),
        steps=(100, 200, 500, 1000, 2000), filters=32, conv_lr=0.1, conv_betas=(1e4, 1e5), conv_steps=(100, 200, 500),
        few_betas=(1e3, 1e4), few_steps=(100, 200, 500), inner_steps=25, gamma=0.1, alpha=0.1, batch_size=1000,
        n_held_out=5000, seeds=(0, 1, 2, 3, 4),
    ),
}  # fmt: skip


def points(config: NoisyDescent) -> list[Json]:
    """Every kind of walk at its temperatures, for each seed."""
    tasks = [(kind, beta) for kind in (FULL, MINI) for beta in config.betas]
    tasks += [(kind, beta) for kind in (CONVOLUTIONAL, CONVOLUTIONAL_MINI) for beta in config.conv_betas]
    tasks += [(kind, beta) for kind in (PAIRED, ENTROPY) for beta in config.few_betas]
    return [{"kind": kind, "beta": beta, "seed": seed} for seed in config.seeds for kind, beta in tasks]


def row(config: NoisyDescent, point: Json) -> Json:
    """Walk once. ``looks`` has an entry for each of the steps at which the walk was looked at.

    An entry has training and test error, ``incoherence`` (mean over examples, up to there) and the nats of the whole
    sample, sum_t lr^2 |g_t - m|^2 / (2 sigma^2), with centre 0 and with the held-out gradient. ``per_example`` is
    the incoherence at the end. Where there is a ghost, its entry has the nats of the path with centre 0 and the errors
    of the noisy network; ``quiet`` has the errors of a convolutional network that walks without noise. A paired row has
    the information about a coin instead, with the incoherence of the same walk. Steps of Entropy-SGD are those of its
    inner walks, a gradient each, and its incoherence is summed over all of them; ``averaged`` has the errors of the
    running mean of the plain walk, whose own are those of the full-batch row.
    """
    train, held_out, test = drawn_samples(config, point["seed"])
    try:
        if point["kind"] == PAIRED:
            return _paired(config, point, train, test)
        if point["kind"] == ENTROPY:
            return _local_entropy(config, point, train, test)
        return _walked(config, point, train, held_out, test)
    except (Diverged, NotFinite) as error:
        return {"status": f"diverged: {error}"}


def drawn_samples(config: NoisyDescent, seed: int) -> tuple[Split, Split, Split]:
    """Training sample, held-out sample and test sample of a seed, disjoint, from all examples of the data set."""
    parts = [images(config.dataset, True), images(config.dataset, False)]
    pool = Split(
        torch.cat([p.inputs for p in parts]), torch.cat([p.targets for p in parts]), parts[0].classes, parts[0].edition
    )
    rest = len(pool) - config.n - config.n_held_out
    train, held_out, test = data.partition(pool, [config.n, config.n_held_out, rest], seed=seed)
    return train, held_out, test


def _walked(config: NoisyDescent, point: Json, train: Split, held_out: Split, test: Split) -> Json:
    kind = point["kind"]
    convolutional = kind in (CONVOLUTIONAL, CONVOLUTIONAL_MINI)
    lr, looks = (config.conv_lr, config.conv_steps) if convolutional else (config.lr, config.steps)
    batch_size = config.batch_size if kind in (MINI, CONVOLUTIONAL_MINI) else None
    make_model = _make_model(config, kind, train)
    seen: list[Json] = []
    run = langevin.train(
        make_model, train, steps=looks[-1], lr=lr, temperature=1 / point["beta"], seed=point["seed"],
        batch_size=batch_size, held_out=held_out, device=default_device(),
        observe=lambda t, model: seen.append({"steps": t} | _errors(model, train, test)) if t in looks else None,
    )  # fmt: skip
    gain = (lr / run.sigma) ** 2 / 2
    assert run.held_out_moments is not None
    for entry in seen:
        upto = slice(entry["steps"])
        entry["incoherence"] = run.by_step[upto].sum().item()
        entry["nats_zero"] = gain * run.moments[upto].sum().item()
        entry["nats_held_out"] = gain * run.held_out_moments[upto].sum().item()
    entry = {
        "status": "ok", "d": len(weights(run.model)), "n": config.n, "sigma": run.sigma, "looks": seen,
        "per_example": run.incoherence.tolist(),
        "along": [_thinned(run.by_step, t) for t in _times(looks[-1])], "times": _times(looks[-1]),
    }  # fmt: skip
    if convolutional:
        return entry | {"quiet": _quiet(config, point, train, test, batch_size or config.n)}
    return entry | ({"ghost": _ghost(config, point, train, test, run.sigma)} if kind == FULL else {})


def _quiet(config: NoisyDescent, point: Json, train: Split, test: Split, batch_size: int) -> list[Json]:
    """The convolutional network's descent without noise, from the walk's initial weights: its errors at each look."""
    seen: list[Json] = []
    a_pass = config.n // batch_size

    def observe(passes: int, models: list[nn.Module]) -> None:
        if (t := passes * a_pass) in config.conv_steps:
            seen.append({"steps": t} | _errors(models[0], train, test))

    train_ensemble(
        _make_model(config, CONVOLUTIONAL, train), [train], epochs=config.conv_steps[-1] // a_pass,
        batch_size=batch_size, lr=config.conv_lr, seed=langevin.stream_seed("initial weights", point["seed"]),
        observe=observe, device=default_device(),
    )  # fmt: skip
    return seen


def _local_entropy(config: NoisyDescent, point: Json, train: Split, test: Split) -> Json:
    """Entropy-SGD in full batches: all that it reads of the sample are the noisy steps of its inner walks.

    What an outer step makes of them is a function of the path, and so is the tie, which a reader of the path knows. So
    every gradient costs what a step of ``langevin.train`` costs at the same noise, at the place where it is taken.
    """
    loss, noise = CrossEntropy(train.classes), sqrt(2 / point["beta"])
    with seeded(langevin.stream_seed("initial weights", point["seed"])):
        model = _make_model(config, ENTROPY, train)().to(default_device()).eval()
    gradients, sample = Gradients(model, loss), train.to(device=default_device())
    by_step: list[float] = []

    def closure() -> Tensor:
        batch = gradients.of(sample)
        by_step.append(config.lr / noise**2 * batch.distances.mean().item())
        parameters = trainable(model)
        for p, piece in zip(parameters, batch.gradient.split([p.numel() for p in parameters]), strict=True):
            p.grad = piece.view_as(p)
        return batch.losses.mean()

    optimizer = EntropySGD(
        torch.optim.SGD(trainable(model), lr=1 / config.gamma), config.gamma, steps=config.inner_steps, rate=config.lr,
        noise=noise, alpha=config.alpha, seed=langevin.stream_seed("noise", point["seed"]),
    )  # fmt: skip
    looks: list[Json] = []
    while len(by_step) < config.few_steps[-1]:
        optimizer.step(closure)
        if (t := len(by_step)) in config.few_steps:
            looks.append({"steps": t, "incoherence": sum(by_step)} | _errors(model, train, test))
    return {
        "status": "ok", "d": len(weights(model)), "n": config.n, "sigma": noise * sqrt(config.lr), "looks": looks,
        "averaged": _averaged(config, point, train, test),
    }  # fmt: skip


def _averaged(config: NoisyDescent, point: Json, train: Split, test: Split) -> list[Json]:
    """The full-batch walk, and the errors of its running mean: a function of the path, which costs no information."""
    seen: list[Json] = []
    mean: Tensor | None = None

    def observe(t: int, model: nn.Module) -> None:
        nonlocal mean
        w = weights(model)
        mean = w if mean is None else mean.lerp(w, config.alpha)
        if t in config.few_steps:
            with at(model, mean):
                seen.append({"steps": t} | _errors(model, train, test))

    langevin.train(
        _make_model(config, FULL, train), train, steps=config.few_steps[-1], lr=config.lr,
        temperature=1 / point["beta"], seed=point["seed"], device=default_device(), observe=observe,
    )  # fmt: skip
    return seen


def _ghost(config: NoisyDescent, point: Json, train: Split, test: Split, sigma: float) -> list[Json]:
    """The descent without noise from the walk's initial weights, beside it a ghost with its noise: at each look."""
    at: dict[int, Tensor] = {}
    squares: list[float] = []
    before: list[Tensor] = []

    def observe(t: int, models: list[nn.Module]) -> None:
        w = weights(models[0])
        if before:
            squares.append((w - before.pop()).double().square().sum().item() / config.lr**2)
        before.append(w)
        if t in config.steps:
            at[t] = w

    run = train_ensemble(
        _make_model(config, FULL, train), [train], epochs=config.steps[-1], batch_size=config.n, lr=config.lr,
        seed=langevin.stream_seed("initial weights", point["seed"]), observe=observe, device=default_device(),
    )  # fmt: skip
    entries = []
    for t, w in at.items():
        noisy = exchange.noisy_losses(
            run.models[0], w, torch.full_like(w, sqrt(t) * sigma), [train, test], [ZeroOneError()], draws=DRAWS,
            seed=langevin.stream_seed("ghost", point["seed"]),
        ).mean((0, 2))  # fmt: skip
        (clean,) = exchange.noisy_losses(
            run.models[0], w, torch.zeros_like(w), [train, test], [ZeroOneError()], draws=1, seed=0
        )[:, :, 0]
        entries.append({
            "steps": t, "nats": (config.lr / sigma) ** 2 / 2 * sum(squares[:t]),
            "train_error": clean[0].item(), "test_error": clean[1].item(),
            "noisy_train_error": noisy[0].item(), "noisy_test_error": noisy[1].item(),
        })  # fmt: skip
    return entries


def _paired(config: NoisyDescent, point: Json, train: Split, test: Split) -> Json:
    pairs = Supersample(train)
    (coins,) = pairs.memberships(1, seed=1000 + point["seed"])
    steps = config.few_steps[-1]
    settings = {
        "steps": steps, "lr": config.lr, "temperature": 1 / point["beta"], "seed": point["seed"],
    }  # fmt: skip
    make_model = _make_model(config, PAIRED, train)
    run = langevin.train_paired(make_model, pairs, coins, **settings)
    alone = langevin.train(make_model, pairs.sample(coins), **settings)
    return {
        "status": "ok", "d": len(weights(run.model)), "n": len(pairs), "sigma": alone.sigma, "steps": steps,
        **_errors(run.model, pairs.sample(coins), test),
        "information": run.information.mean().item(), "blind": run.blind.mean().item(),
        "posterior": run.posterior.mean().item(), "incoherence": alone.incoherence.mean().item(),
        "times": _times(steps), "along": [_thinned(run.by_step, t) for t in _times(steps)],
    }  # fmt: skip


def _make_model(config: NoisyDescent, kind: str, like: Split) -> partial[nn.Module]:
    convolutional = kind in (CONVOLUTIONAL, CONVOLUTIONAL_MINI)
    name, width = ("cnn", config.filters) if convolutional else ("mlp", config.width)
    return partial(network, name, width, like)


def _errors(model: nn.Module, train: Split, test: Split) -> Json:
    error = ZeroOneError()
    return {
        "train_error": values(model, error, train).double().mean().item(),
        "test_error": values(model, error, test).double().mean().item(),
    }


def _times(steps: int) -> list[int]:
    """Steps, in even logarithms, at which a record is thinned."""
    return sorted({round(steps ** (i / 40)) for i in range(41)})


def _thinned(by_step: Tensor, t: int) -> float:
    """Mean of a record over the tenth of the steps before t."""
    return by_step[max(t - max(t // 10, 1), 0) : t].mean().item()


EXPERIMENT = Experiment(
    name="langevin",
    summary="noisy gradient descent: certificates from training data over noise and time",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
