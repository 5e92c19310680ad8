"""Perturbed networks, measured: what one row of the omniscient bound says, and how it is put together.

Every run is moved to W + Delta; its losses, traces and clipped examples there are means over one sample. They are
averaged over the k runs, the noise is chosen for the averages, and the terms are added up.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import hypot, inf, nan, sqrt

import torch
from torch import Tensor, nn

from helpers._generators import generator_from, run_seed
from helpers.curvature import Estimate, NotFiniteError, values
from helpers.data import Split
from helpers.losses import Loss, clipped_share
from helpers.models import at, weights
from helpers.omniscient.runs import Runs
from helpers.omniscient.surrogate import Perturbation, Solver
from helpers.wang_mao.isotropic import optimal_noise


@dataclass(frozen=True)
class Row:
    """The bound at one lambda; means are over the k runs.

    Attributes:
        lam: trade-off of the surrogate.
        value: information + penalty, in the units of the loss (nats for cross-entropy).
        information: trajectory + flatness at the best sigma.
        penalty: mean |change of L_S - L_val2 from W to W + Delta|.
        trajectory, flatness: A / sigma and B sigma^2.
        M: mean |W + Delta - centre|^2.
        trace_term: mean |Tr H_emp - Tr H_val2| at W + Delta.
        trace_error: standard error of that mean from the random trace estimators alone; 0 where traces are exact.
        A, B, sigma: coefficients and optimal noise a step; they scale with ``steps``, the value does not.
        C: mean factor of M^{1/3} in the surrogate.
        delta_norm: mean |Delta|.
        noise_to_weight: sigma sqrt(T d) / mean |W|; above about 1 the Taylor step of the flatness term is not credible.
        clipped_share: mean share of examples of the training sample and of val2 that clip at W + Delta.
        residual: largest relative residual of the surrogate's systems over runs.
        converged: every run's system was solved to tolerance.
        negative_curvature: some run's system was indefinite.
        standard_error: of ``value``, from the spread over runs (delta method); the runs share val and val2.
        gamma: what the flatness term stands for, |E[F(W + Delta + xi) - F(W + Delta)]| with F = L_S - L_val2 (L_S alone
            without held-out data), measured at the row's noise over all runs and draws; NaN unless ``Solver.draws``.
        gamma_error: standard error of the mean inside ``gamma``, over runs and draws.
        train_loss: mean L_S(W).
        holdout_gap: mean L_val2(W) - L_S(W), the estimate of the gap that the same data give without any bound; NaN
            where no held-out data were used.
    """

    lam: float
    value: float
    information: float
    penalty: float
    trajectory: float
    flatness: float
    M: float
    trace_term: float
    trace_error: float
    A: float
    B: float
    sigma: float
    C: float
    delta_norm: float
    noise_to_weight: float
    clipped_share: float
    residual: float
    converged: bool
    negative_curvature: bool
    standard_error: float
    gamma: float
    gamma_error: float
    train_loss: float
    holdout_gap: float

    @property
    def holdout_share(self) -> float:
        """Share of the value that is read off held-out losses (the penalty) and not bounded by information."""
        return self.penalty / self.value if self.value else 0.0

    @property
    def certificate(self) -> float:
        """L_S(W) + value: for a self-certified row, a bound on the population risk of the *perturbed* model."""
        return self.train_loss + self.value


@dataclass(frozen=True)
class _Point:
    """One run at one perturbation; ``moved`` is F there.

    Without held-out data ``loss_pop`` is NaN; F, trace and penalty are of L_S alone.
    """

    n: int
    perturbation: Perturbation
    delta_norm: float
    weight_norm: float
    loss_emp: float
    loss_pop: float
    moved: float
    squared_offset: float
    penalty: float
    trace: Estimate
    clipped: float

    @property
    def trace_term(self) -> float:
        return abs(self.trace.value)


def measured_rows(
    runs: Runs,
    val2: Split | None,
    centres: Tensor,
    paths: Sequence[Sequence[Perturbation]],
    *,
    lambdas: Sequence[float],
    steps: int,
    solver: Solver,
) -> list[Row]:
    """One row for each lambda, from every run's path of perturbations; ``val2`` is None where it is self-certified."""
    by_run = [
        measure_run(model, sample, val2, centre, path, runs.loss, solver.of_run(run))
        for run, ((model, sample), centre, path) in enumerate(zip(runs, centres, paths, strict=True))
    ]
    rows = []
    for i, (lam, points) in enumerate(zip(lambdas, zip(*by_run, strict=True), strict=True)):
        row = _row(lam, points, runs.R, steps, centres.shape[1])
        if solver.draws:
            places = centres + torch.stack([path[i].offset for path in paths])
            row = _with_noise(row, runs, val2, places, [point.moved for point in points], steps, solver)
        rows.append(row)
    return rows


def measure_run(
    model: nn.Module,
    train: Split,
    val2: Split | None,
    centre: Tensor,
    path: Sequence[Perturbation],
    loss: Loss,
    solver: Solver,
) -> list[_Point]:
    """One run at each of its perturbations: changes of loss, traces, clipped share."""
    W = weights(model)
    emp = values(model, loss, train).double().mean().item()
    pop = nan if val2 is None else values(model, loss, val2).double().mean().item()
    points = []
    for perturbation in path:
        V = centre + perturbation.offset
        squared_offset = perturbation.offset.double().square().sum().item()
        with at(model, V):
            losses = values(model, loss, train).double()
            moved, before = losses.mean().item(), emp
            if val2 is not None:
                held_out = values(model, loss, val2).double()
                moved, before = moved - held_out.mean().item(), emp - pop
                losses = torch.cat([losses, held_out])
            penalty = abs(moved - before)
            factor = 1.5 * (loss.R**2 / len(train) * squared_offset) ** (1 / 3)
            trace = solver.trace_term(model, loss, train, val2, factor=factor, penalty=penalty)
        points.append(
            _Point(
                n=len(train),
                perturbation=perturbation,
                delta_norm=(V - W).norm().item(),
                weight_norm=W.norm().item(),
                loss_emp=emp,
                loss_pop=pop,
                moved=moved,
                squared_offset=squared_offset,
                penalty=penalty,
                trace=trace,
                clipped=clipped_share(losses, loss),
            )
        )
    return points


def _with_noise(
    row: Row, runs: Runs, val2: Split | None, places: Tensor, moved: Sequence[float], steps: int, solver: Solver
) -> Row:
    """The row with its flatness term measured at its noise; ``places`` are W + Delta, (k, d), and ``moved`` F there."""
    noisy = under_noise(runs, val2, places, row.sigma * sqrt(steps), draws=solver.draws, seed=solver.seed)
    changes = (noisy - torch.tensor(moved, dtype=torch.float64)[:, None]).flatten()
    return replace(row, gamma=abs(changes.mean().item()), gamma_error=changes.std().item() / sqrt(len(changes)))


def under_noise(
    runs: Runs, held_out: Split | None, places: Tensor, deviation: float, *, draws: int, seed: int
) -> Tensor:
    """F = L_S - L_held_out (L_S alone without held-out data) at ``places`` + N(0, deviation^2 I).

    Args:
        places: (k, d).
        draws, seed: of the noise, for each run.

    Returns:
        (k, draws), float64; NaN where a noisy network's losses overflow.
    """
    result = torch.full((len(runs), draws), nan, dtype=torch.float64)
    for i, (model, sample) in enumerate(runs):
        generator = generator_from(run_seed(seed, i))
        for draw in range(draws):
            noise = torch.randn(places[i].shape, generator=generator, dtype=places.dtype).to(places.device)
            with at(model, places[i] + deviation * noise), suppress(NotFiniteError):
                F = values(model, runs.loss, sample).double().mean()
                if held_out is not None:
                    F = F - values(model, runs.loss, held_out).double().mean()
                result[i, draw] = F
    return result


def _ratio(noise: float, weight: float) -> float:
    """noise / weight, infinite where all weights are zero."""
    return noise / weight if weight > 0 else inf


def _row(lam: float, points: Sequence[_Point], R: float, steps: int, d: int) -> Row:
    """Average over runs, choose sigma, and add up."""

    def over_runs(quantity: Callable[[_Point], float]) -> Tensor:
        return torch.tensor([quantity(point) for point in points], dtype=torch.float64)

    def mean(quantity: Callable[[_Point], float]) -> float:
        return over_runs(quantity).mean().item()

    trace_term = mean(lambda p: p.trace_term)
    penalty = mean(lambda p: p.penalty)
    noise = optimal_noise(
        A=R * sqrt(mean(lambda p: p.squared_offset / p.n) / steps),
        B=steps / 2 * trace_term,
    )
    # delta method: information is proportional to (M trace)^{1/3}
    spread = over_runs(lambda p: p.penalty)
    if noise.value > 0:
        scale = mean(lambda p: p.squared_offset / p.n)
        spread = spread + noise.value / 3 * over_runs(
            lambda p: p.squared_offset / p.n / scale + p.trace_term / trace_term
        )
    return Row(
        lam=float(lam),
        value=noise.value + penalty,
        information=noise.value,
        penalty=penalty,
        trajectory=noise.trajectory,
        flatness=noise.flatness,
        M=mean(lambda p: p.squared_offset),
        trace_term=trace_term,
        trace_error=hypot(*(p.trace.standard_error for p in points)) / len(points),
        A=noise.A,
        B=noise.B,
        sigma=noise.sigma,
        C=mean(lambda p: p.perturbation.C),
        delta_norm=mean(lambda p: p.delta_norm),
        noise_to_weight=_ratio(noise.sigma * sqrt(steps * d), mean(lambda p: p.weight_norm)),
        clipped_share=mean(lambda p: p.clipped),
        residual=max(p.perturbation.residual for p in points),
        converged=all(p.perturbation.converged for p in points),
        negative_curvature=any(p.perturbation.negative_curvature for p in points),
        standard_error=spread.std().item() / sqrt(len(points)),
        gamma=nan,
        gamma_error=nan,
        train_loss=mean(lambda p: p.loss_emp),
        holdout_gap=mean(lambda p: p.loss_pop - p.loss_emp),
    )
