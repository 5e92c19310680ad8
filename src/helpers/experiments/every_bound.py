"""One trained ensemble, every bound of the book on it: the measurements that a row holds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from torch import nn

from helpers import omniscient
from helpers.curvature import Edge, extreme_eigenvalues, hvp, values
from helpers.data import Split
from helpers.experiments import resumable
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.samples import Roles, draw_roles
from helpers.losses import ClippedCrossEntropy, ZeroOneError
from helpers.measurement import IsotropicBounds, Traces, losses_by_run, noise_to_weight
from helpers.omniscient import Solver
from helpers.training import Diverged, Run


@dataclass(frozen=True, kw_only=True)
class Measured(Config):
    """Settings of every experiment that puts all bounds on the same runs: its data, and how well to estimate.

    Attributes:
        dataset: name for ``data.load``.
        k, n: runs, and training examples of each.
        n_val, n_test: examples in each of val and val2, and in test.
        lambdas, certified_lambdas: trade-offs of the omniscient bound, and of its self-certified variant.
        clip_factor: the evaluation loss is clipped at this times log(classes).
        trace_rtol: relative standard error of every trace at W; a third of it is what those at W + Delta may add to the
            bound, which they enter as a cube root.
        most_probes, path_probes: samples after which a trace at W, and one at W + Delta, stops wherever it is; its
            error is in the row.
        solve_rtol, iterations: relative residual of the surrogate's systems, and the most products spent on each.
        solver_examples: examples of each training sample on which Delta is built and spectrum and alignment are taken;
            all where None.
        draws: of noise, for each run, at which flatness terms are measured beside their Taylor form.
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
    path_probes: int = 300
    solve_rtol: float = 1e-2
    iterations: int = 60
    solver_examples: int | None = None
    draws: int = 1

    def roles(self, seed: int) -> Roles:
        """Disjoint training samples, val, val2 and test for one seed."""
        return draw_roles(self.dataset, k=self.k, n=self.n, n_val=self.n_val, n_test=self.n_test, seed=seed)

    def solver(self, seed: int) -> Solver:
        """How the surrogate is solved and measured."""
        return Solver(
            rtol=self.solve_rtol, max_iterations=self.iterations, value_rtol=self.trace_rtol / 3, seed=seed,
            most_probes=self.path_probes, examples=self.solver_examples, draws=self.draws,
        )  # fmt: skip

    def loss(self, classes: int) -> ClippedCrossEntropy:
        """The evaluation loss."""
        return ClippedCrossEntropy.per_class(classes, self.clip_factor)


def train_and_measure(
    config: Measured, make_model: Callable[[], nn.Module], roles: Roles, *, seed: int, **training: Any
) -> Json:
    """Train one run on each training sample and measure them all; runs that diverge are a row that says so.

    ``training`` goes to ``train_ensemble``. A training that is interrupted goes on (``resumable``).
    """
    try:
        run = resumable.train_resumably(make_model, roles.train, seed=seed, **training)
    except Diverged as error:
        return diverged(error)
    return {"status": "ok", **measure_ensemble(config, run, roles, seed=seed)}


def diverged(error: Diverged) -> Json:
    """The row of a training that diverged."""
    return {"status": f"diverged: {error}"}


def measure_ensemble(config: Measured, run: Run, roles: Roles, *, seed: int) -> Json:
    """Gap, accuracies, traces, and every bound on the same runs, JSON-ready.

    Spectrum: of the first run's training Hessian. Lists under ``by_run`` have one number a run. ``alignment`` is
    Rayleigh's quotient nu^T H nu / |nu|^2 of each run's deviation nu from the mean of the others, beside tr H / d:
    below it, the runs differ along flat directions. Everything else is a mean over runs.
    """
    runs = omniscient.Runs(run.models, roles.train, config.loss(roles.train[0].classes))
    solver, n, R = config.solver(seed), runs.n, runs.R
    gap = omniscient.gap(runs.models, runs.samples, roles.test, loss=runs.loss)
    gap01 = omniscient.gap(runs.models, runs.samples, roles.test, loss=ZeroOneError())
    traces = Traces.of(runs, roles.val2, rtol=config.trace_rtol, most_probes=config.most_probes, seed=seed)
    training, held_out = traces.mean_training, traces.mean_held_out
    tested = [roles.test] * len(runs)
    seen = [solver.seen(sample) for sample in runs.samples]
    return {
        "steps": run.steps,
        "epochs": len(run.losses),
        "precision": run.precision,
        "d": len(run.initial),
        "n": n,
        "R": R,
        "final_epoch_loss": run.losses[-1].mean().item(),
        "train_loss": losses_by_run(runs.models, runs.samples, runs.loss).mean().item(),
        "train_error": losses_by_run(runs.models, runs.samples, ZeroOneError()).mean().item(),
        "test_loss": losses_by_run(runs.models, tested, runs.loss).mean().item(),
        "test_error": losses_by_run(runs.models, tested, ZeroOneError()).mean().item(),
        "largest_loss": largest_loss(runs, roles.test),
        "gap": gap.value,
        "gap_standard_error": gap.standard_error,
        "gap01": gap01.value,
        "gap01_standard_error": gap01.standard_error,
        "dispersion": run.dispersion,
        "trace": training.value,
        "trace_standard_error": training.standard_error,
        "trace_val2": held_out.value,
        "trace_val2_standard_error": held_out.standard_error,
        "trace_method": training.method,
        "by_run": {"trace": [t.value for t in traces.training], "trace_val2": [t.value for t in traces.held_out]},
        "alignment": spread_alignment(runs, seen),
        **_spectrum(
            extreme_eigenvalues(
                run.models[0], runs.loss, seen[0], rtol=0.05, max_iterations=max(config.iterations, 2), seed=seed
            )
        ),
        **isotropic_bounds(config, run, runs, roles, traces, seed=seed),
        "omniscient": [
            asdict(row) | {"holdout_share": row.holdout_share}
            for row in omniscient.estimate_on(
                runs, roles.val, roles.val2, lambdas=config.lambdas, steps=run.steps, solver=solver
            )
        ],
        "self_certified": [
            asdict(row) | {"certificate": row.certificate}
            for row in omniscient.self_certified_on(
                runs, lambdas=config.certified_lambdas, steps=run.steps, solver=solver
            )
        ],
    }


def spread_alignment(runs: omniscient.Runs, seen: Sequence[Split]) -> list[float]:
    """Rayleigh's quotient of each run's deviation from the mean of the others, in the Hessian of its training loss."""
    quotients = []
    for model, sample, nu in zip(runs.models, seen, runs.weights - omniscient.leave_one_out(runs.weights), strict=True):
        quotients.append((torch.dot(nu, hvp(model, runs.loss, sample, nu)) / nu.square().sum()).item())
    return quotients


def isotropic_bounds(
    config: Measured, run: Run, runs: omniscient.Runs, roles: Roles, traces: Traces, *, seed: int
) -> Json:
    """The bounds that know only the dispersion and the traces (``measurement.IsotropicBounds``), under their names.

    Where the training trace is negative those that take it are None: their square root has no meaning. Eq. 3 and the
    end-point bound come with their noise over the weights, and the flatness term measured at it (``gamma``) against
    the test sample.
    """
    bounds = IsotropicBounds.of(run, runs, traces.mean_training.value, traces.mean_held_out.value)
    by_name = {
        "wang_mao_eq3_difference": bounds.closed_form_difference,
        "terminal": bounds.end_point_difference,
        "wang_mao_eq3": bounds.closed_form,
        "wang_mao_eq2": bounds.logarithmic,
        "neu_without_sensitivity": bounds.neu,
    }
    sigmas = {name: bound.sigma for name, bound in list(by_name.items())[:3] if bound is not None}
    noise = _noise(config, run, runs, roles, sigmas, seed)
    return {name: None if bound is None else asdict(bound) | noise.get(name, {}) for name, bound in by_name.items()}


def _noise(
    config: Measured, run: Run, runs: omniscient.Runs, roles: Roles, sigmas: dict[str, float], seed: int
) -> dict[str, Json]:
    """What a step's noise, accumulated over all steps, does to the gap at the final weights, on the test sample."""
    W = runs.weights
    clean = omniscient.under_noise(runs, roles.test, W, 0.0, draws=1, seed=seed)
    effects = {}
    for name, sigma in sigmas.items():
        effect, deviation = {"noise_to_weight": noise_to_weight(sigma, run.steps, W)}, sigma * run.steps**0.5
        if isfinite(deviation):  # with two equal traces the noise costs nothing, and none is best
            noisy = omniscient.under_noise(runs, roles.test, W, deviation, draws=config.draws, seed=seed)
            changes = (noisy - clean).flatten()
            gamma = {"gamma": abs(changes.mean().item()), "gamma_error": changes.std().item() / len(changes) ** 0.5}
            effect |= gamma
        effects[name] = effect
    return effects


def largest_loss(runs: omniscient.Runs, test: Split) -> float:
    """Largest cross-entropy of any run on its training sample or the test sample, not clipped, in nats.

    Half of it is the R of Wang & Mao's experiments (their appendix E.1): the range that was observed, not a bound.
    """
    unclipped = ClippedCrossEntropy(1e6)
    return max(values(model, unclipped, split).max().item() for model, sample in runs for split in (sample, test))


def _spectrum(edge: Edge) -> Json:
    return {
        "largest_eigenvalue": edge.largest.item(),
        "largest_eigenvalue_error": edge.largest_error.item(),
        "smallest_eigenvalue": edge.smallest.item(),
        "smallest_eigenvalue_error": edge.smallest_error.item(),
        "spectrum": {"nodes": edge.nodes.tolist(), "weights": edge.weights.tolist()},
    }
