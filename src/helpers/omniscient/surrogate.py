"""The perturbation that the omniscient bound uses: one linear system a run, for a whole path of lambda.

The bound holds for every perturbation Delta; a good one trades the distance of W + Delta from its centre m against
what moving there costs. With nu = W - m, Peng et al.'s surrogate of that trade is

    minimise   1/2 Delta^T H Delta + g^T Delta + lambda C |nu + Delta|^2,     g = g_emp - g_pop,

where H and g_emp belong to the run's training loss at W, g_pop to held-out data, and C = 3/2 (R^2 |Tr H| / n)^{1/3} is
the factor of M^{1/3} in the bound. The unknown solved for here is e = nu + Delta, which the bound needs squared:

    (H + 2 lambda C I) e = H nu - g.

The right-hand side does not depend on lambda, so one Krylov space serves the whole path, and no difference of
large vectors is taken: at lambda = 1e9, e is ten orders of magnitude smaller than nu.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from typing import Any

import torch
from torch import Tensor, nn

from helpers._checks import positive, real, seed_of, whole
from helpers._generators import run_seed
from helpers.curvature import (
    Estimate,
    Shifted,
    choose_method,
    finite_shifts,
    gradient,
    hessian,
    hessian_operator,
    solve_shifted,
    trace,
    trace_difference,
)
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import weights
from helpers.omniscient.runs import Runs

EXACT_LIMIT = 700


class Degenerate(ValueError):
    """A run that the surrogate cannot speak of, as its curvature is zero: a result, not a wrong argument."""

    degenerate = True  # an experiment records it as a row and goes on


def path(lambdas: Iterable[float] | float) -> list[float]:
    """The trade-offs as a list; a single number is a path of one.

    Raises:
        ValueError: if there is none, or one is not positive and finite.
    """
    several = isinstance(lambdas, Iterable) and getattr(lambdas, "ndim", None) != 0  # a 0-d tensor is a number
    try:
        if isinstance(lambdas, str | bytes):  # a sequence, but of digits
            raise TypeError
        numbers = [real("lambda", lam) for lam in (lambdas if several else [lambdas])]  # type: ignore[union-attr]
    except (TypeError, ValueError) as error:
        raise ValueError(f"lambdas must be a positive number or several, got {lambdas!r:.80}") from error
    if not numbers or not all(isfinite(lam) and lam > 0 for lam in numbers):
        raise ValueError(f"lambdas must be positive and finite, and there must be one, got {numbers}")
    return numbers


@dataclass(frozen=True)
class Solver:
    """How the surrogate is solved.

    Attributes:
        method: "exact" (dense eigendecomposition), "krylov" (Hessian-vector products), or "auto": exact to d = 700.
        rtol, max_iterations: of the Krylov solve. Any Delta is valid, so an unconverged one is loose, not wrong.
        value_rtol: standard error that the traces may add to a run's bound, as a share of it. The traces enter as a
            cube root, so theirs may be three times larger, and more where the penalty dominates.
        seed: of the random trace estimators; the same along a path, so that it is smooth, and another for each run
            (``of_run``), so that the errors of runs are independent.
        most_probes: samples after which a random trace estimator stops wherever it is; the row's ``trace_error`` says
            how far it came. Noise in a trace raises the mean of its absolute value, so the bound errs upwards.
        trace_method: of ``curvature.trace``; "auto" decides anew each time, see ``settled``.
        examples: training examples of each run, its first ones, on which the surrogate is built; all unless given. Any
            Delta is valid, and what it costs is measured on the whole sample in any case.
        draws: of the noise at the best sigma, for each run, at which the flatness term is measured beside its Taylor
            form (``Row.gamma``); none unless given.
    """

    method: str = "auto"
    rtol: float = 1e-6
    max_iterations: int = 200
    value_rtol: float = 0.02
    seed: int = 0
    most_probes: int = 300
    trace_method: str = "auto"
    examples: int | None = None
    draws: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("auto", "exact", "krylov"):
            raise ValueError(f"there is no method {self.method!r}; choose auto, exact or krylov")
        if self.trace_method not in ("auto", "exact", "gauss-newton", "hutchinson"):
            raise ValueError(
                f"there is no trace_method {self.trace_method!r}; choose auto, exact, gauss-newton or hutchinson"
            )
        positive("rtol", self.rtol)
        positive("value_rtol", self.value_rtol)
        whole("max_iterations", self.max_iterations)
        whole("most_probes", self.most_probes)
        seed_of(self.seed)
        if self.examples is not None:
            whole("examples", self.examples)
        whole("draws", self.draws, least=0)

    def is_exact(self, d: int) -> bool:
        return self.method == "exact" or (self.method == "auto" and d <= EXACT_LIMIT)

    def settled(self, runs: Runs) -> "Solver":
        """The same solver with trace method "auto" decided for an architecture: exact where the solve is."""
        if self.trace_method != "auto":
            return self
        model, sample = runs.models[0], runs.samples[0]
        exact = self.is_exact(runs.weights.shape[1])
        method = "exact" if exact else choose_method(model, runs.loss, sample, seed=self.seed)[0]
        return replace(self, trace_method=method)

    def of_run(self, run: int) -> "Solver":
        """The same solver with the seed of one run."""
        return replace(self, seed=run_seed(self.seed, run))

    def seen(self, sample: Split) -> Split:
        """The part of a training sample on which the surrogate is built."""
        return sample if self.examples is None else sample.take(slice(self.examples))

    def trace(self, model: nn.Module, loss: Loss, split: Split) -> float:
        """Trace of the Hessian of the mean loss, for C."""
        return trace(model, loss, split, rtol=3 * self.value_rtol, **self._probing()).value

    def trace_term(
        self, model: nn.Module, loss: Loss, train: Split, held_out: Split | None, *, factor: float, penalty: float
    ) -> Estimate:
        """Tr H_emp - Tr H_held_out, or Tr H_emp, to the accuracy that ``factor |trace|^{1/3} + penalty`` needs."""

        def tolerance(t: float) -> float:
            return allowed_error(t, factor=factor, penalty=penalty, rtol=self.value_rtol)

        if held_out is None:
            return trace(model, loss, train, tolerance=tolerance, **self._probing())
        return trace_difference(model, loss, train, held_out, tolerance=tolerance, **self._probing())

    def _probing(self) -> dict[str, Any]:
        return {"method": self.trace_method, "most_probes": self.most_probes, "seed": self.seed}


def allowed_error(t: float, *, factor: float, penalty: float, rtol: float) -> float:
    """The s for which replacing |t| by |t| + s raises ``factor |t|^{1/3} + penalty`` by the share ``rtol``."""
    if factor == 0:
        return inf
    root = float(abs(t) ** (1 / 3))
    return (root + rtol * (root + penalty / factor)) ** 3 - abs(t)


@dataclass(frozen=True)
class Perturbation:
    """One run's perturbation, as its offset from the centre, and how it was found.

    Attributes:
        offset: e = W + Delta - m, shape (d,).
        C: the factor of M^{1/3} in the bound, from the training trace at W.
        residual: relative residual of the linear system.
        converged: the residual is within tolerance.
        negative_curvature: H + 2 lambda C I was found indefinite; the offset is then the best one before that showed.
    """

    offset: Tensor
    C: float = nan
    residual: float = nan
    converged: bool = True
    negative_curvature: bool = False


def solve_path(
    model: nn.Module,
    train: Split,
    centre: Tensor,
    population_gradient: Tensor,
    *,
    loss: Loss,
    lambdas: Sequence[float],
    solver: Solver,
) -> list[Perturbation]:
    """Solve (H + 2 lambda C I) e = H nu - (g_emp - g_pop) for every lambda, in order.

    Args:
        centre: m, shape (d,); it must not depend on this run's training sample for the bound to hold.
        population_gradient: g_pop at W, shape (d,); zeros give the self-certified variant.

    Raises:
        ValueError: if a lambda is not positive.
        Degenerate: if Tr H = 0, where C = 0 and lambda has no effect.
    """
    lambdas = path(lambdas)
    nu, n, train = weights(model) - centre, len(train), solver.seen(train)
    C = 1.5 * (loss.R**2 / n * abs(solver.trace(model, loss, train))) ** (1 / 3)
    if C == 0:
        raise Degenerate(
            "the training loss has zero curvature at W (every example clipped, or a loss linear in the weights), so "
            "C = 0 and the surrogate is singular; choose Delta by hand and use omniscient.evaluate"
        )
    shifts = [2 * lam * C for lam in lambdas]
    slope = gradient(model, loss, train) - population_gradient
    if solver.is_exact(len(nu)):
        H = hessian(model, loss, train)
        solve = solve_dense(H, H @ nu - slope, shifts)
    else:
        product = hessian_operator(model, loss, train)
        rhs = product(nu) - slope
        solve = solve_shifted(product, rhs, shifts, rtol=solver.rtol, max_iterations=solver.max_iterations)
    status = zip(solve.residuals.tolist(), solve.converged.tolist(), solve.negative_curvature.tolist(), strict=True)
    return [Perturbation(offset, C, *outcome) for offset, outcome in zip(solve.solutions, status, strict=True)]


def solve_dense(H: Tensor, rhs: Tensor, shifts: Sequence[float]) -> Shifted:
    """Solve (H + c I) x = b through the eigenvectors of H (d, d), for every shift c.

    Where H + c I is indefinite, the quadratic has no minimum; the part of x along eigenvectors with eigenvalue <= -c
    is then left at zero, and the result says so.

    Raises:
        ValueError: if a shift is not finite in the type of H.
    """
    shifts = finite_shifts(shifts, H.dtype)
    eigenvalues, vectors = torch.linalg.eigh(H)
    c = torch.as_tensor(shifts, dtype=H.dtype, device=H.device)[:, None]
    shifted = eigenvalues + c  # (shifts, d)
    positive = shifted > 0
    coordinates = torch.where(positive, vectors.T @ rhs, 0.0) / torch.where(positive, shifted, 1.0)
    solutions = coordinates @ vectors.T
    left = (rhs - solutions @ H - c * solutions).norm(dim=1).double().cpu()
    residuals = left / rhs.norm().item() if rhs.any() else left
    indefinite = (~positive).any(1).cpu()
    return Shifted(solutions, residuals, ~indefinite, indefinite, 0)
