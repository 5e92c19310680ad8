"""Every bound of the book on runs of your own, side by side, with what it needs and what speaks against it.

``helpers.bounds`` is the function ``bounds`` of this module.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import hypot, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from helpers import langevin, omniscient, plots, supersample
from helpers._tensors import floats_of
from helpers.curvature import Estimate, admitted, check_model, finite_split, finite_splits
from helpers.data import Split, check_disjoint
from helpers.losses import ClippedCrossEntropy, Loss, ZeroOneError
from helpers.measurement import (
    IsotropicBounds,
    Recorded,
    Traces,
    TraceTerm,
    beside_weights,
    clipped_shares,
    error_over_runs,
    losses_by_run,
    noise_to_weight,
    warnings,
)
from helpers.omniscient import Row, Solver
from helpers.training import Run
from helpers.training.bar import Bar
from helpers.wang_mao import Isotropic

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

LAMBDA_PATH = (1.0, 10.0, 100.0, 1000.0)
RETRAINING = "retrainings"
HELD_OUT_LOSSES = "retrainings, held-out losses"
HELD_OUT_CURVATURE = "retrainings, held-out curvature"
HELD_OUT_GRADIENTS = "retrainings, held-out losses, gradients and curvature"
NOTHING = "none"
BY_NEED = (NOTHING, RETRAINING, HELD_OUT_LOSSES, HELD_OUT_CURVATURE, HELD_OUT_GRADIENTS)
PERTURBED = "loss, perturbed network"
MOST_READ_OFF = 0.5  # share of a bound that is no bound but a hold-out estimate


@dataclass(frozen=True)
class NamedBound:
    """One bound on the gap of one loss.

    Attributes:
        name: what the book calls it, with its lambda where it has one.
        value: in the units of the loss; NaN where it does not exist, which ``warnings`` explains.
        standard_error: of the value, from the spread over runs; for the counted bound by the jackknife, else by the
            delta method. The isotropic bounds but for those of the end point take the dispersion as it is, since a run
            records its sum over runs alone. None where nothing tells.
        sigma: standard deviation of the noise of a step; None for a bound without noise.
        needs: what it uses beside one run and its training sample.
        loss: whose gap it bounds: "loss", the one that was given; the same of the perturbed and noisy network, less the
            training loss of the network itself (self-certified bounds); or "0-1 error".
        warnings: what speaks against a conclusion from it; empty if nothing does.
        result: the bound as its module returns it, with all its terms; None where that is no more than the value.
    """

    name: str
    value: float
    standard_error: float | None
    sigma: float | None
    needs: str
    loss: str
    warnings: tuple[str, ...]
    result: Any


@dataclass(frozen=True)
class Comparison:
    """All bounds on the same runs, beside the gaps that they are about. Iterate over its rows, or ask by name.

    Attributes:
        rows: the bounds, those that need least data first.
        gap: of the loss, test minus training.
        error_gap: of the 0-1 error; None where targets are not one class an example, as in regression.
        holdout_gap: the gap of the loss as val2 shows it: what the same held-out data say without any bound.
        train_losses: mean of each run, (k,), float64.
        train_errors, test_errors: mean of each run, (k,), float64; None as ``error_gap``.
        traces: of every run's Hessian.
        k, n, steps: runs, examples of each, and updates.
        R: sub-Gaussian constant of the loss; a bounded one has the range 2 R.
    """

    rows: tuple[NamedBound, ...]
    gap: Estimate
    error_gap: Estimate | None
    holdout_gap: Estimate
    train_losses: Tensor
    train_errors: Tensor | None
    test_errors: Tensor | None
    traces: Traces
    k: int
    n: int
    steps: int
    R: float

    def __iter__(self) -> Iterator[NamedBound]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> NamedBound:
        """The bound of that name.

        Raises:
            KeyError: if there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"there is no bound {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Gaps and bounds as numbers and texts; a result is a dictionary of its fields."""
        estimates = {"gap": self.gap, "error_gap": self.error_gap, "holdout_gap": self.holdout_gap}
        gaps = {name: None if one is None else asdict(one) for name, one in estimates.items()}
        rows = [asdict(row) | {"result": None if row.result is None else asdict(row.result)} for row in self.rows]
        return {**gaps, "bounds": rows}

    def frame(self) -> "pandas.DataFrame":
        """One line a bound, without its ``result``; warnings as one text.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("a frame needs pandas, which is not installed: pip install pandas") from error
        lines = [asdict(replace(row, result=None)) | {"warnings": "; ".join(row.warnings)} for row in self.rows]
        return pandas.DataFrame([{key: entry for key, entry in line.items() if key != "result"} for line in lines])

    def table(self) -> plots.Table:
        """What a notebook shows: the gaps first, then the bounds."""
        measured = [
            ("gap, measured", self.gap, "loss"),
            ("gap on val2", self.holdout_gap, "loss"),
            *([("gap of the 0-1 error", self.error_gap, "0-1 error")] if self.error_gap is not None else []),
        ]
        lines: list[dict[str, Any]] = [
            {"": name, "value": gap, "gap of": loss, "sigma": None, "needs beside training data": "", "warnings": ""}
            for name, gap, loss in measured
        ]
        for row in self.rows:
            value = (row.value, row.standard_error) if row.standard_error is not None else row.value
            lines.append(
                {
                    "": row.name,
                    "value": None if isnan(row.value) else value,
                    "gap of": row.loss,
                    "sigma": row.sigma,
                    "needs beside training data": row.needs,
                    "warnings": "; ".join(row.warnings),
                }
            )
        return plots.table(
            lines,
            caption=f"k = {self.k} runs of n = {self.n} examples and {self.steps} steps; in units of the loss, of "
            f"range 2R = {2 * self.R:.3g}; sigma is the noise of a step.",
        )

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.table())


def bounds(
    run: Run,
    val: Any,
    val2: Any,
    test: Any,
    *,
    train: Iterable[Any],
    loss: Loss | None = None,
    lambdas: Iterable[float] | float = LAMBDA_PATH,
    solver: Solver | None = None,
    incoherence: Tensor | None = None,
) -> Comparison:
    """Every bound of the book on k runs, as one table. On a terminal and in a notebook a bar shows how far it is.

    Args:
        run: k >= 2 trained models and the record of their way, as ``training.train_ensemble`` returns them. For models
            that were trained elsewhere: a ``training.Run`` of them and of the dispersion of each step.
        val: held-out examples that the omniscient perturbation is built on.
        val2: other held-out examples that judge it; their Hessian stands for the population's.
        test: examples that show the gap, and that nothing else but the counted bound uses.
        train: the k disjoint training samples, in the order of the models. Every sample is a ``data.Split`` or what
            ``data.as_split`` takes.
        loss: the evaluation loss with its constant R; unless given, cross-entropy clipped for as many classes as the
            splits together hold. Bounds on the 0-1 error are left out where targets are not one class an example.
        lambdas: trade-offs of the omniscient bound and of its self-certified variant, a row for each.
        solver: how perturbations are found and traces estimated; the defaults of ``omniscient.Solver`` unless given.
        incoherence: (k, n), of runs whose training added noise (``langevin.Walk.incoherence``), which then have a bound
            of their own.

    Raises:
        ValueError: as ``omniscient.estimate``; if test shares examples with another split, the run does not hold the
            dispersion of each of its steps, incoherence is not of shape (k, n), or targets are no classes and there is
            no loss. What is wrong with a sample is said with its name.
    """
    if not isinstance(run, Run):
        raise ValueError(f"run must be a training.Run, of models and their record, got {type(run).__name__}")
    if (of := tuple(getattr(run.step_dispersion, "shape", ()))) != (run.steps,):
        raise ValueError(f"run.step_dispersion must be a tensor, one entry for each of the {run.steps} steps; got {of}")
    train = finite_splits(train, "train")
    val, val2, test = (finite_split(split, name) for split, name in ((val, "val"), (val2, "val2"), (test, "test")))
    classes = max(split.classes for split in (*train, val, val2, test))
    by_class = not test.targets.is_floating_point() and test.targets.ndim == 1
    if loss is None and not by_class:
        raise ValueError("the targets are not one class an example; give loss=, a loss with its constant R")
    loss = loss or ClippedCrossEntropy.per_class(classes)
    solver, wrong = solver or Solver(), ZeroOneError()
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be an omniscient.Solver, got {type(solver).__name__}")
    runs = omniscient.Runs(run.models, train, loss)
    incoherence = None if incoherence is None else floats_of("incoherence", incoherence)
    if incoherence is not None and incoherence.shape != (len(runs), runs.n):
        raise ValueError(
            f"incoherence must hold a row for each of the {len(runs)} runs and a column for each of their {runs.n} "
            f"examples, got shape {tuple(incoherence.shape)}"
        )
    _check_fit(runs, {"val": val, "val2": val2, "test": test})
    check_disjoint(*runs.samples, val, val2, test, names=[*runs.names, "val", "val2", "test"])
    path = omniscient.surrogate.path(lambdas)
    passes = 5 + (2 * len(path) if solver.draws else 0)  # traces; then solve and measure twice, and each row's noise
    with Bar(total=passes * len(runs), name="bounds", unit="part", disable=None, leave=False) as bar:
        told = replace(runs, tell=bar.advance)
        traces = Traces.of(told, val2, rtol=3 * solver.value_rtol, most_probes=solver.most_probes, seed=solver.seed)
        certified = omniscient.self_certified_on(told, lambdas=path, steps=run.steps, solver=solver)
        estimated = omniscient.estimate_on(told, val, val2, lambdas=path, steps=run.steps, solver=solver)
    train_errors = losses_by_run(runs.models, runs.samples, wrong) if by_class else None
    test_errors = losses_by_run(runs.models, [test] * len(runs), wrong) if by_class else None
    rows = [
        *isotropic_rows(run, runs, traces, val2),
        *(_self_certified(row, runs.R) for row in certified),
        *(_omniscient(row, runs.R) for row in estimated),
    ]
    rows = [replace(row, warnings=(*row.warnings, *beside_weights(runs.models))) for row in rows]
    if train_errors is not None and test_errors is not None:
        rows.append(_counted(train_errors, test_errors))
        if incoherence is not None:
            rows.append(_langevin(incoherence, runs.n))
    return Comparison(
        tuple(sorted(rows, key=lambda row: BY_NEED.index(row.needs))),
        gap=omniscient.gap(runs.models, runs.samples, test, loss=loss),
        error_gap=omniscient.gap(runs.models, runs.samples, test, loss=wrong) if by_class else None,
        holdout_gap=omniscient.gap(runs.models, runs.samples, val2, loss=loss),
        train_losses=losses_by_run(runs.models, runs.samples, loss),
        train_errors=train_errors,
        test_errors=test_errors,
        traces=traces,
        k=len(runs),
        n=runs.n,
        steps=run.steps,
        R=runs.R,
    )


def _check_fit(runs: omniscient.Runs, held_out: Mapping[str, Split]) -> None:
    """Refuse a sample that the networks or the loss do not take, by its name."""
    check_model(runs.models[0])
    for name, sample in {**dict(zip(runs.names, runs.samples, strict=True)), **held_out}.items():
        try:
            admitted(runs.models[0], runs.loss, sample)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def isotropic_rows(run: Recorded, runs: omniscient.Runs, traces: Traces, held_out: Split) -> list[NamedBound]:
    """The bounds that know only dispersion, end points and traces; those of the differences are with ``held_out``."""
    training = torch.tensor([one.value for one in traces.training], dtype=torch.float64)
    outside = torch.tensor([one.value for one in traces.held_out], dtype=torch.float64)
    isotropic = IsotropicBounds.of(run, runs, traces.mean_training.value, traces.mean_held_out.value)
    at_own, at_both = clipped_shares(runs, held_out)

    def row(name: str, bound: Isotropic | None, needs: str, trace: TraceTerm, ends: Tensor | None = None) -> NamedBound:
        if bound is None:
            reason = "the training trace is negative, and has no root"
            return NamedBound(name, nan, None, None, needs, "loss", (reason,), None)
        point = {
            "noise_to_weight": noise_to_weight(bound.sigma, run.steps, runs.weights),
            "clipped_share": trace.clipped,
            "trace_term": abs(trace.by_run.mean().item()),
            "trace_error": trace.error,
            "flatness": bound.flatness,
            "value": bound.value,
        }
        error = error_over_runs(bound, trace.by_run, ends)
        against = (*warnings(point), *vacuous(bound.value, runs.R))
        return NamedBound(name, bound.value, error, bound.sigma, needs, "loss", against, bound)

    own_error, outside_error = traces.mean_training.standard_error, traces.mean_held_out.standard_error
    alone = TraceTerm(training, own_error, at_own)
    apart = TraceTerm(training - outside, hypot(own_error, outside_error), at_both)
    ends = (runs.weights - runs.weights.mean(0)).square().sum(1)
    return [
        row("closed form", isotropic.closed_form, RETRAINING, alone),
        row("logarithmic form", isotropic.logarithmic, RETRAINING, alone),
        row("Neu et al., without sensitivity", isotropic.neu, RETRAINING, alone),
        row("end point", isotropic.end_point, RETRAINING, alone, ends),
        row("closed form, difference of traces", isotropic.closed_form_difference, HELD_OUT_CURVATURE, apart),
        row("end point, difference of traces", isotropic.end_point_difference, HELD_OUT_CURVATURE, apart, ends),
    ]


def vacuous(value: float, R: float) -> list[str]:
    """The sentence that a bound deserves that lies above the range of a bounded loss, 2 R."""
    return [] if value < 2 * R else ["above the range of the loss: it says nothing"]


def _self_certified(row: Row, R: float) -> NamedBound:
    rises = "more than half of it is the rise of the training loss, to that of the other runs' networks"
    against = (*warnings(asdict(row)), *vacuous(row.value, R), *([rises] if row.holdout_share > MOST_READ_OFF else []))
    name = f"self-certified, lambda {row.lam:g}"
    return NamedBound(name, row.value, row.standard_error, row.sigma, RETRAINING, PERTURBED, against, row)


def _omniscient(row: Row, R: float) -> NamedBound:
    read_off = ["more than half of it is read off held-out losses"] if row.holdout_share > MOST_READ_OFF else []
    against = (*warnings(asdict(row)), *vacuous(row.value, R), *read_off)
    name = f"omniscient, lambda {row.lam:g}"
    return NamedBound(name, row.value, row.standard_error, row.sigma, HELD_OUT_GRADIENTS, "loss", against, row)


def _counted(train_errors: Tensor, test_errors: Tensor) -> NamedBound:
    counted = supersample.counted(train_errors, test_errors)
    against, error = tuple(vacuous(counted.value, ZeroOneError().R)), counted.standard_error
    return NamedBound("counted", counted.value, error, None, HELD_OUT_LOSSES, "0-1 error", against, counted)


def _langevin(incoherence: Tensor, n: int) -> NamedBound:
    value = langevin.leave_one_out(langevin.expected(incoherence), n=n, R=(R := ZeroOneError().R))
    means = incoherence.double().mean(1)  # the bound is proportional to the root of their mean
    error = value / 2 * (means.std() / means.mean()).item() / sqrt(len(means)) if value > 0 else 0.0
    against = tuple(vacuous(value, R))
    return NamedBound("Langevin, leave one out", value, error, None, NOTHING, "0-1 error", against, None)
