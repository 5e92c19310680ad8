"""A setting of the laboratory again, with the package: same seed, same numbers as in the page.

``replay`` trains; ``measure`` answers for any runs with every bound of the book. What the page computes in JavaScript
is held to these two by test, to 1e-8.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from helpers import langevin, models, omniscient, training
from helpers.comparison import bounds
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy
from helpers.measurement import clipped_shares, error_over_runs, noise_to_weight
from helpers.omniscient import Solver
from helpers.training.ensemble import CrossEntropy
from helpers.training.lockstep import Lockstep, release, trace_covariance
from helpers.widgets.laboratory.along import rises
from helpers.widgets.laboratory.generator import STREAMS, Generator
from helpers.widgets.laboratory.worlds import RUNS, Roles, roles

LAMBDAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class Replay:
    """Runs of the laboratory.

    Attributes:
        run: k models in float64 and the record of their way, as ``training.train_ensemble`` returns them.
        roles: their data.
        sigma: standard deviation of the Langevin noise of a step; 0 without.
        incoherence: (k, n) as ``langevin.leave_one_out`` takes it; zeros without noise.
        squares: of each run, (k,), the sum over steps of the squared distance of its update from the mean of all; their
            mean is (k - 1) / k of the dispersion.
        reached: whether the training loss fell below ``stop_loss``; None where none was given.
        seed: of the directions along which flatness is measured; None where the runs have none.
    """

    run: training.Run
    roles: Roles
    sigma: float
    incoherence: Tensor
    squares: Tensor
    reached: bool | None = None
    seed: int | None = None

    def measure(self, *, lambdas: Sequence[float] = LAMBDAS, **solver: Any) -> dict[str, Any]:
        """Every bound of the book on these runs: the function ``measure`` with all that the replay recorded."""
        return measure(
            self.run, self.roles, lambdas=lambdas, sigma=self.sigma, incoherence=self.incoherence, squares=self.squares,
            seed=self.seed, **solver,
        )  # fmt: skip


def replay(
    world: str = "digits",
    *,
    batch_size: int = 20,
    lr: float = 0.1,
    momentum: float = 0.0,
    epochs: int = 40,
    stop_loss: float = 0.0,
    width: int = 16,
    label_noise: float = 0.0,
    n: int = 200,
    temperature: float = 0.0,
    toy_noise: float = 0.2,
    seed: int = 0,
) -> Replay:
    """Train what the page trains at this setting: four runs of a network with one hidden layer of ReLU units.

    Args:
        world, n, label_noise, toy_noise: of the data, see ``worlds.roles``.
        batch_size, lr, momentum, epochs: of SGD, batch_size at most n; a last batch that is not full is dropped.
        stop_loss: if above 0, training ends after the first epoch whose training loss, in nats, the mean over its steps
            and the four runs, lies below it, and after ``epochs`` in any case; settings are so compared at equal fit.
        width: hidden units.
        temperature: above 0, each step adds N(0, 2 lr temperature I); momentum must then be 0 (``langevin``).
        seed: of data, initial weights, orders and noise.

    Raises:
        ValueError: if a number is out of range, or ``stop_loss`` or momentum is given with a temperature.
        training.Diverged: if a weight stops being finite.
    """
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be 1 to n = {n}, not {batch_size}")
    for name, value, fits in (
        ("lr", lr, lr > 0),
        ("momentum", momentum, 0 <= momentum < 1),
        ("epochs", epochs, epochs >= 1),
        ("temperature", temperature, temperature >= 0),
    ):
        if not fits:
            raise ValueError(f"{name} is out of range: {value}")
    if temperature > 0 and momentum > 0:
        raise ValueError("momentum must be 0 where temperature is above 0: Langevin's steps have none")
    if not stop_loss >= 0:
        raise ValueError(f"stop_loss must be 0, or a training loss in nats to stop at, not {stop_loss}")
    if stop_loss > 0 and temperature > 0:
        raise ValueError(
            "stop_loss must be 0 where temperature is above 0: the Langevin bound is for a number of steps that is "
            "fixed before training"
        )
    data = roles(world, n=n, seed=seed, toy_noise=toy_noise, label_noise=label_noise)
    inputs, classes = data.test.inputs.shape[1], data.test.classes
    first = models.mlp(inputs, width, classes).double()
    models.set_weights(first, initial_weights(inputs, width, classes, seed))
    sources = [Generator(seed, STREAMS["orders"] + r) for r in range(RUNS)]
    orders = ([torch.from_numpy(source.permutation(n)) for source in sources] for _ in range(epochs))
    done = trained(
        first, data, orders, batch_size=batch_size, lr=lr, momentum=momentum,
        temperature=temperature, noise=[Generator(seed, STREAMS["noise"] + r) for r in range(RUNS)],
        stop_loss=stop_loss,
    )  # fmt: skip
    return replace(done, seed=seed)


def initial_weights(inputs: int, width: int, classes: int, seed: int) -> Tensor:
    """Uniform in +-1 / sqrt(inputs of the layer), (d,), float64: the law of ``nn.Linear``."""
    source = Generator(seed, STREAMS["weights"])
    layers = [(width * inputs + width, inputs), (classes * width + classes, width)]
    entries = [(2 * source.uniform() - 1) / sqrt(fan_in) for size, fan_in in layers for _ in range(size)]
    return torch.tensor(entries, dtype=torch.float64)


def trained(
    first: nn.Module,
    data: Roles,
    orders: Iterable[Sequence[Tensor]],
    *,
    batch_size: int,
    lr: float,
    momentum: float = 0.0,
    temperature: float = 0.0,
    noise: Sequence[Generator] = (),
    stop_loss: float = 0.0,
) -> Replay:
    """Copies of ``first`` trained in lockstep, one on each sample of ``data.train``.

    Args:
        orders: for each epoch one order a run, (n,), in which it visits its examples.
        noise: one generator a run, where the temperature is above 0.
        stop_loss: if above 0, the orders that are left are not visited once an epoch's loss lies below it.

    Raises:
        training.Diverged: if a weight stops being finite.
    """
    loss = CrossEntropy(data.test.classes)
    runs = Lockstep(
        [deepcopy(first) for _ in data.train], data.train, batch_size=batch_size, momentum=momentum, weight_decay=0.0,
        loss=loss,
    )  # fmt: skip
    initial, sigma = runs.weights[0].clone(), sqrt(2 * lr * temperature)
    incoherence = torch.zeros(len(data.train), len(data.train[0]), dtype=torch.float64)
    dispersion: list[Tensor] = []
    squares = torch.zeros(len(data.train), dtype=torch.float64)
    epoch_losses: list[Tensor] = []
    for order in orders:
        runs.begin_epoch(order, lr)
        for batch in range(runs.batches):
            before = runs.weights.clone()
            if sigma > 0:
                rows = [visits[batch * batch_size : (batch + 1) * batch_size] for visits in order]
                for r, (model, split) in enumerate(zip(runs.models, data.train, strict=True)):
                    incoherence[r, rows[r]] += _off(model, loss, split.take(rows[r]), len(split), lr / sigma)
            runs.step()
            if sigma > 0:
                draws = [[source.normal() for _ in range(len(initial))] for source in noise]
                runs.weights.add_(torch.tensor(draws, dtype=runs.weights.dtype), alpha=sigma)
            updates = runs.weights - before
            dispersion.append(trace_covariance(updates))
            squares += (updates - updates.mean(0)).square().sum(1)
        epoch_losses.append(runs.losses / runs.batches)
        if not torch.isfinite(runs.weights).all():
            raise training.Diverged(f"a weight is not finite in epoch {len(epoch_losses)}; lower the learning rate")
        if epoch_losses[-1].mean() < stop_loss:
            break
    for model in runs.models:
        release(model)
    record = training.Run(
        runs.models, initial, len(dispersion), torch.stack(dispersion), torch.stack(epoch_losses), "float64"
    )
    reached = epoch_losses[-1].mean().item() < stop_loss if stop_loss > 0 else None
    return Replay(record, data, sigma, incoherence, squares, reached)


def _off(model: nn.Module, loss: CrossEntropy, batch: Split, n: int, ratio: float) -> Tensor:
    """(n / b)^2 (lr / sigma)^2 |g_i - mean of the batch's others|^2, (b,): what a step adds (``langevin.Walk``)."""
    distances = langevin.gradients.Gradients(model, loss).of(batch).distances
    return (n / len(batch) * ratio) ** 2 * distances


def measure(
    run: training.Run,
    data: Roles,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    sigma: float = 0.0,
    incoherence: Tensor | None = None,
    squares: Tensor | None = None,
    seed: int | None = None,
    **solver: Any,
) -> dict[str, Any]:
    """Every bound of the book on one ensemble, as the laboratory's picture takes it.

    Args:
        run: k trained models of any architecture and the record of their way.
        data: of the runs, in the same type as the models' weights.
        lambdas: of ``omniscient.estimate``.
        solver: settings of ``omniscient.Solver``.
        sigma, incoherence: of runs with Langevin noise.
        squares: of a ``Replay``; without them the errors of the closed forms take the dispersion as it is.
        seed: of random directions; with it the rise of the training loss along them is measured (``along.rises``).

    Returns:
        Numbers by name, strictly finite or None: gaps with standard errors, risks, traces, ``closed_form`` and
        ``terminal`` (with the training trace, and with the difference to held-out data), rows of ``omniscient`` and
        ``self_certified``, ``counted`` and ``langevin``; ``along`` where there is a seed.

    Raises:
        ValueError: as the bounds do.
    """
    certifies = sigma > 0 and incoherence is not None
    loss = ClippedCrossEntropy.per_class(data.test.classes)
    table = bounds(
        run, data.val, data.val2, data.test, train=data.train, loss=loss, lambdas=lambdas, solver=Solver(**solver),
        incoherence=incoherence if certifies else None,
    )  # fmt: skip
    W = torch.stack([models.weights(model) for model in run.models]).double()
    rows = list(table)

    def judged(name: str, clipped: float, error: float | None = None) -> dict[str, float | None]:
        bound = table[name]
        if bound.result is None:
            raise ValueError(f"the {name} does not exist: {bound.warnings[0]}")
        return asdict(bound.result) | {
            "noise_to_weight": noise_to_weight(bound.result.sigma, run.steps, W),
            "clipped_share": clipped,
            "standard_error": bound.standard_error if error is None else error,
        }

    def of_closed_form(name: str, traces: Sequence[float]) -> float | None:
        bound = table[name].result
        if squares is None or bound is None:
            return None
        return error_over_runs(bound, torch.tensor(traces, dtype=torch.float64), squares)

    def path(start: str) -> list[dict[str, Any]]:
        return [_row(row.result) for row in rows if row.name.startswith(start)]

    own, both = clipped_shares(omniscient.Runs(run.models, data.train, loss), data.val2)
    alone = [one.value for one in table.traces.training]
    apart = [inside - one.value for inside, one in zip(alone, table.traces.held_out, strict=True)]
    difference = "closed form, difference of traces"
    noisy = table["Langevin, leave one out"] if certifies else None
    counted = table["counted"].result
    errors = [one.mean().item() for one in (table.train_errors, table.test_errors) if one is not None]
    around = None if seed is None else rises(run.models, data.train, loss, seed)
    return {
        "steps": run.steps, "n": len(data.train[0]), "d": W.shape[1], "classes": data.test.classes, "clip": loss.clip,
        "R": loss.R, "dispersion": run.dispersion, "trace": table.traces.mean_training.value,
        "trace_val2": table.traces.mean_held_out.value, "weight_norm": W.norm(dim=1).mean().item(),
        "variance": trace_covariance(W).item(), "epochs": len(run.losses), "losses": run.losses.mean(1).tolist(),
        "train_loss": table.train_losses.mean().item(),
        "test_loss": table.train_losses.mean().item() + table.gap.value,
        "train_error": errors[0], "test_error": errors[1],
        "gap": _interval(table.gap), "error_gap": _interval(table.error_gap),
        "closed_form": judged("closed form", own, of_closed_form("closed form", alone)),
        "closed_form_difference": judged(difference, both, of_closed_form(difference, apart)),
        "terminal": judged("end point", own),
        "terminal_difference": judged("end point, difference of traces", both),
        "along": around, "counted": {"value": counted.value, "information": counted.information, "gap": counted.gap,
                    "standard_error": counted.standard_error},
        "langevin": None if noisy is None else {
            "value": noisy.value, "sigma": sigma, "standard_error": noisy.standard_error,
        },
        "omniscient": path("omniscient"),
        "self_certified": path("self-certified"),
    }  # fmt: skip


def _interval(gap: Any) -> dict[str, float]:
    return {"value": gap.value, "standard_error": gap.standard_error}


def _row(row: omniscient.Row) -> dict[str, Any]:
    """A row as JSON: what is not finite becomes None."""
    return {key: None if isinstance(v, float) and not abs(v) < float("inf") else v for key, v in asdict(row).items()}
