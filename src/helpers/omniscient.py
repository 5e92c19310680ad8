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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, isfinite, nan, sqrt

import torch
from torch import Tensor, nn

from helpers.curvature import Estimate, gradient, values
from helpers.data import Split, check_disjoint
from helpers.losses import Loss, clipped_share
from helpers.models import at, weights
from helpers.surrogate import Perturbation, Solver, solve_path
from helpers.wang_mao import optimal_noise

Centre = Callable[[Tensor], Tensor]


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
    train: Sequence[Split],
    val: Split,
    val2: Split,
    *,
    loss: Loss,
    lambdas: Sequence[float],
    steps: int = 1,
    method: str = "auto",
    rtol: float = 1e-6,
    seed: int = 0,
    centre: Centre = leave_one_out,
    max_iterations: int = 200,
    value_rtol: float = 0.02,
) -> list[Row]:
    """The bound for each lambda, in order (Peng et al., Theorem 2, as restated above).

    Args:
        models: k >= 2 trained models in evaluation mode; left as they were found.
        train: the k training samples.
        val: held-out examples that build Delta (population gradient).
        val2: other held-out examples that evaluate it (population loss and trace).
        loss: the evaluation loss, with its constant R.
        lambdas: trade-offs of the surrogate, positive.
        steps: T; the value does not depend on it.
        method, rtol, max_iterations, value_rtol, seed: see ``surrogate.Solver``.
        centre: ``leave_one_out`` or ``split_half``.

    Raises:
        ValueError: if k < 2, a model is in training mode or has weights that are not finite, splits overlap, a lambda
            is not positive, or the training curvature is exactly zero.
    """
    W = _weights(models, train, steps)
    check_disjoint(*train, val, val2)
    solver = Solver(method, rtol, max_iterations, value_rtol, seed).settled(models[0], loss, train[0])
    centres = centre(W)
    paths = [
        solve_path(model, own, m, gradient(model, loss, val), loss=loss, lambdas=lambdas, solver=solver)
        for model, own, m in zip(models, train, centres, strict=True)
    ]
    return _rows(models, train, val2, centres, paths, loss=loss, lambdas=lambdas, steps=steps, solver=solver)


def self_certified(
    models: Sequence[nn.Module],
    train: Sequence[Split],
    *,
    loss: Loss,
    lambdas: Sequence[float],
    steps: int = 1,
    method: str = "auto",
    rtol: float = 1e-6,
    seed: int = 0,
    centre: Centre = leave_one_out,
    max_iterations: int = 200,
    value_rtol: float = 0.02,
) -> list[Row]:
    """The variant without held-out data: Delta from the training gradient alone, population terms left out.

    What it certifies is the *perturbed* model: E L_mu(W + Delta + xi) <= E L_S(W) + value (``Row.certificate``), up to
    the Taylor step. For W itself one needs, on top, that the noise does not lower the population risk. It still uses
    the other runs, through the centre. Arguments and errors as in ``estimate``.
    """
    W = _weights(models, train, steps)
    check_disjoint(*train)
    solver = Solver(method, rtol, max_iterations, value_rtol, seed).settled(models[0], loss, train[0])
    centres = centre(W)
    paths = [
        solve_path(model, own, m, torch.zeros_like(m), loss=loss, lambdas=lambdas, solver=solver)
        for model, own, m in zip(models, train, centres, strict=True)
    ]
    return _rows(models, train, None, centres, paths, loss=loss, lambdas=lambdas, steps=steps, solver=solver)


def evaluate(
    models: Sequence[nn.Module],
    train: Sequence[Split],
    val2: Split,
    perturbations: Tensor,
    *,
    loss: Loss,
    steps: int = 1,
    method: str = "auto",
    seed: int = 0,
    centre: Centre = leave_one_out,
    value_rtol: float = 0.02,
) -> Row:
    """The bound at perturbations Delta of your own, shape (k, d), chosen without looking at ``val2``.

    The theorem allows any. ``centre(W) - W`` is the limit of large lambda; zeros give the isotropic terminal bound. In
    the row, ``lam``, ``C`` and ``residual`` are NaN.

    Raises:
        ValueError: as ``estimate``, or if the perturbations have another shape than the weights.
    """
    W = _weights(models, train, steps)
    check_disjoint(*train, val2)
    if perturbations.shape != W.shape:
        raise ValueError(f"give one perturbation a run, shape {tuple(W.shape)}, got {tuple(perturbations.shape)}")
    centres = centre(W)
    paths = [[Perturbation(offset)] for offset in W + perturbations - centres]
    solver = Solver(method, value_rtol=value_rtol, seed=seed).settled(models[0], loss, train[0])
    return _rows(models, train, val2, centres, paths, loss=loss, lambdas=[nan], steps=steps, solver=solver)[0]


def gap(models: Sequence[nn.Module], train: Sequence[Split], test: Split, *, loss: Loss) -> Estimate:
    """Measured generalization gap: test loss minus training loss, mean over the k runs.

    The standard error adds, in quadrature, that of the mean over runs and that of the test sample which they share
    (the spread over examples of the run-averaged loss). It is NaN for a single run.

    Raises:
        ValueError: if the test split shares examples with a training split, or their number differs from the models'.
    """
    check_disjoint(*train, test)
    trained = torch.stack([values(model, loss, own).double().mean() for model, own in zip(models, train, strict=True)])
    tested = torch.stack([values(model, loss, test).double() for model in models])  # (k, test examples)
    gaps = tested.mean(1) - trained
    over_runs = gaps.var().item() / len(gaps) if len(gaps) > 1 else nan
    over_examples = tested.mean(0).var().item() / len(test) if len(test) > 1 else nan
    return Estimate(gaps.mean().item(), sqrt(over_runs + over_examples), len(gaps), "runs")


def majorise_minimise_lambda(M: float) -> float:
    """The lambda that makes the surrogate one majorise-minimise step on M^{1/3} from the current M: M^{-2/3} / 3.

    M^{1/3} is concave, so its tangent at M, which has this slope, lies above it and touches it there.

    Raises:
        ValueError: if M is not positive and finite.
    """
    if not (isfinite(M) and M > 0):
        raise ValueError(f"M must be positive and finite, got {M}")
    return float(M ** (-2 / 3) / 3)


# --- Measure every perturbed model, then average over runs -----------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    """One run at one perturbation. Without held-out data ``loss_pop`` is NaN, trace and penalty are of L_S alone."""

    n: int
    found: Perturbation
    delta_norm: float
    weight_norm: float
    loss_emp: float
    loss_pop: float
    squared_offset: float
    penalty: float
    trace: Estimate
    clipped: float

    @property
    def trace_term(self) -> float:
        return abs(self.trace.value)


def _weights(models: Sequence[nn.Module], train: Sequence[Split], steps: int) -> Tensor:
    """The weights of the k runs, (k, d), after checking what all bounds here assume."""
    if len(models) < 2:
        raise ValueError(f"the bound needs k >= 2 independent runs to estimate a variance, got {len(models)}")
    if len(models) != len(train):
        raise ValueError(f"there are {len(models)} models but {len(train)} training splits; give one split a model")
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {steps}")
    vectors = [weights(model) for model in models]
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("the runs have different numbers of weights; give k models of one architecture")
    W = torch.stack(vectors)
    if not torch.isfinite(W).all():
        raise ValueError("the weights of a run are not finite: it diverged, so there is nothing to bound")
    return W


def _rows(
    models: Sequence[nn.Module],
    train: Sequence[Split],
    val2: Split | None,
    centres: Tensor,
    paths: list[list[Perturbation]],
    *,
    loss: Loss,
    lambdas: Sequence[float],
    steps: int,
    solver: Solver,
) -> list[Row]:
    by_run = [
        _measure(model, own, val2, centre, path, loss, solver)
        for model, own, centre, path in zip(models, train, centres, paths, strict=True)
    ]
    d = centres.shape[1]
    return [_row(lam, points, loss.R, steps, d) for lam, points in zip(lambdas, zip(*by_run, strict=True), strict=True)]


def _measure(
    model: nn.Module,
    train: Split,
    val2: Split | None,
    centre: Tensor,
    path: list[Perturbation],
    loss: Loss,
    solver: Solver,
) -> list[_Point]:
    """One run at each of its perturbations: changes of loss, traces, clipped share."""
    W = weights(model)
    emp = values(model, loss, train).double().mean().item()
    pop = nan if val2 is None else values(model, loss, val2).double().mean().item()
    points = []
    for found in path:
        V = centre + found.offset
        squared_offset = found.offset.double().square().sum().item()
        with at(model, V):
            losses = values(model, loss, train).double()
            change = losses.mean().item() - emp
            if val2 is not None:
                held_out = values(model, loss, val2).double()
                change -= held_out.mean().item() - pop
                losses = torch.cat([losses, held_out])
            factor = 1.5 * (loss.R**2 / len(train) * squared_offset) ** (1 / 3)
            trace = solver.trace_term(model, loss, train, val2, factor=factor, penalty=abs(change))
        points.append(
            _Point(
                n=len(train),
                found=found,
                delta_norm=(V - W).norm().item(),
                weight_norm=W.norm().item(),
                loss_emp=emp,
                loss_pop=pop,
                squared_offset=squared_offset,
                penalty=abs(change),
                trace=trace,
                clipped=clipped_share(losses, loss),
            )
        )
    return points


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
        C=mean(lambda p: p.found.C),
        delta_norm=mean(lambda p: p.delta_norm),
        noise_to_weight=noise.sigma * sqrt(steps * d) / mean(lambda p: p.weight_norm),
        clipped_share=mean(lambda p: p.clipped),
        residual=max(p.found.residual for p in points),
        converged=all(p.found.converged for p in points),
        negative_curvature=any(p.found.negative_curvature for p in points),
        standard_error=spread.std().item() / sqrt(len(points)),
        train_loss=mean(lambda p: p.loss_emp),
        holdout_gap=mean(lambda p: p.loss_pop - p.loss_emp),
    )
