"""The estimators that the helpers are compared with: PyHessian's traces, and the published procedure for the bound.

PyHessian 0.1 leaves graphs on ``.grad`` and sums into them, so every use gets a fresh instance and the gradients are
cleared after it. Its stopping rule is switched off with a tolerance that is never met where a fixed number of probes is
compared, and left as it is in the published procedure.
"""

from collections.abc import Callable, Sequence
from math import hypot, inf, sqrt
from typing import Any

import torch
from _timing import flops, seconds
from pyhessian import hessian as PyHessian
from torch import Tensor, nn

from helpers import curvature, models, omniscient
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy

Json = dict[str, Any]
MOST_PROBES, TRACE_TOLERANCE = 100, 1e-3  # PyHessian's defaults
SQUARED_TOLERANCE, MOST_ITERATIONS = 1e-4, 40


def batches(split: Split, batch: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(split.inputs.split(batch), split.targets.split(batch), strict=True))


def pyhessian(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int) -> Any:
    """PyHessian's view of the mean loss over the split, batch by batch."""
    cuda = next(model.parameters()).is_cuda
    return PyHessian(model, lambda z, y: loss(z, y).mean(), dataloader=batches(split, batch), cuda=cuda)


def pyhessian_loader_trace(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int, probes: int) -> Json:
    """One probe for all batches, as ``hessian(dataloader=...)`` does."""
    found: list[float] = []

    def run(count: int = probes) -> None:
        found[:] = pyhessian(model, split, loss, batch).trace(count, tol=-inf)

    work = flops(lambda: run(1)) * probes
    elapsed = seconds(run)
    model.zero_grad(set_to_none=True)
    values = torch.tensor(found, dtype=torch.float64)
    variance = values.var().item() / probes
    return {
        "value": values.mean().item(),
        "variance": variance,
        "freedom": probes - 1.0,
        "seconds": elapsed,
        "work": work,
    }


def pyhessian_batch_trace(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int, probes: int) -> Json:
    """Independent probes for every batch, on its kept graph, as ``hessian(data=...)`` does."""
    kept: list[Tensor] = []

    def run(count: int = probes) -> None:
        kept[:] = _batch_samples(model, split, loss, batch, count, -inf)

    first, second = (flops(lambda count=count: run(count)) for count in (1, 2))
    elapsed = seconds(run)
    variances = torch.stack([samples.var() for samples in kept])
    return {
        "value": sum(samples.mean().item() for samples in kept),
        "variance": variances.sum().item() / probes,
        "freedom": ((probes - 1) * variances.sum() ** 2 / variances.square().sum()).item(),
        "seconds": elapsed,
        "work": first + (probes - 1) * (second - first),
    }


def _batch_samples(
    model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int, most: int, tolerance: float
) -> list[Tensor]:
    """For each batch its samples of the trace, weighted by its share of the examples."""
    cuda = next(model.parameters()).is_cuda
    found = []
    for inputs, targets in batches(split, batch):
        view = PyHessian(model, lambda z, y: loss(z, y).mean(), data=(inputs, targets), cuda=cuda)
        samples = torch.tensor(view.trace(most, tol=tolerance), dtype=torch.float64)
        model.zero_grad(set_to_none=True)
        found.append(len(targets) / len(split) * samples)
    return found


def _published_trace(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int) -> tuple[float, float, int]:
    """Value, standard error and number of probes (each on one batch) with PyHessian's own stopping rule."""
    samples = _batch_samples(model, split, loss, batch, MOST_PROBES, TRACE_TOLERANCE)
    error = sqrt(sum(s.var().item() / len(s) for s in samples if len(s) > 1))
    return sum(s.mean().item() for s in samples), error, sum(map(len, samples))


def conjugate_gradients(matvec: Callable[[Tensor], Tensor], rhs: Tensor) -> tuple[Tensor, int]:
    """Plain conjugate gradients from zero, stopped on the *squared* relative residual, no check of curvature."""
    x, r = torch.zeros_like(rhs), rhs.clone()
    p, squared = r.clone(), torch.dot(r, r)
    goal, iterations = SQUARED_TOLERANCE * squared, 0
    while squared > goal and iterations < MOST_ITERATIONS:
        product = matvec(p)
        step = squared / torch.dot(p, product)
        x, r = x + step * p, r - step * product
        squared, before = torch.dot(r, r), squared
        p, iterations = r + squared / before * p, iterations + 1
    return x, iterations


def bound(
    ensemble: Sequence[nn.Module],
    train: Sequence[Split],
    val: Split,
    val2: Split,
    loss: ClippedCrossEntropy,
    lambdas: Sequence[float],
    batch: int,
) -> Json:
    """The published procedure, transcribed: traces at W and, for each lambda, one solve and two traces at W + Delta.

    Traces are PyHessian's, batch by batch; products are fresh double backward passes over the data. To its favour the
    trace at W is computed once for all lambdas, and losses and gradients with our own code.
    """
    W = torch.stack([models.weights(model) for model in ensemble])
    centres = omniscient.leave_one_out(W)
    spent = {"traces": 0.0, "solves": 0.0, "rest": 0.0}
    work = {"traces": 0, "solves": 0, "rest": 0}
    probes: list[int] = []
    iterations: list[int] = []
    errors: list[list[float]] = [[] for _ in lambdas]

    def counted(kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        found: list[Any] = []
        spent[kind] += seconds(lambda: found.append(function(*arguments)))
        return found[0]

    for model, own, centre, w in zip(ensemble, train, centres, W, strict=True):
        unit = _units(model, own, loss, batch)
        value, _, used = counted("traces", _published_trace, model, own, loss, batch)
        work["traces"] += _trace_work(unit, own, batch, used)
        C = 1.5 * (loss.R**2 / len(own) * abs(value)) ** (1 / 3)
        slopes = [counted("rest", curvature.gradient, model, loss, s) for s in (own, val)]
        work["rest"] += 3 * unit["forward"] * (len(own) + len(val))
        for column, lam in enumerate(lambdas):
            shift = 2 * lam * C
            view = pyhessian(model, own, loss, batch)

            def matvec(v: Tensor, view: Any = view, shift: float = shift, model: nn.Module = model) -> Tensor:
                _, pieces = view.dataloader_hv_product(models.split_like(model, v))
                return torch.cat([piece.detach().reshape(-1) for piece in pieces]) + shift * v

            rhs = -shift * (w - centre) - (slopes[0] - slopes[1])
            delta, used = counted("solves", conjugate_gradients, matvec, rhs)
            model.zero_grad(set_to_none=True)
            iterations.append(used)
            work["solves"] += used * unit["product"] * len(own)
            with models.at(model, w + delta):
                both = []
                for split in (own, val2):
                    counted("rest", curvature.values, model, loss, split)
                    work["rest"] += unit["forward"] * len(split)
                    _, error, used = counted("traces", _published_trace, model, split, loss, batch)
                    work["traces"] += _trace_work(unit, split, batch, used)
                    probes.append(used)
                    both.append(error)
            errors[column].append(hypot(*both))
    return {
        "seconds": sum(spent.values()),
        "seconds_by_part": spent,
        "work": float(sum(work.values())),
        "work_by_part": {name: count / sum(work.values()) for name, count in work.items()},
        "trace_share": spent["traces"] / sum(spent.values()),
        "trace_error": [hypot(*column) / len(column) for column in errors],
        "probes_a_batch": sum(probes) / len(probes) / len(batches(val2, batch)),
        "iterations": iterations,
        "lambdas": list(lambdas),
    }


def _units(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int) -> dict[str, float]:
    """Operations of one example: forward pass, fresh product, set-up of PyHessian on a batch, probe on a kept graph."""
    part = split.take(torch.arange(min(batch, len(split))))
    direction = models.split_like(model, models.weights(model))
    product = flops(lambda: pyhessian(model, part, loss, batch).dataloader_hv_product(direction))
    one, two = (flops(lambda count=count: _batch_samples(model, part, loss, batch, count, -inf)) for count in (1, 2))
    with torch.no_grad():
        forward = flops(lambda: model(part.inputs))
    counts = {"forward": forward, "product": product, "setup": 2 * one - two, "probe": two - one}
    model.zero_grad(set_to_none=True)
    return {name: count / len(part) for name, count in counts.items()}


def _trace_work(unit: dict[str, float], split: Split, batch: int, probes: int) -> float:
    """Operations of per-batch traces that took so many probes in all."""
    return unit["setup"] * len(split) + unit["probe"] * len(split) / len(batches(split, batch)) * probes
