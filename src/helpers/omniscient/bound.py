"""The omniscient-trajectory bound (Peng et al.), estimated from k runs, and what is left of it when examined.

For an algorithm that ends at W after T steps on n examples, *any* perturbation Delta (it may depend on everything),
any centre c that does not depend on the training sample, and xi ~ N(0, T sigma^2 I):

    |gen| <= R / sigma sqrt(E|W + Delta - c|^2 / (n T))                      trajectory
             + |E[F(W + Delta + xi) - F(W + Delta)]|                         flatness
             + |E[F(W + Delta) - F(W)]|                                      penalty

with F = L_S - L_mu, the training minus the population risk. Trajectory plus flatness is called *information*. The
flatness term is taken to second order, T sigma^2 / 2 |Tr(H_emp - H_pop)|: exact for quadratic losses, a heuristic
otherwise, which ``noise_to_weight`` lets one judge.

The population is seen through held-out data: ``val`` serves to choose Delta, ``val2`` to evaluate it. Two limits must
be known before a number is believed. As lambda grows, W + Delta -> c: the information vanishes and the penalty becomes
a hold-out estimate of the gap. (The infimum of the bound over Delta is |gen| itself, for every algorithm.) As lambda
shrinks, W + Delta can leave the region where the surrogate means anything, every example clips, and the same happens.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from math import isfinite, nan, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from helpers._checks import whole
from helpers.curvature import Estimate, finite_split, finite_splits, gradient, pooled_freedom, values
from helpers.data import Split, check_disjoint
from helpers.losses import Loss
from helpers.omniscient.rows import Row, measured_rows
from helpers.omniscient.runs import Runs, models_of, names_of
from helpers.omniscient.surrogate import Perturbation, Solver, path, solve_path

Centre = Callable[[Tensor], Tensor]


# --- Centres: what W + Delta is measured from. weights (k, d) -> centres (k, d) --------------------------------------


def leave_one_out(W: Tensor) -> Tensor:
    """For each run the mean of the others: independent of the run's own sample, so the theorem applies as it stands.

    The price is E|W_i - m_-i|^2 = k/(k-1) tr Cov(W).
    """
    return (W.sum(0) - W) / (len(W) - 1)


def split_half(W: Tensor) -> Tensor:
    """For each run the mean of the half of the runs that it is not in: valid, and with two centres only.

    Raises:
        ValueError: if k is odd.
    """
    if len(W) % 2:
        raise ValueError(f"split-half needs an even number of runs, got {len(W)}; use leave_one_out")
    first, second = W.chunk(2)
    return torch.cat([second.mean(0).expand_as(first), first.mean(0).expand_as(second)])


def plain_mean(W: Tensor) -> Tensor:
    """The mean of all runs. **Not valid**: it contains W_i, hence depends on the run's own sample.

    It under-counts the variance, E|W_i - m|^2 = (k-1)/k tr Cov(W), and a Delta chosen against it moves m as well. Here
    to show by how much.
    """
    return W.mean(0).expand_as(W)


# --- The bound ------------------------------------------------------------------------------------------------------


def estimate(
    models: Sequence[nn.Module],
    train: Sequence[Any],
    val: Any,
    val2: Any,
    *,
    loss: Loss,
    lambdas: Iterable[float] | float,
    steps: int = 1,
    centre: Centre = leave_one_out,
    solver: Solver | None = None,
    **settings: Any,
) -> list[Row]:
    """The bound for each lambda, in order (Peng et al., Theorem 2, as restated above).

    Args:
        models: k >= 2 trained models in evaluation mode; left as they were found.
        train: the k training samples, of one size.
        val: held-out examples that build Delta (population gradient).
        val2: other held-out examples that evaluate it (population loss and trace).
        loss: the evaluation loss, with its constant R.
        lambdas: trade-offs of the surrogate, positive.
        steps: T; the value does not depend on it.
        centre: ``leave_one_out`` or ``split_half``.
        solver: how Delta is found and measured.
        settings: those of ``Solver`` where none is given: ``method``, ``rtol``, ``seed``, ...

    Raises:
        ValueError: if k < 2, a model is in training mode or has weights that are not finite, sizes of samples differ,
            splits overlap, a lambda is not positive, or the training curvature is exactly zero.
    """
    runs, lambdas, solver = Runs(models, train, loss), path(lambdas), _solver(solver, settings)
    return estimate_on(runs, val, val2, lambdas=lambdas, steps=steps, centre=centre, solver=solver)


def estimate_on(
    runs: Runs,
    val: Split,
    val2: Split,
    *,
    lambdas: Iterable[float] | float,
    steps: int = 1,
    centre: Centre = leave_one_out,
    solver: Solver,
) -> list[Row]:
    """``estimate`` for runs that have been checked already; arguments and errors as there."""
    val, val2 = finite_split(val, "val"), finite_split(val2, "val2")
    check_disjoint(*runs.samples, val, val2, names=[*runs.names, "val", "val2"])
    population = [gradient(model, runs.loss, val) for model in runs.models]
    return _rows(runs, _centres(centre, runs.weights), population, val2, path(lambdas), steps, solver)


def self_certified(
    models: Sequence[nn.Module],
    train: Sequence[Any],
    *,
    loss: Loss,
    lambdas: Iterable[float] | float,
    steps: int = 1,
    centre: Centre = leave_one_out,
    solver: Solver | None = None,
    **settings: Any,
) -> list[Row]:
    """The variant without held-out data: Delta from the training gradient alone, population terms left out.

    What it certifies is the *perturbed* model: E L_mu(W + Delta + xi) <= E L_S(W) + value (``Row.certificate``), up to
    the Taylor step. For W itself one needs, on top, that the noise does not lower the population risk. It still uses
    the other runs, through the centre. Arguments and errors as in ``estimate``.
    """
    runs, lambdas, solver = Runs(models, train, loss), path(lambdas), _solver(solver, settings)
    return self_certified_on(runs, lambdas=lambdas, steps=steps, centre=centre, solver=solver)


def self_certified_on(
    runs: Runs,
    *,
    lambdas: Iterable[float] | float,
    steps: int = 1,
    centre: Centre = leave_one_out,
    solver: Solver,
) -> list[Row]:
    """``self_certified`` for runs that have been checked already; arguments and errors as there."""
    check_disjoint(*runs.samples, names=runs.names)
    centres = _centres(centre, runs.weights)
    return _rows(runs, centres, torch.zeros_like(centres), None, path(lambdas), steps, solver)


def evaluate(
    models: Sequence[nn.Module],
    train: Sequence[Any],
    val2: Any,
    perturbations: Tensor,
    *,
    loss: Loss,
    steps: int = 1,
    centre: Centre = leave_one_out,
    solver: Solver | None = None,
    **settings: Any,
) -> Row:
    """The bound at perturbations Delta of your own, shape (k, d), chosen without looking at ``val2``.

    The theorem allows any. ``centre(W) - W`` is the limit of large lambda; zeros give the isotropic terminal bound, but
    for the factor (k / (k - 1))^(1/3) that a leave-one-out centre costs. In the row, ``lam``, ``C`` and
    ``residual`` are NaN.

    Raises:
        ValueError: as ``estimate``, or if the perturbations have another shape than the weights.
    """
    runs, solver, val2 = Runs(models, train, loss), _solver(solver, settings), finite_split(val2, "val2")
    check_disjoint(*runs.samples, val2, names=[*runs.names, "val2"])
    whole("steps", steps)
    W = runs.weights
    if not isinstance(perturbations, Tensor) or perturbations.shape != W.shape:
        got = tuple(perturbations.shape) if isinstance(perturbations, Tensor) else f"a {type(perturbations).__name__}"
        raise ValueError(f"give one perturbation a run, a tensor of shape {tuple(W.shape)}, got {got}")
    centres = _centres(centre, W)
    paths = [[Perturbation(offset)] for offset in W + perturbations - centres]
    return measured_rows(runs, val2, centres, paths, lambdas=[nan], steps=steps, solver=solver.settled(runs))[0]


def _centres(centre: Centre, W: Tensor) -> Tensor:
    """The centre of each run, (k, d); ValueError if the function gives anything else."""
    if not callable(centre):
        raise ValueError(f"centre must be a function of the weights (k, d), got a {type(centre).__name__}")
    centres = centre(W)
    if not isinstance(centres, Tensor) or centres.shape != W.shape or not bool(torch.isfinite(centres).all()):
        got = f"shape {tuple(centres.shape)}" if isinstance(centres, Tensor) else f"a {type(centres).__name__}"
        raise ValueError(f"centre must give a finite tensor, one row a run, of shape {tuple(W.shape)}, got {got}")
    return centres


def _solver(solver: Solver | None, settings: dict[str, Any]) -> Solver:
    """The solver given, or one of these settings; both at once would contradict each other."""
    if solver is not None and settings:
        raise ValueError(f"give either solver= or its settings, not both; got solver and {', '.join(settings)}")
    unknown = sorted(settings.keys() - {field.name for field in fields(Solver)})
    if unknown:
        known = ", ".join(field.name for field in fields(Solver))
        raise ValueError(f"there is no setting {', '.join(unknown)}; a solver has {known}")
    return solver or Solver(**settings)


def _rows(
    runs: Runs,
    centres: Tensor,
    population: Sequence[Tensor] | Tensor,
    val2: Split | None,
    lambdas: Sequence[float],
    steps: int,
    solver: Solver,
) -> list[Row]:
    """Every run's path of perturbations, from the population gradients (k, d), and one row for each lambda."""
    whole("steps", steps)
    solver = solver.settled(runs)
    paths = [
        solve_path(model, sample, centre, g, loss=runs.loss, lambdas=lambdas, solver=solver.of_run(run))
        for run, ((model, sample), centre, g) in enumerate(zip(runs, centres, population, strict=True))
    ]
    return measured_rows(runs, val2, centres, paths, lambdas=lambdas, steps=steps, solver=solver)


def gap(models: Sequence[nn.Module], train: Sequence[Any], test: Any, *, loss: Loss) -> Estimate:
    """Measured generalization gap: test loss minus training loss, mean over the k runs.

    The standard error adds, in quadrature, that of the mean over runs and that of the test sample which they share
    (the spread over examples of the run-averaged loss). It is NaN for a single run, and where neither runs nor
    examples differ: samples without a mistake do not say how seldom mistakes are.

    Raises:
        ValueError: if the test split shares examples with a training split, or their number differs from the models'.
    """
    models, train = models_of(models), finite_splits(train, "train")
    if len(models) != len(train):
        raise ValueError(f"there are {len(models)} models but {len(train)} training splits; give one split a model")
    names = names_of(len(train))
    test = finite_split(test, "test")
    check_disjoint(*train, test, names=[*names, "test"])
    trained = torch.stack(
        [values(model, loss, sample).double().mean() for model, sample in zip(models, train, strict=True)]
    )
    tested = torch.stack([values(model, loss, test).double() for model in models])  # (k, test examples)
    gaps = tested.mean(1) - trained
    over_runs = gaps.var().item() / len(gaps) if len(gaps) > 1 else nan
    over_examples = tested.mean(0).var().item() / len(test) if len(test) > 1 else nan
    freedom = pooled_freedom([over_runs, over_examples], [max(len(gaps) - 1, 1), max(len(test) - 1, 1)])
    error = sqrt(over_runs + over_examples) or nan
    return Estimate(gaps.mean().item(), error, len(gaps), "runs", freedom=freedom)


def majorise_minimise_lambda(M: float) -> float:
    """The lambda that makes the surrogate one majorise-minimise step on M^{1/3} from the current M: M^{-2/3} / 3.

    M^{1/3} is concave, so its tangent at M, which has this slope, lies above it and touches it there.

    Raises:
        ValueError: if M is not positive and finite.
    """
    if not (isfinite(M) and M > 0):
        raise ValueError(f"M must be positive and finite, got {M}")
    return float(M ** (-2 / 3) / 3)
