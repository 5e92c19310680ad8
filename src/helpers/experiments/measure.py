"""One trained ensemble, every bound of the book on it: the measurements that a row holds."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import hypot
from typing import Any

import torch
from torch import nn

from helpers import omniscient, wang_mao
from helpers.curvature import extreme_eigenvalues, trace, values
from helpers.data import Split
from helpers.experiments.samples import Roles
from helpers.losses import ClippedCrossEntropy, ZeroOneError
from helpers.training import Run

MOST_ITERATIONS = 60


def measure(
    run: Run,
    roles: Roles,
    *,
    clip_factor: float,
    lambdas: Sequence[float],
    trace_rtol: float,
    solve_rtol: float,
    seed: int,
) -> dict[str, Any]:
    """Gap, accuracies, traces, and every bound on the same runs, JSON-ready.

    The edge of the spectrum is that of the first run; everything else is a mean over runs.
    """
    models, train = run.models, roles.train
    loss = ClippedCrossEntropy.per_class(train[0].classes, clip_factor)
    n, R = len(train[0]), loss.R
    gap = omniscient.gap(models, train, roles.test, loss=loss)
    gap01 = omniscient.gap(models, train, roles.test, loss=ZeroOneError())
    traces = [trace(model, loss, own, rtol=trace_rtol, seed=seed) for model, own in zip(models, train, strict=True)]
    held_out = [trace(model, loss, roles.val2, rtol=trace_rtol, seed=seed) for model in models]
    mean_trace = sum(t.value for t in traces) / len(traces)
    difference = mean_trace - sum(t.value for t in held_out) / len(held_out)
    path: dict[str, Any] = {
        "loss": loss,
        "lambdas": lambdas,
        "steps": run.steps,
        "seed": seed,
        "value_rtol": trace_rtol / 3,  # a trace enters as its cube root
        "rtol": solve_rtol,
        "max_iterations": MOST_ITERATIONS,
    }
    edge = extreme_eigenvalues(models[0], loss, train[0], rtol=0.05, max_iterations=20, seed=seed)
    return {
        "steps": run.steps,
        "epochs": len(run.losses),
        "d": len(run.initial),
        "n": n,
        "R": R,
        "final_epoch_loss": run.losses[-1].mean().item(),
        "train_loss": _mean(models, train, loss),
        "train_error": _mean(models, train, ZeroOneError()),
        "test_error": _mean(models, [roles.test] * len(models), ZeroOneError()),
        "gap": gap.value,
        "gap_standard_error": gap.standard_error,
        "gap01": gap01.value,
        "gap01_standard_error": gap01.standard_error,
        "dispersion": run.dispersion,
        "trace": mean_trace,
        "trace_standard_error": _pooled(t.standard_error for t in traces),
        "trace_val2": mean_trace - difference,
        "trace_method": traces[0].method,
        "largest_eigenvalue": edge.largest.item(),
        "largest_eigenvalue_error": edge.largest_error.item(),
        "smallest_eigenvalue": edge.smallest.item(),
        "smallest_eigenvalue_error": edge.smallest_error.item(),
        "wang_mao_eq3": asdict(wang_mao.closed_form(run.dispersion, max(mean_trace, 0.0), n=n, steps=run.steps, R=R)),
        "terminal": asdict(wang_mao.terminal(models, difference, n=n, steps=run.steps, R=R)),
        "omniscient": [
            asdict(row) | {"holdout_share": row.holdout_share}
            for row in omniscient.estimate(models, train, roles.val, roles.val2, **path)
        ],
        "self_certified": [
            asdict(row) | {"certificate": row.certificate} for row in omniscient.self_certified(models, train, **path)
        ],
    }


def _mean(models: Sequence[nn.Module], splits: Sequence[Split], loss: Any) -> float:
    """Mean over runs of the mean loss over each run's split."""
    means = [values(model, loss, split).double().mean() for model, split in zip(models, splits, strict=True)]
    return torch.stack(means).mean().item()


def _pooled(errors: Iterable[float]) -> float:
    """Standard error of a mean over runs from each run's own."""
    errors = list(errors)
    return hypot(*errors) / len(errors)
