"""(H + c I) x = b for many shifts c from one Krylov space: what a whole path of lambda costs is one solve."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from torch import Tensor

from helpers._checks import no_text, positive, real, whole
from helpers._tensors import floats_of
from helpers.curvature.krylov import Lanczos, Matvec


@dataclass(frozen=True)
class Shifted:
    """Solutions of (H + c I) x = b, one for each shift c.

    Attributes:
        solutions: shape (shifts, d).
        residuals: ||b - (H + c I) x|| / ||b||, shape (shifts,), float64: computed from the solutions, by one closing
            product each, because the recurrence's own residual falls on when rounding has stopped the true one.
        converged: that residual is within rtol, shape (shifts,), bool.
        negative_curvature: H + c I was found indefinite, shape (shifts,), bool; the solution is then the last
            conjugate-gradient iterate before it showed (x = 0 if it showed at once).
        iterations: dimension of the Krylov space; the closing products come on top.
    """

    solutions: Tensor
    residuals: Tensor
    converged: Tensor
    negative_curvature: Tensor
    iterations: int


def solve_shifted(
    matvec: Matvec, rhs: Tensor, shifts: Sequence[float], *, rtol: float = 1e-6, max_iterations: int = 200
) -> Shifted:
    """Conjugate gradients for every shift at once: one product with H an iteration, whatever the number of shifts.

    All H + c I share the Krylov spaces of H. The j-th conjugate-gradient iterate is V_j y with (T_j + c I) y =
    ||b|| e_1; with the pivots p_1, p_2, ... of T + c I, its residual norm is ||b|| prod_i (t_{i+1,i} / p_i), and a
    pivot that is not positive is negative curvature. Iterates until every shift has converged or shown negative
    curvature, or the cap is reached.

    Args:
        matvec: product with a symmetric H, (d,) to (d,).
        rhs: b, shape (d,).
        shifts: the values c.
        rtol: on the residual relative to ||b||.
        max_iterations: cap on products; a shift that needs more is reported as not converged.

    Raises:
        ValueError: if there is no shift, a shift is not finite in the type of b, b is no finite vector, rtol is not
            positive, or max_iterations no whole number from 1.
    """
    rhs = floats_of("rhs", rhs)
    if rhs.ndim != 1:
        raise ValueError(f"rhs must be a finite vector of shape (d,), got shape {tuple(rhs.shape)}")
    if not callable(matvec):
        raise ValueError(f"matvec must be a function, such as lambda v: H @ v, got a {type(matvec).__name__}")
    shifts = finite_shifts(shifts, rhs.dtype)
    rtol, max_iterations = positive("rtol", rtol), whole("max_iterations", max_iterations)
    count = len(shifts)
    if not rhs.any():
        nothing, zero = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.float64)
        return Shifted(rhs.new_zeros(count, len(rhs)), zero, ~nothing, nothing, 0)
    krylov = Lanczos(matvec, rhs)
    systems = [_ShiftedSystem(float(shift)) for shift in shifts]
    while krylov.size < max_iterations and not krylov.exhausted:
        krylov.extend()
        for system in systems:
            system.advance(krylov)
        if all(system.indefinite or system.residual <= rtol for system in systems):
            break
    norm = rhs.norm().item()
    coefficients = np.stack([system.coefficients(krylov) for system in systems], axis=1)
    solutions = krylov.combine(norm * coefficients)
    residuals = torch.tensor(
        [(rhs - matvec(x) - shift * x).norm().item() / norm for x, shift in zip(solutions, shifts, strict=True)],
        dtype=torch.float64,
    )
    return Shifted(
        solutions=solutions,
        residuals=residuals,
        converged=residuals <= rtol,
        negative_curvature=torch.tensor([system.indefinite for system in systems]),
        iterations=krylov.size,
    )


def finite_shifts(shifts: Sequence[float], dtype: torch.dtype) -> list[float]:
    """The shifts as numbers; ValueError if there is none, or one is not finite in the type that is computed in."""
    no_text("shifts", shifts)
    if not isinstance(shifts, Iterable) or getattr(shifts, "ndim", 1) == 0:
        raise ValueError(f"shifts must hold the values c, such as [c], got a {type(shifts).__name__}")
    numbers = [real("every entry of shifts", shift) for shift in shifts]
    if not numbers or not all(abs(shift) <= torch.finfo(dtype).max for shift in numbers):
        raise ValueError(
            f"give at least one finite shift, within the range of {dtype}, got {numbers}; lower a lambda that is huge"
        )
    return numbers


class _ShiftedSystem:
    """The Cholesky pivots of T + c I as T grows, and the relative residual of the iterate that they stand for."""

    def __init__(self, shift: float) -> None:
        self.shift = shift
        self.size = 0
        self.pivot = 0.0
        self.residual = 1.0
        self.indefinite = False

    def advance(self, krylov: Lanczos) -> None:
        if self.indefinite:
            return
        row = krylov.size - 1
        pivot = krylov.diagonal[row] + self.shift
        if row:
            pivot -= krylov.off_diagonal[row - 1] ** 2 / self.pivot
        if pivot <= 0:
            self.indefinite = True
            return
        self.size, self.pivot = krylov.size, pivot
        self.residual = 0.0 if krylov.exhausted else self.residual * krylov.off_diagonal[row] / pivot

    def coefficients(self, krylov: Lanczos) -> np.ndarray:
        """y with (T + c I) y = e_1 on the leading positive definite block, zero beyond it; shape (krylov.size,)."""
        y = np.zeros(krylov.size)
        if self.size:
            couplings = krylov.off_diagonal[: self.size - 1]
            T = np.diag(krylov.diagonal[: self.size]) + np.diag(couplings, 1) + np.diag(couplings, -1)
            y[: self.size] = solve(T + self.shift * np.eye(self.size), np.eye(self.size)[0], assume_a="pos")
        return y
