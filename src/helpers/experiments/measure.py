"""One trained ensemble, every bound of the book on it: the measurements that a row holds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import torch
from torch import nn

from helpers import omniscient, wang_mao
from helpers.curvature import Edge, extreme_eigenvalues, trace, values
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.samples import Roles, default_device, draw_roles
from helpers.losses import ClippedCrossEntropy, ZeroOneError
from helpers.training import Diverged, Run, train_ensemble


@dataclass(frozen=True, kw_only=True)
class Measured(Config):
    """Settings of every experiment that puts all bounds on the same runs: its data, and how well to estimate.

    Attributes:
        dataset: name for ``data.load``.
        k, n: runs, and training examples of each.
        n_val, n_test: examples in each of val and val2, and in test.
        lambdas, certified_lambdas: trade-offs of the omniscient bound, and of its self-certified variant.
        clip_factor: the evaluation loss is clipped at this times log(classes).
        trace_rtol: relative standard error of every trace.
        most_probes: samples after which a trace stops wherever it is; its error is in the row.
        solve_rtol, iterations: relative residual of the surrogate's systems, and the most products spent on each.
    """

    dataset: str
    k: int
    n: int
    n_val: int
    n_test: int
    lambdas: tuple[float, ...]
    certified_lambdas: tuple[float, ...]
    clip_factor: float = 12.0
    trace_rtol: float = 0.1
    most_probes: int = 300
    solve_rtol: float = 1e-2
    iterations: int = 60

    def roles(self, seed: int) -> Roles:
        """Disjoint training samples, val, val2 and test for one seed."""
        return draw_roles(self.dataset, k=self.k, n=self.n, n_val=self.n_val, n_test=self.n_test, seed=seed)

    def loss(self, classes: int) -> ClippedCrossEntropy:
        """The evaluation loss."""
        return ClippedCrossEntropy.per_class(classes, self.clip_factor)


def train_and_measure(
    config: Measured, make_model: Callable[[], nn.Module], roles: Roles, *, seed: int, **training: Any
) -> Json:
    """Train one run on each training sample and measure them all; runs that diverge are a row that says so.

    ``training`` goes to ``train_ensemble``.
    """
    try:
        run = train_ensemble(make_model, roles.train, seed=seed, device=default_device(), **training)
    except Diverged as error:
        return {"status": f"diverged: {error}"}
    return {"status": "ok", **measure(config, run, roles, seed=seed)}


def measure(config: Measured, run: Run, roles: Roles, *, seed: int) -> Json:
    """Gap, accuracies, traces, and every bound on the same runs, JSON-ready.

    The spectrum is that of the first run; everything else is a mean over runs.
    """
    models, train = run.models, roles.train
    loss = config.loss(train[0].classes)
    n, R = len(train[0]), loss.R
    gap = omniscient.gap(models, train, roles.test, loss=loss)
    gap01 = omniscient.gap(models, train, roles.test, loss=ZeroOneError())
    probing: dict[str, Any] = {"rtol": config.trace_rtol, "most_probes": config.most_probes, "seed": seed}
    traces = [trace(model, loss, own, **probing) for model, own in zip(models, train, strict=True)]
    held_out = [trace(model, loss, roles.val2, **probing) for model in models]
    mean_trace, mean_held_out = _average(t.value for t in traces), _average(t.value for t in held_out)
    path: dict[str, Any] = {
        "loss": loss,
        "steps": run.steps,
        "seed": seed,
        "value_rtol": config.trace_rtol / 3,  # a trace enters as its cube root
        "most_probes": config.most_probes,
        "rtol": config.solve_rtol,
        "max_iterations": config.iterations,
    }
    return {
        "steps": run.steps,
        "epochs": len(run.losses),
        "d": len(run.initial),
        "n": n,
        "R": R,
        "final_epoch_loss": run.losses[-1].mean().item(),
        "train_loss": mean_loss(models, train, loss),
        "train_error": mean_loss(models, train, ZeroOneError()),
        "test_error": mean_loss(models, [roles.test] * len(models), ZeroOneError()),
        "gap": gap.value,
        "gap_standard_error": gap.standard_error,
        "gap01": gap01.value,
        "gap01_standard_error": gap01.standard_error,
        "dispersion": run.dispersion,
        "trace": mean_trace,
        "trace_standard_error": _pooled(t.standard_error for t in traces),
        "trace_val2": mean_held_out,
        "trace_val2_standard_error": _pooled(t.standard_error for t in held_out),
        "trace_method": traces[0].method,
        **_spectrum(
            extreme_eigenvalues(
                models[0], loss, train[0], rtol=0.05, max_iterations=max(config.iterations, 2), seed=seed
            )
        ),
        **isotropic_bounds(run, mean_trace, mean_held_out, n=n, R=R),
        "omniscient": [
            asdict(row) | {"holdout_share": row.holdout_share}
            for row in omniscient.estimate(models, train, roles.val, roles.val2, lambdas=config.lambdas, **path)
        ],
        "self_certified": [
            asdict(row) | {"certificate": row.certificate}
            for row in omniscient.self_certified(models, train, lambdas=config.certified_lambdas, **path)
        ],
    }


def isotropic_bounds(run: Run, training_trace: float, held_out_trace: float, *, n: int, R: float) -> Json:
    """The bounds that know only the dispersion and the traces.

    ``wang_mao_eq3`` takes the trace on training data, as its authors do; ``wang_mao_eq2`` is the tighter logarithmic
    form with the same flatness term. ``neu_without_sensitivity`` is Lemma 2 with constant 2, the cross-run dispersion
    in the place of its own, and no sensitivity, which would only raise it: by algebra 2^{1/3} times eq. 3.
    ``terminal`` is the bound of Peng et al. without a perturbation.
    """
    trace = max(training_trace, 0.0)
    eq3 = wang_mao.closed_form(run.dispersion, trace, n=n, steps=run.steps, R=R)
    return {
        "wang_mao_eq3": asdict(eq3),
        "wang_mao_eq2": asdict(wang_mao.log_form(run.step_dispersion.tolist(), trace, n=n, R=R, d=len(run.initial))),
        "neu_without_sensitivity": asdict(wang_mao.closed_form(2 * run.dispersion, trace, n=n, steps=run.steps, R=R)),
        "terminal": asdict(wang_mao.terminal(run.models, training_trace - held_out_trace, n=n, steps=run.steps, R=R)),
    }


def mean_loss(models: Sequence[nn.Module], splits: Sequence[Any], loss: Any) -> float:
    """Mean over runs of the mean loss over each run's split."""
    means = [values(model, loss, split).double().mean() for model, split in zip(models, splits, strict=True)]
    return torch.stack(means).mean().item()


def _spectrum(edge: Edge) -> Json:
    return {
        "largest_eigenvalue": edge.largest.item(),
        "largest_eigenvalue_error": edge.largest_error.item(),
        "smallest_eigenvalue": edge.smallest.item(),
        "smallest_eigenvalue_error": edge.smallest_error.item(),
        "spectrum": {"nodes": edge.nodes.tolist(), "weights": edge.weights.tolist()},
    }


def _average(numbers: Iterable[float]) -> float:
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def _pooled(errors: Iterable[float]) -> float:
    """Standard error of a mean over runs from each run's own."""
    errors = list(errors)
    return hypot(*errors) / len(errors)
